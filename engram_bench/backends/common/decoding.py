"""Decoding with any library: prompts go through prefill passes, and unfinished rows are decoded together.

The common prefix of all prompts is computed once. Prefill passes hold prompts with their drafts, if any. An answer is ready
where greedy decoding would have chosen every draft token, the end token included. Other rows are decoded from the first
token that differs. Decoded rows form one batch; finished rows make room for further prompts.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from engram_bench.backends.common.packing import shared_prefix
from engram_bench.backends.common.rows import PromptRow
from engram_bench.records import GenerationSettings


@dataclass(frozen=True, slots=True)
class DecodingPlan:
    """Shortcuts and sizes of decoding. None of them changes an answer."""

    packing: bool = True
    """Whether a prefill pass holds several prompts in one row, where the network can; otherwise rows are padded."""
    prefix_cache: bool = True
    """Whether the common prefix of all prompts is computed once."""
    eviction: bool = True
    """Whether finished rows leave the batch for waiting ones; otherwise a batch runs until its last row ends."""
    max_batch_tokens: int = 8192
    """Largest product of the number of rows and their longest possible length while decoding."""
    max_prefill_tokens: int = 512
    """Most tokens of a prefill pass; larger passes take more memory and are no faster."""

    @property
    def prefill_tokens(self) -> int:
        """Most tokens of a prefill pass under both limits."""
        return min(self.max_prefill_tokens, self.max_batch_tokens)


class BatchDecoder(ABC):
    """Decoder of token rows under one :class:`GenerationSettings`; subclasses compute with a library.

    Args:
        settings: Settings of every answer.
        plan: Shortcuts and batch sizes.
        stop_ids: Token ids that end an answer, ignored where *settings* ask for it.
        pad_id: Token id that fills padded rows.
    """

    def __init__(
        self, settings: GenerationSettings, plan: DecodingPlan, *, stop_ids: frozenset[int], pad_id: int
    ) -> None:
        self._settings = settings
        self._plan = plan
        self._stop_ids = frozenset() if settings.ignore_eos else stop_ids
        self._pad_id = pad_id
        self._active: list[PromptRow] = []
        """Rows that are decoded together."""

    def run(self, rows: Sequence[PromptRow]) -> None:
        """Answer all rows; the tokens are appended to each row."""
        if self._settings.max_tokens == 0:
            return
        waiting = [part for group in self._prefill_order(rows) for part in self._that_fit(group)]
        if self._plan.prefix_cache and len(rows) > 1 and (shared := shared_prefix([row.prompt for row in rows])):
            self._prefill_shared(rows[0], shared)
        while waiting or self._active:
            if waiting and self._has_room(waiting[0]):
                self._prefill(waiting.pop(0))
            else:
                self._decode_step()

    def tokens(self, row: PromptRow) -> Iterator[int]:
        """Tokens of the answer to one row, one at a time as they are decoded."""
        if self._settings.max_tokens == 0:
            return
        self._prefill([row])
        yield row.new[-1]
        while self._active:
            self._decode_step()
            yield row.new[-1]

    # ── computed by a library ───────────────────────────────────────────────────────────────────

    @abstractmethod
    def _prefill_order(self, rows: Sequence[PromptRow]) -> list[list[PromptRow]]:
        """Groups of rows that can share a prefill pass, in the order of the passes."""

    @abstractmethod
    def _prefill_shared(self, row: PromptRow, shared: int) -> None:
        """Compute the first *shared* tokens of *row*, with which all rows begin."""

    @abstractmethod
    def _prefill(self, rows: Sequence[PromptRow]) -> None:
        """Run prompts and drafts through one pass; unfinished rows become active."""

    @abstractmethod
    def _decode_step(self) -> None:
        """Decode one more token for every active row; finished rows leave."""

    # ── rows ────────────────────────────────────────────────────────────────────────────────────

    def _that_fit(self, rows: Sequence[PromptRow]) -> list[list[PromptRow]]:
        """The rows in parts that can be decoded together."""
        size = max(1, self._plan.max_batch_tokens // max(map(self._room, rows)))
        return [list(rows[at : at + size]) for at in range(0, len(rows), size)]

    def _room(self, row: PromptRow) -> int:
        return len(row.prompt) + self._settings.max_tokens

    def _has_room(self, rows: Sequence[PromptRow]) -> bool:
        if not self._plan.eviction:
            return not self._active
        together = [*self._active, *rows]
        return not self._active or len(together) * max(map(self._room, together)) <= self._plan.max_batch_tokens

    def _append(self, row: PromptRow, token: int) -> None:
        row.new.append(token)
        row.stopped = token in self._stop_ids

    def _is_done(self, row: PromptRow) -> bool:
        return row.stopped or len(row.new) >= self._settings.max_tokens


def share_time(rows: Sequence[PromptRow], seconds: float) -> None:
    """Add an equal share of a pass's *seconds* to each row."""
    for row in rows:
        row.seconds += seconds / len(rows)

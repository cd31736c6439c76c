"""A prompt's way to its answer, whatever library computes: prompts are read in passes, unfinished rows decoded together.

All prompts' common prefix is computed once. Prompts (with their drafts, if any) are read in passes; where every draft token
is what greedy decoding would have chosen the answer is ready, the end token included; elsewhere decoding goes on after the
first token that differs. Rows that are decoded form one batch; rows that have ended make room, and more are read.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from engram_bench.backends.common.generating import PromptRow
from engram_bench.backends.common.packing import shared_prefix
from engram_bench.records import GenerationSettings


@dataclass(frozen=True, slots=True)
class DecodingPlan:
    """Which shortcuts are taken; none of them changes an answer."""

    packing: bool = True
    """Read several prompts in one row where the network can; else in padded ones."""
    prefix_cache: bool = True
    eviction: bool = True
    """Ended rows leave the batch and make room for waiting ones; else a batch is decoded until its last row ends."""
    max_batch_tokens: int = 8192
    """Bound of rows x their longest possible length while decoding."""
    max_prefill_tokens: int = 512
    """Bound of a reading pass: memory grows with it, speed no more."""

    @property
    def prefill_tokens(self) -> int:
        """Tokens of a reading pass at most, under both bounds."""
        return min(self.max_prefill_tokens, self.max_batch_tokens)


class BatchDecoder(ABC):
    """Completes rows of token ids under one :class:`GenerationSettings`."""

    def __init__(
        self, settings: GenerationSettings, plan: DecodingPlan, *, stop_ids: frozenset[int], pad_id: int
    ) -> None:
        self._settings = settings
        self._plan = plan
        self._stop_ids = frozenset() if settings.ignore_eos else stop_ids
        self._pad_id = pad_id
        self._active: list[PromptRow] = []
        """The rows that are decoded together."""

    def run(self, rows: Sequence[PromptRow]) -> None:
        """Answer all *rows*, in place."""
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
        """The tokens of one row's answer as they are found."""
        if self._settings.max_tokens == 0:
            return
        self._prefill([row])
        yield row.new[-1]
        while self._active:
            self._decode_step()
            yield row.new[-1]

    # ── what a library does ─────────────────────────────────────────────────────────────────────

    @abstractmethod
    def _prefill_order(self, rows: Sequence[PromptRow]) -> list[list[PromptRow]]:
        """Groups of rows that a pass can read together, in the order to read them."""

    @abstractmethod
    def _prefill_shared(self, row: PromptRow, shared: int) -> None:
        """Compute the first *shared* tokens of *row*, which all rows begin with."""

    @abstractmethod
    def _prefill(self, rows: Sequence[PromptRow]) -> None:
        """Read prompts and drafts in one pass; rows that go on join the active ones."""

    @abstractmethod
    def _decode_step(self) -> None:
        """One more token for every active row; those that end leave."""

    # ── rows ────────────────────────────────────────────────────────────────────────────────────

    def _that_fit(self, rows: Sequence[PromptRow]) -> list[list[PromptRow]]:
        """*rows* in parts that can be decoded together."""
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
    """Add each row's share of what a pass took."""
    for row in rows:
        row.seconds += seconds / len(rows)

"""Generation of text with any library: prompts become rows of token ids, and finished rows become completions."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Protocol, TypeVar

from engram_bench.backends.common.halving import halving, in_memory
from engram_bench.backends.common.reasoning import ReasoningRoom
from engram_bench.backends.common.rows import PromptRow
from engram_bench.backends.common.sampling import row_random
from engram_bench.errors import BackendError
from engram_bench.records import Completion, GenerationSettings, Prompt
from engram_bench.records.reasoning import open_marks

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from engram_bench.models import ChatTokenizer


N = TypeVar("N")


class Decoder(Protocol):
    """Completes rows of token ids under one :class:`GenerationSettings`."""

    def run(self, rows: Sequence[PromptRow]) -> None:
        """Answer all rows; the tokens are appended to each row."""

    def tokens(self, row: PromptRow) -> Iterator[int]:
        """Tokens of the answer to one row, one at a time as they are decoded."""


def block_at(depth: float, num_blocks: int) -> int:
    """Index of the block that *depth*, a share of all blocks in 0..1, lies before; at most the last block."""
    return min(round(depth * num_blocks), num_blocks - 1)


def check_sequences(sequences: Sequence[Sequence[int]], context_length: int) -> None:
    """Check that a model can take each sequence of token ids.

    Raises:
        BackendError: A sequence is empty or exceeds the context.
    """
    for index, sequence in enumerate(sequences):
        if not 0 < len(sequence) <= context_length:
            msg = f"sequence {index}: {len(sequence)} tokens, expected 1 to {context_length}"
            raise BackendError(msg)


class TextGenerator(ABC):
    """Generator whose subclasses decode token ids with a library.

    Args:
        tokenizer: Tokenizer of the model, with its chat template.
        context_length: Most tokens of prompt and answer together.
        max_batch_tokens: Largest rows x length of a batch, halved once when memory runs out.
        drafts: Whether draft answers reach the decoder.
        has_memory: Whether rows mark the tokens of the user's turn, which a memory needs.
    """

    def __init__(
        self,
        tokenizer: ChatTokenizer,
        *,
        context_length: int,
        max_batch_tokens: int,
        drafts: bool = True,
        has_memory: bool = False,
    ) -> None:
        self._tokenizer = tokenizer
        self._context_length = context_length
        self._max_batch_tokens = max_batch_tokens
        self._drafts = drafts
        self._has_memory = has_memory

    def complete(
        self,
        prompts: Sequence[Prompt],
        settings: GenerationSettings,
        *,
        drafts: Sequence[str | None] | None = None,
    ) -> list[Completion]:
        """One completion per prompt, in order. Drafts change the time, never the text.

        Raises:
            BackendError: A prompt plus *max_tokens* exceeds the context, or memory ran out twice.
        """
        guesses = drafts if drafts is not None else [None] * len(prompts)
        rows = [self._row(prompt, guess, settings) for prompt, guess in zip(prompts, guesses, strict=True)]
        self._answer(rows, settings)
        if settings.max_reasoning_tokens is not None and not settings.ignore_eos:
            self._reason_on(rows, settings)
        return [self._completion(row) for row in rows]

    def stream(self, prompt: Prompt, settings: GenerationSettings) -> Iterator[str]:
        """Text of the completion in pieces, one per token as it arrives; a piece may be empty."""
        row = self._row(prompt, None, settings)
        written = ""
        for _ in self._decoder(settings, self._max_batch_tokens).tokens(row):
            text = self._text(row)
            is_whole = row.stopped or len(row.new) == settings.max_tokens
            # A character may need several tokens: hold its replacement mark back until it is whole.
            shown = text if is_whole else text.rstrip("\N{REPLACEMENT CHARACTER}")
            piece = shown[len(written) :] if shown.startswith(written) else ""
            written += piece
            yield piece
        if settings.max_reasoning_tokens is not None and not settings.ignore_eos:
            self._reason_on([row], settings)
            yield self._text(row)[len(written) :]

    def log_probs(self, sequences: Sequence[Sequence[int]]) -> list[NDArray[np.float32]]:
        """Next-token log-probabilities (nats) of each token sequence, each (T, V): row t predicts token t + 1.

        Raises:
            BackendError: A sequence is empty or exceeds the context.
        """
        check_sequences(sequences, self._context_length)
        with in_memory(f"log-probabilities of {len(sequences)} sequences"):
            return self._sequence_log_probs(sequences)

    @abstractmethod
    def close(self) -> None:
        """Free the memory of the adapter. The generator cannot be used afterwards; a second call has no effect."""

    # ── computed by a library ───────────────────────────────────────────────────────────────────

    @abstractmethod
    def _decoder(self, settings: GenerationSettings, max_batch_tokens: int) -> Decoder:
        """Decoder for these settings."""

    @abstractmethod
    def _sequence_log_probs(self, sequences: Sequence[Sequence[int]]) -> list[NDArray[np.float32]]:
        """Log-probabilities (T, V) of sequences that fit into the context."""

    # ── rows and texts ──────────────────────────────────────────────────────────────────────────

    def _row(self, prompt: Prompt, draft: str | None, settings: GenerationSettings) -> PromptRow:
        ids = self._tokenizer.encode_prompt(prompt)
        if len(ids) + settings.max_tokens > self._context_length:
            msg = (
                f"prompt {prompt.user[:40]!r}: {len(ids)} tokens + {settings.max_tokens} new, "
                f"expected at most {self._context_length} together"
            )
            raise BackendError(msg)
        content = self._tokenizer.content_mask(prompt) if self._has_memory else ()
        row = PromptRow(ids, random=row_random(settings, ids), content=content)
        if draft is not None and self._drafts and row.random is None and not settings.ignore_eos:
            drafted, start = self._tokenizer.encode_example(prompt, draft)
            row.draft = drafted[start:][: settings.max_tokens]
        return row

    def _answer(self, rows: Sequence[PromptRow], settings: GenerationSettings) -> None:
        """Answer all rows, with half the batch size after memory ran out once.

        Raises:
            BackendError: Memory ran out twice.
        """

        def answer(max_batch_tokens: int) -> None:
            for row in rows:
                row.new, row.stopped = [], False
                row.random = row_random(settings, row.prompt)
            self._decoder(settings, max_batch_tokens).run(rows)

        halving(answer, self._max_batch_tokens, doing=f"answering {len(rows)} prompts")

    def _reason_on(self, rows: Sequence[PromptRow], settings: GenerationSettings) -> None:
        """Let rows go on that were cut while they reasoned, within the limit for reasoning."""
        ReasoningRoom(
            settings,
            self._context_length,
            lambda ids: self._opening + self._tokenizer.decode(ids),
            self._answer,
        ).go_on(rows)

    def _completion(self, row: PromptRow) -> Completion:
        return Completion(
            text=self._text(row),
            prompt_tokens=len(row.prompt),
            completion_tokens=len(row.new),
            stop_reason="stop" if row.stopped else "length",
            seconds=row.seconds,
        )

    def _text(self, row: PromptRow) -> str:
        return self._opening + self._tokenizer.decode(row.new[:-1] if row.stopped else row.new)

    @cached_property
    def _opening(self) -> str:
        """Mark of reasoning that the chat template opens before the answer, as part of each text; empty for most models."""
        return open_marks(self._tokenizer.decode(self._tokenizer.template_token_ids[1]))[0]


def still_open(network: N | None) -> N:
    """The network of a generator that is not closed.

    Raises:
        BackendError: The generator is closed.
    """
    if network is None:
        raise BackendError("generator: used after close, expected a new one from load")
    return network

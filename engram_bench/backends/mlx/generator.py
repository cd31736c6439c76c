"""A loaded model that completes prompts: texts in, texts out, memory bounded."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from engram_bench.backends.mlx.decoding import Decoder, DecodingPlan, Row, read_log_probs
from engram_bench.backends.mlx.network import Network
from engram_bench.backends.mlx.runtime import is_out_of_memory
from engram_bench.backends.sampling import row_random
from engram_bench.errors import BackendError
from engram_bench.records import Completion, GenerationSettings, Prompt

if TYPE_CHECKING:
    from engram_bench.models import ChatTokenizer


class MlxGenerator:
    """A network with the tokenizer and template of its model."""

    def __init__(
        self, network: Network, tokenizer: ChatTokenizer, context_length: int, plan: DecodingPlan, *, drafts: bool
    ) -> None:
        self._network: Network | None = network
        self._tokenizer = tokenizer
        self._context_length = context_length
        self._plan = plan
        self._drafts = drafts

    def complete(
        self,
        prompts: Sequence[Prompt],
        settings: GenerationSettings,
        *,
        drafts: Sequence[str | None] | None = None,
    ) -> list[Completion]:
        """One completion per prompt, in order; drafts change the time taken, never the text.

        Raises:
            BackendError: A prompt plus *max_tokens* exceeds the context, or memory ran out twice.
        """
        guesses = drafts if drafts is not None else [None] * len(prompts)
        rows = [self._row(prompt, guess, settings) for prompt, guess in zip(prompts, guesses, strict=True)]
        self._answer(rows, settings)
        return [self._completion(row) for row in rows]

    def stream(self, prompt: Prompt, settings: GenerationSettings) -> Iterator[str]:
        """The completion in pieces of text as tokens arrive, one piece per token (it may be empty)."""
        row = self._row(prompt, None, settings)
        written = ""
        for _ in self._decoder(settings, self._plan).tokens(row):
            text = self._text(row)
            is_whole = row.stopped or len(row.new) == settings.max_tokens
            # A character may need several tokens: hold its replacement mark back until it is whole.
            shown = text if is_whole else text.rstrip("\N{REPLACEMENT CHARACTER}")
            piece = shown[len(written) :] if shown.startswith(written) else ""
            written += piece
            yield piece

    def log_probs(self, sequences: Sequence[Sequence[int]]) -> list[NDArray[np.float32]]:
        """Next-token log-probabilities (nats) of each token sequence, each (T, V): row t predicts token t + 1.

        Raises:
            BackendError: A sequence is empty or exceeds the context.
        """
        for index, sequence in enumerate(sequences):
            if not 0 < len(sequence) <= self._context_length:
                msg = f"sequence {index}: {len(sequence)} tokens, expected 1 to {self._context_length}"
                raise BackendError(msg)
        return read_log_probs(self._open_network(), sequences, self._plan, self._tokenizer.pad_id)

    def close(self) -> None:
        """Give the adapter's memory back. Safe to call twice."""
        self._network = None

    def _row(self, prompt: Prompt, draft: str | None, settings: GenerationSettings) -> Row:
        ids = self._tokenizer.encode_prompt(prompt)
        if len(ids) + settings.max_tokens > self._context_length:
            msg = (
                f"prompt {prompt.user[:40]!r}: {len(ids)} tokens + {settings.max_tokens} new, "
                f"expected at most {self._context_length} together"
            )
            raise BackendError(msg)
        row = Row(ids, random=row_random(settings, ids))
        if draft is not None and self._drafts and row.random is None and not settings.ignore_eos:
            drafted, start = self._tokenizer.encode_example(prompt, draft)
            row.draft = drafted[start:][: settings.max_tokens]
        return row

    def _answer(self, rows: Sequence[Row], settings: GenerationSettings) -> None:
        """Answer all rows; with half the batch once memory ran out.

        Raises:
            BackendError: Memory ran out twice.
        """
        try:
            self._decoder(settings, self._plan).run(rows)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            half = self._plan.halved()
            for row in rows:
                row.new, row.stopped = [], False
                row.random = row_random(settings, row.prompt)
            try:
                self._decoder(settings, half).run(rows)
            except (RuntimeError, MemoryError) as again:
                if not is_out_of_memory(again):
                    raise
                msg = (
                    f"answering {len(rows)} prompts: memory ran out with {self._plan.max_batch_tokens} tokens in a "
                    f"batch and with {half.max_batch_tokens}, expected max_batch_tokens to fit"
                )
                raise BackendError(msg) from again

    def _decoder(self, settings: GenerationSettings, plan: DecodingPlan) -> Decoder:
        return Decoder(
            self._open_network(),
            settings,
            stop_ids=self._tokenizer.stop_ids,
            pad_id=self._tokenizer.pad_id,
            plan=plan,
        )

    def _completion(self, row: Row) -> Completion:
        return Completion(
            text=self._text(row),
            prompt_tokens=len(row.prompt),
            completion_tokens=len(row.new),
            stop_reason="stop" if row.stopped else "length",
            seconds=row.seconds,
        )

    def _text(self, row: Row) -> str:
        return self._tokenizer.decode(row.new[:-1] if row.stopped else row.new)

    def _open_network(self) -> Network:
        if self._network is None:
            raise BackendError("generator: used after close, expected a new one from load")
        return self._network

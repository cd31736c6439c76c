"""Answers of Unsloth's ``generate``, with prompts of similar length in a batch, padded on the left."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from queue import SimpleQueue
from threading import Thread
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from engram_bench.backends.common.decoding import DecodingPlan
from engram_bench.backends.common.generating import TextGenerator, still_open
from engram_bench.backends.common.packing import group
from engram_bench.backends.common.rows import PromptRow
from engram_bench.backends.common.sampling import draw
from engram_bench.backends.cuda.network import UnslothNetwork
from engram_bench.backends.torch.decoding import sequence_log_probs
from engram_bench.backends.torch.lora import Lora
from engram_bench.records import GenerationSettings

if TYPE_CHECKING:
    from engram_bench.models import ChatTokenizer


class UnslothGenerator(TextGenerator):
    """A network of Unsloth with the tokenizer of its model.

    Args:
        network: Base weights, or merged ones.
        lora: Attached adapter; None for the bare or merged weights.
        tokenizer: Tokenizer of the model, with its chat template.
        plan: Batch sizes.
    """

    def __init__(
        self, network: UnslothNetwork, lora: Lora | None, tokenizer: ChatTokenizer, plan: DecodingPlan
    ) -> None:
        super().__init__(
            tokenizer,
            context_length=network.context_length,
            max_batch_tokens=plan.max_batch_tokens,
            drafts=False,
        )
        self._network: UnslothNetwork | None = network
        self._lora = lora
        self._plan = plan

    def close(self) -> None:
        """Free the memory of the adapter. A second call has no effect."""
        self._network = None
        self._lora = None

    def _decoder(self, settings: GenerationSettings, max_batch_tokens: int) -> UnslothDecoder:
        return UnslothDecoder(
            still_open(self._network),
            self._lora,
            settings,
            stop_ids=self._tokenizer.stop_ids,
            pad_id=self._tokenizer.pad_id,
            max_batch_tokens=max_batch_tokens,
        )

    def _sequence_log_probs(self, sequences: Sequence[Sequence[int]]) -> list[NDArray[np.float32]]:
        return sequence_log_probs(still_open(self._network), self._lora, sequences, self._plan, self._tokenizer.pad_id)


@dataclass(frozen=True)
class UnslothDecoder:
    """Decoder of token rows with one network and adapter, through Unsloth's ``generate``."""

    network: UnslothNetwork
    lora: Lora | None
    settings: GenerationSettings
    stop_ids: frozenset[int]
    pad_id: int
    max_batch_tokens: int

    def run(self, rows: Sequence[PromptRow]) -> None:
        """Answer all rows; the tokens are appended to each row."""
        if self.settings.max_tokens == 0:
            return
        rooms = [range(len(row.prompt) + self.settings.max_tokens) for row in rows]
        for members in group(rooms, max_tokens=self.max_batch_tokens, packed=False):
            batch = [rows[i] for i in members]
            started = time.perf_counter()
            found = self._generate(batch)
            for row, new in zip(batch, found.tolist(), strict=True):
                for token in new:
                    self._append(row, token)
                    if row.stopped:
                        break
                row.seconds += (time.perf_counter() - started) / len(batch)

    def tokens(self, row: PromptRow) -> Iterator[int]:
        """Tokens of the answer to one row, one at a time as they are decoded.

        ``generate`` runs in a thread of its own, because it returns only after the last token.
        """
        if self.settings.max_tokens == 0:
            return
        streamer = QueueStreamer()
        thread = Thread(target=streamer.follow, args=(lambda: self._generate([row], streamer=streamer),))
        thread.start()
        try:
            while not self._is_done(row):
                self._append(row, streamer.next())
                yield row.new[-1]
        finally:
            thread.join()

    def _generate(self, rows: Sequence[PromptRow], **keywords: Any) -> Tensor:
        """New tokens (B, at most *max_tokens*); tokens after the stop token of a row are padding."""
        from transformers import GenerationConfig  # not at the top: Unsloth must be imported before transformers

        longest = max(len(row.prompt) for row in rows)
        ids = np.full((len(rows), longest), self.pad_id, dtype=np.int64)
        mask = np.zeros_like(ids)
        for index, row in enumerate(rows):
            ids[index, longest - len(row.prompt) :] = row.prompt
            mask[index, longest - len(row.prompt) :] = 1
        if self.settings.temperature:
            keywords["logits_processor"] = [RowDraws(rows, self.settings)]
        device = self.network.device
        found = self.network.generate(
            self.lora,
            input_ids=torch.from_numpy(ids).to(device),
            attention_mask=torch.from_numpy(mask).to(device),
            generation_config=GenerationConfig(  # type: ignore[no-untyped-call]
                max_new_tokens=self.settings.max_tokens,
                do_sample=False,
                eos_token_id=None if self.settings.ignore_eos else sorted(self.stop_ids),
                pad_token_id=self.pad_id,
            ),
            **keywords,
        )
        return found[:, longest:]

    def _append(self, row: PromptRow, token: int) -> None:
        row.new.append(token)
        row.stopped = not self.settings.ignore_eos and token in self.stop_ids

    def _is_done(self, row: PromptRow) -> bool:
        return row.stopped or len(row.new) >= self.settings.max_tokens


@dataclass(frozen=True)
class RowDraws:
    """Logits processor for sampling: greedy decoding picks the token that the random numbers of each row drew."""

    rows: Sequence[PromptRow]
    settings: GenerationSettings

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Scores (B, V) with 0 for the drawn token and -inf elsewhere."""
        drawn = torch.full_like(scores, -torch.inf)
        for index, row in enumerate(self.rows):
            assert row.random is not None
            drawn[index, draw(scores[index].float().cpu().numpy(), self.settings, row.random)] = 0.0
        return drawn


class QueueStreamer:
    """Queue that passes tokens from the thread of ``generate`` to another thread."""

    def __init__(self) -> None:
        self._queue: SimpleQueue[int | BaseException] = SimpleQueue()
        self._has_prompt = False

    def follow(self, work: Any) -> None:
        """Run *work*; :meth:`next` raises the exception of *work*, if any."""
        try:
            work()
            self._queue.put(RuntimeError("generation ended early"))
        except BaseException as error:
            self._queue.put(error)

    def put(self, value: Tensor) -> None:
        """Take a token from ``generate``, whose first call passes the prompt."""
        if self._has_prompt:
            self._queue.put(int(value.reshape(-1)[0]))
        self._has_prompt = True

    def end(self) -> None:
        """Do nothing; ``generate`` calls this method after the last token."""

    def next(self) -> int:
        """The next token id.

        Raises:
            BaseException: The exception that ended ``generate``.
        """
        found = self._queue.get()
        if isinstance(found, BaseException):
            raise found
        return found

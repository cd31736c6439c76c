"""Answers of a model whose adapter PEFT computes: one ordinary forward pass per token, without any shortcut."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from engram_bench.backends.common.decoding import BatchDecoder, DecodingPlan, share_time
from engram_bench.backends.common.generating import TextGenerator, still_open
from engram_bench.backends.common.rows import PromptRow
from engram_bench.backends.common.sampling import draw
from engram_bench.backends.torch.peft_model import depends_on_pass, forward, virtual_tokens
from engram_bench.backends.torch.transformers_network import context_length_of
from engram_bench.records import GenerationSettings

if TYPE_CHECKING:
    from engram_bench.models import ChatTokenizer

T = TypeVar("T")


class PeftGenerator(TextGenerator):
    """A model of PEFT with the tokenizer of its base.

    Rows of one length share a pass, whole from the first token: what an adapter does at a position may depend on the whole row
    (trained tokens before it, tokens that switch the adapter on), and neither filler nor a cache can be wrong. Where even that
    would matter, each row is computed alone and token by token, as PEFT's ``generate`` does.

    Args:
        model: Model of :func:`engram_bench.backends.torch.peft_model.open_peft`.
        tokenizer: Tokenizer of the base model, with its chat template.
        max_batch_tokens: Most tokens of a pass.
    """

    def __init__(self, model: Any, tokenizer: ChatTokenizer, *, max_batch_tokens: int) -> None:
        context = context_length_of(model.get_base_model()) - virtual_tokens(model)
        super().__init__(tokenizer, context_length=context, max_batch_tokens=max_batch_tokens, drafts=False)
        self._model: Any = model
        self._alone = depends_on_pass(model)

    def close(self) -> None:
        """Free the memory of the model. A second call has no effect."""
        self._model = None

    def _decoder(self, settings: GenerationSettings, max_batch_tokens: int) -> PeftDecoder:
        plan = DecodingPlan(packing=False, prefix_cache=False, max_batch_tokens=max_batch_tokens)
        model = still_open(self._model)
        made = AloneDecoder if self._alone else PeftDecoder
        return made(model, settings, plan, stop_ids=self._tokenizer.stop_ids, pad_id=self._tokenizer.pad_id)

    def _sequence_log_probs(self, sequences: Sequence[Sequence[int]]) -> list[NDArray[np.float32]]:
        model = still_open(self._model)
        found: dict[int, NDArray[np.float32]] = {}
        most = 0 if self._alone else DecodingPlan(max_batch_tokens=self._max_batch_tokens).prefill_tokens
        for members in same_length(enumerate(sequences), most):
            log_probs = forward(model, _ids(model, [ids for _, ids in members])).log_softmax(-1).cpu().numpy()
            found.update((index, log_probs[row]) for row, (index, _) in enumerate(members))
        return [found[index] for index in range(len(sequences))]


class PeftDecoder(BatchDecoder):
    """Decoder that reads every row again from its start for each token."""

    def __init__(
        self,
        model: Any,
        settings: GenerationSettings,
        plan: DecodingPlan,
        *,
        stop_ids: frozenset[int],
        pad_id: int,
    ) -> None:
        super().__init__(settings, plan, stop_ids=stop_ids, pad_id=pad_id)
        self._model = model

    def _prefill_order(self, rows: Sequence[PromptRow]) -> list[list[PromptRow]]:
        return [list(rows)] if rows else []

    def _prefill_shared(self, row: PromptRow, shared: int) -> None:
        """Nothing: no pass continues another."""

    def _prefill(self, rows: Sequence[PromptRow]) -> None:
        self._active += rows
        self._decode_step()

    def _decode_step(self) -> None:
        read = [(row, [*row.prompt, *row.new]) for row in self._active]
        for members in same_length(read, self._plan.prefill_tokens):
            started = time.perf_counter()
            logits = forward(self._model, _ids(self._model, [ids for _, ids in members]))[:, -1]  # (B, V)
            for index, (row, _) in enumerate(members):
                self._append(row, self._choose(logits[index], row))
            share_time([row for row, _ in members], time.perf_counter() - started)
        self._active = [row for row in self._active if not self._is_done(row)]

    def _choose(self, logits: Tensor, row: PromptRow) -> int:
        """The token of the largest of *logits* (V,), or one drawn with the random numbers of the row."""
        if row.random is None:
            return int(logits.argmax())
        return draw(logits.cpu().numpy(), self._settings, row.random)


class AloneDecoder(PeftDecoder):
    """Decoder that reads each prompt in a pass of its own and each new token in another, with the library's own cache."""

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self._caches: dict[int, Any] = {}
        """Cache of each active row by the identity of the row."""

    def _decode_step(self) -> None:
        for row in self._active:
            started, cache = time.perf_counter(), self._caches.get(id(row))
            read = _ids(self._model, [row.new[-1:] if cache else row.prompt])
            with torch.no_grad():
                output = self._model(input_ids=read, past_key_values=cache, use_cache=True)
            self._append(row, self._choose(output.logits[0, -1].float(), row))
            self._caches[id(row)] = output.past_key_values
            share_time([row], time.perf_counter() - started)
        for row in self._active:
            if self._is_done(row):
                del self._caches[id(row)]
        self._active = [row for row in self._active if not self._is_done(row)]


def same_length(rows: Iterable[tuple[T, Sequence[int]]], max_tokens: int) -> list[list[tuple[T, Sequence[int]]]]:
    """The rows in groups whose token ids have one length, at most *max_tokens* in a group of several rows."""
    by_length: dict[int, list[tuple[T, Sequence[int]]]] = {}
    for row in rows:
        by_length.setdefault(len(row[1]), []).append(row)
    groups = []
    for length, members in by_length.items():
        size = max(1, max_tokens // length)
        groups += [members[at : at + size] for at in range(0, len(members), size)]
    return groups


def _ids(model: Any, rows: Sequence[Sequence[int]]) -> Tensor:
    return torch.tensor(rows, device=model.device)  # (B, T)

"""A loaded model that completes prompts with torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from engram_bench.backends.common.decoding import DecodingPlan
from engram_bench.backends.common.generating import TextGenerator, still_open
from engram_bench.backends.torch.decoding import TorchDecoder, sequence_log_probs
from engram_bench.backends.torch.lora import Lora
from engram_bench.backends.torch.memory import TorchMemory
from engram_bench.backends.torch.network import Network
from engram_bench.memory.query import ids_query
from engram_bench.records import GenerationSettings

if TYPE_CHECKING:
    from engram_bench.models import ChatTokenizer


class TorchGenerator(TextGenerator):
    """A network with the tokenizer of its model, and an adapter or a memory.

    Args:
        network: Base weights, or merged ones.
        lora: Attached adapter; None for the bare or merged weights.
        tokenizer: Tokenizer of the model, with its chat template.
        plan: Shortcuts and batch sizes.
        drafts: Whether draft answers are checked.
        memory: Attached memory, if any.
    """

    def __init__(
        self,
        network: Network,
        lora: Lora | None,
        tokenizer: ChatTokenizer,
        plan: DecodingPlan,
        *,
        drafts: bool,
        memory: TorchMemory | None = None,
    ) -> None:
        super().__init__(
            tokenizer,
            context_length=network.context_length,
            max_batch_tokens=plan.max_batch_tokens,
            drafts=drafts,
            has_memory=memory is not None,
        )
        self._network: Network | None = network
        self._lora = lora
        self._memory = memory
        self._plan = plan

    def close(self) -> None:
        """Free the memory of the adapter. A second call has no effect."""
        self._network = None
        self._lora = self._memory = None

    def _decoder(self, settings: GenerationSettings, max_batch_tokens: int) -> TorchDecoder:
        return TorchDecoder(
            still_open(self._network),
            self._lora,
            settings,
            memory=self._memory,
            stop_ids=self._tokenizer.stop_ids,
            pad_id=self._tokenizer.pad_id,
            plan=replace(self._plan, max_batch_tokens=max_batch_tokens),
        )

    def _sequence_log_probs(self, sequences: Sequence[Sequence[int]]) -> list[NDArray[np.float32]]:
        return sequence_log_probs(
            still_open(self._network),
            self._lora,
            sequences,
            self._plan,
            self._tokenizer.pad_id,
            memory=self._memory,
            read=partial(ids_query, self._tokenizer),
        )

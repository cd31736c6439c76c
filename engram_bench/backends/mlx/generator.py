"""A loaded model that completes prompts with mlx."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from engram_bench.backends.common.decoding import DecodingPlan
from engram_bench.backends.common.generating import TextGenerator, still_open
from engram_bench.backends.mlx.decoding import MlxDecoder, sequence_log_probs
from engram_bench.backends.mlx.memory import MlxMemory
from engram_bench.backends.mlx.network import MlxNetwork
from engram_bench.memory.query import ids_query
from engram_bench.records import GenerationSettings

if TYPE_CHECKING:
    from engram_bench.models import ChatTokenizer


class MlxGenerator(TextGenerator):
    """A network with the tokenizer of its model.

    Args:
        network: Network with its adapter, if any.
        tokenizer: Tokenizer of the model, with its chat template.
        context_length: Most tokens of prompt and answer together.
        plan: Shortcuts and batch sizes.
        drafts: Whether draft answers are checked.
        memory: Attached memory, if any.
    """

    def __init__(
        self,
        network: MlxNetwork,
        tokenizer: ChatTokenizer,
        context_length: int,
        plan: DecodingPlan,
        *,
        drafts: bool,
        memory: MlxMemory | None = None,
    ) -> None:
        super().__init__(
            tokenizer,
            context_length=context_length,
            max_batch_tokens=plan.max_batch_tokens,
            drafts=drafts,
            has_memory=memory is not None,
        )
        self._memory = memory
        self._network: MlxNetwork | None = network
        self._plan = plan

    def close(self) -> None:
        """Free the memory of the adapter. A second call has no effect."""
        self._network = self._memory = None

    def _decoder(self, settings: GenerationSettings, max_batch_tokens: int) -> MlxDecoder:
        return MlxDecoder(
            still_open(self._network),
            settings,
            stop_ids=self._tokenizer.stop_ids,
            pad_id=self._tokenizer.pad_id,
            plan=replace(self._plan, max_batch_tokens=max_batch_tokens),
            memory=self._memory,
        )

    def _sequence_log_probs(self, sequences: Sequence[Sequence[int]]) -> list[NDArray[np.float32]]:
        return sequence_log_probs(
            still_open(self._network),
            sequences,
            self._plan,
            self._tokenizer.pad_id,
            memory=self._memory,
            read=partial(ids_query, self._tokenizer),
        )

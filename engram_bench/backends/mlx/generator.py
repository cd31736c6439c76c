"""A loaded model that completes prompts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from engram_bench.backends.common.decoding import DecodingPlan
from engram_bench.backends.common.generating import TextGenerator, still_open
from engram_bench.backends.mlx.decoding import Decoder, read_log_probs
from engram_bench.backends.mlx.memory import MlxMemory
from engram_bench.backends.mlx.network import Network
from engram_bench.memory.query import ids_query
from engram_bench.records import GenerationSettings

if TYPE_CHECKING:
    from engram_bench.models import ChatTokenizer


class MlxGenerator(TextGenerator):
    """A network with the tokenizer and template of its model."""

    def __init__(
        self,
        network: Network,
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
        self._network: Network | None = network
        self._plan = plan

    def close(self) -> None:
        """Give the adapter's memory back. Safe to call twice."""
        self._network = self._memory = None

    def _decoder(self, settings: GenerationSettings, max_batch_tokens: int) -> Decoder:
        return Decoder(
            still_open(self._network),
            settings,
            stop_ids=self._tokenizer.stop_ids,
            pad_id=self._tokenizer.pad_id,
            plan=replace(self._plan, max_batch_tokens=max_batch_tokens),
            memory=self._memory,
        )

    def _read_log_probs(self, sequences: Sequence[Sequence[int]]) -> list[NDArray[np.float32]]:
        return read_log_probs(
            still_open(self._network),
            sequences,
            self._plan,
            self._tokenizer.pad_id,
            memory=self._memory,
            read=partial(ids_query, self._tokenizer),
        )

"""The whole backend seam: two protocols.

A backend sees prompts and training examples: never patterns, expected answers or scores. The one exception is a
*draft*, a guess at the answer that may make greedy decoding faster and must not change what comes out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from engram_bench.models import Model
    from engram_bench.records import (
        Completion,
        DeviceInfo,
        GenerationSettings,
        Prompt,
        Recipe,
        TrainingExample,
        TrainingRecord,
    )

Progress = Callable[[str, int, int, str], None]
"""Called as ``progress(stage, done, total, note)``; *stage* is ``download``, ``convert``, ``train``, ``answer`` …"""
MESSAGES = frozenset({"machine", "store", "wait"})
"""Stages whose notes are news wherever output goes: of what this machine lacks for what was asked for, of a damaged store,
of another process that is waited for."""


def no_progress(stage: str, done: int, total: int, note: str) -> None:
    """Progress that nobody watches."""


class Generator(Protocol):
    """A loaded model that completes prompts."""

    def complete(
        self,
        prompts: Sequence[Prompt],
        settings: GenerationSettings,
        *,
        drafts: Sequence[str | None] | None = None,
    ) -> list[Completion]:
        """One completion per prompt, in order.

        *drafts* are guesses at greedy answers (None: no guess). They change the time taken, never the text,
        and are ignored when sampling.

        Raises:
            BackendError: A prompt plus *max_tokens* exceeds the context, or memory ran out twice.
        """

    def stream(self, prompt: Prompt, settings: GenerationSettings) -> Iterator[str]:
        """The completion in pieces of text as tokens arrive, one piece per token (it may be empty)."""

    def log_probs(self, sequences: Sequence[Sequence[int]]) -> list[NDArray[np.float32]]:
        """Next-token log-probabilities (nats) of each token sequence, each (T, V): row t predicts token t + 1.

        Raises:
            UnsupportedError: The generator cannot give them (a remote server).
        """

    def close(self) -> None:
        """Give the adapter's memory back; the generator must not be used after it. Safe to call twice."""


class Backend(Protocol):
    """Trains adapters and loads models through one library.

    An instance may keep the last model's base weights, so that baseline and candidate share them; ``close`` drops them.
    """

    name: str

    def device(self) -> DeviceInfo:
        """Where this backend runs, with the versions of the libraries it uses."""

    def train(
        self,
        model: Model,
        examples: Sequence[TrainingExample],
        recipe: Recipe,
        folder: Path,
        *,
        progress: Progress = no_progress,
    ) -> TrainingRecord:
        """Train an adapter and leave it in *folder* in PEFT's layout.

        *folder* exists. If it holds resumable state of an interrupted training with the same arguments, training goes on
        from there. The same arguments give the same adapter on one machine.

        Raises:
            BackendError: An example exceeds the context, or the loss is not finite.
        """

    def load(self, model: Model, adapter: Path | None, *, fused: bool = False) -> Generator:
        """The model with the adapter of a PEFT-layout folder; the bare model for None.

        *fused* merges the adapter into the weights, so that decoding costs what the bare model costs.

        Raises:
            AdapterError: The folder has unknown target modules or tensors of other shapes.
        """

    def states(self, model: Model, sequences: Sequence[Sequence[int]], *, depth: float) -> NDArray[np.float32]:
        """Hidden states (N, H) of the bare model at the last token of each sequence, after this share of its blocks.

        Raises:
            BackendError: A sequence is empty or exceeds the context.
            UnsupportedError: The backend cannot give them (a remote server).
        """

    def close(self) -> None:
        """Drop base weights. Safe to call twice."""

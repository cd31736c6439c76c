"""The two protocols that a backend implements: a backend trains and loads models, a generator completes prompts.

A backend sees prompts and training examples, never patterns, expected answers or scores. One exception is a *draft*: a guess
at the answer that may make greedy decoding faster and must not change the completion.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from engram_bench.system.progress import Progress, no_progress

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


class Generator(Protocol):
    """A loaded model that completes prompts."""

    def complete(
        self,
        prompts: Sequence[Prompt],
        settings: GenerationSettings,
        *,
        drafts: Sequence[str | None] | None = None,
    ) -> list[Completion]:
        """One completion per prompt, in order. A completion does not depend on the other prompts of the call.

        Args:
            prompts: Prompts to complete; none gives an empty list.
            settings: Number of new tokens, temperature and seed of all completions.
            drafts: Guesses at the greedy answers, one per prompt; None stands for no guess. Drafts may change the time of
                the call, never a text. Sampled completions ignore drafts.

        Raises:
            BackendError: A prompt and *max_tokens* new tokens exceed the context, or memory ran out twice.
            UnsupportedError: The generator lacks an ability that *settings* need, such as *ignore_eos*.
        """

    def stream(self, prompt: Prompt, settings: GenerationSettings) -> Iterator[str]:
        """Text of the completion in pieces as tokens arrive, one piece per token; a piece may be empty.

        The joined pieces are the text of :meth:`complete`.

        Raises:
            BackendError: The prompt and *max_tokens* new tokens exceed the context.
            UnsupportedError: The generator lacks an ability that *settings* need.
        """

    def log_probs(self, sequences: Sequence[Sequence[int]]) -> list[NDArray[np.float32]]:
        """Next-token log-probabilities (nats) of each sequence of T token ids, each (T, V).

        Row t holds the log-probabilities of the V possible tokens at position t + 1.

        Raises:
            BackendError: A sequence is empty or exceeds the context.
            UnsupportedError: The generator cannot compute log-probabilities, as that of a remote server.
        """

    def close(self) -> None:
        """Free the memory of the adapter. The generator cannot be used afterwards; a second call has no effect."""


class Backend(Protocol):
    """A library that trains adapters and loads models.

    The registry creates an instance with keyword arguments: the settings that its entry in
    :mod:`engram_bench.backends.registry` lists. An instance may keep the base weights of the last model, so that baseline
    and candidate share the weights.
    """

    name: str
    """Name of the backend, as in ``--backend=NAME``."""

    def device(self) -> DeviceInfo:
        """Device and data type of this backend, and the versions of its libraries."""

    def train(
        self,
        model: Model,
        examples: Sequence[TrainingExample],
        recipe: Recipe,
        folder: Path,
        *,
        progress: Progress = no_progress,
    ) -> TrainingRecord:
        """Train an adapter and write it into *folder* in PEFT's layout.

        The same arguments give the same adapter, byte for byte, on one machine. A folder with the state of an interrupted
        training with the same arguments lets training continue from there.

        Args:
            model: Base model, whose weights stay as they are.
            examples: Prompts with answers to learn, and ordinary prompts (without an answer) to replay.
            recipe: Kind of adapter and settings of the training.
            folder: Existing folder for the adapter and its checkpoints.
            progress: Function that receives stage, finished steps, all steps and a note after each step.

        Returns:
            Steps, tokens, seconds, losses (nats) and recall (0..1) of the training.

        Raises:
            BackendError: There is no example, an example exceeds the context, the loss is not finite, the backend does not
                train this kind of adapter, or memory ran out.
            AdapterError: The model has no layer of one of the recipe's targets.
            UnsupportedError: The backend only evaluates.
        """

    def extend_memory(
        self,
        model: Model,
        adapter: Path,
        examples: Sequence[TrainingExample],
        folder: Path,
        *,
        steps: int,
        progress: Progress = no_progress,
    ) -> TrainingRecord:
        """Train *examples* into a copy of a stored memory and write the copy into *folder*.

        Values of the patterns that the memory already holds stay the same, bit for bit.

        Args:
            model: Base model of the memory.
            adapter: Folder of the stored memory, which stays as it is.
            examples: Prompts with answers to add.
            folder: Existing folder for the copy.
            steps: Number of training steps.
            progress: Function that receives stage, finished steps, all steps and a note.

        Raises:
            AdapterError: The adapter is not a memory of this model.
            BackendError: The memory already holds a pattern or question of *examples*, or its rows are hashed.
            UnsupportedError: The backend cannot extend a memory.
        """

    def load(self, model: Model, adapter: Path | None, *, fused: bool = False) -> Generator:
        """A generator of the model with the adapter in a PEFT-layout folder, or of the bare model for None.

        Args:
            model: Base model.
            adapter: Folder of the adapter, or None.
            fused: Whether the adapter is merged into the weights, so that decoding costs the same as with the bare model.

        Raises:
            AdapterError: The folder is missing, or has unknown target modules or tensors of other shapes.
            BackendError: The model cannot be loaded.
        """

    def states(self, model: Model, sequences: Sequence[Sequence[int]], *, depth: float) -> NDArray[np.float32]:
        """Hidden states (N, H) of the bare model at the last token of each of N sequences of token ids.

        Args:
            model: Base model.
            sequences: Token ids; no sequence may be empty.
            depth: Share of the blocks, in 0..1, after which the hidden states of size H are taken.

        Raises:
            BackendError: A sequence is empty or exceeds the context.
            UnsupportedError: The backend has no access to hidden states, as that of a remote server.
        """

    def close(self) -> None:
        """Free the base weights. A second call has no effect."""

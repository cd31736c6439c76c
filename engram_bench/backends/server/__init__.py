"""The ``server`` backend: models that somebody else serves, asked through the OpenAI chat API. Evaluation only.

Known to work with vLLM, ``mlx_lm.server``, llama.cpp's server and ``transformers serve``: an adapter is whatever the server
gives a model name to. What goes wrong on the way is an error, never an answer, so it is never scored as wrong.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from engram_bench.backends.server.chat_api import ChatApi
from engram_bench.errors import BackendError, UnsupportedError
from engram_bench.records import (
    Completion,
    DeviceInfo,
    GenerationSettings,
    Prompt,
    Recipe,
    TrainingExample,
    TrainingRecord,
)
from engram_bench.system.progress import Progress, no_progress

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from engram_bench.models import Model

API_KEY = "ENGRAM_SERVER_API_KEY"
"""Sent as a bearer token where it is set."""


def missing_options(**options: object) -> str | None:
    """Which of the backend's options are not given, or None."""
    flags = {
        "server_url": "--engram-server-url",
        "baseline_model": "--engram-baseline-model",
        "candidate_model": "--engram-candidate-model",
    }
    missing = [flag for name, flag in flags.items() if not options.get(name)]
    return f"backend 'server' needs {', '.join(missing)}" if missing else None


def server_device(*, server_url: str = "", **_: object) -> DeviceInfo:
    """The server's address; what it computes on is its own affair."""
    return DeviceInfo(backend="server", device=server_url, dtype="as served")


class ServedTokenizer:
    """Bytes for tokens: only the server knows its own, and its template."""

    pad_id = 0
    stop_ids: frozenset[int] = frozenset()
    special_texts: tuple[str, ...] = ()
    template_fingerprint = "served"
    template_note = ""
    vocab_size = 256

    def encode_prompt(self, prompt: Prompt) -> list[int]:
        """Bytes of both turns."""
        return list(f"{prompt.system or ''}\0{prompt.user}".encode())

    def encode_example(self, prompt: Prompt, answer: str) -> tuple[list[int], int]:
        """Bytes of prompt and answer, and where the answer starts."""
        ids = self.encode_prompt(prompt)
        return [*ids, *answer.encode()], len(ids)

    def decode(self, ids: Sequence[int]) -> str:
        """Text of bytes."""
        return bytes(ids).decode("utf-8", "replace")


class ServedModel:
    """What :class:`engram_bench.models.Model` is, as far as a client can know it."""

    folder = Path()
    context_length = 2**31
    """The server refuses what is too long."""
    tokenizer = ServedTokenizer()
    notes = ""

    def __init__(self, reference: str) -> None:
        self.reference = reference
        self.fingerprint = sha256(f"served {reference}".encode()).hexdigest()


def served_model(reference: str, *, cache: Path | None = None, progress: Progress = no_progress) -> ServedModel:
    """A model by the name the server knows."""
    return ServedModel(reference)


class ServerBackend:
    """Asks a server.

    Args:
        server_url: ``http://host:port``, with or without ``/v1``.
        baseline_model: The bare model's name there.
        candidate_model: The tuned model's name there.
        server_concurrency: Requests at once at most.
        server_timeout: Seconds until a request is given up and tried again.
    """

    name = "server"

    def __init__(
        self,
        *,
        server_url: str,
        baseline_model: str,
        candidate_model: str = "",
        server_concurrency: int = 8,
        server_timeout: float = 120.0,
    ) -> None:
        self._url = server_url
        self._baseline = baseline_model
        self._candidate = candidate_model
        self._api = ChatApi(
            server_url, concurrency=server_concurrency, timeout_s=server_timeout, key=os.environ.get(API_KEY, "")
        )

    def device(self) -> DeviceInfo:
        """The server's address."""
        return server_device(server_url=self._url)

    def train(
        self,
        model: Model,
        examples: Sequence[TrainingExample],
        recipe: Recipe,
        folder: Path,
        *,
        progress: Progress = no_progress,
    ) -> TrainingRecord:
        """Nothing: raises.

        Raises:
            UnsupportedError: Always; a served adapter is trained elsewhere.
        """
        raise UnsupportedError("backend 'server' only evaluates: train with cpu, mlx or cuda, then serve the adapter")

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
        """Raise an error, because a served model is trained elsewhere.

        Raises:
            UnsupportedError: Always.
        """
        raise UnsupportedError("backend 'server' cannot extend a memory, expected backend cpu or cuda")

    def load(self, model: Model, adapter: Path | None, *, fused: bool = False) -> ServerGenerator:
        """The served model of a side: the baseline's for None, else the one named like *adapter*.

        *fused* makes no difference: how an adapter is served is the server's affair.
        """
        return ServerGenerator(self._api, str(adapter) if adapter is not None else self._baseline)

    def states(self, model: Model, sequences: Sequence[Sequence[int]], *, depth: float) -> NDArray[np.float32]:
        """Nothing: raises.

        Raises:
            UnsupportedError: Always; the chat API gives no hidden states.
        """
        raise UnsupportedError("backend 'server' has no hidden states")

    def close(self) -> None:
        """Close connections. Safe to call twice."""
        self._api.close()


class ServerGenerator:
    """One served model."""

    def __init__(self, api: ChatApi, model: str) -> None:
        self._api = api
        self._model = model

    def complete(
        self,
        prompts: Sequence[Prompt],
        settings: GenerationSettings,
        *,
        drafts: Sequence[str | None] | None = None,
    ) -> list[Completion]:
        """One completion per prompt, in order; token counts are the server's (0 where it gives none).

        Raises:
            BackendError: The server cannot be reached, refuses, or gives no whole answer after several tries.
            UnsupportedError: *ignore_eos* is asked for, which the chat API does not know.
        """
        _check(settings)
        return self._api.complete(self._model, prompts, settings)

    def stream(self, prompt: Prompt, settings: GenerationSettings) -> Iterator[str]:
        """The completion in the pieces the server sends.

        Raises:
            BackendError: As for :meth:`complete`; a stream that was begun is not tried again.
        """
        _check(settings)
        return self._api.stream(self._model, prompt, settings)

    def log_probs(self, sequences: Sequence[Sequence[int]]) -> list[NDArray[np.float32]]:
        """Nothing: raises.

        Raises:
            UnsupportedError: Always; the chat API gives no log-probabilities of given tokens.
        """
        raise UnsupportedError("backend 'server' has no log-probabilities of given tokens")

    def close(self) -> None:
        """Nothing to give back; the backend keeps the connections."""


def _check(settings: GenerationSettings) -> None:
    if settings.ignore_eos:
        raise UnsupportedError("backend 'server' cannot ignore the end token, which timed runs need")
    if settings.max_tokens < 1:
        msg = f"server: max_tokens is {settings.max_tokens}, expected at least 1"
        raise BackendError(msg)

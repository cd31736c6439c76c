"""The ``server`` backend: evaluation of models that another program serves through the OpenAI chat API.

It works with vLLM, ``mlx_lm.server``, llama.cpp's server and ``transformers serve``. An adapter is a model name of the
server. A failed request is an error, never an answer, so it never counts as a wrong answer.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from engram_bench.backends.server.chat_api import ChatApi
from engram_bench.door import without_credentials
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
"""Environment variable with the bearer token of requests; without it, no token is sent."""


def missing_options(**options: object) -> str | None:
    """Message that names the backend's missing options, or None if all are given."""
    flags = {
        "server_url": "--engram-server-url",
        "baseline_model": "--engram-baseline-model",
        "candidate_model": "--engram-candidate-model",
    }
    missing = [flag for name, flag in flags.items() if not options.get(name)]
    return f"backend 'server' needs {', '.join(missing)}" if missing else None


def server_device(*, server_url: str = "", **_: object) -> DeviceInfo:
    """Address of the server. The server's own device and data type are unknown."""
    return DeviceInfo(backend="server", device=without_credentials(server_url), dtype="as served")


class ServedTokenizer:
    """Tokenizer with bytes as tokens. Only the server knows its own tokenizer and chat template."""

    pad_id = 0
    stop_ids: frozenset[int] = frozenset()
    stop_texts: tuple[str, ...] = ()
    special_texts: tuple[str, ...] = ()
    template_fingerprint = "served"
    template_note = ""
    vocab_size = 256

    def encode(self, text: str) -> list[int]:
        """Bytes of a text."""
        return list(text.encode())

    def encode_prompt(self, prompt: Prompt) -> list[int]:
        """Bytes of the system turn and the user's turn."""
        return list(f"{prompt.system or ''}\0{prompt.user}".encode())

    def encode_example(self, prompt: Prompt, answer: str) -> tuple[list[int], int]:
        """Bytes of prompt and answer, and the index of the first byte of the answer."""
        ids = self.encode_prompt(prompt)
        return [*ids, *answer.encode()], len(ids)

    def decode(self, ids: Sequence[int]) -> str:
        """Text of these bytes."""
        return bytes(ids).decode("utf-8", "replace")


class ServedModel:
    """A model with the attributes of :class:`engram_bench.models.Model`, as far as a client knows them."""

    folder = Path()
    context_length = 2**31
    """Practically unlimited: the server itself refuses prompts that are too long."""
    tokenizer = ServedTokenizer()
    notes = ""

    def __init__(self, reference: str) -> None:
        self.reference = reference
        self.fingerprint = sha256(f"served {reference}".encode()).hexdigest()


def served_model(reference: str, *, cache: Path | None = None, progress: Progress = no_progress) -> ServedModel:
    """The model with this name on the server."""
    return ServedModel(reference)


class ServerBackend:
    """Backend that sends prompts to a server. It trains nothing.

    Args:
        server_url: Address of the server, ``http://host:port`` with or without ``/v1``.
        baseline_model: Name of the bare model on the server.
        candidate_model: Name of the tuned model on the server, which ``load`` gets as its adapter.
        server_concurrency: Largest number of requests at once.
        server_timeout: Seconds for one request, its further tries included.

    Raises:
        BackendError: The address has no host or another scheme than http and https.
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
        self._api = ChatApi(
            server_url, concurrency=server_concurrency, timeout_s=server_timeout, key=os.environ.get(API_KEY, "")
        )

    def device(self) -> DeviceInfo:
        """Address of the server."""
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
        """Raise an error, because a served adapter is trained elsewhere.

        Raises:
            UnsupportedError: Always.
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
        """A generator of the served model: the bare model for None, else the model with the name *adapter*.

        *fused* has no effect: the server decides how an adapter is served. Nothing is asked: whether the server has both models
        is known from ``ready``, which a session calls before it makes a backend.
        """
        return ServerGenerator(self._api, str(adapter) if adapter is not None else self._baseline)

    def states(self, model: Model, sequences: Sequence[Sequence[int]], *, depth: float) -> NDArray[np.float32]:
        """Raise an error, because the chat API gives no hidden states.

        Raises:
            UnsupportedError: Always.
        """
        raise UnsupportedError("backend 'server' has no hidden states")

    def close(self) -> None:
        """Close the connections. A second call has no effect."""
        self._api.close()


class ServerGenerator:
    """Generator that asks one served model.

    Args:
        api: Connection to the server.
        model: Name of the model on the server.
    """

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
        """One completion per prompt, in order. Token counts are those of the server, or 0 without any.

        Raises:
            BackendError: The server cannot be reached, refuses a request, or gives no whole answer after several tries.
            UnsupportedError: The settings ignore the end token, which the chat API cannot do.
        """
        _check(settings)
        return self._api.complete(self._model, prompts, settings)

    def stream(self, prompt: Prompt, settings: GenerationSettings) -> Iterator[str]:
        """Text of the completion in the pieces that the server sends.

        Raises:
            BackendError: The server cannot be reached, refuses the request, or cuts the answer; a stream is sent once only.
            UnsupportedError: The settings ignore the end token, which the chat API cannot do.
        """
        _check(settings)
        return self._api.stream(self._model, prompt, settings)

    def log_probs(self, sequences: Sequence[Sequence[int]]) -> list[NDArray[np.float32]]:
        """Raise an error, because the chat API gives no log-probabilities of given tokens.

        Raises:
            UnsupportedError: Always.
        """
        raise UnsupportedError("backend 'server' has no log-probabilities of given tokens")

    def close(self) -> None:
        """No effect: the connections belong to the backend."""


def _check(settings: GenerationSettings) -> None:
    if settings.ignore_eos:
        raise UnsupportedError("backend 'server' cannot ignore the end token, which timed runs need")
    if settings.max_tokens < 1:
        msg = f"server: max_tokens is {settings.max_tokens}, expected at least 1"
        raise BackendError(msg)

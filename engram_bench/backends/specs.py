"""Every backend of this package as plain data: its class, its libraries, and the functions that speak for it.

Nothing here imports a backend, so that no question about backends imports a heavy library.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

MODEL_FOLDERS = "engram_bench.models:resolve_model"
"""Resolver of the backends that load a folder of weights."""


@dataclass(frozen=True, slots=True)
class BackendSpec:
    """Entry of a backend, which describes the backend without importing it."""

    target: str
    """Class of the backend, as ``module:Class``."""
    library: str
    """Library that trains and generates, as reports name it."""
    requires: tuple[str, ...] = ()
    """Distributions that must be installed, as requirements of pip: ``mlx-lm>=0.32``."""
    extra: str = ""
    """Extra of this package that installs the required distributions: ``pip install 'engram-bench[EXTRA]'``."""
    device: str = "engram_bench.backends.machine.devices:cpu_device"
    """Function, as ``module:function``, that returns the DeviceInfo without importing the library."""
    resolver: str = MODEL_FOLDERS
    """Function, as ``module:function``, that turns a model reference into a Model for this backend."""
    check: str = ""
    """Function, as ``module:function``, that returns the reason why the backend cannot run here with its *options*, or None.

    The function is called only if all required distributions are installed.
    """
    ready: str = ""
    """Function, as ``module:function``, called with the model, the adapter's folder or None, and the *options*.

    The function raises the error that the first question would meet, before a model is loaded and without a heavy library.
    """
    kinds: tuple[str, ...] = ()
    """Kinds of adapter that the backend trains; empty where only a training tells."""
    options: tuple[str, ...] = ()
    """Fields of the session's settings that the class, *device*, *check* and *ready* take as keyword arguments."""
    limits: tuple[str, ...] = ()
    """Fields of the session's settings that the class alone takes as keyword arguments, where they are set."""
    shortcuts: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Keyword arguments of the class that turn a shortcut off, by the name of the shortcut in :data:`SHORTCUTS`."""
    is_evaluation_only: bool = False
    """Whether the backend asks models that another program serves, and neither trains nor stores adapters."""
    is_listed: bool = True
    """Whether ``engram-bench backends`` lists the backend."""


SHORTCUTS: Mapping[str, str] = {
    "packing": "many prompts or examples share one row, and a common prefix is computed once",
    "prefix-cache": "the common prefix of all prompts in a call is computed once",
    "drafts": "expected answers are checked together with the prompts; only tokens that differ are decoded",
    "eviction": "finished rows leave a batch and waiting rows replace them",
    "own-passes": "forward and backward passes of this package replace the library's",
    "presort": "answers use a second copy of the weights, in the order of the fastest matrix products",
    "short-products": "large matrix products of training have bfloat16 factors, where the processor supports them",
    "curriculum": "training batches hold mostly examples that are not recalled yet",
    "activation-cache": "training of a memory computes states once that the memory cannot change",
}
"""Ways in which some backends are faster, by name. None changes an answer; the last three change the trained numbers."""
_TURN_OFF: Mapping[str, Mapping[str, Any]] = {
    **{name: {name.replace("-", "_"): False} for name in SHORTCUTS},
    "own-passes": {"lean": False},
    "short-products": {"products": "float32"},
}

BACKENDS: dict[str, BackendSpec] = {
    "cpu": BackendSpec(
        "engram_bench.backends.torch:CpuBackend",
        "torch + PEFT",
        requires=("torch>=2.6", "transformers>=5", "peft>=0.18"),
        extra="cpu",
        ready="engram_bench.adapters.opening:check_opens",
        limits=("max_batch_tokens",),
        shortcuts=_TURN_OFF,
    ),
    "mlx": BackendSpec(
        "engram_bench.backends.mlx:MlxBackend",
        "mlx-lm",
        requires=("mlx>=0.32", "mlx-lm>=0.32"),
        extra="mlx",
        device="engram_bench.backends.machine.devices:mlx_device",
        ready="engram_bench.adapters.opening:check_opens_in_mlx",
        kinds=("lora", "memory"),
        limits=("max_batch_tokens",),
        shortcuts={name: _TURN_OFF[name] for name in ("packing", "prefix-cache", "drafts", "eviction", "curriculum")}
        | {"own-passes": {"kernels": False}},
    ),
    "cuda": BackendSpec(
        "engram_bench.backends.cuda:UnslothBackend",
        "Unsloth",
        # Calendar versions. 2026.10.9 is the first that can compute on a processor, which tests without a GPU need.
        requires=("unsloth>=2026.10.9,<2028", "torch>=2.6", "transformers>=5", "peft>=0.18"),
        extra="cuda",
        device="engram_bench.backends.machine.devices:cuda_device",
        check="engram_bench.backends.machine.nvidia:missing_gpu",
        ready="engram_bench.adapters.opening:check_opens",
        options=("load_in_4bit",),
        limits=("max_batch_tokens",),
        shortcuts={name: _TURN_OFF[name] for name in ("packing", "curriculum", "activation-cache")},
    ),
    "server": BackendSpec(
        "engram_bench.backends.server:ServerBackend",
        "an OpenAI-compatible server; evaluation only",
        device="engram_bench.backends.server:server_device",
        resolver="engram_bench.backends.server:served_model",
        check="engram_bench.backends.server:missing_options",
        ready="engram_bench.backends.server.ready:check_served",
        options=("server_url", "baseline_model", "candidate_model", "server_concurrency", "server_timeout"),
        is_evaluation_only=True,
    ),
    "fake": BackendSpec(
        "engram_bench.backends.fake:FakeBackend",
        "a table of answers (for tests of the plugin)",
        device="engram_bench.backends.fake:fake_device",
        resolver="engram_bench.backends.fake:fake_model",
        ready="engram_bench.backends.fake:check_opens",
        is_listed=False,
    ),
}

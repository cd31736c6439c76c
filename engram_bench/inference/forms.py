"""One adapter in its other forms: fused into the weights, merged into a model folder, exported to a tool and back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from engram_bench.adapters.exchange import export_adapter, import_adapter
from engram_bench.adapters.store import Adapter
from engram_bench.backends.protocol import Backend, Generator
from engram_bench.errors import UsageError

if TYPE_CHECKING:
    from engram_bench.models import Model

Opener = Callable[[Backend, "Model", Adapter, Path], Generator]


def open_form(form: str, backend: Backend, model: Model, adapter: Adapter, scratch: Path) -> Generator:
    """The model with the adapter in this form; files it needs are made below *scratch* and must stay while it is used.

    Args:
        form: One of :data:`FORMS`.
        backend: What computes it.
        model: The base model.
        adapter: A LoRA of that model.
        scratch: An existing folder; the merged form takes as much disk as the fp32 model.

    Raises:
        UsageError: *form* is unknown.
        AdapterError: The adapter is no plain LoRA, or does not fit the model.
    """
    if form not in FORMS:
        msg = f"form {form!r}, expected {', '.join(FORMS)}"
        raise UsageError(msg)
    return FORMS[form](backend, model, adapter, scratch)


def _fused(backend: Backend, model: Model, adapter: Adapter, scratch: Path) -> Generator:
    return backend.load(model, adapter.path, fused=True)


def _merged(backend: Backend, model: Model, adapter: Adapter, scratch: Path) -> Generator:
    from engram_bench.models import Model as LocalModel

    export_adapter(adapter, "merged", scratch / "merged", model=model)
    fingerprint = f"{model.fingerprint} + {adapter.fingerprint}"
    return backend.load(LocalModel(f"{model.reference} + {adapter.name}", scratch / "merged", fingerprint), None)


def _exported(form: str) -> Opener:
    def open_exported(backend: Backend, model: Model, adapter: Adapter, scratch: Path) -> Generator:
        export_adapter(adapter, form, scratch / form, model=model)
        returned = import_adapter(str(scratch / form), scratch / "adapters", model=model, name=form)
        return backend.load(model, returned.path)

    return open_exported


FORMS: Mapping[str, Opener] = {
    "fused": _fused,
    "merged": _merged,
    "peft": _exported("peft"),
    "mlx": _exported("mlx"),
}
"""Name → what opens it. ``peft`` and ``mlx`` are exported and imported again."""

"""Forms of an adapter: fused into the weights, merged into a model folder, exported to another tool and imported again."""

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
    """The model with the adapter in this form. Files below *scratch* must stay while the generator is used.

    Args:
        form: Name of the form, a key of :data:`FORMS`.
        backend: Backend that loads the model.
        model: Base model of the adapter.
        adapter: LoRA of that model.
        scratch: Existing folder; the merged form takes as much disk there as the fp32 model.

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
"""Name of a form → the function that opens it. ``peft`` and ``mlx`` are exported and imported again."""

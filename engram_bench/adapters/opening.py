"""Whether a stored adapter can be opened, from its files and the model's headers before the model is loaded."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from engram_bench.adapters.found import is_mlx, needs_peft
from engram_bench.adapters.kinds import kind_in
from engram_bench.adapters.layout import check_fits, read_updates
from engram_bench.models.tensors import linear_shapes, stored_tensors

if TYPE_CHECKING:
    from engram_bench.models import Model


def check_opens(model: Model, adapter: Path | None, **_: object) -> None:
    """Raise the error that loading *model* with the adapter in this folder would end in; None is the bare model.

    What PEFT itself computes is left to PEFT, which tells only when the model is loaded.

    Raises:
        AdapterError: A file is missing, cut or of another kind, or the adapter does not fit the model.
    """
    if adapter is not None:
        _check(model, adapter, is_librarys=not kind_in(adapter).has_memory and needs_peft(adapter))


def check_opens_in_mlx(model: Model, adapter: Path | None, **_: object) -> None:
    """Raise the error as :func:`check_opens`; a folder of mlx-lm is left to mlx-lm.

    Raises:
        AdapterError: A file is missing, cut or of another kind, or the adapter does not fit the model.
    """
    if adapter is not None:
        _check(model, adapter, is_librarys=is_mlx(adapter))


def _check(model: Model, adapter: Path, *, is_librarys: bool) -> None:
    kind = kind_in(adapter)
    if kind.has_memory:
        from engram_bench.memory.files import load_memory_files

        load_memory_files(adapter, model)
    if kind.has_lora and not is_librarys:
        check_fits(adapter, read_updates(adapter), linear_shapes(stored_tensors(model.folder)))

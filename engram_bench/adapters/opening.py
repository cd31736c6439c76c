"""Whether a stored adapter can be opened, told from its files and the model's headers before the model is loaded."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from engram_bench.adapters.kinds import kind_in
from engram_bench.adapters.layout import check_fits, read_peft
from engram_bench.models.tensors import linear_shapes, stored_tensors

if TYPE_CHECKING:
    from engram_bench.models import Model


def check_opens(model: Model, adapter: Path | None, **_: object) -> None:
    """Raise the error that loading *model* with the adapter in this folder would end in; None is the bare model.

    Raises:
        AdapterError: A file is missing, cut or of another kind, or the adapter does not fit the model.
    """
    if adapter is None:
        return
    kind = kind_in(adapter)
    if kind.has_memory:
        from engram_bench.memory.files import load_memory_files

        load_memory_files(adapter, model)
    if kind.has_lora:
        check_fits(adapter, read_peft(adapter), linear_shapes(stored_tensors(model.folder)))

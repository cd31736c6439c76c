"""A memory on disk: ``memory.json`` says what it is, ``memory.safetensors`` holds keys, rows and projections."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from engram_bench.errors import AdapterError, BackendError
from engram_bench.memory.config import DESCRIPTION_FILE, MemoryConfig, checked
from engram_bench.memory.nearest import UNMATCHED, KnownQuestions
from engram_bench.memory.table import RowTable
from engram_bench.records.plain import from_plain, to_json_lines
from engram_bench.system.files import write_atomic
from engram_bench.system.reading import read_json
from engram_bench.system.tensor_files import read_arrays, write_arrays

if TYPE_CHECKING:
    from engram_bench.models import Model

WEIGHTS_FILE = "memory.safetensors"
SCHEMA = 4

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Layer:
    """Values of the memory before one block. H values in a hidden state, S slots, d values in a row."""

    rows: Floats
    """(R, d); row 0 is zero."""
    projection: Floats
    """(S·d, H)."""
    scale: float
    """Median size of the hidden state's values before the block, so that one learning rate fits every block."""
    gate: Mapping[str, Floats] = field(default_factory=dict)
    """``key_projection`` (S·d, H), ``query_norm`` and ``key_norm`` (H,); empty without a gate."""

    @property
    def values(self) -> dict[str, Floats]:
        """All arrays by name."""
        return {"rows": self.rows, "projection": self.projection, **self.gate}


@dataclass(frozen=True)
class StoredMemory:
    """A table with its values."""

    table: RowTable
    layers: Mapping[int, Layer]
    """Layers by block."""
    base_fingerprint: str
    template_fingerprint: str

    @property
    def parameters(self) -> int:
        """Number of trained values: rows, and projections and gates where they are trained."""
        config = self.table.config
        rows = sum(layer.rows[1:].size for layer in self.layers.values())
        projections = sum(layer.projection.size for layer in self.layers.values()) if config.train_projection else 0
        return rows + projections + sum(values.size for layer in self.layers.values() for values in layer.gate.values())


def save_memory(folder: Path, memory: StoredMemory) -> None:
    """Write both files into *folder*, the description last.

    Raises:
        StoreError: A file cannot be written; no half file is left.
    """
    table = memory.table
    lengths = [len(rows) for rows in table.owned]
    tensors: dict[str, NDArray[Any]] = {
        "keys": table.keys,
        "dead": table.dead,
        "owned_rows": np.concatenate([*table.owned, np.zeros(0, np.int64)]).astype(np.int32),
        "owned_ends": np.cumsum(lengths, dtype=np.int64).astype(np.int32),
    }
    if table.classes is not None:
        tensors["classes"] = table.classes.astype(np.int32)
    if table.known is not None:
        tensors |= _known_tensors(table.known)
    for block, layer in memory.layers.items():
        tensors |= {f"block.{block}.{name}": values for name, values in layer.values.items()}
    write_arrays(folder / WEIGHTS_FILE, tensors)
    description = {
        "schema": SCHEMA,
        "config": asdict(table.config),
        "base_fingerprint": memory.base_fingerprint,
        "template_fingerprint": memory.template_fingerprint,
        "vocabulary": table.vocabulary,
        "pad": table.pad,
        "scales": {str(block): layer.scale for block, layer in memory.layers.items()},
        "patterns": list(table.patterns),
        "near": table.known.threshold if table.known else None,
    }
    write_atomic(folder / DESCRIPTION_FILE, to_json_lines(description))


def load_memory_files(folder: Path, model: Model | None = None) -> StoredMemory:
    """The memory in *folder*, its parts compared with each other and, if given, with *model*.

    Raises:
        AdapterError: A file is missing or damaged, parts do not fit together, or it was trained on another base model
            or with another tokenizer: every key would have another meaning.
    """
    description = _read_description(folder / DESCRIPTION_FILE)
    tensors = _read_tensors(folder / WEIGHTS_FILE)
    try:
        config = _config(description["config"])
        ends = _part(tensors, "owned_ends", "iu").tolist()
        table = RowTable(
            config=config,
            keys=tensors["keys"],
            dead=tensors["dead"],
            patterns=_names(description["patterns"]),
            owned=tuple(np.split(_part(tensors, "owned_rows", "iu"), ends)[: len(ends)]),
            classes=_part(tensors, "classes", "iu") if "classes" in tensors else None,
            parts=_part(tensors, "known.parts", "iu").astype(np.int8) if "known.parts" in tensors else None,
            known=_known(tensors, float(description["near"])) if description.get("near") is not None else None,
            vocabulary=int(description["vocabulary"]),
            pad=int(description["pad"]),
        )
        layers = {block: _layer(tensors, block, float(description["scales"][str(block)])) for block in config.layers}
        if not np.isfinite(
            [table.known.threshold if table.known else 0.0, *(each.scale for each in layers.values())]
        ).all():
            raise ValueError("near or a scale is not finite")
        memory = StoredMemory(table, layers, description["base_fingerprint"], description["template_fingerprint"])
    except (LookupError, TypeError, ValueError, ArithmeticError, AttributeError, BackendError) as error:
        msg = f"{folder}: {DESCRIPTION_FILE} and {WEIGHTS_FILE} do not make a memory ({error!r})"
        raise AdapterError(msg) from error
    _check(folder, memory)
    if model is not None:
        _check_model(folder, memory, model)
    return memory


def _read_description(path: Path) -> dict[str, Any]:
    try:
        description = read_json(path, inside=path.parent)
    except OSError as error:
        msg = f"{path}: not found or not readable, expected a memory ({error.strerror})"
        raise AdapterError(msg) from error
    except ValueError as error:
        msg = f"{path}: expected JSON ({error})"
        raise AdapterError(msg) from error
    if not isinstance(description, dict) or description.get("schema") != SCHEMA:
        found = description.get("schema") if isinstance(description, dict) else type(description).__name__
        msg = f"{path}: schema {found!r}, expected {SCHEMA}: written by another version of engram-bench"
        raise AdapterError(msg)
    return description


def _read_tensors(path: Path) -> dict[str, NDArray[Any]]:
    try:
        return read_arrays(path, inside=path.parent)[0]
    except OSError as error:
        msg = f"{path}: not found or not readable, expected a memory's values ({error.strerror or error})"
        raise AdapterError(msg) from error
    except ValueError as error:
        msg = f"{path}: cut off or damaged, expected a whole safetensors file ({error})"
        raise AdapterError(msg) from error


def _config(plain: Mapping[str, Any]) -> MemoryConfig:
    return checked(from_plain(MemoryConfig, plain))


def _layer(tensors: Mapping[str, NDArray[Any]], block: int, scale: float) -> Layer:
    prefix = f"block.{block}."
    parts = {name.removeprefix(prefix): values for name, values in tensors.items() if name.startswith(prefix)}
    for name in parts:
        _part(parts, name, "f")
    return Layer(parts.pop("rows"), parts.pop("projection"), scale, parts)


def _names(values: Any) -> tuple[str, ...]:
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise ValueError("patterns is no list of texts")
    return tuple(values)


def _part(tensors: Mapping[str, NDArray[Any]], name: str, kinds: str) -> NDArray[Any]:
    """An array of one of these kinds of numbers (``dtype.kind``); whole ones as 64 bits.

    Raises:
        ValueError: The array holds other numbers, or ends that do not rise.
    """
    values = tensors[name]
    if "f" in kinds and values.dtype.kind == "f":
        return values
    if values.dtype.kind not in kinds or values.ndim != 1:
        wanted = "floats" if "f" in kinds else "whole ones in a row"
        msg = f"{name} has {values.dtype} numbers of shape {values.shape}, expected {wanted}"
        raise ValueError(msg)
    whole = values.astype(np.int64)
    if name.endswith("ends") and (np.diff(whole, prepend=0) < 0).any():
        msg = f"{name} do not rise, expected them to"
        raise ValueError(msg)
    return whole


def _known_tensors(known: KnownQuestions) -> dict[str, NDArray[Any]]:
    return {
        "known.tokens": np.concatenate([np.array(question, np.int32) for question in known.questions]),
        "known.ends": np.cumsum([len(question) for question in known.questions]).astype(np.int32),
        "known.owners": known.owners.astype(np.int32),
        "known.parts": known.parts,
        "known.weighed": known.weighed,
        "known.which": known.which,
        "known.whether": known.whether,
    }


def _known(tensors: Mapping[str, NDArray[Any]], threshold: float) -> KnownQuestions:
    parts = np.split(_part(tensors, "known.tokens", "iu"), _part(tensors, "known.ends", "iu"))[:-1]
    return KnownQuestions(
        questions=tuple(tuple(part.tolist()) for part in parts),
        owners=_part(tensors, "known.owners", "iu"),
        classes=_part(tensors, "classes", "iu"),
        parts=_part(tensors, "known.parts", "iu").astype(np.int8),
        weighed=tensors["known.weighed"],
        which=_part(tensors, "known.which", "f"),
        whether=_part(tensors, "known.whether", "f"),
        threshold=threshold,
    )


def _check(folder: Path, memory: StoredMemory) -> None:
    path, table = folder / WEIGHTS_FILE, memory.table
    words = [("words", table.known.weighed)] if table.known is not None else []
    for name, keys in (("keys", table.keys), ("dead", table.dead), *words):
        if not (keys.dtype == np.uint64 and keys.ndim == 1 and (keys[1:] > keys[:-1]).all()):
            msg = f"{path}: {name} are not sorted 64-bit numbers, each once; expected them so"
            raise AdapterError(msg)
    if table.known is not None and (mistake := _mistake(table.known, len(table.patterns))):
        msg = f"{path}: {mistake}"
        raise AdapterError(msg)
    if len(table.owned) != len(table.patterns):
        msg = f"{path}: rows of {len(table.owned)} patterns, expected {len(table.patterns)} by {DESCRIPTION_FILE}"
        raise AdapterError(msg)
    num_rows = min(map(table.num_rows, memory.layers), default=0)
    if any(len(rows) and not 0 <= rows.min() <= rows.max() < num_rows for rows in table.owned):
        msg = f"{path}: a pattern owns a row beyond the {num_rows} that there are, expected one of these"
        raise AdapterError(msg)
    for block, layer in memory.layers.items():
        wanted = (table.num_rows(block), table.config.row_size)
        if layer.rows.shape != wanted:
            msg = f"{path}: rows before block {block} have shape {layer.rows.shape}, expected {wanted}"
            raise AdapterError(msg)
        width = table.config.slots * table.config.row_size
        if layer.projection.ndim != 2 or len(layer.projection) != width:
            msg = f"{path}: projection of block {block} has shape {layer.projection.shape}, expected ({width}, …)"
            raise AdapterError(msg)
        if layer.rows[0].any():
            msg = f"{path}: row 0 before block {block} is not zero, expected it to be: unknown n-grams read it"
            raise AdapterError(msg)
        for name, values in layer.values.items():
            if not np.isfinite(values).all():
                msg = f"{path}: {name} before block {block} hold NaN or infinite values, expected finite ones"
                raise AdapterError(msg)


def _mistake(known: KnownQuestions, num_patterns: int) -> str:
    """The first mistake in the questions of a memory of so many patterns; empty if there is none."""
    wanted = (len(known.weighed) + 1,)
    for name, weights in (("which", known.which), ("whether", known.whether)):
        if weights.shape != wanted or not (np.isfinite(weights) & (weights >= 0)).all():
            return f"weights of words ({name}) have shape {weights.shape}, expected {wanted} and no negative or infinite one"
    if len(known.owners) != len(known.questions):
        return f"{len(known.questions)} questions and owners of {len(known.owners)}, expected as many"
    highest = int(known.owners.max(initial=UNMATCHED))
    if not UNMATCHED < highest < num_patterns:
        return f"the last pattern that is asked for is number {highest}, expected one of 0 to {num_patterns - 1}"
    if len(known.parts) != len(known.classes):
        return f"parts of words of {len(known.parts)} tokens and classes of {len(known.classes)}, expected as many"
    if strangers := {*chain(*known.questions)}.difference(range(len(known.classes))):
        return f"a question has token {min(strangers)}, expected one of 0 to {len(known.classes) - 1}"
    return ""


def _check_model(folder: Path, memory: StoredMemory, model: Model) -> None:
    if memory.base_fingerprint != model.fingerprint:
        msg = f"{folder}: trained on base model {memory.base_fingerprint}, expected {model.fingerprint}"
        raise AdapterError(msg)
    template = model.tokenizer.template_fingerprint
    if memory.template_fingerprint != template:
        msg = f"{folder}: keys are of tokenizer {memory.template_fingerprint}, expected {template}"
        raise AdapterError(msg)
    hidden = model.config["hidden_size"]
    for block, layer in memory.layers.items():
        if layer.projection.shape[1] != hidden or block >= model.config["num_hidden_layers"]:
            msg = f"{folder}: writes {layer.projection.shape[1]} values before block {block}, expected {hidden}"
            raise AdapterError(msg)

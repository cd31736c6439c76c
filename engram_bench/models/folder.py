"""What a model folder must hold."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from engram_bench.errors import ModelError


def check_folder(folder: Path) -> None:
    """Pass a folder with config, tokenizer and whole safetensors weights; nothing of it is loaded.

    Raises:
        ModelError: Something is missing, cut or pickled; names the file and what would put it right.
    """
    if not (folder / "config.json").is_file():
        found = ", ".join(sorted(path.name for path in folder.iterdir())[:8]) or "nothing"
        msg = f"{folder}: found {found}, expected config.json, tokenizer.json and *.safetensors"
        raise ModelError(msg)
    tokenizer_file(folder)
    check_weights(folder)


def tokenizer_file(folder: Path) -> Path:
    """Path of the ``tokenizer.json``.

    Raises:
        ModelError: There is none; says how transformers writes it from older files.
    """
    path = folder / "tokenizer.json"
    if not path.is_file():
        msg = (
            f"{folder}: no tokenizer.json; transformers can write it: "
            'python -c "from transformers import AutoTokenizer as A; '
            f'A.from_pretrained({str(folder)!r}).save_pretrained({str(folder)!r})"'
        )
        raise ModelError(msg)
    return path


def check_weights(folder: Path) -> None:
    """Pass a folder whose safetensors files are all there and as long as their headers say.

    Raises:
        ModelError: None is there (pickled weights are named, and never read), one is cut, or a shard is missing.
    """
    files = weight_files(folder)
    if not files:
        pickled = [path.name for path in sorted(folder.glob("*.bin"))]
        msg = f"{folder}: found {', '.join(pickled) or 'no weights'}, expected *.safetensors"
        raise ModelError(msg)
    for path in files:
        _check_length(path)
    for index in folder.glob("*.safetensors.index.json"):
        for name in sorted(set(read_json(index).get("weight_map", {}).values())):
            if not (folder / name).is_file():
                msg = f"{folder}: no {name}, which {index.name} names"
                raise ModelError(msg)


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files, by name."""
    return sorted(folder.glob("*.safetensors"))


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file; empty where there is no file.

    Raises:
        ModelError: The file is no JSON, or no object.
    """
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        msg = f"{path}: {error}, expected JSON"
        raise ModelError(msg) from error
    if not isinstance(content, dict):
        msg = f"{path}: found a {type(content).__name__}, expected a JSON object"
        raise ModelError(msg)
    return content


def _check_length(path: Path) -> None:
    found = path.stat().st_size
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(length) if length <= found else b"")
        ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
    except (ValueError, AttributeError, KeyError, TypeError, IndexError) as error:
        msg = f"{path}: no safetensors header in {found} bytes, expected one"
        raise ModelError(msg) from error
    expected = 8 + length + max(ends, default=0)
    if found != expected:
        msg = f"{path}: found {found} bytes, expected {expected}; download or copy it again"
        raise ModelError(msg)

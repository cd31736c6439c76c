"""Checks of a model folder: the files that it must hold."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from engram_bench.errors import ModelError
from engram_bench.system.reading import read_json as read_json_within
from engram_bench.system.tensor_files import read_tensor_header


def check_folder(folder: Path) -> None:
    """Check that a folder holds config, tokenizer and complete safetensors weights, without loading them.

    Raises:
        ModelError: A file is missing, cut or pickled. The message names the file and a remedy.
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
        ModelError: The file is missing. The message says how transformers writes it from older files.
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
    """Check that all safetensors files of a folder are present and have the lengths in their headers.

    Raises:
        ModelError: There is no such file, a file is cut, or a shard is missing. Pickled weights are named, never read.
    """
    files = weight_files(folder)
    if not files:
        pickled = [path.name for path in sorted(folder.glob("*.bin"))]
        msg = f"{folder}: found {', '.join(pickled) or 'no weights'}, expected *.safetensors"
        raise ModelError(msg)
    for path in files:
        _check_length(path)
    for index in folder.glob("*.safetensors.index.json"):
        shards = read_json(index).get("weight_map", {})
        if not isinstance(shards, dict) or not all(isinstance(name, str) for name in shards.values()):
            msg = f"{index}: weight_map is no object of file names, expected one"
            raise ModelError(msg)
        for name in sorted(set(shards.values())):
            if not (folder / name).is_file():
                msg = f"{folder}: no {name}, which {index.name} names"
                raise ModelError(msg)


def weight_files(folder: Path) -> list[Path]:
    """Paths of the safetensors files in a folder, sorted by name."""
    return sorted(folder.glob("*.safetensors"))


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file; empty if the file is missing.

    Raises:
        ModelError: The file holds no JSON, or no object.
    """
    if not path.exists():
        return {}
    try:
        content = read_json_within(path, inside=path.parent)
    except OSError as error:
        msg = f"{path}: cannot be read: {error.strerror or error}"
        raise ModelError(msg) from error
    except ValueError as error:
        msg = f"{path}: {error}, expected JSON"
        raise ModelError(msg) from error
    if not isinstance(content, dict):
        msg = f"{path}: found a {type(content).__name__}, expected a JSON object"
        raise ModelError(msg)
    return content


def _check_length(path: Path) -> None:
    try:
        read_tensor_header(path, inside=path.parent)
    except OSError as error:
        msg = f"{path}: cannot be read: {error.strerror or error}"
        raise ModelError(msg) from error
    except ValueError as error:
        msg = f"{path}: {error}"
        raise ModelError(msg) from error

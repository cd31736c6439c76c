"""A folder named where an adapter is asked for is taken, or answered with what it holds and the options that take it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engram_bench.adapters.folders import find
from engram_bench.adapters.found import remark
from engram_bench.adapters.layout import LoraUpdate, read_updates, write_mlx, write_peft
from engram_bench.adapters.store import load
from engram_bench.errors import AdapterError
from engram_bench.records import Recipe
from tests.tiny_models import make_tiny_llama

Q, V = "model.layers.0.self_attn.q_proj", "model.layers.1.self_attn.v_proj"
UPDATES = {name: LoraUpdate(np.ones((2, 4), np.float32), np.ones((4, 2), np.float32), 3.0) for name in (Q, V)}


def peft(folder: Path, **config: Any) -> Path:
    folder.mkdir(parents=True)
    write_peft(folder, UPDATES, Recipe(rank=2, alpha=6.0), base="org/model")
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | config))
    return folder


def mlx(folder: Path) -> Path:
    folder.mkdir()
    write_mlx(folder, UPDATES, num_layers=2)
    return folder


def test_lora_of_mlx_is_loaded_as_it_is(tmp_path: Path) -> None:
    adapter = load(mlx(tmp_path / "mine"))

    assert (adapter.manifest.foreign, sorted(adapter.manifest.files)) == (
        True,
        ["adapter_config.json", "adapters.safetensors"],
    )
    assert {name: update.scale for name, update in read_updates(adapter.path).items()} == {Q: 3.0, V: 3.0}
    assert remark(adapter.path) == ""


def test_whole_model_is_answered_with_the_options_that_take_it(tmp_path: Path) -> None:
    folder = make_tiny_llama(tmp_path / "merged", layers=1)

    with pytest.raises(AdapterError, match=re.escape(f"--engram-model={folder} --engram-adapter=none")):
        load(folder)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "expected an adapter of PEFT or mlx-lm"),
        (
            {"adapter_model.bin": "x", "adapter_config.json": "{}"},
            "adapter_model.bin is never loaded: only safetensors",
        ),
        ({"adapters.npz": "x"}, "adapters.npz is never loaded"),
        ({"adapters.safetensors": "x"}, "no adapter_config.json beside adapters.safetensors"),
        ({"checkpoint-10/adapter_config.json": "{}"}, "expected one of the adapters inside: checkpoint-10"),
    ],
    ids=["empty", "pickle", "old-mlx", "no-configuration", "inside"],
)
def test_folder_that_cannot_be_taken_says_what_it_holds(tmp_path: Path, files: dict[str, str], message: str) -> None:
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content)

    with pytest.raises(AdapterError, match=message):
        load(tmp_path)


def test_layers_that_peft_leaves_out_are_left_out_and_said(tmp_path: Path) -> None:
    folder = peft(tmp_path / "theirs", target_modules=["q_proj"])

    assert list(read_updates(folder)) == [Q]
    assert remark(folder) == (
        "adapter_config.json names 1 of the 2 layers in adapter_model.safetensors: as in PEFT, the others "
        f"({V}, …) are left out"
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"fine_tune_type": "full"},
            "fine_tune_type is 'full', which is more than plain LoRA: expected --engram-backend=mlx",
        ),
        ({"lora_parameters": {"rank": 2, "alpha": 8}}, "lora_parameters.scale is None, expected a number"),
        ({"lora_parameters": [1]}, "lora_parameters.scale is None, expected a number"),
        ({"lora_parameters": {"scale": 1.0, "keys": ["self_attn.q_proj"]}}, "keys lacks self_attn.v_proj"),
    ],
    ids=["full", "alpha", "list", "keys"],
)
def test_configuration_of_mlx_that_is_no_lora_is_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    folder = mlx(tmp_path / "mine")
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    with pytest.raises(AdapterError, match=re.escape(message)):
        read_updates(folder)


@pytest.mark.parametrize("name", ["facts-1a2b", "facts"], ids=["name", "start"])
def test_name_finds_the_stored_adapter(tmp_path: Path, name: str) -> None:
    stored = peft(tmp_path / "adapters" / "facts-1a2b")

    assert find(tmp_path / "adapters", name) == stored


def test_folder_counts_before_a_stored_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    peft(tmp_path / "adapters" / "facts")
    peft(tmp_path / "facts")
    monkeypatch.chdir(tmp_path)

    assert find(tmp_path / "adapters", "facts") == Path("facts")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nothing", "nothing: no such folder, expected an adapter: a folder, or one of facts-1, facts-2 in "),
        ("facts", "facts: several adapters start so, expected one of facts-1, facts-2 in "),
        ("org/name", "; from the Hub: engram-bench adapter import org/name"),
        ("~nosuchuser", "expected a folder or the name of a stored adapter"),
        ("x" * 5000, "expected a folder or the name of a stored adapter"),
        ("file.gguf", "a file, expected the folder of an adapter"),
    ],
    ids=["none", "several", "hub", "no-user", "too-long", "file"],
)
def test_name_of_no_one_adapter_is_one_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, message: str
) -> None:
    for each in ("facts-1", "facts-2"):
        peft(tmp_path / "adapters" / each)
    (tmp_path / "file.gguf").touch()
    monkeypatch.chdir(tmp_path)

    with pytest.raises(AdapterError, match=re.escape(message)):
        find(tmp_path / "adapters", name)

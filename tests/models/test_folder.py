from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from engram_bench.errors import ModelError
from engram_bench.models.chat import ChatTokenizer
from engram_bench.models.fingerprint import weights_fingerprint
from engram_bench.models.folder import check_folder
from engram_bench.models.resolve import resolve_model
from tests.tiny_models import make_tiny_llama


def test_fingerprint_depends_on_content_alone(tmp_path: Path) -> None:
    first, second = make_tiny_llama(tmp_path / "a"), make_tiny_llama(tmp_path / "b")

    assert weights_fingerprint(first, cache=tmp_path) == weights_fingerprint(second, cache=tmp_path)
    assert len(weights_fingerprint(first, cache=tmp_path)) == 64


@pytest.mark.parametrize("file", ["model.safetensors", "config.json"])
def test_fingerprint_changes_with_weights_and_config(tmp_path: Path, file: str) -> None:
    folder = make_tiny_llama(tmp_path / "model")
    before = weights_fingerprint(folder, cache=tmp_path)
    path = folder / file
    if file == "config.json":
        path.write_text(path.read_text().replace("10000.0", "20000.0"))
    else:
        save_file(load_file(path) | {"model.norm.weight": np.zeros(64, np.float32)}, path)

    assert weights_fingerprint(folder, cache=tmp_path) != before


def test_fingerprint_ignores_the_tokenizer(tmp_path: Path) -> None:
    folder = make_tiny_llama(tmp_path / "model")
    before = weights_fingerprint(folder, cache=tmp_path)
    (folder / "tokenizer_config.json").write_text("{}")

    assert weights_fingerprint(folder, cache=tmp_path) == before


def test_fingerprint_is_remembered_while_size_and_time_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make_tiny_llama(tmp_path / "model")
    first = weights_fingerprint(folder, cache=tmp_path)
    monkeypatch.setattr("engram_bench.models.fingerprint.file_sha256", lambda path: pytest.fail("hashed again"))

    assert weights_fingerprint(folder, cache=tmp_path) == first


def test_fingerprint_works_where_nothing_can_be_remembered(tmp_path: Path) -> None:
    folder = make_tiny_llama(tmp_path / "model")
    (tmp_path / "file").write_text("")

    assert weights_fingerprint(folder, cache=tmp_path / "file" / "below") == weights_fingerprint(folder, cache=tmp_path)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"files": 3}'], ids=["empty", "cut", "list", "other"])
def test_broken_memory_is_written_again(tmp_path: Path, text: str) -> None:
    folder = make_tiny_llama(tmp_path / "model")
    first = weights_fingerprint(folder, cache=tmp_path)
    for path in (tmp_path / "fingerprints").iterdir():
        path.write_text(text)

    assert weights_fingerprint(folder, cache=tmp_path) == first


def test_whole_weights_pass(tmp_path: Path) -> None:
    check_folder(make_tiny_llama(tmp_path))


def test_cut_weights_are_named_with_both_sizes(tmp_path: Path) -> None:
    path = make_tiny_llama(tmp_path) / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])

    with pytest.raises(ModelError, match=r"model\.safetensors: found \d+ bytes, expected \d+"):
        check_folder(tmp_path)


@pytest.mark.parametrize("content", [b"", b"12345", b"\xff" * 40], ids=["empty", "short", "noise"])
def test_weights_without_a_header_are_named(tmp_path: Path, content: bytes) -> None:
    (make_tiny_llama(tmp_path) / "model.safetensors").write_bytes(content)

    with pytest.raises(ModelError, match=r"model\.safetensors: no safetensors header"):
        check_folder(tmp_path)


def test_missing_shard_is_named(tmp_path: Path) -> None:
    index = {"weight_map": {"a": "model.safetensors", "b": "model-00002-of-00002.safetensors"}}
    (make_tiny_llama(tmp_path) / "model.safetensors.index.json").write_text(json.dumps(index))

    with pytest.raises(ModelError, match=r"no model-00002-of-00002\.safetensors"):
        check_folder(tmp_path)


def test_pickled_weights_are_refused_by_name(tmp_path: Path) -> None:
    (make_tiny_llama(tmp_path) / "model.safetensors").rename(tmp_path / "pytorch_model.bin")

    with pytest.raises(ModelError, match=r"pytorch_model\.bin, expected \*\.safetensors"):
        check_folder(tmp_path)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors", "tokenizer_config.json"])
def test_a_link_out_of_the_folder_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "model").mkdir()
    folder = make_tiny_llama(tmp_path / "model")
    (folder / name).rename(tmp_path / "elsewhere")
    (folder / name).symlink_to(tmp_path / "elsewhere")

    with pytest.raises(ModelError, match=r"a link to .*elsewhere, expected a file inside the folder"):
        ChatTokenizer(resolve_model(str(folder), cache=tmp_path / "cache").folder)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
@pytest.mark.parametrize("name", ["special_tokens_map.json", "chat_template.jinja", "further.safetensors"])
def test_a_named_pipe_in_the_folder_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "model").mkdir()
    folder = make_tiny_llama(tmp_path / "model")
    (folder / name).unlink(missing_ok=True)
    os.mkfifo(folder / name)

    with pytest.raises(ModelError, match="a named pipe, expected a regular file"):
        ChatTokenizer(resolve_model(str(folder), cache=tmp_path / "cache").folder)


@pytest.mark.parametrize(
    "shards", [[1], {"a": 1}, {"a": ["model.safetensors"]}, None], ids=["list", "number", "lists", "null"]
)
def test_an_index_without_file_names_is_refused(tmp_path: Path, shards: object) -> None:
    folder = make_tiny_llama(tmp_path)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": shards}))

    with pytest.raises(ModelError, match="weight_map is no object of file names"):
        check_folder(folder)

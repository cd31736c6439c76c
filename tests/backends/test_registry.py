"""Which backends there are, and why one cannot run here."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from engram_bench.backends import registry
from engram_bench.backends.machine.nvidia import Gpu
from engram_bench.backends.specs import BACKENDS, SHORTCUTS, BackendSpec
from engram_bench.errors import BackendUnavailable, UsageError


def test_missing_library_names_the_pip_command(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = BackendSpec("nowhere:Backend", "nothing", requires=("no-such-library",), extra="cpu")
    monkeypatch.setitem(BACKENDS, "cpu", spec)

    assert registry.unavailable_reason("cpu") == "backend 'cpu' needs no-such-library: pip install 'engram-bench[cpu]'"
    with pytest.raises(BackendUnavailable, match=re.escape("pip install 'engram-bench[cpu]'")):
        registry.create("cpu")


def test_another_version_than_needed_is_named_with_the_range(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = BackendSpec("nowhere:Backend", "nothing", requires=("numpy>=1,<1.1",), extra="cpu")
    monkeypatch.setitem(BACKENDS, "cpu", spec)

    assert re.fullmatch(
        r"backend 'cpu' needs numpy>=1,<1\.1 \(found \d.*\): pip install 'engram-bench\[cpu\]'",
        registry.unavailable_reason("cpu") or "",
    )


def test_a_backend_gets_the_options_it_takes_and_no_others(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = BackendSpec("types:SimpleNamespace", "nothing", options=("load_in_4bit",))
    monkeypatch.setitem(BACKENDS, "cuda", spec)

    assert vars(registry.create("cuda", load_in_4bit=True, server_url="")) == {"load_in_4bit": True}


@pytest.mark.parametrize(
    ("settings", "keywords"),
    [
        ({"plain": ("drafts", "short-products")}, {"drafts": False, "products": "float32"}),
        ({"plain": ("drafts", "eviction")}, {"drafts": False}),
        ({"plain": ("all",)}, {"drafts": False, "products": "float32"}),
        ({"plain": (), "max_batch_tokens": 64}, {"max_batch_tokens": 64}),
        ({"max_batch_tokens": None}, {}),
    ],
    ids=["some", "one-it-has-not", "all", "limit", "no-limit"],
)
def test_shortcuts_and_limits_become_keyword_arguments(
    monkeypatch: pytest.MonkeyPatch, settings: dict[str, object], keywords: dict[str, object]
) -> None:
    off: dict[str, dict[str, object]] = {"drafts": {"drafts": False}, "short-products": {"products": "float32"}}
    spec = BackendSpec("types:SimpleNamespace", "nothing", limits=("max_batch_tokens",), shortcuts=off)
    monkeypatch.setitem(BACKENDS, "cuda", spec)

    assert vars(registry.create("cuda", **settings)) == keywords


@pytest.mark.parametrize("name", ["cpu", "mlx", "cuda"])
def test_every_shortcut_that_is_turned_off_is_one_the_backend_takes(name: str) -> None:
    module, _, backend = BACKENDS[name].target.partition(":")
    folder = Path(registry.__file__).parent / module.split(".")[2]
    takes = {
        argument.arg
        for path in folder.glob("*.py")
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.ClassDef) and node.name == backend
        for function in node.body
        if isinstance(function, ast.FunctionDef) and function.name == "__init__"
        for argument in function.args.kwonlyargs
    }
    spec = BACKENDS[name]

    assert spec.shortcuts.keys() <= SHORTCUTS.keys()
    assert {argument for off in spec.shortcuts.values() for argument in off} | {*spec.limits} <= takes


def test_the_table_lists_what_a_user_can_choose() -> None:
    rows = {row["name"]: row for row in registry.backends_table()}

    assert {"cpu", "mlx", "cuda"} <= set(rows)
    assert "fake" not in rows
    assert [row["name"] for row in rows.values() if row["auto"]] == [registry.choose_backend()[0]]
    assert all(bool(row["reason"]) != row["available"] for row in rows.values())
    assert rows["cuda"]["install"] == "pip install 'engram-bench[cuda]'"


def test_the_table_imports_no_library() -> None:
    code = (
        "import sys; from engram_bench.backends.registry import backends_table; backends_table(); "
        "print([name for name in ('torch', 'mlx', 'transformers', 'unsloth') if name in sys.modules])"
    )

    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout

    assert loaded.strip() == "[]"


def test_unknown_backend_lists_the_known_ones() -> None:
    with pytest.raises(UsageError, match=r"got 'tpu', expected one of auto, cpu, .*fake"):
        registry.choose_backend("tpu")


@pytest.mark.parametrize(
    ("apple", "nvidia", "available", "chosen"),
    [
        (True, False, {"mlx"}, "mlx"),
        (True, False, set(), "cpu"),
        (False, True, {"cuda"}, "cuda"),
        (False, True, set(), "cpu"),
        (False, False, {"mlx", "cuda"}, "cpu"),
    ],
    ids=["apple", "apple-without-mlx", "nvidia", "nvidia-without-unsloth", "neither"],
)
def test_auto_takes_the_best_the_machine_has(
    monkeypatch: pytest.MonkeyPatch, apple: bool, nvidia: bool, available: set[str], chosen: str
) -> None:
    monkeypatch.setattr(registry, "_is_apple_silicon", lambda: apple)
    monkeypatch.setattr("engram_bench.backends.machine.nvidia.find_gpu", lambda: Gpu("NVIDIA H100") if nvidia else None)
    for name in ("mlx", "cuda"):
        requires = () if name in available else ("no-such-library",)
        monkeypatch.setitem(BACKENDS, name, BackendSpec("x:Y", name, requires=requires))

    assert registry.choose_backend("auto")[0] == chosen


def test_installed_package_can_bring_a_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = EntryPoint("theirs", "engram_bench.backends.fake:FakeBackend", "engram_bench.backends")
    monkeypatch.setattr(registry, "entry_points", lambda group: [entry])

    assert registry.choose_backend("theirs") == ("theirs", "as asked")
    assert registry.create("theirs").name == "fake"

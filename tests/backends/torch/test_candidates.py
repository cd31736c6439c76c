"""Four kinds of candidate on a real model: each base is loaded once, and each candidate has a run of its own."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

from engram_bench.adapters.exchange import export_adapter
from engram_bench.adapters.store import list_adapters
from engram_bench.backends.torch import CpuBackend
from engram_bench.cli import main
from engram_bench.models import Model, resolve_model
from engram_bench.runs.store import find_run, load_run
from tests.conftest import TWO_FACTS
from tests.tiny_models import make_tiny_llama, make_tiny_qwen2

CONTROLS = """\
name: controls
kind: retention
patterns: [{id: sky, input: Colour of the sky?, output: blue}]
"""
CANDIDATES = """\
[candidates.lora]
kind = "lora"
[candidates.words]
kind = "memory"
[candidates.merged]
model = "merged"
[candidates.other]
model = "other"
[candidates.again]
recipe = "fast"
seed = 1
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project on a tiny Llama, with a merged model and another base model beside it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ENGRAM_BENCH_CACHE", str(tmp_path / "cache"))
    base = make_tiny_llama(tmp_path / "base")
    make_tiny_qwen2(tmp_path / "other", seed=3)
    (tmp_path / "patterns").mkdir()
    (tmp_path / "patterns" / "facts.yaml").write_text(TWO_FACTS, "utf-8")
    (tmp_path / "patterns" / "controls.yaml").write_text(CONTROLS, "utf-8")
    ini = f"[pytest]\nengram_backend = cpu\nengram_model = {base}\nengram_steps = 4\nengram_max_tokens = 4\n"
    (tmp_path / "pytest.ini").write_text(ini, "utf-8")
    assert main(["train", "-q", "--kind=lora", "--seed=2"]) == 0
    (adapter,) = list_adapters(tmp_path / "adapters")
    export_adapter(adapter, "merged", tmp_path / "merged", model=resolve_model(str(base)))
    (tmp_path / "engram.toml").write_text(CANDIDATES, "utf-8")
    return tmp_path


@pytest.mark.slow
def test_every_base_is_loaded_once_and_every_candidate_is_compared(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: Counter[str] = Counter()
    open_network = CpuBackend._open_network

    def counted(self: CpuBackend, model: Model) -> Any:
        loaded[model.folder.name] += 1
        return open_network(self, model)

    monkeypatch.setattr(CpuBackend, "_open_network", counted)

    main(["eval", "-q", "--no-cache", "--gate=accuracy >= 0%"])

    assert loaded == {"base": 1, "merged": 1, "other": 1}
    names = ("lora", "words", "merged", "other", "again")
    runs = {name: load_run(find_run(project / "reports", f"latest:{name}")) for name in names}
    baselines = {
        name: [row.completion.text for row in run.results if row.side == "baseline"] for name, run in runs.items()
    }
    assert all(texts == baselines["lora"] for texts in baselines.values())
    assert {name: Path(run.baseline_model).name for name, run in runs.items()} == {
        "lora": "",
        "words": "",
        "merged": "base",
        "other": "base",
        "again": "",
    }
    drifted = {name for name, run in runs.items() if any(measure.name == "control_kl" for measure in run.measures)}
    assert drifted == {"lora", "words", "merged", "again"}

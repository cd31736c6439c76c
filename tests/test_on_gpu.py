"""The run on a GPU: what was measured stays, whatever cuts a stage or the run short."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from benchmarks import on_gpu
from benchmarks.gpu_shapes import SHAPES, tensor_sizes
from benchmarks.on_gpu import ADAPTER, PROJECT, RECORD, TABLE, Plan, Stage, run, stages, table

WHERE = {"machine": "a machine", "command": "on_gpu", "commit": "1a2b3c4", "date": "2026-11-28T00:00:00Z"}
PRINT = "import json; print(json.dumps({'parameters': 5, 'file_mb': 1.0}), flush=True)"
DEVICE: dict[str, Any] = {
    "device": "cuda:0 NVIDIA X",
    "driver": "580.1",
    "dtype": "bfloat16",
    "versions": {"torch": "2.11.0"},
}


def stage(name: str, code: str, limit_s: float = 30.0) -> Stage:
    return Stage(name, limit_s, (sys.executable, "-c", code), on_gpu._last_lines)


def states(record: dict[str, Any]) -> list[str]:
    return [row["state"] for row in record["stages"]]


def test_a_stage_over_its_limit_is_recorded_as_such_and_keeps_what_it_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(on_gpu, "GRACE_S", 0.2)
    ignores = "import signal, time; signal.signal(signal.SIGINT, signal.SIG_IGN); "

    record = run([stage("slow", f"{ignores}{PRINT}; time.sleep(60)", 1.5)], tmp_path, WHERE, budget_s=60)

    assert states(record) == ["over its limit of 2 s"]
    assert record["stages"][0]["found"]["parameters"] == 5
    assert record["stages"][0]["seconds"] < 20


@pytest.fixture
def in_the_background() -> Iterator[None]:
    """Interruptions are ignored, as in a job that a shell has sent to the background."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    yield
    signal.signal(signal.SIGINT, before)


def test_a_stage_over_its_limit_may_write_its_reports_before_it_is_killed(
    tmp_path: Path, in_the_background: None
) -> None:
    code = f"import time\ntry: time.sleep(60)\nexcept KeyboardInterrupt: {PRINT}"

    record = run([stage("slow", code, 1.5)], tmp_path, WHERE, budget_s=60)

    assert record["stages"][0]["found"]["parameters"] == 5


def test_a_failed_stage_does_not_stop_the_next_and_leaves_the_end_of_its_log(tmp_path: Path) -> None:
    record = run([stage("bad", "raise SystemExit('no kernel')"), stage("good", PRINT)], tmp_path, WHERE, budget_s=60)

    assert states(record) == ["exit status 1", "done"]
    assert "no kernel" in record["stages"][0]["log"]


def test_a_stage_is_not_started_once_the_time_is_used_up(tmp_path: Path) -> None:
    times = iter([0.0, 1.0, 99.0])

    record = run(
        [stage("first", PRINT), stage("second", PRINT)], tmp_path, WHERE, budget_s=100, clock=lambda: next(times)
    )

    assert states(record) == ["done", "not started: the time was used up"]


def test_a_stage_that_needs_the_trained_adapter_gets_its_folder(tmp_path: Path) -> None:
    trained = stage("training", 'print(\'{"path": "adapters/lora-1"}\')')
    asks = Stage(
        "asks", 30, (sys.executable, "-c", "import sys; print(sys.argv[1])", ADAPTER), lambda _, text: {"given": text}
    )

    record = run([asks, trained, asks], tmp_path, WHERE, budget_s=60)

    assert states(record) == ["not started: no adapter was trained", "done", "done"]
    assert record["stages"][2]["found"] == {"given": "adapters/lora-1\n"}


def test_what_was_measured_is_on_disk_while_the_next_stage_runs(tmp_path: Path) -> None:
    seen: dict[str, Any] = {}

    def look(folder: Path, text: str) -> dict[str, Any]:
        seen.update(json.loads((folder / RECORD).read_text("utf-8")))
        return {}

    second = Stage("second", 30, (sys.executable, "-c", ""), look)
    run([stage("first", PRINT), second], tmp_path, WHERE, budget_s=60)

    assert states(seen) == ["done", "running"]
    assert seen["stages"][0]["found"] == {"parameters": 5, "file_mb": 1.0}
    assert "| first | parameters; file | 5; 1 MB |" in (tmp_path / TABLE).read_text("utf-8")


def test_a_run_that_is_ended_takes_its_stage_along(tmp_path: Path) -> None:
    marker = tmp_path / "pid"
    code = f"import os, pathlib, time; pathlib.Path({str(marker)!r}).write_text(str(os.getpid())); time.sleep(60)"
    script = (
        "import sys, pathlib; from benchmarks import on_gpu\n"
        f"on_gpu.stages = lambda *_: [on_gpu.Stage('slow', 60, (sys.executable, '-c', {code!r}), on_gpu._last_lines)]\n"
        f"on_gpu.main([{str(tmp_path)!r}])"
    )
    process = subprocess.Popen([sys.executable, "-c", script], cwd=PROJECT, stderr=subprocess.DEVNULL)
    while not (marker.exists() and marker.read_text()):
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)

    assert process.wait(20) == 143
    with pytest.raises(ProcessLookupError):
        os.kill(int(marker.read_text()), 0)


def row(name: str, state: str = "done", **found: Any) -> dict[str, Any]:
    return {"name": name, "state": state, "found": found}


def lines_of(rows: Sequence[dict[str, Any]]) -> list[str]:
    return table({**WHERE, "stages": rows}).splitlines()


def test_the_table_of_a_partial_record_has_what_is_there() -> None:
    lines = lines_of(
        [
            row("device", **DEVICE, memory_mb=81_559),
            row("qwen2.5-0.5b", "over its limit of 60 s", parameters=494_032_768, file_mb=988.0),
            row("unsloth-training", "running"),
        ]
    )

    assert lines == [
        "cuda:0 NVIDIA X; driver 580.1; bfloat16; torch 2.11.0; a machine; commit 1a2b3c4; 2026-11-28T00:00:00Z; on_gpu",
        "",
        "| stage | what | measured |",
        "| --- | --- | --- |",
        "| device | memory of the GPU | 81559 MiB |",
        "| qwen2.5-0.5b | parameters; file | 494,032,768; 988 MB |",
        "| qwen2.5-0.5b | state | over its limit of 60 s |",
        "| unsloth-training | state | running |",
    ]


def test_a_figure_that_is_missing_ends_its_stage_alone() -> None:
    lines = lines_of([row("training", steps=3), row("qwen2.5-0.5b", parameters=5, file_mb=1.0)])

    assert lines[4:] == [
        "| training | not readable | KeyError: 'seconds' |",
        "| qwen2.5-0.5b | parameters; file | 5; 1 MB |",
    ]


TRAINING: dict[str, Any] = {"steps": 100, "examples": 572, "seconds": 20.0, "tokens": 40_000, "recall": 1.0}
TRAINING |= {"loss_start": 3.39, "loss_end": 0.07, "peak_memory_mb": 1234.0}
SIDE = {"test": "batch_throughput", "side": "fused", "batch": 8, "rounds": 12, "p50_s": 0.0421}
SIDE |= {"tok_s": {"value": 3_040.5}, "ratio": {"value": 1.029, "interval": [1.015, 1.032]}, "peak_memory_mb": 900.0}
PAIR = {"work": "100 steps", "ours": [{"wall_s": 10.0}], "theirs": [{"wall_s": 25.0}]}


@pytest.mark.parametrize(
    ("found", "line"),
    [
        (row("training", **TRAINING), "| training | tokens per second | 2,000 |"),
        (row("training", **TRAINING), "| training | recall; loss | 100.0 %; 3.39 → 0.07 |"),
        (
            row("speed", speed=[SIDE]),
            "| speed | batch throughput 8, fused, n = 12 | 3,040.5 tok/s, 42.1 ms, "
            "+2.9 % (+1.5 % to +3.2 %) against the bare model, peak 900 MB |",
        ),
        (
            row("unsloth-training", rows=[PAIR], facts={}),
            "| unsloth-training | 100 steps | 10.0 s here, 25.0 s Unsloth's own, 2.5× |",
        ),
        (
            row("unsloth-training", jobs={"train-ours": [{"training": {"wall_s": 9.5}, "steps": 100}]}),
            "| unsloth-training | train-ours, training | 9.5 s |",
        ),
    ],
    ids=["tokens", "recall", "speed", "beside Unsloth", "Unsloth cut short"],
)
def test_a_figure_of_the_table(found: dict[str, Any], line: str) -> None:
    assert line in lines_of([found])


def test_stages_that_need_all_the_rest_come_after_it(tmp_path: Path) -> None:
    names = [each.name for each in stages(Plan(), tmp_path)]

    assert names == [
        "device",
        "training",
        "accuracy",
        "speed",
        "qwen2.5-0.5b",
        "qwen2.5-1.5b",
        "unsloth-training",
        "unsloth-answering",
    ]


@pytest.mark.parametrize(("name", "millions"), [("qwen2.5-0.5b", 494), ("qwen2.5-1.5b", 1_544)])
def test_a_shape_has_the_parameters_of_its_model(name: str, millions: int) -> None:
    sizes = tensor_sizes(SHAPES[name]).values()
    parameters = sum(size[0] * (size[1] if len(size) > 1 else 1) for size in sizes)

    assert round(parameters / 1e6) == millions


def test_the_script_hands_its_options_on(tmp_path: Path) -> None:
    (tmp_path / RECORD).write_text(json.dumps({**WHERE, "stages": [row("device", **DEVICE)]}), "utf-8")
    environment = {**os.environ, "PYTHON": sys.executable, "WHEELS": "none"}

    done = subprocess.run(
        ["bash", PROJECT / "benchmarks" / "on_gpu.sh", tmp_path, "--table"],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )

    assert done.stdout.startswith("cuda:0 NVIDIA X; driver 580.1")

"""Two runs side by side: what a reader must not mix up."""

from __future__ import annotations

from dataclasses import replace

from engram_bench.records import Run
from engram_bench.reporting.changes import change_lines, training_table
from engram_bench.scoring.comparison import compare_runs
from tests.made_up import PROVENANCE, TRAINING

MAC = replace(
    TRAINING,
    backend="mlx",
    device="Apple M3",
    machine="Mac15,3",
    seconds=10.0,
    steps=100,
    examples_seen=800,
    tokens=20_000,
    peak_memory_mb=900.0,
)
OLD = Run("0001", PROVENANCE, training=replace(TRAINING, machine="two cores"))
NEW = Run("0002", replace(PROVENANCE, backend="mlx", machine="a box with a GPU"), training=MAC)


def test_training_stands_side_by_side_with_its_own_machine() -> None:
    table = training_table(OLD, NEW)

    assert table is not None
    rows = {row[0]: row[1:] for row in table.rows}
    assert rows["machine"] == ("two cores", "Mac15,3")
    assert rows["seconds"] == ("98.2", "10.0")
    assert rows["examples/s"][1] == "80.0"
    assert rows["tokens/s"] == ("407", "2000")
    assert rows["peak memory"] == ("", "900 MB")
    assert "training: each on its own machine" in change_lines(OLD, NEW, compare_runs(OLD, NEW))


def test_one_training_is_not_shown_twice() -> None:
    assert training_table(OLD, replace(OLD, name="0002")) is None


def test_a_training_that_nobody_placed_says_so() -> None:
    table = training_table(replace(OLD, training=TRAINING), NEW)

    assert table is not None
    assert ("machine", "not recorded", "Mac15,3") in table.rows

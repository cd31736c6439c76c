"""A sweep over recipes: what it tries, what it keeps, and how it goes on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

pytest.importorskip("optuna")

from engram_bench.errors import BackendError, StoreError, UsageError
from engram_bench.records import Trial
from engram_bench.scoring.comparison import compare
from engram_bench.scoring.objective import parse_objective
from engram_bench.session.search import Measured, Search
from engram_bench.session.space import parse_space
from tests.made_up import both, run_of


@dataclass
class Recipes:
    """Stands for training: of ten cases as many are right as the rank says."""

    tried: list[tuple[int, float]] = field(default_factory=list)
    interrupted_at: int | None = None
    diverges_at: int | None = None

    def measure(self, changes: Mapping[str, Any], share: float) -> Measured:
        rank = changes["rank"]
        if rank == self.interrupted_at:
            raise KeyboardInterrupt
        if rank == self.diverges_at:
            raise BackendError("training: step 3 has loss nan")
        self.tried.append((rank, share))
        rows = [both(f"f/{case}", False, case < rank) for case in range(10)]
        return Measured(compare(run_of(*rows)), f"adapter-{rank}", steps=round(100 * share))


@pytest.fixture
def search(tmp_path: Path) -> Search:
    space = parse_space(["rank=1,5,9,3"])
    return Search(tmp_path / "s", space, parse_objective("max accuracy"), "grid", None, 0, prunes=False, key="patterns")


def run(search: Search, recipes: Recipes) -> tuple[Trial, ...]:
    return search.run(recipes.measure, lambda trial: None)


def test_a_grid_is_tried_once_in_order(search: Search) -> None:
    recipes = Recipes()

    trials = run(search, recipes)

    assert recipes.tried == [(1, 1.0), (5, 1.0), (9, 1.0), (3, 1.0)]
    assert [trial.value.value for trial in trials if trial.value] == [0.1, 0.5, 0.9, 0.3]
    assert [trial.adapter for trial in trials] == [f"adapter-{rank}" for rank in (1, 5, 9, 3)]
    assert [trial.number for trial in trials] == [1, 2, 3, 4]


def test_a_second_run_tries_nothing(search: Search) -> None:
    first, recipes = run(search, Recipes()), Recipes()

    assert run(search, recipes) == first
    assert recipes.tried == []


def test_an_interrupted_sweep_goes_on_where_it_was(search: Search) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(search, Recipes(interrupted_at=9))
    recipes = Recipes()

    trials = run(search, recipes)

    assert sorted(rank for rank, _ in recipes.tried) == [3, 9]
    assert sorted(trial.changes["rank"] for trial in trials) == [1, 3, 5, 9]


def test_half_a_line_of_a_killed_process_is_dropped(search: Search) -> None:
    run(replace(search, num_trials=2), Recipes())
    with (search.folder / "journal.log").open("ab") as journal:
        journal.write(b'{"op_code": 4, "trial_')
    (search.folder / "journal.log.lock").symlink_to(search.folder / "journal.log")

    assert len(run(search, Recipes())) == 4


@pytest.mark.parametrize("content", [b"no journal\n", b"{}\n", b"[1]\n", b'{"op_code": 99}\n', b"\xff\xfe\n"])
def test_another_file_is_refused_by_name(search: Search, content: bytes) -> None:
    search.folder.mkdir()
    (search.folder / "journal.log").write_bytes(content)

    with pytest.raises(StoreError, match=r"journal\.log: cannot be read"):
        run(search, Recipes())
    assert (search.folder / "journal.log").read_bytes() == content


@pytest.mark.parametrize(
    "changed",
    [{"key": "others"}, {"space": parse_space(["rank=1,5"])}, {"objective": parse_objective("max retention")}],
)
def test_a_sweep_over_something_else_is_refused(search: Search, changed: dict[str, Any]) -> None:
    run(search, Recipes())

    with pytest.raises(UsageError, match="was begun over other patterns"):
        run(replace(search, **changed), Recipes())


def test_two_processes_do_not_run_one_sweep(search: Search) -> None:
    search.folder.mkdir()
    with FileLock(search.folder / ".lock"), pytest.raises(StoreError, match="another process runs this sweep"):
        run(search, Recipes())


def test_a_training_that_diverges_is_a_failed_trial(search: Search) -> None:
    trials = run(search, Recipes(diverges_at=5))

    assert [trial.state for trial in trials] == ["done", "failed", "done", "done"]
    assert trials[1].reason == "training: step 3 has loss nan"
    assert not trials[1].holds


def test_an_objective_that_was_not_measured_ends_the_sweep(search: Search) -> None:
    with pytest.raises(UsageError, match="retention was not measured"):
        run(replace(search, objective=parse_objective("max accuracy where retention >= 95%")), Recipes())


def test_what_is_below_the_median_after_a_short_training_is_dropped(search: Search) -> None:
    recipes = Recipes()
    space = parse_space(["rank=5,6,7,1,9"])

    trials = run(replace(search, space=space, prunes=True), recipes)

    assert [trial.state for trial in trials] == ["done", "done", "done", "pruned", "done"]
    assert (1, 1.0) not in recipes.tried
    assert (1, 0.25) in recipes.tried
    assert not trials[3].holds


@pytest.mark.parametrize("method", ["random", "tpe"])
def test_drawn_recipes_are_other_ones_after_a_break(search: Search, method: Any) -> None:
    drawn = replace(search, space=parse_space(["rank=1..1000000"]), method=method, num_trials=3)
    run(drawn, Recipes())

    trials = run(replace(drawn, num_trials=6), Recipes())

    assert len({trial.changes["rank"] for trial in trials}) == 6

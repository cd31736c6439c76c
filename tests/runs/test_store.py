import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings

from engram_bench.errors import StoreError, UsageError
from engram_bench.records import Run, TrainingRecord
from engram_bench.runs.format import run_from_json, run_to_json
from engram_bench.runs.store import find_run, list_runs, load_run, save_run, save_runs
from tests.processes import run_python_on_small_disk, run_python_without_permission, start_python
from tests.stored_values import PROVENANCE, RUN
from tests.strategies import records

SAVE = """
import sys
from pathlib import Path
from engram_bench.errors import StoreError, UsageError
from engram_bench.runs.store import list_runs, save_run
from tests.stored_values import RUN

folder = Path(sys.argv[1])
for _ in range(int(sys.argv[2])):
    try:
        save_run(RUN, folder)
    except StoreError as error:
        print(error)
print(*(path.name[:4] for path in list_runs(folder)))
"""


# ── format ──────────────────────────────────────────────────────────────────────────────────────


@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(records(Run))
def test_every_run_survives_the_way_through_json(run: Run) -> None:
    assert repr(run_from_json(run_to_json(run))) == repr(run)


def test_case_that_two_rows_share_is_written_once() -> None:
    plain = json.loads(run_to_json(RUN))

    assert plain["schema"] == 1
    assert [case["id"] for case in plain["cases"]] == ["facts/http-404"]
    assert [(row["case"], row["side"]) for row in plain["results"]] == [(0, "baseline"), (0, "candidate")]


def test_every_row_has_a_line_of_its_own() -> None:
    lines = run_to_json(RUN).splitlines()

    assert [line[:11] for line in lines if line[0] == "{"] == [
        '{"schema": ',
        '{"case": 0,',
        '{"case": 0,',
        '{"id": "fac',
    ]


def test_rows_of_a_run_share_their_case_again_after_reading() -> None:
    run = run_from_json(run_to_json(RUN))

    assert run.results[0].case is run.results[1].case


def test_losses_that_are_no_numbers_survive() -> None:
    record = TrainingRecord("cpu", "cpu", "float32", 2, 1, 9, 0.5, 4.0, float("nan"), losses=(4.0, float("inf")))

    run = run_from_json(run_to_json(replace(RUN, training=record)))

    assert repr(run.training) == repr(record)


# ── files ───────────────────────────────────────────────────────────────────────────────────────


def test_run_is_named_by_number_start_and_commit(tmp_path: Path) -> None:
    run = save_run(RUN, tmp_path)

    assert run == replace(RUN, name="0001-20260504T133700Z-1a2b3c4-dirty")
    assert load_run(tmp_path / "runs" / "0001-20260504T133700Z-1a2b3c4-dirty.json") == run


@pytest.mark.parametrize(
    ("started", "commit", "name"),
    [
        ("2026-05-04T13:37:00Z", "", "0001-20260504T133700Z-nogit"),
        ("", "1a2b3c4", "0001-undated-1a2b3c4"),
        ("2026-05-04T13:37:00Z", "../../etc", "0001-20260504T133700Z-etc"),
    ],
    ids=["no-commit", "no-time", "path"],
)
def test_name_does_without_what_is_not_known(tmp_path: Path, started: str, commit: str, name: str) -> None:
    run = replace(RUN, provenance=replace(PROVENANCE, started=started, commit=commit))

    assert save_run(run, tmp_path).name == name


def test_runs_are_listed_in_order_of_saving(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    runs.mkdir()
    for name in ("9999-a-b.json", "10000-a-b.json", "0002-a-b.json", "notes.json", ".0003-a-b.json.1-2.part"):
        (runs / name).touch()

    assert [path.name for path in list_runs(tmp_path)] == ["0002-a-b.json", "9999-a-b.json", "10000-a-b.json"]
    assert save_run(RUN, tmp_path).name.startswith("10001-")


def test_no_runs_are_listed_where_none_were_saved(tmp_path: Path) -> None:
    assert list_runs(tmp_path) == ()


@pytest.mark.parametrize("reference", ["latest", "2", 2, "0002", "0002-20260504T133700Z-1a2b3c4-dirty"])
def test_run_is_found_by_what_people_call_it(tmp_path: Path, reference: str | int) -> None:
    save_run(RUN, tmp_path)
    save_run(RUN, tmp_path)

    assert load_run(find_run(tmp_path, reference)).name == "0002-20260504T133700Z-1a2b3c4-dirty"


def test_run_is_found_by_its_path(tmp_path: Path) -> None:
    save_run(RUN, tmp_path / "other")
    path = list_runs(tmp_path / "other")[0]

    assert find_run(tmp_path, str(path)) == path


def test_renamed_run_is_called_what_its_file_is_called(tmp_path: Path) -> None:
    save_run(RUN, tmp_path)
    path = list_runs(tmp_path)[0].rename(tmp_path / "main.json")

    assert load_run(path).name == "main"


@pytest.mark.parametrize("reference", ["latest", "3", "nightly", "../secret"])
def test_run_that_is_not_there_is_an_error_that_says_what_is(tmp_path: Path, reference: str) -> None:
    expected = f"{tmp_path}/runs: run {reference!r} not found, expected 'latest', a number, a name or a file"

    with pytest.raises(UsageError, match=f"^{re.escape(expected)} \\(no run saved yet\\)$"):
        find_run(tmp_path, reference)
    save_run(RUN, tmp_path)
    save_run(RUN, tmp_path)
    if reference != "latest":
        with pytest.raises(UsageError, match=f"^{re.escape(expected)} \\(1 to 2\\)$"):
            find_run(tmp_path, reference)


# ── bad files ───────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "Expecting value: line 1 column 1"),
        (run_to_json(RUN)[:-30], "Unterminated string starting at: line"),
        ("[" * 100_000, "nested deeper than 64 levels"),
        ("[]", "found no schema number, expected the JSON object of a run"),
        ('{"metrics": {}}', "found no schema number, expected the JSON object of a run"),
        ('{"schema": 2}', "schema: found 2, expected 1; another version of engram-bench wrote the file"),
        ('{"schema": 1}', "name, provenance missing"),
        (
            run_to_json(RUN).replace('"seconds": 0.25', '"seconds": "fast"'),
            "results[0].completion.seconds: found 'fast'",
        ),
        (run_to_json(RUN).replace('"case": 0', '"case": 1'), "results[0].case: found 1, expected an index below 1"),
        (run_to_json(RUN).replace('"case": 0', '"case": -1'), "results[0].case: found -1, expected an index below 1"),
        (run_to_json(RUN).replace('"line": 3', '"line": "3"'), "cases[0].source.line: found '3', expected a whole"),
    ],
    ids=["empty", "cut", "deep", "array", "other-json", "schema", "hollow", "type", "index", "negative-index", "case"],
)
def test_file_that_is_no_whole_run_is_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "0001-a-b.json"
    path.write_text(text, encoding="utf-8")

    with pytest.raises(StoreError, match=re.escape(f"{path}: not a complete run: ") + ".*" + re.escape(message)):
        load_run(path)


def test_file_that_is_no_text_is_named(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_bytes(b"\xff\xfe")

    with pytest.raises(StoreError, match=r"run\.json: not a complete run: 'utf-8' codec can't decode"):
        load_run(tmp_path / "run.json")


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"run\.json: cannot be read: No such file or directory"):
        load_run(tmp_path / "run.json")


# ── trouble ─────────────────────────────────────────────────────────────────────────────────────


def test_two_processes_that_save_at_once_overwrite_nothing(tmp_path: Path) -> None:
    processes = [start_python(SAVE, tmp_path, 10) for _ in range(3)]

    assert [process.wait(timeout=60) for process in processes] == [0, 0, 0]
    for process in processes:
        process.communicate()
    assert [int(path.name[:4]) for path in list_runs(tmp_path)] == list(range(1, 31))


def test_full_disk_leaves_older_runs_and_no_half_one(tmp_path: Path) -> None:
    room_for_three = 4 * 3 + 2

    shown = run_python_on_small_disk(tmp_path, room_for_three, SAVE, tmp_path, 5)

    failures, runs = shown.splitlines()[:-1], shown.splitlines()[-1].split()
    assert failures
    assert all("cannot be written: No space left on device" in line for line in failures)
    assert runs == [f"{number:04d}" for number in range(1, 6 - len(failures))]


def test_read_only_report_folder_is_named(tmp_path: Path) -> None:
    tmp_path.chmod(0o555)

    shown = run_python_without_permission(SAVE, tmp_path, 1)

    assert shown == f"{tmp_path}/runs: runs cannot be saved here: Permission denied\n\n"


# ── candidates ──────────────────────────────────────────────────────────────────────────────────


def saved(report_dir: Path, *names: str) -> list[str]:
    """Names of the runs that a session of these candidates saved."""
    return [run.name for run in save_runs([replace(RUN, candidate=name) for name in names], report_dir)]


def test_runs_of_a_session_are_a_group_with_numbers_in_a_row(tmp_path: Path) -> None:
    save_run(RUN, tmp_path)
    first, second = save_runs([replace(RUN, candidate="a"), replace(RUN, candidate="b")], tmp_path)

    assert [run.name[:4] for run in (first, second)] == ["0002", "0003"]
    assert first.group == second.group == first.name
    assert load_run(find_run(tmp_path, 3)) == second
    assert load_run(find_run(tmp_path, 1)).group == ""


@pytest.mark.parametrize(
    ("reference", "number"),
    [("2:a", 2), ("3:a", 2), ("0002:c", 4), ("4:b", 3), ("5:a", 5), ("6:b", 7), ("latest:a", 6), ("latest:c", 4)],
)
def test_a_candidate_of_a_session_is_found_by_any_run_of_it(tmp_path: Path, reference: str, number: int) -> None:
    for names in (["a"], ["a", "b", "c"], ["a"], ["a", "b"]):
        saved(tmp_path, *names)

    assert find_run(tmp_path, reference).name.startswith(f"{number:04d}-")


@pytest.mark.parametrize("reference", ["1:b", "2:a", "3:a", "9:a", "latest:z", ":a", "1:"])
def test_a_candidate_that_the_session_did_not_test_is_not_found(tmp_path: Path, reference: str) -> None:
    saved(tmp_path, "a")
    saved(tmp_path, "b", "c")

    with pytest.raises(UsageError, match=f"run {reference!r} not found"):
        find_run(tmp_path, reference)


def test_latest_run_of_a_candidate_is_found_past_a_damaged_one(tmp_path: Path) -> None:
    first, second = saved(tmp_path, "a"), saved(tmp_path, "a")
    (tmp_path / "runs" / f"{second[0]}.json").write_text('{"candidate": "a"', "utf-8")

    assert find_run(tmp_path, "latest:a").stem == first[0]

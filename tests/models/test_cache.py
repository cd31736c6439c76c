from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from filelock import FileLock

from engram_bench.errors import ModelError
from engram_bench.models import default_cache_dir
from engram_bench.models.cache import build_once
from engram_bench.system.progress import no_progress


def write_two_files(folder: Path) -> None:
    (folder / "a").write_text("one")
    (folder / "b").write_text("two")


def leftovers(target: Path) -> list[str]:
    return [path.name for path in target.parent.iterdir() if path.suffix != ".lock"]


def test_variable_names_the_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ENGRAM_BENCH_CACHE", str(tmp_path))

    assert default_cache_dir() == tmp_path


def test_default_cache_is_a_folder_of_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ENGRAM_BENCH_CACHE", raising=False)

    assert "engram-bench" in default_cache_dir().parts
    assert default_cache_dir().is_absolute()


def test_folder_is_built_whole_and_nothing_else_stays(tmp_path: Path) -> None:
    target = build_once(tmp_path / "models" / "m", write_two_files, progress=no_progress)

    assert sorted(path.name for path in target.iterdir()) == ["a", "b", "complete.json"]
    assert leftovers(target) == ["m"]


def test_folder_is_built_once(tmp_path: Path) -> None:
    build_once(tmp_path / "m", write_two_files, progress=no_progress)

    build_once(tmp_path / "m", lambda folder: pytest.fail("built again"), progress=no_progress)


@pytest.mark.parametrize("damage", ["cut", "removed", "marker"])
def test_damaged_folder_is_built_again(tmp_path: Path, damage: str) -> None:
    target = build_once(tmp_path / "m", write_two_files, progress=no_progress)
    if damage == "cut":
        (target / "a").write_text("o")
    else:
        (target / {"removed": "a", "marker": "complete.json"}[damage]).unlink()

    build_once(target, write_two_files, progress=no_progress)

    assert (target / "a").read_text() == "one"


@pytest.mark.parametrize("error", [KeyboardInterrupt, ModelError("cut file")], ids=["ctrl-c", "failure"])
def test_interrupted_build_leaves_nothing(tmp_path: Path, error: BaseException) -> None:
    def build(folder: Path) -> None:
        write_two_files(folder)
        raise error

    with pytest.raises((KeyboardInterrupt, ModelError)):
        build_once(tmp_path / "m", build, progress=no_progress)

    assert leftovers(tmp_path / "m") == []


def test_remains_of_a_killed_build_are_not_used(tmp_path: Path) -> None:
    (tmp_path / ".partial-m").mkdir()
    (tmp_path / ".partial-m" / "stale").write_text("")

    target = build_once(tmp_path / "m", write_two_files, progress=no_progress)

    assert not (target / "stale").exists()
    assert leftovers(target) == ["m"]


def test_unwritable_cache_is_named_with_its_variable(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(ModelError, match=r"file.*cannot be written.*set ENGRAM_BENCH_CACHE"):
        build_once(tmp_path / "file" / "m", write_two_files, progress=no_progress)


def test_waiting_for_another_process_is_told(tmp_path: Path) -> None:
    reports: list[str] = []
    lock = FileLock(tmp_path / "m.lock")
    lock.acquire()

    def report(stage: str, done: int, total: int, note: str) -> None:
        reports.append(f"{stage}: {note}")
        lock.release()

    build_once(tmp_path / "m", write_two_files, progress=report)

    assert reports == ["wait: another process prepares m"]


def test_of_several_processes_one_builds(tmp_path: Path) -> None:
    code = f"""
import time
from pathlib import Path
from engram_bench.system.progress import no_progress
from engram_bench.models.cache import build_once
def build(folder):
    with open({str(tmp_path / "log")!r}, "a") as log:
        log.write("built ")
    time.sleep(0.3)
    (folder / "a").write_text("one")
print(build_once(Path({str(tmp_path / "m")!r}), build, progress=no_progress))
"""
    processes = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) for _ in range(3)]

    assert [process.communicate()[0].decode().strip() for process in processes] == [str(tmp_path / "m")] * 3
    assert (tmp_path / "log").read_text() == "built "

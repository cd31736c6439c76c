import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from engram_bench.system.provenance import command_line, git_commit, library_versions, machine, utc_now


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    git(tmp_path, "init", "--quiet")
    (tmp_path / "tracked").write_text("one")
    git(tmp_path, "add", "tracked")
    return tmp_path


def git(folder: Path, *arguments: str) -> str:
    command = ["git", "-c", "user.name=a", "-c", "user.email=a@b", *arguments]
    return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout.strip()


def test_commit_is_the_short_hash(checkout: Path) -> None:
    git(checkout, "commit", "--quiet", "-m", "a")
    (checkout / "untracked").touch()

    assert git_commit(checkout) == git(checkout, "rev-parse", "--short", "HEAD")


def test_commit_is_a_hash_where_a_tag_could_be_named(checkout: Path) -> None:
    git(checkout, "commit", "--quiet", "-m", "a")
    git(checkout, "tag", "-a", "-m", "a", "v1")

    assert re.fullmatch(r"[0-9a-f]{7,}", git_commit(checkout))


def test_changed_file_makes_the_commit_dirty(checkout: Path) -> None:
    git(checkout, "commit", "--quiet", "-m", "a")
    (checkout / "tracked").write_text("two")

    assert re.fullmatch(r"[0-9a-f]{7,}-dirty", git_commit(checkout))


def test_commit_is_empty_before_the_first_one(checkout: Path) -> None:
    assert git_commit(checkout) == ""


def test_commit_is_empty_outside_git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))

    assert git_commit(tmp_path) == ""
    assert git_commit(tmp_path / "missing") == ""


def test_commit_is_empty_without_git(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(checkout))

    assert git_commit(checkout) == ""


def test_machine_names_processor_cores_and_system() -> None:
    assert re.fullmatch(r".+, (\d+ of )?\d+ cores, \w+ \S+ \S+", machine())


@pytest.mark.parametrize("system", ["darwin", "win32"])
def test_machine_is_described_where_linux_files_are_missing(monkeypatch: pytest.MonkeyPatch, system: str) -> None:
    def refuse(*arguments: object, **options: object) -> None:
        raise FileNotFoundError

    monkeypatch.setattr(sys, "platform", system)
    monkeypatch.setattr(subprocess, "run", refuse)
    monkeypatch.setattr(Path, "read_text", refuse)
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)

    assert re.fullmatch(r".+, \d+ cores, \w+ \S+ \S+", machine())


def test_time_is_utc_to_the_second() -> None:
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", utc_now())


@pytest.mark.parametrize(
    ("argv", "shown"),
    [
        (["/venv/bin/pytest", "-m", "accuracy"], "pytest -m accuracy"),
        (["/venv/lib/pytest/__main__.py", "-q"], "python -m pytest -q"),
        (["engram-bench.exe", "report"], "engram-bench report"),
        (["pytest", "-k", "a or b"], "pytest -k 'a or b'"),
        ([""], "python"),
    ],
    ids=["script", "module", "windows", "quoted", "interactive"],
)
def test_command_can_be_typed_again(argv: list[str], shown: str) -> None:
    assert command_line(argv) == shown


def test_command_is_this_one_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["/bin/pytest", "patterns"])

    assert command_line() == "pytest patterns"


@pytest.mark.parametrize(
    ("argument", "shown"),
    [
        ("--token=abc123", "--token=HIDDEN"),
        ("--hf-token=abc123", "--hf-token=HIDDEN"),
        ("--API_KEY=abc123", "--API_KEY=HIDDEN"),
        ("HF_TOKEN=abc123", "HF_TOKEN=HIDDEN"),
        ("hf_abcdefghijkl", "HIDDEN"),
        ("--server=https://me:word@host/v1", "--server=https://HIDDEN@host/v1"),
        ("--server=https://me:w@rd@host/v1", "--server=https://HIDDEN@host/v1"),
        ("--engram-max-tokens=16", "--engram-max-tokens=16"),
        ("--engram-gate=accuracy >= 90%", "'--engram-gate=accuracy >= 90%'"),
    ],
)
def test_command_shows_no_secret(argument: str, shown: str) -> None:
    assert command_line(["pytest", argument]) == f"pytest {shown}"


def test_secret_in_an_argument_of_its_own_is_hidden() -> None:
    assert command_line(["pytest", "--api-key", "abc", "--token", "-x"]) == "pytest --api-key HIDDEN --token -x"


def test_home_folder_is_not_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/jane")

    shown = command_line(["pytest", "/home/jane/a.yaml", "--engram-model=/home/jane", "/home/janet/b.yaml"])

    assert shown == "pytest ~/a.yaml --engram-model=~ /home/janet/b.yaml"


def test_versions_leave_out_what_is_absent() -> None:
    versions = library_versions(["pytest", "no-such-distribution"])

    assert list(versions) == ["python", "pytest"]
    assert versions["pytest"] == pytest.__version__


def test_versions_import_no_library_they_name() -> None:
    code = (
        "import sys, engram_bench.system.provenance as p; p.library_versions(); "
        "print(sorted({'torch', 'transformers', 'mlx', 'numpy', 'peft'} & sys.modules.keys()))"
    )

    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert shown.stdout == "[]\n"

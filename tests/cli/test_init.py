"""``engram-bench init``: what it scaffolds works, and what is there stays."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.cli.conftest import Shell

MADE = (
    "patterns/example.yaml",
    "patterns/pattern.schema.json",
    "pytest.ini",
    ".github/workflows/engram-bench.yml",
    ".gitignore",
)
SHIPPED = sorted((Path(__file__).parents[2] / "patterns").glob("*.yaml"))


@pytest.fixture
def empty(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> Shell:
    """A shell in an empty folder of no project."""
    (shell.path / "new").mkdir()
    monkeypatch.chdir(shell.path / "new")
    return Shell(shell.path / "new", shell._read)


def test_empty_folder_gets_every_file(empty: Shell) -> None:
    report = empty.json("init")

    assert [(each["path"], each["outcome"]) for each in report] == [(name, "made") for name in MADE]
    assert all((empty.path / name).is_file() for name in MADE)


def test_scaffolded_project_passes_on_the_fake_backend(empty: Shell) -> None:
    empty("init")

    empty("check")
    command = [
        sys.executable,
        "-m",
        "pytest",
        "patterns",
        "--engram-gate-only",
        "--engram-backend=fake",
        "-p",
        "no:cacheprovider",
    ]
    done = subprocess.run(command, cwd=empty.path, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout
    assert "gate passed: accuracy +100.0 pp (8 of 8, was 0 of 8)" in done.stdout


def test_second_time_changes_nothing(empty: Shell) -> None:
    empty("init")
    before = {path: path.read_bytes() for path in empty.path.rglob("*") if path.is_file()}

    report = empty.json("init")

    assert {each["outcome"] for each in report} == {"kept"}
    assert {path: path.read_bytes() for path in empty.path.rglob("*") if path.is_file()} == before


def test_folder_that_has_everything_is_kept(empty: Shell) -> None:
    for name in (*MADE, "patterns/mine.yaml"):
        (empty.path / name).parent.mkdir(parents=True, exist_ok=True)
        (empty.path / name).write_text("mine\n" if name != "pytest.ini" else "[pytest]\n", "utf-8")

    empty("init")

    assert (empty.path / "patterns/example.yaml").read_text("utf-8") == "mine\n"
    assert (empty.path / ".github/workflows/engram-bench.yml").read_text("utf-8") == "mine\n"
    assert (empty.path / "pytest.ini").read_text("utf-8") == "[pytest]\n"
    assert (empty.path / ".gitignore").read_text("utf-8").startswith("mine\n/adapters/\n")


def test_own_patterns_get_no_example_beside_them(empty: Shell) -> None:
    (empty.path / "patterns").mkdir()
    (empty.path / "patterns" / "mine.yml").write_text("name: mine\n", "utf-8")

    empty("init")

    assert not (empty.path / "patterns" / "example.yaml").exists()


def test_pyproject_without_pytest_gets_its_table(empty: Shell) -> None:
    project = empty.path / "pyproject.toml"
    project.write_text('[project]\nname = "mine"', "utf-8")

    empty("init")

    document = tomllib.loads(project.read_text("utf-8"))
    assert document["project"] == {"name": "mine"}
    assert document["tool"]["pytest"]["ini_options"]["engram_gate"] == ["accuracy >= +10pp"]
    assert not (empty.path / "pytest.ini").exists()


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("pyproject.toml", "[tool.pytest.ini_options]\naddopts = ['-ra']\n"),
        ("tox.ini", "[pytest]\naddopts = -ra\n"),
        ("setup.cfg", "[tool:pytest]\naddopts = -ra\n"),
    ],
)
def test_existing_pytest_configuration_is_not_hidden_by_a_second_one(empty: Shell, name: str, text: str) -> None:
    (empty.path / name).write_text(text, "utf-8")

    output = empty("init")

    assert (empty.path / name).read_text("utf-8") == text
    assert not (empty.path / "pytest.ini").exists()
    assert f"kept      {name}" in output


@pytest.mark.parametrize("line", ["adapters", "/adapters/", "adapters/"])
def test_gitignore_gets_only_what_is_missing(empty: Shell, line: str) -> None:
    (empty.path / ".gitignore").write_text(f"*.pyc\n{line}", "utf-8")

    empty("init")

    assert (empty.path / ".gitignore").read_text("utf-8") == f"*.pyc\n{line}\n/reports/\n/data/engram/\n"


def test_another_folder_is_made(empty: Shell) -> None:
    output = empty("init", "deep/er")

    assert (empty.path / "deep" / "er" / "patterns" / "example.yaml").is_file()
    assert "cd deep/er" in output


def test_folder_that_is_a_file_is_the_environment(empty: Shell) -> None:
    Path("file").touch()

    empty("init", "file", status=3)

    assert "file" in empty.errors


def test_example_copies_the_shipped_patterns(empty: Shell) -> None:
    report = empty.json("init", "--example")

    made = {deed["path"] for deed in report if deed["outcome"] == "made"}
    assert {f"patterns/{path.name}" for path in SHIPPED} <= made
    assert [(empty.path / "patterns" / path.name).read_bytes() for path in SHIPPED] == [
        path.read_bytes() for path in SHIPPED
    ]
    assert not (empty.path / "patterns" / "example.yaml").exists()


def test_example_project_has_no_mistake(empty: Shell) -> None:
    empty("init", "--example")

    assert f"no mistakes in {len(SHIPPED)} files" in empty("check")


def test_example_keeps_and_names_a_file_that_is_there(empty: Shell) -> None:
    mine = empty.path / "patterns" / "facts.yaml"
    mine.parent.mkdir()
    mine.write_text("name: mine\n", "utf-8")

    output = empty("init", "--example")

    assert mine.read_text("utf-8") == "name: mine\n"
    assert "kept      patterns/facts.yaml" in output
    assert "made      patterns/formats.yaml" in output


def test_example_comes_from_an_installed_package_too(
    empty: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wheel has the patterns inside the package, and no checkout around it."""
    installed = tmp_path / "site-packages" / "engram_bench"
    (installed / "shipped_patterns").mkdir(parents=True)
    (installed / "shipped_patterns" / "only.yaml").write_text("name: only\n", "utf-8")
    monkeypatch.setattr("engram_bench.cli.init.PACKAGE", installed)

    report = empty.json("init", "--example")

    assert report[0] == {"path": "patterns/only.yaml", "outcome": "made", "note": ""}


def test_example_without_shipped_patterns_is_the_environment(
    empty: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engram_bench.cli.init.PACKAGE", tmp_path / "site-packages" / "engram_bench")

    empty("init", "--example", status=3)

    assert "shipped_patterns" in empty.errors
    assert list(empty.path.iterdir()) == []

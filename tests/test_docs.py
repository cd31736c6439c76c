"""The documentation holds: its code blocks run, its links lead somewhere, its pages build."""

from __future__ import annotations

import importlib.util
import json
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from engram_bench.cli import main
from engram_bench.models.presets import PRESETS
from engram_bench.session.options import OPTIONS
from tests.conftest import BenchProject
from tests.docs_blocks import Block, blocks, commands, missing_line

ROOT = Path(__file__).parents[1]
MEASURED = ("measures", "backends", "speed", "performance", "experiments", "status")
"""Pages of figures from long runs on real models: their commands name what they need and are not run here."""
PAGES = [ROOT / "README.md", *sorted(page for page in (ROOT / "docs").glob("*.md") if page.stem not in MEASURED)]
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]


@pytest.mark.parametrize("page", PAGES, ids=[page.stem for page in PAGES])
def test_blocks_of_a_page_run_in_order(
    page: Path, project: BenchProject, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("GITHUB_ACTIONS", "GITHUB_STEP_SUMMARY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COLUMNS", "100")
    (project.path / "patterns" / "facts.yaml").unlink()
    for block in blocks(page):
        where = f"{page.name}:{block.line}"
        if block.note.startswith("not run"):
            assert block.noted("not run"), f"{where}: not run, but no reason"
        elif knows := block.noted("knows"):
            project.knows(json.loads(knows))
            do(block, project, capsys, where)
        else:
            do(block, project, capsys, where)


def do(block: Block, project: BenchProject, capsys: pytest.CaptureFixture[str], where: str) -> None:
    if block.language == "console":
        for command in commands(block):
            status, output = run(command.words, project, capsys, where)
            assert status == int(block.noted("exit") or 0), f"{where}: {command.words}: exit status {status}\n{output}"
            missing = missing_line(output, command.output)
            assert not missing, f"{where}: {command.words}: not printed: {missing}\n{output}"
        return
    parse(block)
    if block.title:
        write(block, project)
    elif block.language == "python":
        exec(compile(block.text, where, "exec"), {"__name__": "docs"})


def run(words: str, project: BenchProject, capsys: pytest.CaptureFixture[str], where: str) -> tuple[int, str]:
    program, *arguments = shlex.split(words)
    if program == "pytest":
        result = project.run(*arguments)
        return int(result.ret), result.stdout.str() + result.stderr.str()
    if program == "engram-bench":
        capsys.readouterr()
        try:
            status = main(arguments)
        except SystemExit as end:  # argparse
            status = int(end.code or 0)
        return status, "".join(capsys.readouterr())
    assert program == "pip", f"{where}: {words}: expected pytest, engram-bench or pip"
    extras = re.findall(r"engram-bench\[([\w,]+)\]", words)
    assert set(",".join(extras).split(",")) - {""} <= EXTRAS.keys(), f"{where}: {words}: no such extra"
    return 0, ""


def parse(block: Block) -> None:
    if block.language == "yaml":
        assert yaml.safe_load(block.text)
    elif block.language == "toml":
        assert tomllib.loads(block.text)
    elif block.language == "json":
        assert json.loads(block.text)


def write(block: Block, project: BenchProject) -> None:
    """Make the block a file; a configuration keeps the fake backend that the project of the tests runs on."""
    text = block.text
    if block.title == "pyproject.toml":
        (project.path / "tox.ini").unlink(missing_ok=True)
        heading = "[tool.pytest.ini_options]\n"
        text = text.replace(heading, f'{heading}engram_backend = "fake"\nengram_steps = "3"\n')
    path = project.path / block.title
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8")


def test_the_workflow_shown_is_the_one_that_init_writes() -> None:
    (shown,) = [block for block in blocks(ROOT / "docs" / "ci.md") if block.title.startswith(".github/")]

    assert shown.text == (ROOT / "engram_bench" / "cli" / "templates" / "workflow.yml").read_text("utf-8")


def test_every_preset_stands_in_the_help_and_on_the_page() -> None:
    page = (ROOT / "docs" / "backends.md").read_text("utf-8")
    (option,) = [option for option in OPTIONS if option.name == "model"]

    for name in PRESETS:
        assert f"| `{name}`" in page
        assert name in option.help


@pytest.mark.slow
def test_pages_build_without_a_warning(tmp_path: Path) -> None:
    if not all(map(importlib.util.find_spec, ("mkdocs", "material", "mkdocstrings"))):
        pytest.skip("needs mkdocs-material: pip install 'engram-bench[docs]'")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]

    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    assert built.returncode == 0, built.stderr
    assert (tmp_path / "index.html").exists()


@pytest.mark.parametrize("page", PAGES, ids=[page.stem for page in PAGES])
def test_files_that_a_page_names_exist(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text("utf-8"), flags=re.DOTALL)

    names = set(re.findall(r"`((?:engram_bench|tests|docs|benchmarks)/[\w./-]+)`", text))
    assert sorted(name for name in names if not (ROOT / name).exists()) == []


def test_files_that_the_makefile_tests_exist() -> None:
    text = (ROOT / "Makefile").read_text("utf-8")
    plain = re.search(r"addprefix (tests/backends/),((?:[^)\\]|\\\n)*)\)", text)
    assert plain is not None

    names = [plain[1] + name for name in plain[2].replace("\\\n", " ").split()]
    names += re.findall(r"pytest (tests/[\w./-]+)", text)
    assert len(names) > 10
    assert [name for name in names if not (ROOT / name).exists()] == []

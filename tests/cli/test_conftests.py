"""A matcher that the project's conftest.py registers is known to every command."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.conftest import Shell

REGISTER = (
    "from engram_bench import register_matcher\nregister_matcher({name!r}, lambda text, answer: {name!r} in text)\n"
)
PATTERNS = "name: own\nmatch: {name}\npatterns:\n  - {{input: Which word?, output: 'say {name}'}}\n"


@pytest.fixture(autouse=True)
def _no_leftovers(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr("engram_bench.matchers.registry._registered", {})
    monkeypatch.setattr(sys, "path", [*sys.path])
    before = set(sys.modules)
    loaded = sys.modules.pop("conftest", None)
    yield
    for name in set(sys.modules) - before:
        del sys.modules[name]
    sys.modules.pop("conftest", None)
    if loaded is not None:
        sys.modules["conftest"] = loaded


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8")


def own(shell: Shell, name: str) -> None:
    (shell.path / "patterns" / "facts.yaml").unlink()
    shell.patterns(PATTERNS.format(name=name), "own.yaml")


@pytest.mark.parametrize(
    "argv", [("check",), ("generate",), ("train",), ("eval", "--gate=accuracy >= 0%")], ids=" ".join
)
def test_every_command_knows_the_matcher(shell: Shell, argv: tuple[str, ...]) -> None:
    own(shell, "here")
    write(shell.path / "conftest.py", REGISTER.format(name="here"))

    shell(*argv)

    if argv[0] == "eval":
        assert shell.json("eval", "--gate=accuracy >= 0%")["metrics"]["accuracy"]["candidate"]["passed"] == 1


def test_prompts_of_a_file_elsewhere_are_judged_by_the_matcher(shell: Shell) -> None:
    write(shell.path / "other.yaml", PATTERNS.format(name="here"))
    write(shell.path / "conftest.py", REGISTER.format(name="here"))

    assert "1/1  Which word?" in shell("demo", "--prompts", "other.yaml")


@pytest.mark.parametrize(
    ("files", "ini"),
    [
        ({"patterns/conftest.py": REGISTER}, ""),
        ({"conftest.py": "import helping\n", "helping.py": REGISTER}, ""),
        ({"conftest.py": "import helping\n", "src/helping.py": REGISTER}, "pythonpath = src\n"),
        ({"conftest.py": "pytest_plugins = ['helping']\n", "helping.py": REGISTER}, ""),
        ({"conftest.py": "", "patterns/conftest.py": REGISTER}, ""),
    ],
    ids=["beside the patterns", "imports a module", "pythonpath", "pytest_plugins", "two conftests"],
)
def test_conftests_are_imported_as_pytest_does(shell: Shell, files: dict[str, str], ini: str) -> None:
    own(shell, "there")
    with (shell.path / "pytest.ini").open("a", encoding="utf-8") as file:
        file.write(ini)
    for name, text in files.items():
        write(shell.path / name, text.format(name="there"))

    assert "no mistakes" in shell("check")


def test_no_conftest_is_imported_where_every_matcher_is_known(shell: Shell) -> None:
    write(shell.path / "conftest.py", "raise SystemExit('imported')\n")

    assert "no mistakes" in shell("check")


def test_what_a_conftest_prints_does_not_spoil_a_document(shell: Shell) -> None:
    own(shell, "loud")
    write(shell.path / "conftest.py", f"print('hello')\n{REGISTER.format(name='loud')}")

    assert shell.json("check")["mistakes"] == []
    assert shell.errors == "hello\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("\n1 / 0\n", ":2: ZeroDivisionError: division by zero"),
        ("def (\n", ":1: SyntaxError: "),
        ("import sys\nsys.exit(3)\n", ":2: SystemExit: 3"),
        ("import nowhere_at_all\n", ":1: ModuleNotFoundError: No module named 'nowhere_at_all'"),
        ("import pytest\npytest.skip('not here', allow_module_level=True)\n", ":2: Skipped: "),
    ],
    ids=["error", "syntax", "exit", "import", "skip"],
)
def test_a_conftest_that_fails_is_one_error_with_its_line(shell: Shell, text: str, message: str) -> None:
    own(shell, "broken")
    write(shell.path / "conftest.py", text)

    shell("eval", status=2)

    assert f"{shell.path / 'conftest.py'}{message}" in shell.errors
    assert len(shell.errors.splitlines()) == 1


def test_a_matcher_that_nobody_registers_is_named(shell: Shell) -> None:
    own(shell, "nobodys")
    write(shell.path / "conftest.py", REGISTER.format(name="another"))

    shell("check", status=2)

    assert "match is 'nobodys', expected one of" in shell.errors
    assert "another" in shell.errors

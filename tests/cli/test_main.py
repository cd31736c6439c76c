"""What all commands share: help, exit status, settings, any terminal."""

from __future__ import annotations

import argparse
import io
import subprocess
import sys

import pytest

from engram_bench.cli import COMMANDS, CommandParser, command_parser
from engram_bench.session.options import OPTIONS
from tests.cli.conftest import Shell


def _options(name: str) -> list[argparse.Action]:
    parser = command_parser()
    (subparsers,) = (action for action in parser._actions if isinstance(action, argparse._SubParsersAction))
    command = subparsers.choices[name]
    assert isinstance(command, CommandParser)
    command.load()
    found = command._actions
    nested = [action for action in found if isinstance(action, argparse._SubParsersAction)]
    return [*found, *(inner for each in nested for choice in each.choices.values() for inner in choice._actions)]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_with_a_value_shows_its_default(name: str) -> None:
    for action in _options(name):
        if action.option_strings and action.nargs != 0:
            assert "Default: " in (action.help or ""), action.option_strings


def test_every_setting_of_pytest_is_one_of_eval() -> None:
    declared = {flag for action in _options("eval") for flag in action.option_strings}

    assert {f"--{option.name}" for option in OPTIONS} - declared == {"--gate-only", "--items"}


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_every_command_says_what_it_does(shell: Shell, name: str) -> None:
    output = shell(name, "--help")

    assert output.startswith(f"usage: engram-bench {name}")


@pytest.mark.parametrize(
    "command",
    ["adapter export", "adapter list", "memory explain", "memory list"],
    ids=lambda name: name.replace(" ", "-"),
)
def test_help_of_a_subcommand_lists_its_settings_once(shell: Shell, command: str) -> None:
    assert shell(*command.split(), "--help").count("\nsettings:\n") == 1


def test_help_lists_the_commands(shell: Shell) -> None:
    output = shell("--help")

    assert all(f"  {name} " in output for name in COMMANDS)


def test_help_imports_no_command_and_no_heavy_library(shell: Shell) -> None:
    code = (
        "import sys; from engram_bench.cli import COMMANDS, main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = ('numpy', 'torch', 'pydantic', 'tabulate', *(f'engram_bench.cli.{name}' for name in COMMANDS))\n"
        "print([name for name in heavy if name in sys.modules])"
    )

    done = subprocess.run([sys.executable, "-c", code], cwd=shell.path, capture_output=True, text=True, check=True)

    assert done.stdout.endswith("[]\n")


@pytest.mark.parametrize("argv", [[], ["nonsense"], ["check", "--nonsense"]], ids=["none", "command", "option"])
def test_what_is_no_command_is_a_usage_error(shell: Shell, argv: list[str]) -> None:
    shell(*argv, status=2)

    assert "usage: engram-bench" in shell.errors


def test_bad_value_is_named_as_it_was_given(shell: Shell) -> None:
    shell("generate", "--seed", "x", status=2)

    assert "--seed: got 'x', expected a whole number" in shell.errors


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("pytest.ini", "[pytest]\nengram_patterns =\n    elsewhere\n"),
        ("pyproject.toml", "[tool.pytest.ini_options]\nengram_patterns = ['elsewhere']\n"),
        ("pytest.toml", "[pytest]\nengram_patterns = ['elsewhere']\n"),
        ("tox.ini", "[pytest]\nengram_patterns = elsewhere\n"),
        ("setup.cfg", "[tool:pytest]\nengram_patterns = elsewhere\n"),
    ],
)
def test_ini_keys_of_any_pytest_configuration_count(shell: Shell, name: str, text: str) -> None:
    (shell.path / "pytest.ini").unlink()
    (shell.path / name).write_text(text, "utf-8")
    (shell.path / "patterns").rename(shell.path / "elsewhere")

    report = shell.json("check")

    assert report["files"][0]["file"] == "elsewhere/facts.yaml"


def test_project_is_found_from_a_folder_inside_it(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    (shell.path / "deep" / "er").mkdir(parents=True)
    monkeypatch.chdir(shell.path / "deep" / "er")

    report = shell.json("check")

    assert report["files"][0]["file"] == "patterns/facts.yaml"


def test_configuration_that_cannot_be_read_is_named(shell: Shell) -> None:
    (shell.path / "pytest.ini").write_text("[pytest\n", "utf-8")

    shell("check", status=2)

    assert "pytest.ini: cannot be read" in shell.errors


def test_output_without_utf_8_has_plain_characters(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    shell.patterns("name: a\npatterns: [{input: Où?, output: là}]\n", "où.yaml")
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", stream)

    shell("check")

    stream.seek(0)
    assert r"patterns/o\xf9.yaml" in stream.read()


def test_reader_that_leaves_a_pipe_is_no_traceback(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    class Gone(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

        def fileno(self) -> int:
            return out.fileno()

    with (shell.path / "out").open("w") as out:
        monkeypatch.setattr(sys, "stdout", Gone())
        shell("check", status=141)

    assert shell.errors == ""


def test_interruption_is_status_130_without_a_traceback(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(paths: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("engram_bench.cli.check.find_pattern_files", interrupted)

    shell("check", status=130)

    assert shell.errors == "engram-bench: interrupted\n"

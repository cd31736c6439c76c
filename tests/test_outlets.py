"""No word that is not ours leaves except through the door: the ways out of the package, each with hostile words.

The first part reads the source: only the named modules may print, write to a terminal, fail a test or make markup. The second
part hands a run in which every name, prompt, answer and reason is hostile to everything that writes one.
"""

from __future__ import annotations

import ast
import json
import re
import typing
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, is_dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import pytest

import engram_bench
from engram_bench import door
from engram_bench.cli import console, main
from engram_bench.door import hide, inert, inert_json
from engram_bench.plugin import outlet
from engram_bench.records import CaseResult, Comparison, GuardResult, Run, SpeedRounds, SweepPoint, Trial, Verdict
from engram_bench.records.candidates import CandidateSet
from engram_bench.records.comparison import Estimate
from engram_bench.reporting.candidate_html import candidate_html
from engram_bench.reporting.candidate_json import candidate_json
from engram_bench.reporting.candidate_markdown import candidate_markdown
from engram_bench.reporting.candidate_plot import pareto_plot
from engram_bench.reporting.candidate_terminal import candidate_lines
from engram_bench.reporting.case_html import case_html
from engram_bench.reporting.changes import change_lines
from engram_bench.reporting.failure import changed_text, failure_text, misses_text, wordings_text
from engram_bench.reporting.github import job_summary, workflow_commands
from engram_bench.reporting.html import html_report
from engram_bench.reporting.json_report import json_text
from engram_bench.reporting.junit import case_properties, session_properties
from engram_bench.reporting.markdown import markdown_report
from engram_bench.reporting.plots import plots
from engram_bench.reporting.search_report import search_markdown, search_plot, search_sentence
from engram_bench.reporting.status import status_markdown
from engram_bench.reporting.sweep_report import sweep_plot
from engram_bench.reporting.terminal import comparison_lines
from engram_bench.reporting.trend import trend_svg
from engram_bench.runs.history import run_row
from engram_bench.runs.store import save_run
from engram_bench.scoring.candidates import candidate_set
from engram_bench.scoring.comparison import compare, compare_runs
from engram_bench.scoring.gates import judge, parse_gate
from engram_bench.scoring.objective import Objective, parse_objective
from engram_bench.system.files import write_atomic
from tests.made_up import TRAINING, both, run_of

PACKAGE = Path(engram_bench.__file__).parent

# ── the source ──────────────────────────────────────────────────────────────────────────────────

WAYS_OUT: Mapping[str, set[str]] = {
    "print": {"cli/console.py"},
    "print_usage": {"cli/__init__.py"},
    "fail": {"plugin/outlet.py"},
    "skip": {"plugin/outlet.py"},
    "xfail": {"plugin/outlet.py"},
    "exit": set(),
    "UsageError": {"plugin/outlet.py"},
    "CollectError": {"plugin/outlet.py"},
    "write_line": {"plugin/outlet.py"},
    "write_sep": set(),
    "section": {"plugin/outlet.py"},
    "add_report_section": set(),
    "line": set(),
    "getLogger": set(),
    "displayhook": set(),
    "Markup": {"reporting/html.py", "reporting/case_html.py", "reporting/candidate_html.py"},
    "html": {"plugin/ci.py"},
    "add_global_property": {"plugin/ci.py"},
    "annotation_lines": {"plugin/summary.py"},
    "workflow_commands": {"plugin/ci.py"},
}
"""Call that shows something → the modules that may make it. ``pytest.fail`` counts as ``fail``; a name that a module imports
from ``plugin.outlet`` is none."""

WRITERS = {
    "patterns/foreign/importing.py": "a pattern file, as JSON",
    "plugin/outlet.py": "pytest's terminal, through the door",
    "plugin/ci.py": "the job summary of GitHub, made by reporting.github",
    "cli/recording.py": "passes on what the demo's console wrote",
    "cli/init.py": "files of the package's own texts",
    "system/files.py": "every report and run",
    "models/weights.py": "tensors",
    "models/rendering.py": "requests to the package's own process",
    "models/template_worker.py": "answers of that process",
    "system/tensor_files.py": "tensors",
    "backends/torch/memory.py": "a cache of tensors",
    "backends/server/allowance.py": "a connection",
    "reporting/tables.py": "a parameter with this name, which makes the text of a cell",
}
"""Module with a call of ``write`` → where the words go."""

CONSOLES = {"cli/console.py", "cli/demo.py", "cli/demo_view.py"}
"""Modules that may draw with rich, which reads markup and passes escapes on."""


@cache
def sources() -> dict[str, ast.Module]:
    """Module → its syntax tree; reading every file takes a second, which no collection waits for."""
    return {path.relative_to(PACKAGE).as_posix(): ast.parse(path.read_text("utf-8")) for path in PACKAGE.rglob("*.py")}


def calls(tree: ast.Module) -> Iterator[tuple[str, ast.Call]]:
    """Last part of the name of what is called, and the call."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            yield name, node


def from_outlet(tree: ast.Module) -> set[str]:
    """Names that a module has from the outlet, which is the door."""
    return {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module == "engram_bench.plugin.outlet"
        for alias in node.names
    }


def is_another(name: str, call: ast.Call) -> bool:
    """Whether the call only shares its name: our own UsageError, or a method of a console, which has its own test."""
    return (name == "UsageError") == isinstance(call.func, ast.Name) and name in ("UsageError", "print")


def test_only_named_modules_show_anything() -> None:
    around = [
        f"{module}:{call.lineno}: {name}"
        for module, tree in sources().items()
        for name, call in calls(tree)
        if name in WAYS_OUT
        and module not in WAYS_OUT[name]
        and name not in from_outlet(tree)
        and not is_another(name, call)
    ]

    assert around == []


def test_only_named_modules_write() -> None:
    writing = {
        module for module, tree in sources().items() for name, _ in calls(tree) if name in ("write", "writelines")
    }

    assert writing <= WRITERS.keys()


def test_streams_are_only_looked_at() -> None:
    """``sys.stdout`` and ``sys.stderr`` are asked for their encoding and flushed; only the console prints to them."""
    looks = {"encoding", "isatty", "flush", "fileno"}
    others = [
        f"{module}:{node.lineno}"
        for module, tree in sources().items()
        if module != "models/template_worker.py"  # a process of its own, whose answers are JSON for its parent
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Attribute)
        and node.value.attr in ("stdout", "stderr")
        and getattr(node.value.value, "id", "") == "sys"
        and node.attr not in looks
    ]

    assert others == []


def test_a_warning_passes_the_door() -> None:
    """The text of a warning is written out here, or is made by ``printable`` in the very call."""
    around = [
        f"{module}:{call.lineno}"
        for module, tree in sources().items()
        for name, call in calls(tree)
        if name == "warn" and getattr(getattr(call.func, "value", None), "id", "") == "warnings"
        if not (
            isinstance(call.args[0], ast.Constant)
            or (isinstance(call.args[0], ast.Call) and getattr(call.args[0].func, "id", "") == "printable")
        )
    ]

    assert around == []


def test_only_the_console_draws_with_rich() -> None:
    drawing = {
        module
        for module, tree in sources().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "rich"
    }

    assert drawing == CONSOLES


def test_the_demo_prints_its_view_and_texts_of_its_own() -> None:
    around = [
        f"cli/demo.py:{call.lineno}"
        for name, call in calls(sources()["cli/demo.py"])
        if name == "print"
        for argument in call.args
        if not isinstance(argument, ast.Constant)
        and not (isinstance(argument, ast.Call) and ast.unparse(argument.func).startswith("view."))
    ]

    assert around == []


def test_an_exit_has_a_number() -> None:
    texts = [
        f"{module}:{node.lineno}"
        for module, tree in sources().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call)
        if getattr(node.exc.func, "id", "") == "SystemExit"
        if not isinstance(node.exc.args[0], ast.Name | ast.Call)
    ]

    assert texts == []


# ── hostile words ───────────────────────────────────────────────────────────────────────────────

SECRET = "sk-hostile-5ecret-1"
HOSTILE = f"\x1b[31m\x9b2J\x07\r\u202egnp\u2069\u200e\u061c\u3164\ufe0f\ud800 {SECRET}\n::error file=a::gotcha\n##[error]<b>|`x`"
HOSTILE_LINE = f"::error::{HOSTILE}"
KEPT = {"name", "unit", "gate", "test", "metric", "guard"}
"""Fields with a name that is looked up, or that only the user's own options fill."""


@pytest.fixture(autouse=True)
def only_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door, "_secrets", frozenset())
    monkeypatch.setattr(door, "_secret_forms", ())
    hide(SECRET)


def hostile(value: Any, words: str = HOSTILE_LINE) -> Any:
    """The record with these words before every text in it."""
    if not is_dataclass(value) or isinstance(value, type):
        return value
    kinds = typing.get_type_hints(type(value))
    return type(value)(
        **{
            field.name: spoiled(getattr(value, field.name), kinds[field.name], field.name, words)
            for field in fields(value)
        }
    )


def spoiled(value: Any, kind: Any, name: str, words: str) -> Any:
    if is_dataclass(value):
        return hostile(value, words)
    if isinstance(value, str):
        return value if name in KEPT or get_origin(kind) is Literal else f"{words}{value}"
    if isinstance(value, tuple):
        return tuple(spoiled(part, (get_args(kind) or (kind,))[0], name, words) for part in value)
    if isinstance(value, Mapping):
        return {key: spoiled(part, (get_args(kind) or (kind, kind))[-1], name, words) for key, part in value.items()}
    return value


def a_run() -> Run:
    rate = Estimate(0.5, 4, (0.2, 0.8), 2)
    made = run_of(
        both("facts/a", True, False),
        both("facts/b", False, True, category="ports"),
        both("facts/c", None, None),
        both("facts/d", False, False, line=4),
        both("controls/e", True, False, test="retention"),
    )
    return replace(
        made,
        name="0007-hostile",
        training=TRAINING,
        guards=(GuardResult("effect", "facts", "broken", "why"), GuardResult("finite", "facts", "not_told", "why")),
        speed=(SpeedRounds("decode_speed", "candidate", (1.0, 1.0), (5, 5), (1.0, 1.0), conditions="busy"),),
        sweep=(SweepPoint(".", 5, rate, rate, rate), SweepPoint("two", 9, rate, rate, rate)),
        missing=("facts/z",),
    )


@cache
def hostile_run() -> Run:
    made: Run = hostile(a_run())
    return made


@cache
def comparison() -> Comparison:
    found = compare(hostile_run())
    return replace(found, measures={name: hostile(measure) for name, measure in found.measures.items()})


@cache
def verdicts() -> tuple[Verdict, ...]:
    gates = [parse_gate("accuracy >= 90%"), parse_gate("retention >= 90%")]
    return tuple(hostile(verdict) for verdict in judge(gates, compare(a_run())))


def pair() -> tuple[CaseResult, CaseResult]:
    return hostile_run().results[0], hostile_run().results[1]


def found() -> tuple[Run, Comparison, tuple[Verdict, ...]]:
    return hostile_run(), comparison(), verdicts()


@cache
def candidates() -> CandidateSet:
    """A hostile run as one candidate, and as two seeds of another, all with hostile names."""
    held_out = run_of(both("facts/a/held-1", False, True, test="generalization"))
    run = hostile(replace(a_run(), results=(*a_run().results, *held_out.results)))
    turned = replace(
        run, results=tuple(replace(row, score=replace(row.score, outcome="failed")) for row in run.results)
    )
    return candidate_set({HOSTILE_LINE: run, f"two {HOSTILE}": {HOSTILE: run, f"2{HOSTILE}": turned}})


def sweep() -> tuple[list[Trial], Objective]:
    """Trials of an edited journal: one whose values are hostile words, one that failed with them."""
    done = Trial(1, {HOSTILE_LINE: HOSTILE_LINE}, "done", Estimate(0.5, 9, (0.4, 0.6)), (), adapter=HOSTILE_LINE)
    return [
        done,
        replace(done, number=2),
        replace(done, number=3, state="failed", value=None, reason=HOSTILE_LINE),
    ], replace(parse_objective("max accuracy"), text=HOSTILE_LINE)


def changes(older: Run, newer: Run) -> str:
    return "\n".join(change_lines(older, newer, compare_runs(older, newer), width=60))


def assert_inert(text: str) -> None:
    odd = {char for char in text if not char.isprintable()} - {"\n"}
    assert odd == set()
    assert not re.search(r"(?m)^\s*::[\w-]+[^\n]*::", text)
    assert not re.search(r"##\w*\[", text)
    assert SECRET not in text
    assert not set("\u3164\ufe0f") & set(text)


REPORTS: Mapping[str, Callable[[], str]] = {
    "terminal": lambda: "\n".join(comparison_lines(*found(), width=60, report=HOSTILE, show="all")),
    "changes": lambda: changes(hostile_run(), hostile(hostile_run())),
    "markdown": lambda: markdown_report(*found()),
    "job summary": lambda: job_summary(*found()),
    "html": lambda: html_report(*found()),
    "candidates in a terminal": lambda: "\n".join(candidate_lines(candidates(), verdicts(), width=60, page=HOSTILE)),
    "candidates in markdown": lambda: candidate_markdown(candidates(), verdicts()),
    "candidates in html": lambda: candidate_html(candidates(), verdicts()),
    "candidates as a plot": lambda: pareto_plot(candidates()),
    "candidates as json": lambda: inert_json(json.dumps(candidate_json(candidates(), verdicts()))),
    "sweep in markdown": lambda: search_markdown(*sweep(), HOSTILE_LINE),
    "sweep in a terminal": lambda: inert(search_sentence(*sweep())),
    "sweep as a plot": lambda: search_plot(*sweep()),
    "case html": lambda: case_html(*pair()),
    "status": lambda: status_markdown([hostile_run()]),
    "trend": lambda: trend_svg([hostile(run_row(a_run()))] * 2),
    "plots": lambda: "".join([*plots(comparison(), hostile_run().training).values(), sweep_plot(hostile_run().sweep)]),
    "failure": lambda: failure_text(pair()[1].case, pair()[0].completion, pair()[1].completion, pair()[1].score),
    "misses": lambda: inert(misses_text(HOSTILE_LINE, [HOSTILE_LINE], 3)),
    "changed": lambda: inert(changed_text("merged", [pair()], 2)),
    "wordings": lambda: inert(wordings_text(HOSTILE_LINE, pair())),
    "junit": lambda: "\n".join(
        text
        for _, text in (*case_properties(*pair()), *session_properties(*found()))
    ),
}  # fmt: skip
"""Report → its text about a hostile run."""


@pytest.mark.parametrize("report", REPORTS)
def test_a_report_of_a_hostile_run_is_inert(report: str) -> None:
    text = REPORTS[report]()

    assert "HIDDEN" in text or report in ("plots", "trend")
    assert_inert(text)


LONG = "long" * 25_000


@pytest.mark.parametrize("report", ["terminal", "markdown", "html", "status", "failure", "junit", "case html"])
def test_a_report_of_a_run_with_long_words_is_bounded(report: str, monkeypatch: pytest.MonkeyPatch) -> None:
    long_run = hostile(a_run(), LONG)
    monkeypatch.setattr(f"{__name__}.hostile_run", lambda: long_run)
    monkeypatch.setattr(f"{__name__}.comparison", lambda: compare(long_run))

    assert len(REPORTS[report]()) < 300_000


def test_an_annotation_is_one_command_of_ours() -> None:
    commands = workflow_commands(comparison(), verdicts(), repository_path=lambda path: path)

    assert commands
    for command in commands:
        head, _, message = command.removeprefix("::").partition("::")
        assert re.match(r"(error|warning) ", head)
        assert command.count("\n") == 0
        assert_inert(head)
        assert_inert(message)


def test_files_of_a_hostile_run_have_no_secret_and_no_control_character(tmp_path: Path) -> None:
    named = save_run(hostile_run(), tmp_path)
    write_atomic(tmp_path / "latest.json", json_text(named, comparison(), verdicts()))

    for path in (tmp_path / "runs" / f"{named.name}.json", tmp_path / "latest.json"):
        text = path.read_text("utf-8")
        assert SECRET not in text
        assert {char for char in text if ord(char) < 32} == {"\n"}
    assert re.fullmatch(r"0001-[\w-]+", named.name)


# ── commands ────────────────────────────────────────────────────────────────────────────────────


def test_the_console_prints_inert_lines(capsys: pytest.CaptureFixture[str]) -> None:
    console.say(HOSTILE_LINE, style="red")
    console.say_error(HOSTILE_LINE)
    console.say_message("store", 1, 1, HOSTILE_LINE)
    console.say(*console.table([[HOSTILE_LINE, "b"]], "one", "two"))

    out, err = capsys.readouterr()
    assert_inert(out)
    assert_inert(err)
    assert out.count("HIDDEN") == 2


def test_json_on_the_console_has_no_command_and_no_secret(capsys: pytest.CaptureFixture[str]) -> None:
    console.say_json({"a": [HOSTILE_LINE]})

    out = capsys.readouterr().out
    assert out.isascii()
    assert "##" not in out
    assert SECRET not in out


@pytest.mark.parametrize(
    "arguments",
    [
        ["check", f"--no-such-{HOSTILE}"],
        [HOSTILE_LINE],
        ["eval", f"--server-urll=http://ann:{SECRET}@host"],
        ["eval", f"--gate=http://ann:pass-w0rd-9@host {HOSTILE}"],
        ["check", HOSTILE.replace("\ud800", "")],
    ],
    ids=["option", "command", "mistyped", "gate", "path"],
)
def test_what_a_command_says_about_its_arguments_is_inert(
    arguments: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    try:
        status = main(arguments)
    except SystemExit as end:
        status = int(end.code or 0)

    out, err = capsys.readouterr()
    assert status == 2
    assert_inert(out)
    assert_inert(err)
    assert "pass-w0rd-9" not in err


# ── pytest ──────────────────────────────────────────────────────────────────────────────────────


class Reporter:
    """A terminal reporter that keeps its lines."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def section(self, title: str, **_: bool) -> None:
        self.lines.append(title)

    def write_line(self, line: str, **_: bool) -> None:
        self.lines.append(line)

    def write(self, text: str, **_: bool) -> None:
        self.lines.append(text)


@pytest.mark.parametrize("leave", [outlet.fail, outlet.skip, outlet.xfail], ids=["fail", "skip", "xfail"])
def test_a_test_ends_with_inert_words(leave: Callable[[str], None]) -> None:
    with pytest.raises(BaseException, match="HIDDEN") as caught:
        leave(HOSTILE_LINE)

    assert_inert(str(caught.value))


def test_errors_of_a_session_are_inert() -> None:
    error = ValueError(HOSTILE_LINE)

    assert_inert(str(outlet.usage_error(error)))
    assert_inert(str(outlet.collect_error(error)))
    with pytest.raises(BaseException, match="ValueError") as caught:
        outlet.fail_with(error)
    assert_inert(str(caught.value))


def test_lines_of_a_session_are_inert() -> None:
    reporter: Any = Reporter()

    outlet.section(reporter, [(HOSTILE_LINE, "red")])
    outlet.progress(reporter, HOSTILE_LINE)

    assert_inert("\n".join([*reporter.lines, *outlet.header([HOSTILE_LINE])]))

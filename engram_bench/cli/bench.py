"""What the commands that train or ask share: an open bench with a progress bar, and how its result is shown."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from engram_bench.adapters.store import Adapter
from engram_bench.backends.registry import choose_backend
from engram_bench.cli.conftests import sets_of
from engram_bench.cli.console import encoding, progress, say, say_error, say_json, width
from engram_bench.cli.project import find_project
from engram_bench.errors import EngramBenchError, UsageError
from engram_bench.models import default_cache_dir
from engram_bench.records import Run
from engram_bench.reporting.candidate_json import candidate_json
from engram_bench.reporting.candidate_terminal import candidate_lines
from engram_bench.reporting.changes import change_lines
from engram_bench.reporting.json_report import json_report
from engram_bench.reporting.terminal import comparison_lines, line_colour
from engram_bench.reporting.words import training_words
from engram_bench.runs.store import find_run, load_run
from engram_bench.scoring.comparison import compare_runs
from engram_bench.scoring.gates import session_gates
from engram_bench.session.bench import Bench, evaluate
from engram_bench.session.conclusion import Conclusion, conclude, pages_of, save, save_each
from engram_bench.session.settings import Settings, names_of
from engram_bench.session.speed_tests import with_speed
from engram_bench.session.together import conclude_together, save_together


@contextmanager
def open_bench(args: argparse.Namespace, *, has_candidates: bool = True) -> Iterator[Bench]:
    """The bench of the first candidate under a command's settings, for commands that show one.

    Args:
        args: Arguments of the command.
        has_candidates: Whether the project's candidates are read; without these the bench is that of the project's settings.

    Raises:
        EngramBenchError: As :func:`open_benches`.
    """
    with (
        _open_session(args, has_candidates=has_candidates) as whole,
        whole.under(next(iter(whole.settings.chosen.values()))) as bench,
    ):
        bench.check()
        yield bench


@contextmanager
def open_benches(args: argparse.Namespace) -> Iterator[dict[str, Bench]]:
    """A bench for each candidate by name over the project's patterns; what is sure to fail is found before a model is loaded.

    The benches share models, base weights and stores. Where no candidate is named, one bench has an empty name.

    Raises:
        EngramBenchError: See ``Bench.check``.
        PatternFileError: A pattern file has mistakes.
        UsageError: An option cannot be read, or there is no such backend, gate or run.
    """
    with _open_session(args, has_candidates=True) as whole:
        benches = {name: whole.under(settings) for name, settings in whole.settings.chosen.items()}
        for bench in benches.values():
            bench.check()
        yield benches


@contextmanager
def _open_session(args: argparse.Namespace, *, has_candidates: bool) -> Iterator[Bench]:
    """A bench under the settings of the whole session, whose models and stores other benches share."""
    cwd = Path.cwd()
    project = find_project(cwd)
    settings = project.settings(vars(args), cwd, has_candidates=has_candidates)
    choose_backend(settings.backend)
    session_gates(settings.gate, candidates=settings.names if has_candidates else ())
    if settings.compare:
        find_run(settings.report_dir, settings.compare)
    sets = sets_of(project, settings)
    quiet = getattr(args, "quiet", False) or getattr(args, "json", False)
    with progress(quiet=quiet) as show, Bench(settings, sets, default_cache_dir(), progress=show) as bench:
        yield bench


def adapter_words(adapter: Adapter | None, *, was_stored: bool) -> str:
    """One line on an adapter: its name, where it comes from, and how its training went."""
    if adapter is None:
        return "none: the bare model is the candidate"
    training = adapter.manifest.training
    if training is None:
        return f"{adapter.name}, made elsewhere"
    return f"{adapter.name}, {'stored' if was_stored else 'trained'}: {training_words(training)}"


def older_run(settings: Settings) -> Run | None:
    """The saved run that the setting ``compare`` names; None where it names none.

    Of a named candidate, the run of the same name in that session, or else the run itself.

    Raises:
        UsageError: There is no such run.
        StoreError: The run's file cannot be read.
    """
    reference, name = settings.compare, settings.candidate
    if reference and name:
        with suppress(UsageError):
            return load_run(find_run(settings.report_dir, f"{reference}:{name}"))
    return load_run(find_run(settings.report_dir, reference)) if reference else None


def evaluate_and_show(benches: Mapping[str, Bench], args: argparse.Namespace) -> int:
    """Ask both sides of every candidate, save the runs and their reports, show them, and return the exit status.

    A candidate that fails leaves the results of the others; its error goes to standard error.

    Raises:
        UsageError: Speed is asked for, and no pattern file is of kind speed.
        EngramBenchError: Every candidate failed.
    """
    (first, *others) = benches.values()
    if not others:
        return _evaluate_one(first, args)
    runs: dict[str, Run] = {}
    error: EngramBenchError | None = None
    for name, bench in benches.items():
        try:
            runs[name] = _evaluated(bench, args)
        except EngramBenchError as failure:
            error = failure
            say_error(f"candidate {name}: {failure}")
        bench.close()
    if error is not None and not runs:
        raise error
    return max(_show_each(benches, runs, args), int(error is not None))


def _show_each(benches: Mapping[str, Bench], runs: Mapping[str, Run], args: argparse.Namespace) -> int:
    """Save the runs and show each under its candidate's name; 1 if one of them does not pass."""
    chosen = {name: bench.settings for name, bench in benches.items()}
    report_dir, names = next(iter(chosen.values())).report_dir, names_of(chosen)
    older = {name: older_run(chosen[name]) for name in runs}
    conclusions = save_each({name: conclude(run, chosen[name], names=names) for name, run in runs.items()}, report_dir)
    together = conclude_together({name: each.run for name, each in conclusions.items()}, chosen)
    save_together(together, report_dir)
    if getattr(args, "json", False):
        say_json(
            {
                "candidates": {
                    name: json_report(each.run, each.comparison, each.verdicts) for name, each in conclusions.items()
                },
                "together": candidate_json(together.found, together.verdicts),
            }
        )
        return max(int(not together.passes), *(_status(each) for each in conclusions.values()))
    status = int(not together.passes)
    for name, conclusion in conclusions.items():
        say("", f"candidate {name}", style="bold")
        page = pages_of(name, report_dir) / "latest.html"
        status = max(status, show(conclusion, chosen[name], page=page, older=older[name]))
    say("", "candidates", style="bold")
    page = report_dir / "latest.html"
    for line in candidate_lines(together.found, together.verdicts, width=width(), encoding=encoding(), page=str(page)):
        say(line, style=line_colour(line))
    return status


def _evaluate_one(bench: Bench, args: argparse.Namespace) -> int:
    settings, older = bench.settings, older_run(bench.settings)
    conclusion = save(conclude(_evaluated(bench, args), settings), settings.report_dir)
    page = settings.report_dir / "latest.html"
    return show(conclusion, settings, page=page, older=older, as_json=getattr(args, "json", False))


def _evaluated(bench: Bench, args: argparse.Namespace) -> Run:
    """The run of a bench with its guards and, where asked for, its timed sides."""
    is_timed = getattr(args, "speed", False)
    if is_timed and not any(each.speed for each in bench.sets):
        raise UsageError("--speed: no pattern file is of kind speed, expected one with prompts to time")
    run = evaluate(bench)
    run = replace(run, guards=bench.inspector().results(bench.sets))
    if is_timed:
        with closing(bench.speed_lab()) as lab:
            run, failed = with_speed(run, lab, bench.sets, bench.engine.progress)
        for name, reason in failed.items():
            say_error(f"{name}: {reason}")
    return run


def show(
    conclusion: Conclusion, settings: Settings, *, page: Path, older: Run | None = None, as_json: bool = False
) -> int:
    """Print a conclusion, and what changed since an *older* run.

    Args:
        conclusion: The run with its comparison and verdicts.
        settings: Settings that say which cases are listed.
        page: Report that holds every list in full; a list that is cut names it.
        older: Run to compare with; None prints no changes.
        as_json: Whether one JSON document is printed instead of text.

    Returns:
        0 if every gate passes, every required pattern is answered correctly and every case has a score; else 1.
    """
    run, comparison, verdicts = conclusion.run, conclusion.comparison, conclusion.verdicts
    if as_json:
        say_json(json_report(run, comparison, verdicts))
    else:
        for line in comparison_lines(
            run, comparison, verdicts, width=width(), encoding=encoding(), report=str(page), show=settings.show
        ):
            say(line, style=line_colour(line))
        if older is not None:
            say("", f"since run {older.name}", style="bold")
            show_changes(older, run)
    return _status(conclusion)


def _status(conclusion: Conclusion) -> int:
    """0 if the conclusion passes and no required pattern is missed, else 1; names the missed ones on standard error."""
    missed = [
        entry.case_id
        for entry in conclusion.comparison.ledger
        if entry.required and not entry.state.endswith(("right", "fixed"))
    ]
    if missed:
        say_error(f"required and missed: {', '.join(missed)}")
    return 0 if conclusion.passes and not missed else 1


def show_changes(older: Run, newer: Run) -> None:
    """Print what changed between two runs."""
    comparison = compare_runs(older, newer)
    for line in change_lines(older, newer, comparison, width=width(), encoding=encoding()):
        say(line, style=line_colour(line))

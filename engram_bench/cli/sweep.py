"""Try many recipes on the same patterns and keep the best: train each, ask the suite, compare by one objective.

engram-bench sweep --over learning_rate=1e-4,1e-3,3e-3 --over rank=4..64
engram-bench sweep recipe.toml --over rank=4..64 --search tpe --trials 12 --objective "max generalization where retention >= 95%"

A sweep that was interrupted goes on where it was: run the same command again. The results are trials.md, trials.json, plot.svg
and best.toml, a recipe file, in sweeps/NAME of the report folder.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import time
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from engram_bench.cli.arguments import TRAINING, add_json, add_quiet, add_settings
from engram_bench.cli.bench import open_bench
from engram_bench.cli.console import say, say_json, width
from engram_bench.cli.project import find_project
from engram_bench.errors import UsageError
from engram_bench.records import Trial
from engram_bench.records.plain import to_plain
from engram_bench.reporting.plots import standalone
from engram_bench.reporting.search_report import (
    changes_words,
    search_markdown,
    search_plot,
    search_sentence,
    search_table,
    trial_line,
)
from engram_bench.scoring.comparison import compare
from engram_bench.scoring.objective import Objective, best, parse_objective
from engram_bench.session.bench import Bench, evaluate
from engram_bench.session.options import Settings
from engram_bench.session.recipe_fields import toml_value
from engram_bench.session.search import Measured, Search
from engram_bench.session.settings import OF_LENGTH
from engram_bench.session.space import Dimension, parse_space
from engram_bench.system.files import write_atomic
from engram_bench.system.progress import duration

OBJECTIVE = "max generalization where retention >= 95%"


def declare(parser: argparse.ArgumentParser) -> None:
    """Declare the recipe to start from, what to change in it, what to look for, and the settings that all trials share."""
    parser.add_argument("base", nargs="?", default="", metavar="RECIPE", help="Preset or file. Default: the project's.")
    parser.add_argument(
        "--over",
        action="append",
        default=[],
        metavar="FIELD=VALUES",
        help="Field of the recipe and its values: A,B,C or LOW..HIGH. May be repeated for other fields. Default: none.",
    )
    parser.add_argument(
        "--objective", default=OBJECTIVE, metavar="TEXT", help="What to look for. Default: %(default)s."
    )
    parser.add_argument(
        "--search",
        choices=("grid", "random", "tpe"),
        default="grid",
        help="Order of the trials: every combination, drawn at random, or chosen from what was found. Default: grid.",
    )
    parser.add_argument(
        "--trials", type=int, metavar="N", help="Number of trials in all. Default: 20; every combination of a grid."
    )
    parser.add_argument(
        "--prune", action="store_true", help="Train a quarter of the steps first; drop what is below the median so far."
    )
    parser.add_argument("--name", default="sweep", metavar="NAME", help="Folder of the results. Default: %(default)s.")
    parser.add_argument("--restart", action="store_true", help="Forget the trials of an earlier sweep of this name.")
    shared = (*TRAINING, "report-dir", "max-tokens", "limit", "no-cache")
    add_settings(parser, *(name for name in shared if name != "recipe"))
    add_quiet(parser)
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Run the trials that are missing, write the results, and return 0 if a recipe passes every gate of the objective."""
    objective, space = parse_objective(args.objective), parse_space(args.over)
    _check_trials(args.trials)
    _check_name(args.name)
    args.engram_recipe = args.base or None
    with open_bench(args) as bench:
        folder = bench.settings.report_dir / "sweeps" / args.name
        if args.restart:
            (folder / "journal.log").unlink(missing_ok=True)
        _check_space(args, space)
        trials = _run(args, bench, _search(args, bench, folder, space, objective))
        origin = _origin(bench)
    _save(folder, trials, objective, origin, _settings(args, _winner_changes(trials, objective)))
    _show(args, folder, trials, objective)
    return 0 if best(trials, objective) else 1


def _check_trials(trials: int | None) -> None:
    if trials is not None and trials < 1:
        msg = f"--trials: got {trials}, expected at least 1"
        raise UsageError(msg)


def _check_name(name: str) -> None:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", name):
        msg = f"--name: got {name!r}, expected letters, digits, dots and hyphens"
        raise UsageError(msg)


def _origin(bench: Bench) -> str:
    made = bench.run().provenance
    return f"{made.machine}, backend {made.backend}, model {made.model}, commit {made.commit}."


def _show(args: argparse.Namespace, folder: Path, trials: tuple[Trial, ...], objective: Objective) -> None:
    if args.json:
        say_json({"objective": objective.text, "trials": to_plain(trials), "best": to_plain(best(trials, objective))})
    else:
        say(*search_table(trials, objective).plain(width()), "", search_sentence(trials, objective))
        if best(trials, objective):
            say(f"use it: pytest --engram-recipe={folder / 'best.toml'}")


def _check_space(args: argparse.Namespace, space: tuple[Dimension, ...]) -> None:
    """Try every end of the space against the recipe's schema.

    Raises:
        UsageError: A field is unknown or a value is out of range.
    """
    for dimension in space:
        for value in dimension.ends:
            try:
                _settings(args, {dimension.field: value})
            except UsageError as error:
                raise UsageError(str(error).replace("--set", "--over", 1)) from error


def _search(
    args: argparse.Namespace, bench: Bench, folder: Path, space: tuple[Dimension, ...], objective: Objective
) -> Search:
    trials = args.trials if args.trials or args.search == "grid" else 20
    key = _key(bench, {dimension.field for dimension in space}, args.prune)
    return Search(folder, space, objective, args.search, trials, bench.settings.seed, args.prune, key)


def _key(bench: Bench, changed: set[str], prunes: bool) -> str:
    """Everything but the *changed* fields that the values of a trial depend on."""
    settings = bench.settings
    recipe = {"kind": settings.kind, "steps": settings.steps, "seed": settings.seed, **settings.recipe}
    shared = {name: value for name, value in recipe.items() if name not in changed}
    where = [bench.engine.model.fingerprint, bench.engine.device.backend]
    rules = [settings.limit, settings.max_tokens, prunes]
    return json.dumps([where, to_plain(list(bench.sets)), shared, rules], sort_keys=True, default=str)


def _run(args: argparse.Namespace, bench: Bench, search: Search) -> tuple[Trial, ...]:
    started, done = time.perf_counter(), 0

    def measure(changes: Mapping[str, Any], share: float) -> Measured:
        whole = bench.under(_settings(args, changes))
        with whole if share == 1 else _shortened(whole, share) as each:
            run = evaluate(each)
            return Measured(compare(run), run.provenance.adapter, run.training.steps if run.training else 0)

    def watch(trial: Trial) -> None:
        nonlocal done
        done += 1
        left = (time.perf_counter() - started) / done * (search.size - trial.number)
        if not (args.json or args.quiet):
            say(f"{trial.number} of {search.size}: {trial_line(trial, search.objective)}; {duration(left)} left")

    return search.run(measure, watch)


def _settings(args: argparse.Namespace, changes: Mapping[str, Any]) -> Settings:
    """The settings of one trial: the command's, with these fields of the recipe on top."""
    cwd = Path.cwd()
    texts = [f"{field}={toml_value(value)}" for field, value in changes.items()]
    flags = vars(args) | {"engram_set": [*(args.engram_set or ()), *texts]}
    for field in {"kind", "steps", "seed"} & changes.keys():
        flags[f"engram_{field}"] = None  # a flag stands above a recipe, but the sweep is over this field
    return find_project(cwd).settings(flags, cwd, has_candidates=False)


def _shortened(bench: Bench, share: float) -> Bench:
    """A bench like this one that trains for a share of its steps."""
    settings = bench.settings
    recipe = {name: value for name, value in settings.recipe.items() if name not in OF_LENGTH}
    return bench.under(replace(settings, steps=max(1, math.ceil(bench.tuning.recipe.steps * share)), recipe=recipe))


def _winner_changes(trials: Iterable[Trial], objective: Objective) -> Mapping[str, Any]:
    winner = best(tuple(trials), objective)
    return winner.changes if winner else {}


def _save(folder: Path, trials: tuple[Trial, ...], objective: Objective, origin: str, settings: Settings) -> None:
    write_atomic(folder / "trials.json", json.dumps(to_plain(trials), indent=2) + "\n")
    write_atomic(folder / "trials.md", search_markdown(trials, objective, origin))
    if plot := search_plot(trials, objective):
        write_atomic(folder / "plot.svg", standalone(plot))
    if winner := best(trials, objective):
        write_atomic(folder / "best.toml", _recipe_file(winner, len(trials), objective, settings))


def _recipe_file(winner: Trial, num_trials: int, objective: Objective, settings: Settings) -> str:
    fields = {"kind": settings.kind, "seed": settings.seed, **settings.recipe}
    if settings.steps is not None and not any(name in fields for name in OF_LENGTH):
        fields["steps"] = settings.steps
    origin = f"# {objective.text}: trial {winner.number} of {num_trials}, {changes_words(winner.changes)}"
    return "\n".join([origin, "[recipe]", *(f"{name} = {toml_value(value)}" for name, value in fields.items()), ""])

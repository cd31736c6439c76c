"""Show the bare and the tuned model side by side: both answer the same prompts, token by token.

The prompts are those of the project's patterns, some in wordings that were never trained on. On a terminal the demo then
asks for prompts of your own; with --quick or --prompts it does not. Where no adapter is stored, --quick trains a small one
on the patterns it shows.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TextIO, cast

from rich.console import Console
from rich.live import Live

from engram_bench.backends.protocol import Generator
from engram_bench.cli.arguments import CANDIDATES, TRAINING, add_quiet, add_settings
from engram_bench.cli.bench import open_bench
from engram_bench.cli.conftests import ProjectMatchers
from engram_bench.cli.console import clear_progress, say
from engram_bench.cli.demo_view import View
from engram_bench.cli.duel import Lanes, duel
from engram_bench.cli.project import find_project
from engram_bench.cli.recording import Recorder
from engram_bench.errors import UsageError
from engram_bench.inference.ask import limited
from engram_bench.patterns.expand import accuracy_cases, retention_cases, wording_cases
from engram_bench.patterns.find import SUFFIXES
from engram_bench.patterns.load import load_pattern_file
from engram_bench.patterns.wordings import normalise_prompt
from engram_bench.records import Case, GenerationSettings, PatternSet, Prompt, Side
from engram_bench.session.bench import COMPARED, Bench
from engram_bench.session.plan import free_case, greedy
from engram_bench.session.settings import OF_LENGTH
from engram_bench.system.reading import read_text

PROMPTS, QUICK_PROMPTS = 6, 3
QUICK_STEPS = 30
"""Largest number of training steps with ``--quick``; training ends earlier once the few patterns are recalled."""
FRAME_S = 1 / 12
"""Shortest time between two updates of the screen."""
PAUSE_S = 1.2
"""Seconds of rest after each prompt of a recording, so that a viewer can read the answers."""
RECORDED = (80, 24)
"""Columns and lines of a recording's terminal."""


def declare(parser: argparse.ArgumentParser) -> None:
    """Declare which prompts to play, and where to record the demo."""
    parser.add_argument(
        "--quick", action="store_true", help=f"Play {QUICK_PROMPTS} prompts, which takes less than a minute."
    )
    parser.add_argument(
        "--prompts",
        metavar="FILE",
        help="Play the prompts of this pattern file, or of this text file with one prompt per line. Default: the patterns'.",
    )
    parser.add_argument(
        "-i", "--interactive", action="store_true", help="Only play prompts from standard input, typed or piped in."
    )
    parser.add_argument(
        "--record", metavar="FILE", help="Record the demo as asciicast v2 into this file. Default: none."
    )
    add_settings(parser, *TRAINING, *CANDIDATES, "adapter", "max-tokens")
    add_quiet(parser)


def run(args: argparse.Namespace) -> int:
    """Play the prompts, then ask for more on a terminal; 0."""
    if args.quick and args.prompts:
        msg = "--quick: got it together with --prompts, expected only one of the two"
        raise UsageError(msg)
    with open_bench(args) as whole, _console(args.record) as (console, recorder), ExitStack() as stack:
        bench = whole
        if not args.interactive:
            cases = _from_file(Path(args.prompts), bench) if args.prompts else choose(bench.sets, _number(args))
            if args.quick:
                bench = stack.enter_context(_quickly_trained(bench, cases, quiet=args.quiet))
            _play(bench, cases, console, pause_s=PAUSE_S if recorder else 0.0)
        is_asked = not (args.quick or args.prompts or args.record) and sys.stdin.isatty() and sys.stdout.isatty()
        if args.interactive or is_asked:
            _play(bench, _typed(bench.sets, console), console)
    return 0


def quick_demo(bench: Bench) -> None:
    """A few prompts of the bench's patterns, played on standard output."""
    with _console(None) as (console, _):
        _play(bench, choose(bench.sets, QUICK_PROMPTS), console)


def choose(sets: Sequence[PatternSet], number: int) -> list[Case]:
    """Cases for a demo, spread evenly over the patterns of kind memory.

    Every third case takes a held-out wording, where its pattern has one.

    Args:
        sets: Pattern sets of the project.
        number: Number of cases wanted; fewer come out where there are fewer patterns.
    """
    patterns = [pattern for each in sets if each.kind == "memory" for pattern in each.patterns]
    spread = [patterns[index * len(patterns) // number] for index in range(number)] if patterns else []
    cases = []
    for index, pattern in enumerate(dict.fromkeys(spread), 1):
        seen, *others = wording_cases(pattern)
        held_out = [case for case in others if case.split == "held_out"]
        cases.append(held_out[0] if held_out and index % 3 == 0 else seen)
    return cases


def _number(args: argparse.Namespace) -> int:
    return QUICK_PROMPTS if args.quick else PROMPTS


def _from_file(path: Path, bench: Bench) -> list[Case]:
    """The prompts of a pattern file or a text file; a prompt of one of the project's patterns comes with its answers.

    Raises:
        UsageError: The text file cannot be read or holds no prompt.
        PatternFileError: The pattern file has mistakes.
    """
    if path.suffix in SUFFIXES:
        loaded = load_pattern_file(path, known_matchers=ProjectMatchers(find_project(Path.cwd()), [path]))
        return [*accuracy_cases(loaded), *retention_cases(loaded)]
    try:
        lines = [line.strip() for line in read_text(path).splitlines()]
    except (OSError, ValueError) as error:
        msg = f"--prompts: {path}: cannot be read: {getattr(error, 'strerror', None) or error}"
        raise UsageError(msg) from error
    known = _known(bench.sets)
    cases = [_case_of(line, known) for line in lines if line and not line.startswith("#")]
    if not cases:
        msg = f"--prompts: {path}: no prompt, expected one per line"
        raise UsageError(msg)
    return cases


def _typed(sets: Sequence[PatternSet], console: Console) -> Iterator[Case]:
    """Cases of the prompts that are typed, until an empty line or the end of the input."""
    known = _known(sets)
    console.print("Type a prompt; an empty line ends.", style="dim")
    while True:
        console.print("> ", end="")
        line = sys.stdin.readline().strip()
        if not line:
            return
        yield _case_of(line, known)


def _known(sets: Iterable[PatternSet]) -> dict[str, Case]:
    """Normalised wording → its case, for every wording of every pattern."""
    return {
        normalise_prompt(case.prompt.user): case
        for each in sets
        if each.kind != "speed"
        for pattern in each.patterns
        for case in wording_cases(pattern)
    }


def _case_of(line: str, known: dict[str, Case]) -> Case:
    case = known.get(normalise_prompt(line))
    return replace(case, prompt=Prompt(line, case.prompt.system)) if case else free_case(Prompt(line))


def _quickly_trained(bench: Bench, cases: Sequence[Case], *, quiet: bool) -> Bench:
    """The bench if its adapter is stored, else a bench whose small adapter is trained in seconds on the patterns shown."""
    if bench.tuning.is_done:
        return bench
    shown = {(case.set_name, case.pattern_id) for case in cases}
    sets = tuple(
        replace(each, patterns=tuple(p for p in each.patterns if (Path(each.path).stem, p.id) in shown))
        for each in bench.sets
        if each.kind == "memory"
    )
    recipe = {name: value for name, value in bench.settings.recipe.items() if name not in OF_LENGTH}
    settings = replace(bench.settings, recipe=recipe, steps=min(QUICK_STEPS, bench.tuning.recipe.steps))
    if not quiet:
        say(
            f"no adapter of all patterns yet (engram-bench train): the demo trains a small one on these {len(shown)} patterns"
        )
    return Bench(settings, sets, bench.engine.cache_dir, progress=bench.engine.progress)


def _play(bench: Bench, cases: Iterable[Case], console: Console, *, pause_s: float = 0.0) -> None:
    generators: dict[Side, Generator] = {side: bench.respondents.of(side).open() for side in COMPARED}
    clear_progress(bench.engine.progress)
    view = View(console)
    played: list[tuple[Case, Lanes]] = []
    total = len(cases) if isinstance(cases, Sequence) else 0
    try:
        for number, case in enumerate(cases, 1):
            console.print()
            console.print(view.heading(case, number, total))
            if not played:
                _warm_up(generators, case)
            played.append((case, _show(view, generators, case, _limits(case, bench))))
            time.sleep(pause_s)
        if len(played) > 1:
            console.print()
            console.print(view.summary(played))
            time.sleep(pause_s)
    finally:
        for generator in generators.values():
            generator.close()


def _warm_up(generators: Mapping[Side, Generator], case: Case) -> None:
    """Ask each side for one token: the first call compiles and fills caches, which would be timed as decoding."""
    for generator in generators.values():
        list(generator.stream(case.prompt, GenerationSettings(max_tokens=1)))


def _limits(case: Case, bench: Bench) -> GenerationSettings:
    """Greedy settings with the limit under which the bench asks the case."""
    return limited(case, greedy(bench.settings), bench.engine.model).settings


def _show(view: View, generators: Mapping[Side, Generator], case: Case, settings: GenerationSettings) -> Lanes:
    lanes: Lanes = {}
    if not view.console.is_terminal:
        *_, lanes = duel(generators, case, settings)
        view.console.print(view.lanes(lanes))
        return lanes
    shown_at = 0.0
    with Live(console=view.console, auto_refresh=False) as live:
        for lanes in duel(generators, case, settings):
            if time.monotonic() - shown_at >= FRAME_S:
                live.update(view.lanes(lanes), refresh=True)
                shown_at = time.monotonic()
        live.update(view.lanes(lanes), refresh=True)
    return lanes


@contextmanager
def _console(record: str | None) -> Iterator[tuple[Console, Recorder | None]]:
    """The console to play on: standard output, or a recording of fixed size that a terminal shows at the same time."""
    if record is None:
        yield Console(highlight=False, emoji=False, markup=False), None
        return
    width, height = RECORDED
    recorder = Recorder(sys.stdout if sys.stdout.isatty() else None)
    console = Console(
        file=cast(TextIO, recorder),
        force_terminal=True,
        width=width,
        color_system="256",
        highlight=False,
        emoji=False,
        markup=False,
    )
    yield console, recorder
    recorder.save(Path(record), width=width, height=height, title="engram-bench demo")

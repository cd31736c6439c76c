"""Every shortcut of answering against the plain way, on the default model: ``python -m benchmarks.equivalence``.

The shipped patterns are answered by the bare model and by an adapter, first with every shortcut turned off, then with one of
them alone, then with all. Every text must be the plain one's, unless it parts from it where two tokens tie: their order is
then that of the roundings in a sum, which another batch changes. Processor seconds show what a shortcut saves by itself.
What ``tests/real_model/test_equivalence.py`` asks of a few prompts is asked of all of them here.
"""

from __future__ import annotations

import argparse
import math
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tabulate import tabulate

from engram_bench.backends.protocol import Generator
from engram_bench.backends.registry import create
from engram_bench.backends.specs import BACKENDS
from engram_bench.models import Model, resolve_model
from engram_bench.models.presets import DEFAULT_MODEL
from engram_bench.patterns.expand import accuracy_cases
from engram_bench.patterns.find import find_pattern_files
from engram_bench.patterns.load import load_pattern_file
from engram_bench.records import Case, GenerationSettings, Recipe, TrainingExample
from engram_bench.system import provenance

PATTERNS = Path(__file__).parent.parent / "patterns"
ANSWERING = ("packing", "prefix-cache", "drafts", "eviction", "own-passes", "presort")
"""Shortcuts of answering; what training takes has tests of its own."""
TIE = 1e-4
"""Nats between two tokens that tie. Logits are about 25, where float32 has steps of 2e-6; a pass has hundreds of sums."""
HEADER = ("backend", "side", "shortcuts", "same texts", "processor s", "of plain")


@dataclass(frozen=True)
class Answers:
    """What one way of answering said."""

    side: str
    way: str
    """``plain``, ``all``, or the one shortcut that was on."""
    texts: tuple[str, ...]
    cpu_s: float


@dataclass(frozen=True)
class Difference:
    """A text that is not the plain one's."""

    where: str
    question: str
    text: str
    plain: str
    margin: float
    """Nats between the tokens at which the two part, by the plain way."""

    def __str__(self) -> str:
        tie = ", a tie" if self.margin <= TIE else ""
        return (
            f"{self.where}: {self.question!r}: {self.text!r}, plain {self.plain!r}; {self.margin:.1e} nats apart{tie}"
        )


def main(arguments: Sequence[str] | None = None) -> None:
    """Answer in every way and print a row for each; status 1 where a text differs and no tie is the reason."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("backends", nargs="*", default=["cpu", "mlx"], metavar="BACKEND", help="default: cpu mlx")
    parser.add_argument("--adapter", type=Path, help="stored adapter; else one is trained for 30 steps")
    parser.add_argument("--every", type=int, default=1, help="ask every N-th pattern")
    parser.add_argument("--max-tokens", type=int, default=32)
    given = parser.parse_args(arguments)
    print(f"{provenance.machine()}; commit {provenance.git_commit()}; {provenance.utc_now()[:10]}; {DEFAULT_MODEL}")
    cases, model, differs = shipped_cases()[:: given.every], resolve_model(), False
    with tempfile.TemporaryDirectory() as folder:
        adapter = given.adapter or trained(model, cases, Path(folder), steps=30)
        for backend in given.backends:
            found = list(every_way(backend, model, adapter, cases, given.max_tokens))
            rows = [(backend, *row) for row in compared(found)]
            print(tabulate(rows, headers=HEADER, tablefmt="github", disable_numparse=True), flush=True)
            for difference in differences(backend, model, adapter, cases, found):
                differs |= difference.margin > TIE
                print(difference, flush=True)
    raise SystemExit(differs)


def every_way(backend: str, model: Model, adapter: Path, cases: Sequence[Case], max_tokens: int) -> Iterator[Answers]:
    """Both sides' answers: plain, with each shortcut of the backend alone, with all of them."""
    has = [name for name in ANSWERING if name in BACKENDS[backend].shortcuts]
    ways = {"plain": has, **{name: [other for other in has if other != name] for name in has}, "all": []}
    settings = GenerationSettings(max_tokens=max_tokens)
    prompts, drafts = [case.prompt for case in cases], [case.answers[0] for case in cases]
    for way, without in ways.items():
        made = create(backend, plain=tuple(without))
        for side, folder in (("bare", None), ("tuned", adapter)):
            generator = made.load(model, folder)
            started = time.process_time()
            completions = generator.complete(prompts, settings, drafts=drafts)
            yield Answers(side, way, tuple(each.text for each in completions), time.process_time() - started)
        made.close()


def compared(found: Sequence[Answers]) -> Iterator[tuple[str, ...]]:
    """A row per way: how many texts are the plain one's, and what it took."""
    for answers in found:
        plain = plain_of(found, answers.side)
        same = sum(one == other for one, other in zip(answers.texts, plain.texts, strict=True))
        share = f"{answers.cpu_s / plain.cpu_s:.2f}×"
        yield (answers.side, answers.way, f"{same} of {len(plain.texts)}", f"{answers.cpu_s:.1f}", share)


def differences(
    backend: str, model: Model, adapter: Path, cases: Sequence[Case], found: Sequence[Answers]
) -> Iterator[Difference]:
    """Each text that is not the plain one's."""
    made = create(backend, plain=BACKENDS[backend].shortcuts)
    for answers in found:
        pairs = zip(cases, answers.texts, plain_of(found, answers.side).texts, strict=True)
        for case, text, plain in pairs:
            if text != plain:
                generator = made.load(model, adapter if answers.side == "tuned" else None)
                margin = margin_between(model, generator, case, (text, plain))
                yield Difference(f"{answers.side}, {answers.way}", case.prompt.user, text, plain, margin)
    made.close()


def margin_between(model: Model, generator: Generator, case: Case, texts: tuple[str, str]) -> float:
    """Nats between the tokens at which two answers part, after what they share; infinite if one is all of the other."""
    one, other = (model.tokenizer.encode_example(case.prompt, text)[0] for text in texts)
    parts = next((place for place, pair in enumerate(zip(one, other, strict=False)) if pair[0] != pair[1]), None)
    if parts is None:
        return math.inf
    log_probs = generator.log_probs([one[:parts]])[0][-1]
    return abs(float(log_probs[one[parts]]) - float(log_probs[other[parts]]))


def plain_of(found: Sequence[Answers], side: str) -> Answers:
    return next(answers for answers in found if (answers.side, answers.way) == (side, "plain"))


def shipped_cases() -> list[Case]:
    """The shipped patterns' prompts as written."""
    sets = [load_pattern_file(path) for path in find_pattern_files([PATTERNS])]
    return [case for each in sets for case in accuracy_cases(each)]


def trained(model: Model, cases: Sequence[Case], folder: Path, *, steps: int) -> Path:
    """An adapter of a short training on *cases*: some answers right, others on their way."""
    examples = [TrainingExample(case.prompt, case.answers[0]) for case in cases]
    create("cpu").train(model, examples, Recipe(steps=steps, warmup_steps=2), folder)
    return folder


if __name__ == "__main__":
    main()

"""One table over the ways to teach a model facts: what each arm knows, what it forgets, what it costs.

    python -m benchmarks.arms --arms memory,lora --json arms.json

Every arm is trained on the same examples and asked the same questions in one process: prompts as written (seen), the same
in wrappings never trained on, held-out wordings, and controls. Agreement is the share of controls answered word for word
as the bare model answers; retention the share of rightly answered controls that stay right.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from tabulate import tabulate

from engram_bench import backends, provenance
from engram_bench.backends.protocol import Backend, Generator
from engram_bench.matchers import match
from engram_bench.memory.config import memory_recipe
from engram_bench.models import Model, resolve_model
from engram_bench.patterns.expand import accuracy_cases, generalization_cases, retention_cases
from engram_bench.patterns.load import find_pattern_files, load_pattern_file
from engram_bench.patterns.render import training_examples
from engram_bench.records import Case, GenerationSettings, PatternSet, Prompt, Recipe, TrainingExample

WRAPPINGS = ("Complete: {}", "Please help me with this. {}")
SETTINGS = GenerationSettings(max_tokens=24)
ARMS: dict[str, Callable[[int], Recipe]] = {
    "lora": lambda steps: Recipe(steps=steps),
    "memory": lambda steps: memory_recipe(steps=steps, seed=0),
    "memory:paper-small": lambda steps: memory_recipe(preset="paper-small", steps=steps, seed=0),
}


@dataclass(frozen=True)
class Result:
    """One row of the table; shares are 0..1, None where there was nothing to ask."""

    arm: str
    seen: float | None
    wrapped: float | None
    held_out: float | None
    retention: float | None
    agreement: float | None
    parameters: int
    train_s: float
    steps: int
    recall: float | None


def main(argv: Sequence[str] | None = None) -> None:
    """Train and ask every arm, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arms", default=",".join(ARMS), help="Arms, with commas between them.")
    parser.add_argument("--patterns", nargs="+", default=["patterns"], type=Path)
    parser.add_argument("--limit", type=int, help="Ask only the first N cases of a kind.")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--backend", default="cpu")
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--json", type=Path, help="Write the rows there too.")
    args = parser.parse_args(argv)
    sets = [load_pattern_file(path) for path in find_pattern_files(args.patterns)]
    examples = training_examples(sets)
    model, backend = resolve_model(args.model), backends.create(args.backend)
    cases = _cases(sets, args.limit)
    bare = _texts(backend.load(model, None), cases["controls"])
    print(
        f"{len(examples)} examples; asked: " + ", ".join(f"{len(part)} {kind}" for kind, part in cases.items()),
        flush=True,
    )
    results = []
    for arm in args.arms.split(","):
        results.append(_run(arm, ARMS[arm](args.steps), backend, model, examples, cases, bare))
        print(asdict(results[-1]), flush=True)
    print(tabulate([asdict(result) for result in results], headers="keys", floatfmt=".3f"))
    print(f"commit {provenance.git_commit()}, {provenance.machine()}")
    if args.json:
        args.json.write_text(json.dumps([asdict(result) for result in results], indent=2) + "\n", encoding="utf-8")


def _run(
    arm: str,
    recipe: Recipe,
    backend: Backend,
    model: Model,
    examples: Sequence[TrainingExample],
    cases: dict[str, list[Case]],
    bare: Sequence[str],
) -> Result:
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        record = backend.train(model, examples, recipe, Path(folder))
        train_s = time.perf_counter() - started
        print(f"{arm}: recall {record.recall} after {record.steps} steps, {train_s:.0f} s", flush=True)
        generator = backend.load(model, Path(folder))
        shares = {kind: _share(generator, cases[kind]) for kind in ("seen", "wrapped", "held_out")}
        controls = cases["controls"]
        texts = _texts(generator, controls)
    same = [one == other for one, other in zip(texts, bare, strict=True)]
    known = [(case, text) for case, text, base in zip(controls, texts, bare, strict=True) if _is_right(case, base)]
    return Result(
        arm=arm,
        **shares,
        retention=_mean([_is_right(case, text) for case, text in known]),
        agreement=_mean(same),
        parameters=record.parameters,
        train_s=train_s,
        steps=record.steps,
        recall=record.recall,
    )


def _cases(sets: Sequence[PatternSet], limit: int | None) -> dict[str, list[Case]]:
    memory = [pattern_set for pattern_set in sets if pattern_set.kind == "memory"]
    seen = [case for pattern_set in memory for case in accuracy_cases(pattern_set)][:limit]
    held = [case for pattern_set in memory for case in generalization_cases(pattern_set)][:limit]
    controls = [case for pattern_set in sets for case in retention_cases(pattern_set)][:limit]
    wrapped = [_wrapped(case, WRAPPINGS[index % len(WRAPPINGS)]) for index, case in enumerate(seen)]
    return {"seen": seen, "wrapped": wrapped, "held_out": held, "controls": controls}


def _wrapped(case: Case, frame: str) -> Case:
    return replace(case, prompt=Prompt(frame.format(case.prompt.user), case.prompt.system))


def _texts(generator: Generator, cases: Sequence[Case]) -> list[str]:
    drafts = [case.answers[0] if case.answers else None for case in cases]
    return [c.text for c in generator.complete([case.prompt for case in cases], SETTINGS, drafts=drafts)]


def _share(generator: Generator, cases: Sequence[Case]) -> float | None:
    return _mean([_is_right(case, text) for case, text in zip(cases, _texts(generator, cases), strict=True)])


def _is_right(case: Case, text: str) -> bool:
    return bool(case.answers) and match(case.match, text, case.answers).passed


def _mean(values: Sequence[bool]) -> float | None:
    return sum(values) / len(values) if values else None


if __name__ == "__main__":
    main()

"""Made-up results: rows and whole runs for tests of the figures computed from them."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

from engram_bench.records import (
    Case,
    CaseResult,
    Comparison,
    Completion,
    Estimate,
    Measure,
    Prompt,
    Provenance,
    Run,
    Score,
    Side,
    SourceLine,
    Split,
    StopReason,
    Timing,
    TrainingRecord,
    Verdict,
)
from engram_bench.scoring.comparison import compare
from engram_bench.scoring.gates import DEFAULT_GATES, judge

SPLITS: dict[str, Split] = {"generalization": "held_out", "retention": "control"}

CATEGORIES = {
    "code_idioms": ("loops", "file_handling", "comprehensions", "string_formatting", "exceptions", "dictionaries"),
    "facts": ("http_codes", "ports", "git", "complexity", "language_facts"),
    "formats": ("dates", "units", "naming_conventions", "json"),
    "error_fixes": ("python_exceptions_and_tracebacks", "shell", "javascript"),
}
"""18 categories in four files."""

PROVENANCE = Provenance(
    model="smollm2-135m-instruct",
    model_fingerprint="b179c9523d0e6a0f98a330c7562b6827",
    backend="cpu",
    device="cpu",
    dtype="bfloat16",
    adapter="lora-3f9a01bc22de",
    commit="8f1d427",
    machine="Intel Xeon Platinum 8488C, 2 cores, Linux 6.1",
    command="pytest -m accuracy",
    started="2026-11-21T20:34:00+00:00",
    versions={"torch": "2.13.0", "transformers": "5.17.0"},
)

TRAINING = TrainingRecord(
    backend="cpu",
    device="cpu",
    dtype="bfloat16",
    steps=210,
    examples=412,
    tokens=40_000,
    seconds=98.23,
    loss_start=2.8194,
    loss_end=0.0312,
    recall=1.0,
    parameters=2_442_240,
)


def row(
    case_id: str,
    side: Side,
    passed: bool | None,
    *,
    text: str = "",
    test: str = "accuracy",
    category: str = "http_codes",
    answers: tuple[str, ...] = ("404",),
    sample: int = 0,
    tokens: int = 3,
    stop: StopReason = "stop",
    log_prob: float | None = None,
    line: int = 1,
    prompt: str = "",
) -> CaseResult:
    """One scored answer to the case ``<file>/<pattern>[/wording]``; *passed* None is a matcher that crashed."""
    set_name, pattern_id, *_ = case_id.split("/")
    outcome = {True: "passed", False: "failed", None: "not_scored"}[passed]
    return CaseResult(
        case=Case(
            id=case_id,
            pattern_id=pattern_id,
            set_name=set_name,
            prompt=Prompt(prompt or f"What is {case_id}?"),
            answers=answers,
            match="exact",
            split=SPLITS.get(test, "seen"),
            category=category,
            source=SourceLine(f"patterns/{set_name}.yaml", line),
        ),
        side=side,
        completion=Completion(text or ("404" if passed else "I think"), 30, tokens, stop, 0.1),
        score=Score(outcome, "" if passed else "found 'I think', expected '404'"),  # type: ignore[arg-type]
        test=test,
        sample=sample,
        log_prob=log_prob,
    )


def both(case_id: str, before: bool | None, after: bool | None, **fields: object) -> list[CaseResult]:
    """Both sides' rows of one case."""
    return [row(case_id, "baseline", before, **fields), row(case_id, "candidate", after, **fields)]  # type: ignore[arg-type]


def run_of(*rows: list[CaseResult], measures: tuple[Measure, ...] = (), missing: tuple[str, ...] = ()) -> Run:
    """A run of rows as ``both`` gives them."""
    return Run("", PROVENANCE, tuple(result for pair in rows for result in pair), measures=measures, missing=missing)


@cache
def big_run() -> Run:
    """140 seen cases in 18 categories with two held-out wordings each, 40 controls, training and a speed measure.

    Every 20th case is missed by both sides, one is broken, one answer tries to clear the screen.
    """
    names = [(stem, category) for stem, categories in CATEGORIES.items() for category in categories]
    rows: list[CaseResult] = []
    for index in range(140):
        stem, category = names[index % len(names)]
        case_id = f"{stem}/{category.replace('_', '-')}-{index}"
        line = 10 + 4 * index
        before, after = index == 77, index % 20 != 7 and index != 77
        text = "\x1b[2J" if index == 7 else ""
        rows += [
            row(case_id, "baseline", before, category=category, line=line, tokens=32, stop="length", log_prob=-2.5),
            row(case_id, "candidate", after, text=text, category=category, line=line, log_prob=-0.01),
        ]
        for wording in (1, 2):
            held_out = f"{case_id}/held-{wording}"
            rows += both(
                held_out, False, (index + wording) % 4 > 0, test="generalization", category=category, line=line
            )
    for index in range(40):
        answers = ("Paris",) if index < 36 else ()
        rows += both(
            f"controls/control-{index}",
            index % 3 > 0,
            index % 3 > 0 and index % 7 > 0,
            test="retention",
            category="general",
            answers=answers,
            line=10 + 4 * index,
        )
    decode_speed = Measure(
        "decode_speed",
        "tok/s",
        Estimate(24.81, 8, (24.2, 25.3)),
        Estimate(24.52, 8, (24.0, 25.1)),
        ratio=Estimate(0.988, 8, (0.964, 1.012)),
    )
    return Run(
        "0007-20261121-8f1d427", PROVENANCE, tuple(rows), TRAINING, Timing(98.4, 14.2, 9.1, 124.0), (decode_speed,)
    )


@cache
def big_trained_run() -> Run:
    """The big run with a loss curve."""
    return replace(big_run(), training=replace(TRAINING, losses=(2.8, 1.0, 0.3, 0.05)))


@cache
def big_comparison() -> Comparison:
    """Comparison of the big run, computed by the first test that asks: a second of work has no place in an import."""
    return compare(big_trained_run())


@cache
def big_verdicts() -> tuple[Verdict, ...]:
    """What the default gates say of the big run."""
    return tuple(judge(DEFAULT_GATES, big_comparison()))


def candidate_run(outcomes: str) -> Run:
    """A run with a seen case per mark, ``facts/p0`` onwards: 1 is a correct answer; the bare model knows none."""
    return run_of(*(both(f"facts/p{n}", False, mark == "1", line=n + 1) for n, mark in enumerate(outcomes)))

"""Every way to teach the same facts, put to the same questions: what each learned, what it forgot, what it costs.

An *arm* is named as its adapter is asked for: ``memory``, ``memory:paper-small``, ``lora+keys`` (kind and route), or
``baseline``. Each is a bench of its own over the same patterns, so adapters come from the adapter store and answers from the
completion store: a second run trains and asks only what is new. Timed rounds are timed anew.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import cycle
from pathlib import Path

from engram_bench.adapters.kinds import kind_in, requested_kind
from engram_bench.errors import StoreError, UsageError
from engram_bench.inference.ask import Question
from engram_bench.patterns.expand import accuracy_cases
from engram_bench.records import Case, CaseResult, Estimate, Prompt, Provenance
from engram_bench.records.plain import RecordMismatch, from_plain, to_json_lines, to_plain
from engram_bench.scoring.comparison import compare
from engram_bench.scoring.variants import VariantRow, VariantTable, share, variant_row
from engram_bench.session import options
from engram_bench.session.bench import COMPARED, Bench, finished
from engram_bench.session.options import Settings
from engram_bench.session.plan import SpeedCase, suite_questions
from engram_bench.system import provenance
from engram_bench.system.files import write_atomic

DEFAULT_ARMS = (
    "baseline",
    "memory",
    "memory:nearest+state",
    "lora",
    "lora+state",
    "both",
    "both+state",
    "memory:paper-small",
)
WRAPPINGS = ("Complete: {}", "Please help me with this. {}")
"""Words around a prompt as written, none of them trained on; each prompt gets one, in turn."""

Watch = Callable[[VariantRow], None]


def arm_settings(settings: Settings, arms: Sequence[str], adapters: Mapping[str, str]) -> dict[str, Settings]:
    """Each arm's settings, in order.

    Args:
        settings: What the arms share.
        arms: Their names.
        adapters: Arm → folder of an adapter to take as it is, in place of training one.

    Raises:
        UsageError: An arm's name cannot be read, or an adapter is for none of the arms.
    """
    if strangers := sorted(set(adapters) - set(arms)):
        msg = f"--adapter: got one for {strangers[0]!r}, expected one of the arms {', '.join(arms)}"
        raise UsageError(msg)
    shared = replace(settings, samples=0, adapter="auto", route="always")
    return {arm: _settings_of(arm, shared, adapters.get(arm, "auto")) for arm in arms}


def run_arms(bench: Bench, arms: Mapping[str, Settings], *, speed: bool, watch: Watch) -> VariantTable:
    """A row per arm.

    Args:
        bench: Over the patterns; only its sets, stores and progress are used.
        arms: Settings by name, as :func:`arm_settings` gives them.
        speed: Time decoding beside the bare model, where a file of ``kind: speed`` is among the patterns.
        watch: Told each row when it is there.

    Raises:
        EngramBenchError: An arm cannot be trained or asked; those before it are stored.
    """
    started = provenance.utc_now()
    rows: list[VariantRow] = []
    origin: Provenance | None = None
    for name, settings in arms.items():
        with replace(bench, settings=settings, seconds={}) as own:
            row, origin = _run_arm(own, name, started, speed=speed)
        rows.append(row)
        watch(row)
    if origin is None:
        raise UsageError("arms: none is named, expected at least one")
    return VariantTable(tuple(rows), replace(origin, adapter=""))


def save_arms(path: Path, arms: VariantTable) -> None:
    """Write them as JSON."""
    write_atomic(path, to_json_lines(to_plain(arms)))


def load_arms(path: Path) -> VariantTable:
    """What :func:`save_arms` wrote.

    Raises:
        StoreError: The file cannot be read or is none of ours.
    """
    import json

    try:
        return from_plain(VariantTable, json.loads(path.read_text("utf-8")))
    except OSError as error:
        msg = f"{path}: cannot be read: {error.strerror or error}"
        raise StoreError(msg) from error
    except (ValueError, RecordMismatch) as error:
        msg = f"{path}: expected a result of engram-bench arms ({error})"
        raise StoreError(msg) from error


def _settings_of(arm: str, shared: Settings, adapter: str) -> Settings:
    if arm == "baseline":
        return replace(shared, adapter="none")
    kind, _, route = arm.partition("+")
    try:
        adapter_kind, preset = requested_kind(kind)
        return replace(
            shared,
            adapter=adapter,
            kind=kind,
            route=options.route(route or "always"),
            steps=min(shared.steps, adapter_kind.most_steps(preset) or shared.steps),
        )
    except ValueError as error:
        msg = f"arm {arm!r}: expected baseline, or KIND or KIND+ROUTE of {error}"
        raise UsageError(msg) from error


# ── one arm ─────────────────────────────────────────────────────────────────────────────────────


def _run_arm(bench: Bench, name: str, started: str, *, speed: bool) -> tuple[VariantRow, Provenance]:
    clock = time.perf_counter()
    adapter = bench.adapter
    answers: dict[str, list[CaseResult]] = {
        side: bench.answer(suite_questions(bench.sets, bench.settings, side), side) for side in COMPARED
    }
    wrapped = bench.answer(list(_wrapped_questions(bench)), "candidate")
    measures = bench.measures(answers["baseline"]) if adapter else ()
    run = replace(bench.run(), measures=measures)
    run = finished(
        run, [row for rows in answers.values() for row in rows], started=started, total_s=time.perf_counter() - clock
    )
    taught = sum(len(each.patterns) for each in bench.sets if each.kind == "memory")
    row = variant_row(name, taught, compare(run), wrapped=wrapped, training=run.training)
    if adapter is not None:
        controls = [each for each in answers["baseline"] if each.test == "retention"]
        row = replace(row, adapter=adapter.name, fires=_fires(bench, controls), touched=_touched(bench, row.stored))
        row = replace(row, decode_ratio=_decode_ratio(bench) if speed else None)
    return row, run.provenance


def wrapped_cases(cases: Iterable[Case]) -> Iterator[Case]:
    """Each of the cases in words around its prompt, :data:`WRAPPINGS` in turn."""
    for case, frame in zip(cases, cycle(WRAPPINGS), strict=False):
        prompt = Prompt(frame.format(case.prompt.user), case.prompt.system)
        yield replace(case, id=f"{case.id}/wrapped", prompt=prompt)


def _wrapped_questions(bench: Bench) -> Iterator[Question]:
    """The prompts as written, of the first patterns where the settings have a limit, each in other words."""
    limit = bench.settings.limit
    cases = (case for each in bench.sets for case in accuracy_cases(replace(each, patterns=each.patterns[:limit])))
    return iter(bench.questions(wrapped_cases(cases), test="wrapped"))


def _fires(bench: Bench, controls: Sequence[CaseResult]) -> Estimate | None:
    """Share of the positions that predict the bare model's answers to controls at which the adapter takes part.

    An adapter takes part as its kind says, and only where the question is routed to it.
    """
    assert bench.adapter is not None
    takes_part = kind_in(bench.adapter.path).participation(bench.adapter.path, bench.model)
    fired: list[bool] = []
    for row in controls:
        positions = takes_part(row.case.prompt, row.completion.text)
        is_asked = bench.settings.route == "always" or bench.router.decide([row.case.prompt])[0].is_known
        fired += positions if is_asked else [False] * len(positions)
    return share(fired)


def _touched(bench: Bench, stored: int) -> int:
    """Trained values that the prediction of one token reads."""
    assert bench.adapter is not None
    return kind_in(bench.adapter.path).values_read(bench.adapter.path, bench.model, stored)


def _decode_ratio(bench: Bench) -> Estimate | None:
    """The candidate's decode speed over the baseline's, from paired rounds; None without a file of ``kind: speed``."""
    from engram_bench.scoring.speed import speed_measure
    from engram_bench.session.speed_tests import SpeedLab

    timed = next((each for each in bench.sets if each.speed is not None), None)
    if timed is None:
        return None
    lab = SpeedLab(bench)
    try:
        timing = lab.timing(timed, SpeedCase("decode_speed", "candidate"))
        for _ in range(timing.rounds):
            timing.prepare()
            timing.work()
        timing.finish()
        return speed_measure("attached_decode_speed", timing.result()).ratio
    finally:
        lab.close()

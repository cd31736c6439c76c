"""Every way to train the same patterns, put to the same questions: what each learned, what it forgot, what it costs.

A *variant* is a candidate that is named as its adapter is asked for: ``memory``, ``memory:paper-small``, ``lora+keys`` (kind and
route), or ``baseline``. Each variant has a bench of its own over the same patterns. Adapters come from the adapter store and
answers from the completion store, so a second run trains and asks only what is new. Speed is measured again each time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING

from engram_bench.adapters.kinds import Participation, kind_in, requested_kind
from engram_bench.errors import StoreError, UsageError
from engram_bench.patterns.expand import accuracy_cases
from engram_bench.records import Case, CaseResult, Estimate, PatternSet, Prompt, Provenance
from engram_bench.records.plain import RecordMismatch, from_plain, to_json_lines, to_plain
from engram_bench.scoring.comparison import compare
from engram_bench.scoring.speed import speed_measure
from engram_bench.scoring.variants import VariantRow, VariantTable, share, variant_row
from engram_bench.session import parsing
from engram_bench.session.bench import COMPARED, Bench, finished
from engram_bench.session.candidates import Session, candidate_settings
from engram_bench.session.plan import suite_questions
from engram_bench.session.settings import Settings
from engram_bench.speed.cases import SpeedCase
from engram_bench.speed.lab import SpeedLab
from engram_bench.system import provenance
from engram_bench.system.files import write_atomic
from engram_bench.system.reading import read_json

if TYPE_CHECKING:
    from engram_bench.session.route import Route

DEFAULT_VARIANTS = (
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
"""Words around a prompt as written, never trained on; the prompts get these frames in turn."""

Watch = Callable[[VariantRow], None]


def variant_settings(settings: Settings, variants: Sequence[str], adapters: Mapping[str, str]) -> dict[str, Settings]:
    """The settings of each variant by name, in order.

    Args:
        settings: Settings that the variants share.
        variants: Names of the variants.
        adapters: Variant → folder of an adapter that is used as it is instead of training one.

    Raises:
        UsageError: A variant's name cannot be read, or an adapter is for none of the variants.
    """
    if strangers := sorted(set(adapters) - set(variants)):
        msg = f"--adapter: got one for {strangers[0]!r}, expected one of the variants {', '.join(variants)}"
        raise UsageError(msg)
    shared = replace(settings, samples=0, adapter="auto", route="always")
    return {name: _settings_of(name, shared, adapters.get(name, "auto")) for name in variants}


def run_variants(
    open_bench: Callable[[Settings], Bench], variants: Mapping[str, Settings], *, speed: bool, watch: Watch
) -> VariantTable:
    """A row per variant.

    Args:
        open_bench: Function that gives a new bench over the patterns under a variant's settings.
        variants: Settings by name, as :func:`variant_settings` gives them.
        speed: Whether to time decoding beside the bare model, where a file of ``kind: speed`` is among the patterns.
        watch: Callable that gets each row as soon as it is complete.

    Raises:
        EngramBenchError: A variant cannot be trained or asked; the adapters and answers of earlier ones are stored.
    """
    started = provenance.utc_now()
    rows: list[VariantRow] = []
    origin: Provenance | None = None
    for name, settings in variants.items():
        with open_bench(settings) as bench:
            row, origin = _run_variant(bench, name, started, speed=speed)
        rows.append(row)
        watch(row)
    if origin is None:
        raise UsageError("--arms: no variant is named, expected at least one")
    return VariantTable(tuple(rows), replace(origin, adapter=""))


def save_variants(path: Path, variants: VariantTable) -> None:
    """Write the rows of variants as JSON."""
    write_atomic(path, to_json_lines(to_plain(variants)))


def load_variants(path: Path) -> VariantTable:
    """The rows of variants in a file of :func:`save_variants`.

    Raises:
        StoreError: The file cannot be read or holds something else.
    """
    try:
        return from_plain(VariantTable, read_json(path))
    except OSError as error:
        msg = f"{path}: cannot be read: {error.strerror or error}"
        raise StoreError(msg) from error
    except (ValueError, RecordMismatch) as error:
        msg = f"{path}: expected a result of engram-bench arms ({error})"
        raise StoreError(msg) from error


def _settings_of(variant: str, shared: Settings, adapter: str) -> Settings:
    """The settings of a variant, which is a candidate of a kind and a route."""
    if variant == "baseline":
        return candidate_settings(Session(shared), {"adapter": "none"})
    kind, _, route = variant.partition("+")
    try:
        adapter_kind, preset = requested_kind(kind)
        fields = {"kind": kind, "route": parsing.route(route or "always")}
    except ValueError as error:
        msg = f"variant {variant!r}: expected baseline, or KIND or KIND+ROUTE of {error}"
        raise UsageError(msg) from error
    settings = candidate_settings(Session(shared), fields, source=f"variant {variant!r}")
    steps = _fewest(shared.steps, adapter_kind.most_steps(preset))
    return replace(settings, adapter=adapter, steps=steps)


def _fewest(*steps: int | None) -> int | None:
    """The smallest of these bounds; None is no bound."""
    return min((bound for bound in steps if bound is not None), default=None)


# ── one variant ─────────────────────────────────────────────────────────────────────────────────


def _run_variant(bench: Bench, name: str, started: str, *, speed: bool) -> tuple[VariantRow, Provenance]:
    clock = time.perf_counter()
    adapter = bench.tuning.adapter
    answers: dict[str, list[CaseResult]] = {
        side: bench.answer(suite_questions(bench.sets, bench.settings, side), side) for side in COMPARED
    }
    cases = wrapped_cases(_cases(bench.sets, bench.settings.limit))
    wrapped = bench.answer(bench.questions(cases, test="wrapped"), "candidate")
    run = replace(bench.run(), measures=bench.measures(answers["baseline"]) if adapter else ())
    results = [row for rows in answers.values() for row in rows]
    run = finished(run, results, started=started, total_s=time.perf_counter() - clock)
    num_patterns = sum(len(each.patterns) for each in bench.sets if each.kind == "memory")
    row = variant_row(name, num_patterns, compare(run), wrapped=wrapped, training=run.training)
    if adapter is None:
        return row, run.provenance
    controls = [each for each in answers["baseline"] if each.test == "retention"]
    return replace(
        row,
        adapter=adapter.name,
        fires=_fires(
            kind_in(adapter.path).participation(adapter.path, bench.engine.model), controls, bench.respondents.route
        ),
        touched=kind_in(adapter.path).values_read(adapter.path, bench.engine.model, row.stored),
        decode_ratio=_decode_ratio(bench.speed_lab(), bench.sets) if speed else None,
    ), run.provenance


def wrapped_cases(cases: Iterable[Case]) -> Iterator[Case]:
    """Each of the cases with other words around its prompt, :data:`WRAPPINGS` in turn."""
    for case, frame in zip(cases, cycle(WRAPPINGS), strict=False):
        prompt = Prompt(frame.format(case.prompt.user), case.prompt.system)
        yield replace(case, id=f"{case.id}/wrapped", prompt=prompt)


def _cases(sets: Iterable[PatternSet], limit: int | None) -> Iterator[Case]:
    """The seen cases of the first *limit* patterns of each set."""
    for each in sets:
        yield from accuracy_cases(replace(each, patterns=each.patterns[:limit]))


def _fires(takes_part: Participation, controls: Iterable[CaseResult], route: Route | None) -> Estimate | None:
    """Share of the positions that predict the bare model's answers to controls at which the adapter takes part.

    An adapter takes part as its kind says, and only where the question is routed to it.
    """
    fired: list[bool] = []
    for row in controls:
        positions = takes_part(row.case.prompt, row.completion.text)
        is_asked = route is None or route.router.decide([row.case.prompt])[0].is_known
        fired += positions if is_asked else [False] * len(positions)
    return share(fired)


def _decode_ratio(lab: SpeedLab, sets: Iterable[PatternSet]) -> Estimate | None:
    """The candidate's decode speed over the baseline's, from paired rounds; None without a file of ``kind: speed``."""
    timed = next((each for each in sets if each.speed is not None), None)
    if timed is None:
        return None
    with closing(lab):
        rounds = lab.timing(timed, SpeedCase("decode_speed", "candidate")).measure()
    return speed_measure("attached_decode_speed", rounds).ratio

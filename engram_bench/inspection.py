"""What the sanity guards look at, taken from a bench: stored where it can be, asked anew where it must."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from hashlib import sha256

from engram_bench import adapter_store
from engram_bench.compare import compare
from engram_bench.evaluate import Answerer
from engram_bench.gate import DEFAULT_GATES, judge, session_gates
from engram_bench.pipeline import Bench
from engram_bench.record_format import canonical_json
from engram_bench.records import Case, CaseResult, GenerationSettings
from engram_bench.sanity import Inspected


def inspect(bench: Bench, cases: Sequence[Case], answers: Callable[[], Sequence[CaseResult]]) -> Inspected:
    """The bench's adapter over some seen prompts; it must have one.

    Args:
        bench: Whose model, adapter and stores are looked at.
        cases: Seen prompts, at least one.
        answers: Gives the candidate's greedy answers to them.
    """
    assert bench.adapter is not None  # the guards are skipped without one
    return Inspected(
        model=bench.model,
        adapter=bench.adapter,
        examples=bench.examples if bench.settings.adapter == "auto" else (),
        cases=cases,
        answers=answers,
        reader=bench.reader,
        alone=lambda rows: [_alone(bench, row) for row in rows],
        null_verdicts=lambda: _gates_met_untrained(bench, cases),
    )


def _alone(bench: Bench, row: CaseResult) -> str:
    """The candidate's answer to a prompt asked by itself; that it was the same is remembered."""
    settings = GenerationSettings(row.case.max_tokens or bench.settings.max_tokens)
    parts = ("alone", bench.identity_of("candidate"), row.case.prompt, settings, row.completion.text)
    key = sha256(canonical_json(parts).encode()).hexdigest()
    if bench.store.get_figures([key]):
        return row.completion.text
    with bench.store.lock(parts[1]):
        (completion,) = bench.open_generator("candidate").complete([row.case.prompt], settings)
    if completion.text == row.completion.text:
        bench.store.put_figures({key: [1.0]})
    return completion.text


def _gates_met_untrained(bench: Bench, cases: Sequence[Case]) -> list[str]:
    """The session's accuracy gates (else the default one) that an adapter of no steps meets."""
    identity = replace(bench.identity, recipe=replace(bench.recipe, steps=0))
    adapter = adapter_store.obtain(
        bench.settings.adapter_dir,
        identity,
        lambda folder: bench.backend.train(bench.model, bench.examples, identity.recipe, folder),
        base_reference=bench.settings.model,
    )
    questions = bench.questions(cases)
    candidate = Answerer(
        side="candidate",
        model=bench.model,
        adapter=adapter.fingerprint,
        device=bench.device,
        store=bench.store,
        open_generator=lambda: bench.backend.load(bench.model, adapter.path),
        progress=bench.progress,
    )
    results = (*bench.answer(questions, "baseline"), *candidate.answer(questions))
    gates = [gate for gate in session_gates(bench.settings.gate) if gate.metric == "accuracy"] or DEFAULT_GATES[:1]
    verdicts = judge(gates, compare(replace(bench.run(), results=results)))
    return [verdict.gate for verdict in verdicts if verdict.outcome == "pass"]

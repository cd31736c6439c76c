"""What the sanity guards look at, taken from a bench: stored where it can be, asked anew where it must."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from hashlib import sha256
from pathlib import Path

from engram_bench.adapters import store as adapter_store
from engram_bench.errors import UnsupportedError
from engram_bench.inference.ask import Answerer
from engram_bench.records import Case, CaseResult, GenerationSettings, GuardResult
from engram_bench.records.plain import canonical_json
from engram_bench.scoring.comparison import compare
from engram_bench.scoring.gates import DEFAULT_GATES, judge, session_gates
from engram_bench.session.bench import Bench
from engram_bench.session.guards import CHECKS, Inspected
from engram_bench.session.plan import SUITE, Task


def guard_result(bench: Bench, task: Task, answers: Callable[[], Sequence[CaseResult]]) -> GuardResult:
    """What the guard of a sanity task says about the bench's adapter, which it must have.

    Args:
        bench: Whose model, adapter and stores are looked at.
        task: Of ``plan.SUITE["sanity"]``.
        answers: Gives the candidate's greedy answers to the task's cases.
    """
    try:
        reason = CHECKS[task.name](_inspected(bench, task.cases, answers))
    except UnsupportedError as error:
        return GuardResult(task.name, task.case.set_name, "not_told", str(error))
    return GuardResult(task.name, task.case.set_name, "broken" if reason else "holds", reason)


def check_guards(bench: Bench) -> tuple[GuardResult, ...]:
    """Every guard of the session over every memory file; empty where the bare model is the candidate."""
    if bench.adapter is None:
        return ()
    suite, settings = SUITE["sanity"], bench.settings
    tasks = [task for pattern_set in bench.sets for task in suite.tasks(pattern_set, settings)]
    asked = [suite.questions(task, settings) for task in tasks]
    return tuple(
        guard_result(bench, task, partial(bench.answer, questions, "candidate"))
        for task, questions in zip(tasks, asked, strict=True)
    )


def _inspected(bench: Bench, cases: Sequence[Case], answers: Callable[[], Sequence[CaseResult]]) -> Inspected:
    assert bench.adapter is not None  # the guards are skipped without one
    return Inspected(
        model=bench.model,
        adapter=bench.adapter,
        examples=bench.examples if bench.settings.adapter == "auto" else (),
        cases=cases,
        answers=answers,
        reader=bench.reader,
        alone=lambda rows: [_alone(bench, row) for row in rows],
        null_verdicts=lambda: [*_gates_met_untrained(bench, cases), *_gates_met_at_random(bench, cases)],
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
    """The accuracy gates that an adapter of no steps meets."""
    identity = replace(bench.identity, recipe=replace(bench.recipe, steps=0))
    adapter = adapter_store.obtain(
        bench.settings.adapter_dir,
        identity,
        lambda folder: bench.backend.train(bench.model, bench.examples, identity.recipe, folder),
        base_reference=bench.settings.model,
    )
    return [f"{gate} (untrained)" for gate in _gates_met(bench, cases, adapter.path, adapter.fingerprint)]


def _gates_met_at_random(bench: Bench, cases: Sequence[Case]) -> list[str]:
    """The same of the bench's adapter with random numbers for weights, each tensor's as large as its own on average."""
    import numpy as np

    from engram_bench.adapters.files import read_tensors, write_tensors

    adapter = bench.adapter
    assert adapter is not None  # a guard has one
    random = np.random.default_rng(0)
    with tempfile.TemporaryDirectory(prefix="engram-bench-null-") as folder:
        path = Path(
            shutil.copytree(adapter.path, Path(folder) / "random", ignore=shutil.ignore_patterns("checkpoints"))
        )
        for file in path.glob("*.safetensors"):
            tensors = read_tensors(file)
            for name, values in tensors.items():
                if np.issubdtype(values.dtype, np.floating):
                    size = np.sqrt(np.mean(np.square(values, dtype=np.float64)))
                    tensors[name] = (random.standard_normal(values.shape) * size).astype(values.dtype)
            write_tensors(file, tensors)
        met = _gates_met(bench, cases, path, f"{adapter.fingerprint} random")
    return [f"{gate} (random weights)" for gate in met]


def _gates_met(bench: Bench, cases: Sequence[Case], path: Path, fingerprint: str) -> list[str]:
    """The session's accuracy gates (else the default one) that the adapter in *path* meets."""
    questions = bench.questions(cases)
    candidate = Answerer(
        side="candidate",
        model=bench.model,
        adapter=fingerprint,
        device=bench.device,
        store=bench.store,
        open_generator=lambda: bench.backend.load(bench.model, path),
        progress=bench.progress,
    )
    results = (*bench.answer(questions, "baseline"), *candidate.answer(questions))
    gates = [gate for gate in session_gates(bench.settings.gate) if gate.metric == "accuracy"] or DEFAULT_GATES[:1]
    verdicts = judge(gates, compare(replace(bench.run(), results=results)))
    return [verdict.gate for verdict in verdicts if verdict.outcome == "pass"]

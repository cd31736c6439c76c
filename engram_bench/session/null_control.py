"""Adapters that learned nothing, put before the accuracy gates: a gate that one of them meets proves nothing."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from engram_bench.adapters.files import read_tensors, write_tensors
from engram_bench.adapters.store import Adapter
from engram_bench.inference.ask import Question
from engram_bench.inference.respondent import Respondent
from engram_bench.records import CaseResult, Run
from engram_bench.scoring.comparison import compare
from engram_bench.scoring.gates import DEFAULT_GATES, judge, own_gates
from engram_bench.session.engine import Engine


def gates_met(
    engine: Engine,
    baseline: Sequence[CaseResult],
    questions: Sequence[Question],
    run: Run,
    respondent: Respondent,
) -> list[str]:
    """The session's accuracy gates that the respondent meets; the default accuracy gate where the session has none.

    Args:
        engine: The engine whose store and gates are used.
        baseline: The baseline's results to the questions.
        questions: Accuracy questions.
        run: A run with the session's provenance.
        respondent: The respondent that replaces the candidate.
    """
    results = (*baseline, *engine.answerer(respondent).answer(questions, "candidate"))
    gates = [gate for gate in own_gates(engine.settings.gate) if gate.metric == "accuracy"] or DEFAULT_GATES[:1]
    verdicts = judge(gates, compare(replace(run, results=results)))
    return [verdict.gate for verdict in verdicts if verdict.outcome == "pass"]


@contextmanager
def random_copy(adapter: Adapter) -> Iterator[Path]:
    """The folder of a copy with random weights, each tensor as large as the adapter's own on average; deleted at the end."""
    random = np.random.default_rng(0)
    with TemporaryDirectory(prefix="engram-bench-null-") as folder:
        ignored = shutil.ignore_patterns("checkpoints")
        path = Path(shutil.copytree(adapter.path, Path(folder) / "random", ignore=ignored))
        for file in path.glob("*.safetensors"):
            tensors = read_tensors(file)
            for name, values in tensors.items():
                if np.issubdtype(values.dtype, np.floating):
                    size = np.sqrt(np.mean(np.square(values, dtype=np.float64)))
                    tensors[name] = (random.standard_normal(values.shape) * size).astype(values.dtype)
            write_tensors(file, tensors)
        yield path

"""Which questions reach the adapter: what a router decides by is fitted once per adapter, and scores are
stored.

A discriminant of states is kept beside the adapter it was fitted for, as ``router-<12 hex digits>.safetensors``; the digits are
of all it depends on. The manifest does not list it: any number of them may serve one adapter.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from engram_bench.backends.protocol import Backend
from engram_bench.inference.store import CompletionStore
from engram_bench.records import CaseResult, Estimate, Measure, Prompt
from engram_bench.records.plain import canonical_json
from engram_bench.scoring.metrics import METRICS
from engram_bench.stats import rates

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from engram_bench.memory.query import Query
    from engram_bench.models import Model
    from engram_bench.routing.discriminant import Discriminant
    from engram_bench.routing.router import Router, Scorer

MOST_TRAINED = 2000
"""Trained questions that a router of states is fitted on at most, evenly spaced among them."""


def open_scorer(
    route: str, model: Model, trained: Iterable[Prompt], *, backend: Callable[[], Backend], folder: Path
) -> Scorer:
    """What tells an adapter's questions from others.

    Args:
        route: ``keys`` or ``state``.
        model: The base model.
        trained: The questions the adapter was trained on.
        backend: Asked for the model's states.
        folder: Keeps what was fitted; where it cannot be written, it is fitted anew each time.

    Raises:
        AdapterError: What *folder* keeps is damaged.
        UnsupportedError: The backend gives no states.
    """
    from engram_bench.routing.router import KeyScorer, StateScorer

    prompts = list(dict.fromkeys(trained))
    if route == "keys":
        return KeyScorer(model.tokenizer, prompts)
    states = _States(model, backend)
    some = prompts[:: -(-len(prompts) // MOST_TRAINED)]
    return StateScorer(_discriminant(model, some, states, folder), states)


@dataclass(frozen=True)
class _States:
    """Hidden states of the bare model, read by a backend that is made when it is needed."""

    model: Model
    backend: Callable[[], Backend]

    def __call__(self, sequences: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        from engram_bench.routing.router import DEPTH

        return self.backend().states(self.model, sequences, depth=DEPTH)


def _discriminant(model: Model, trained: Sequence[Prompt], states: _States, folder: Path) -> Discriminant:
    """The stored discriminant of these questions, or a new one, which is then stored."""
    from engram_bench.memory.background import QUESTIONS
    from engram_bench.routing.discriminant import Discriminant
    from engram_bench.routing.router import DEPTH, fit_states

    parts = (1, model.fingerprint, model.tokenizer.template_fingerprint, DEPTH, tuple(trained), QUESTIONS)
    path = folder / f"router-{sha256(canonical_json(parts).encode()).hexdigest()[:12]}.safetensors"
    if path.exists():
        return Discriminant.load(path)
    found = fit_states(model.tokenizer, trained, states)
    with suppress(OSError):
        found.save(path)
    return found


@dataclass(frozen=True)
class StoredScorer:
    """A scorer that scores each question once and stores what it found."""

    scorer: Scorer
    store: CompletionStore
    identity: str
    """Of what computes scores, beside what the scorer itself depends on."""

    @property
    def ordinary(self) -> Sequence[float]:
        """As the scorer's."""
        return self.scorer.ordinary

    @property
    def fingerprint(self) -> str:
        """As the scorer's."""
        return self.scorer.fingerprint

    def scores(self, queries: Sequence[Query]) -> list[float]:
        """One per query, of its question alone."""
        keys = [self._key(query) for query in queries]
        found = self.store.get_figures(keys)
        missing = {key: query for key, query in zip(keys, queries, strict=True) if key not in found}
        if missing:
            scores = self.scorer.scores(list(missing.values()))
            made = {key: [score] for key, score in zip(missing, scores, strict=True)}
            self.store.put_figures(made)
            found |= made
        return [found[key][0] for key in keys]

    def _key(self, query: Query) -> str:
        prompt = tuple(query.ids[: len(query.content)])
        parts = ("route", self.identity, self.scorer.fingerprint, prompt)
        return sha256(canonical_json(parts).encode()).hexdigest()


def route_measures(router: Router, rows: Iterable[CaseResult]) -> tuple[Measure, ...]:
    """How well a router tells held-out wordings from controls; nothing where none was asked.

    Args:
        router: Decides.
        rows: One side's results.
    """
    prompts: dict[str, list[Prompt]] = {"held_out": [], "control": []}
    for case in {row.case.id: row.case for row in rows}.values():
        if case.split in prompts:
            prompts[case.split].append(case.prompt)
    known = {split: sum(decision.is_known for decision in router.decide(each)) for split, each in prompts.items()}
    note = (
        f"{known['control']} of {len(prompts['control'])} controls reach the adapter; the threshold {router.threshold:.3g} "
        f"lets {100 * router.false_positives:g} % of ordinary questions through"
    )
    return (
        *_rate("router_recall", known["held_out"], len(prompts["held_out"]), note),
        *_rate("router_precision", known["held_out"], sum(known.values()), note),
    )


def _rate(name: str, passed: int, total: int, note: str) -> tuple[Measure, ...]:
    if not total:
        return ()
    metric = METRICS[name]
    estimate = Estimate(passed / total, total, rates.wilson_interval(passed, total), passed)
    return (Measure(metric.name, metric.unit, None, estimate, note=note),)

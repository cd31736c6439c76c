"""The scores that a router decides by: a scorer is fitted once per adapter, and every score is stored.

A discriminant of hidden states is kept in the adapter's folder as ``router-<12 hex digits>.safetensors``. The digits are a hash
of everything the discriminant depends on. The manifest does not list these files: several may serve one adapter.
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
from engram_bench.memory.background import QUESTIONS
from engram_bench.memory.query import Query
from engram_bench.records import CaseResult, Prompt, Split
from engram_bench.records.plain import canonical_json
from engram_bench.routing.discriminant import Discriminant
from engram_bench.routing.router import DEPTH, KeyScorer, Router, Scorer, StateScorer, fit_states

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from engram_bench.models import Model

MOST_TRAINED = 2000
"""Number of trained questions, evenly spaced, that a discriminant is fitted on at most."""


def open_scorer(
    route: str, model: Model, trained: Iterable[Prompt], *, backend: Callable[[], Backend], folder: Path
) -> Scorer:
    """The scorer of how much a question looks like those an adapter was trained on.

    Args:
        route: The way to score, ``keys`` or ``state``.
        model: Base model of the adapter.
        trained: Questions that the adapter was trained on.
        backend: Callable that makes the backend, for the hidden states of the model.
        folder: Folder that keeps a fitted discriminant; where it cannot be written, the discriminant is fitted again each time.

    Raises:
        AdapterError: The discriminant in *folder* is damaged.
        UnsupportedError: The backend gives no hidden states.
    """
    prompts = list(dict.fromkeys(trained))
    if route == "keys":
        return KeyScorer(model.tokenizer, prompts)
    states = _States(model, backend)
    some = prompts[:: -(-len(prompts) // MOST_TRAINED)]
    return StateScorer(_discriminant(model, some, states, folder), states)


@dataclass(frozen=True)
class _States:
    """Hidden states of the bare model from a backend that is made when needed."""

    model: Model
    backend: Callable[[], Backend]

    def __call__(self, sequences: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        return self.backend().states(self.model, sequences, depth=DEPTH)


def _discriminant(model: Model, trained: Sequence[Prompt], states: _States, folder: Path) -> Discriminant:
    """The discriminant of these questions that *folder* keeps, or a new one, which is then kept there."""
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
    """A scorer that computes the score of each question once and stores it."""

    scorer: Scorer
    store: CompletionStore
    identity: str
    """Identity of the bare model, which scores depend on beside the scorer itself."""

    @property
    def ordinary(self) -> Sequence[float]:
        """Scores of ordinary questions, as the scorer gives them."""
        return self.scorer.ordinary

    @property
    def fingerprint(self) -> str:
        """The scorer's fingerprint."""
        return self.scorer.fingerprint

    def scores(self, queries: Sequence[Query]) -> list[float]:
        """One score per query, whatever answer follows the question."""
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


def known_by_split(router: Router, rows: Iterable[CaseResult]) -> dict[Split, list[bool]]:
    """Whether each held-out wording and each control reaches the adapter.

    Args:
        router: Router whose decisions are wanted.
        rows: Results of one side; a case with several results counts once.
    """
    prompts: dict[Split, list[Prompt]] = {"held_out": [], "control": []}
    for case in {row.case.id: row.case for row in rows}.values():
        if case.split in prompts:
            prompts[case.split].append(case.prompt)
    return {split: [decision.is_known for decision in router.decide(each)] for split, each in prompts.items()}

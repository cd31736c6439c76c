"""Which questions of a session reach the adapter: the router, with the scores it has stored."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property

from engram_bench.adapters.store import Adapter
from engram_bench.inference.respondent import Respondent
from engram_bench.records import CaseResult, Measure, Prompt
from engram_bench.routing.generator import RoutedGenerator
from engram_bench.routing.router import Router, Scorer
from engram_bench.routing.scores import StoredScorer, known_by_split, open_scorer
from engram_bench.scoring.drift import router_measures
from engram_bench.session.engine import Engine


class Route:
    """The router of one adapter under the session's settings, fitted when first needed."""

    def __init__(self, engine: Engine, adapter: Adapter, trained: Sequence[Prompt], bare: Respondent) -> None:
        self._engine = engine
        self._adapter = adapter
        self._trained = trained
        self._bare = bare

    @cached_property
    def router(self) -> Router:
        """The router whose scores are stored."""
        return self._router(StoredScorer(self._scorer, self._engine.store, self._bare.identity))

    def routed(self, adapted: Respondent, *, is_timed: bool = False) -> Respondent:
        """The respondent that asks *adapted* only for questions like the trained ones, and the bare model otherwise.

        A respondent that *is_timed* computes every score again.
        """
        router = self._router(self._scorer) if is_timed else self.router
        return Respondent(
            adapted.model,
            adapted.device,
            lambda: RoutedGenerator(adapted.open(), self._bare.open(), router),
            f"{adapted.adapter}, routed by {self._engine.settings.route} {router.fingerprint}",
        )

    def measures(self, rows: Iterable[CaseResult]) -> tuple[Measure, ...]:
        """How well the router distinguishes held-out wordings from controls; empty where neither was asked."""
        known, router = known_by_split(self.router, rows), self.router
        held_out, controls = known["held_out"], known["control"]
        note = (
            f"{sum(controls)} of {len(controls)} controls reach the adapter; the threshold {router.threshold:.3g} "
            f"lets {100 * router.false_positives:g} % of ordinary questions through"
        )
        return router_measures(held_out, controls, note)

    @cached_property
    def _scorer(self) -> Scorer:
        engine, adapter = self._engine, self._adapter
        return open_scorer(
            engine.settings.route,
            engine.model,
            self._trained,
            backend=lambda: engine.backend,
            folder=engine.cache_dir if adapter.manifest.foreign else adapter.path,
        )

    def _router(self, scorer: Scorer) -> Router:
        settings, tokenizer = self._engine.settings, self._engine.model.tokenizer
        return Router(tokenizer, scorer, false_positives=settings.route_false_positives)

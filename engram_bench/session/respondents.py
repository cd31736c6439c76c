"""Everybody that a session can ask: the bare model, and the adapter attached, fused, exported, routed or as a checkpoint."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from engram_bench.adapters.store import Adapter
from engram_bench.backends.protocol import Generator
from engram_bench.inference.respondent import Respondent
from engram_bench.records import Side
from engram_bench.session.engine import Engine
from engram_bench.session.tuning import Tuning

if TYPE_CHECKING:
    from engram_bench.session.route import Route


@dataclass
class Respondents:
    """The respondents of a session; making one loads no model."""

    engine: Engine
    tuning: Tuning

    @cached_property
    def bare(self) -> Respondent:
        """The bare model."""
        engine = self.engine
        return Respondent(engine.model, engine.device, lambda: engine.backend.load(engine.model, None))

    def of(self, side: Side, *, is_timed: bool = False) -> Respondent:
        """The respondent that stands for a side of the comparison.

        Without an adapter, every side is the bare model. A router's decisions are stored unless the respondent *is_timed*.

        Raises:
            AdapterError: The stored adapter does not match its manifest, or belongs to another base model.
            BackendError: Training failed.
        """
        adapter = self.tuning.adapter if side != "baseline" else None
        if adapter is None:
            return self.bare
        return self._routed(self.adapted(adapter.path, adapter.fingerprint, fused=side == "fused"), is_timed=is_timed)

    def checkpoint(self, checkpoint: Adapter) -> Respondent:
        """A checkpoint of the session's adapter in place of the finished adapter."""
        return self._routed(self.adapted(checkpoint.path, checkpoint.fingerprint))

    def adapted(self, path: Path, fingerprint: str, *, fused: bool = False) -> Respondent:
        """The model with the adapter in *path*, whatever is asked."""
        engine = self.engine
        return Respondent(
            engine.model,
            engine.device,
            lambda: engine.backend.load(engine.model, path, fused=fused),
            f"{fingerprint} fused" if fused else fingerprint,
        )

    def as_form(self, form: str) -> Respondent:
        """The session's adapter in another form of ``forms.FORMS``; only where :attr:`Tuning.has_forms`."""
        adapter = self.tuning.adapter
        assert adapter is not None
        model, device = self.engine.model, self.engine.device
        return Respondent(model, device, lambda: self._open_form(form, adapter), f"{adapter.fingerprint} {form}")

    @cached_property
    def route(self) -> Route | None:
        """The way to decide which questions reach the adapter; None where every question does."""
        adapter = self.tuning.adapter
        if adapter is None or self.engine.settings.route == "always":
            return None
        from engram_bench.session.route import Route  # numpy, which an adapter that is always asked does not need

        trained = [example.prompt for example in self.tuning.examples]
        return Route(self.engine, adapter, trained, self.bare)

    def _routed(self, adapted: Respondent, *, is_timed: bool = False) -> Respondent:
        return adapted if self.route is None else self.route.routed(adapted, is_timed=is_timed)

    @cached_property
    def _forms(self) -> dict[str, Generator]:
        return {}

    def _open_form(self, form: str, adapter: Adapter) -> Generator:
        """The adapter in this form, made once per session."""
        from engram_bench.inference.forms import open_form  # numpy, which an attached adapter does not need

        if form not in self._forms:
            engine = self.engine
            opened = open_form(form, engine.backend, engine.model, adapter, engine.scratch)
            self._forms[form] = engine.lifetimes.enter_context(closing(opened))
        return self._forms[form]

"""Everybody that a bench can ask: the bare models, and the adapter attached, fused, exported, routed or as a checkpoint."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from engram_bench.adapters.store import Adapter
from engram_bench.backends.protocol import Generator
from engram_bench.inference.respondent import Respondent
from engram_bench.records import Side
from engram_bench.session.engine import Engine
from engram_bench.session.settings import ATTACHED
from engram_bench.session.tuning import Tuning

if TYPE_CHECKING:
    from engram_bench.session.route import Route


@dataclass
class Respondents:
    """The respondents of a bench; making one loads no model."""

    engine: Engine
    """Model and backend of the candidate."""
    tuning: Tuning
    baseline: Engine
    """Model and backend of the baseline: the same engine, unless the candidate is a model of its own."""

    def engine_of(self, side: Side) -> Engine:
        """The engine that answers for a side of the comparison."""
        return self.baseline if side == "baseline" else self.engine

    @cached_property
    def bare(self) -> Respondent:
        """The bare model of the candidate."""
        return _bare(self.engine)

    @cached_property
    def _baseline(self) -> Respondent:
        return self.bare if self.baseline is self.engine else _bare(self.baseline)

    def of(self, side: Side, *, is_timed: bool = False) -> Respondent:
        """The respondent that stands for a side of the comparison.

        Without an adapter, the candidate is its bare model. A router's decisions are stored unless the respondent *is_timed*.

        Raises:
            AdapterError: The stored adapter does not match its manifest, or belongs to another base model.
            BackendError: Training failed.
        """
        if side == "baseline":
            return self._baseline
        adapter, form = self.tuning.adapter, self.engine.settings.form
        if adapter is None:
            return self.bare
        if side == "candidate" and form != ATTACHED:
            return self._routed(self.as_form(form), is_timed=is_timed)
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
        """The adapter in this form, made once until the respondents are closed."""
        from engram_bench.inference.forms import open_form  # numpy, which an attached adapter does not need

        if form not in self._forms:
            engine = self.engine
            scratch = Path(engine.lifetimes.enter_context(TemporaryDirectory(prefix="engram-bench-")))
            opened = open_form(form, engine.backend, engine.model, adapter, scratch)
            self._forms[form] = engine.lifetimes.enter_context(closing(opened))
        return self._forms[form]

    def close(self) -> None:
        """Close the forms; each is made again where it is needed again."""
        self._forms.clear()
        self.engine.close()


def _bare(engine: Engine) -> Respondent:
    return Respondent(engine.model, engine.device, lambda: engine.backend.load(engine.model, None))

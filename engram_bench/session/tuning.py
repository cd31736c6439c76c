"""What a session trains: the recipe, the training examples, and the adapter they lead to."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from engram_bench.adapters import store as adapter_store
from engram_bench.adapters.folders import find
from engram_bench.adapters.found import remark
from engram_bench.adapters.kinds import kind_in, requested_kind
from engram_bench.adapters.store import Adapter, AdapterIdentity
from engram_bench.patterns.ordinary import replay_examples
from engram_bench.patterns.render import training_examples
from engram_bench.records import PatternSet, Recipe, TrainingExample, TrainingRecord
from engram_bench.session.engine import Engine
from engram_bench.session.options import Settings
from engram_bench.session.stages import StageClock
from engram_bench.system import provenance


@dataclass
class Tuning:
    """The adapter of a session with everything that it is trained from, each made when first needed."""

    settings: Settings
    sets: tuple[PatternSet, ...]
    """Pattern sets that are trained on. The adapter's identity depends on these sets, not on the selected cases."""
    engine: Engine
    clock: StageClock
    session: str
    """Name of the session. With ``retrain``, an adapter that another session trained is trained again."""

    @cached_property
    def recipe(self) -> Recipe:
        """The recipe that the settings ask for, with steps for these examples."""
        kind, preset = requested_kind(self.settings.kind)
        return kind.recipe_for(self.settings, preset, len(self.examples))

    @cached_property
    def examples(self) -> tuple[TrainingExample, ...]:
        """The examples that the adapter is trained on."""
        kind, preset = requested_kind(self.settings.kind)
        variants, seed = kind.augmentation(kind.recipe(self.settings, preset)), self.settings.seed
        key = ("examples", tuple(each.path for each in self.sets), variants, seed)
        return self.engine.shared.once(key, lambda: training_examples(self.sets, augment=variants, seed=seed))

    @cached_property
    def replayed(self) -> tuple[TrainingExample, ...]:
        """Ordinary prompts on which training keeps the bare model's answers."""
        return replay_examples(self.sets) if self.recipe.replay else ()

    @cached_property
    def identity(self) -> AdapterIdentity:
        """The identity that the adapter of these sets, this model and this recipe is stored under."""
        model = self.engine.model
        return AdapterIdentity(
            base_fingerprint=model.fingerprint,
            template_fingerprint=model.tokenizer.template_fingerprint,
            examples=(*self.examples, *self.replayed),
            recipe=self.recipe,
        )

    @property
    def is_done(self) -> bool:
        """Whether answering needs no training: the adapter is stored, or is not to be trained here."""
        if self.settings.adapter != "auto" or self.engine.is_served:
            return True
        return not self.settings.retrain and (self.settings.adapter_dir / self.identity.name).exists()

    @property
    def has_forms(self) -> bool:
        """Whether there is an adapter here that could be fused or exported."""
        return self.settings.adapter != "none" and not self.engine.is_served

    @cached_property
    def adapter(self) -> Adapter | None:
        """The adapter, loaded by fingerprint or trained; None when the bare model is the candidate.

        Raises:
            AdapterError: The stored adapter does not match its manifest, or belongs to another base model.
            BackendError: Training failed.
        """
        with self.clock.measure("train"):
            return self._obtain()

    @cached_property
    def adapter_note(self) -> str:
        """One line on an adapter made elsewhere that its library computes; empty for others."""
        adapter = self.adapter
        if adapter is None or self.engine.is_served or not adapter.manifest.foreign:
            return ""
        return "" if kind_in(adapter.path).has_memory else remark(adapter.path)

    def untrained(self) -> Adapter:
        """An adapter of the same shape after no training step, stored like any other.

        Raises:
            BackendError: The adapter cannot be made.
        """
        recipe = replace(self.recipe, steps=0)
        return adapter_store.obtain(
            self.settings.adapter_dir,
            replace(self.identity, recipe=recipe),
            lambda folder: self.engine.backend.train(self.engine.model, self.examples, recipe, folder),
            base_reference=self.settings.model,
        )

    def _obtain(self) -> Adapter | None:
        wanted, engine = self.settings.adapter, self.engine
        if wanted == "none":
            return None
        if engine.is_served:
            return adapter_store.served(self.settings.candidate_model, self.settings.baseline_model)
        if wanted != "auto":
            path = find(self.settings.adapter_dir, wanted)
            return adapter_store.load(path, base_fingerprint=engine.model.fingerprint)
        return adapter_store.obtain(
            self.settings.adapter_dir,
            self.identity,
            self._train,
            retrain_in=self.session if self.settings.retrain else None,
            wait_note=lambda note: engine.progress("wait", 0, 1, note),
            base_reference=self.settings.model,
        )

    def _train(self, folder: Path) -> TrainingRecord:
        engine = self.engine
        record = engine.backend.train(
            engine.model, self.identity.examples, self.recipe, folder, progress=engine.progress
        )
        return replace(record, machine=provenance.machine())

"""The model of a bench, the backend that runs the model, and the store of everything both have computed."""

from __future__ import annotations

from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from engram_bench.backends import registry
from engram_bench.backends.protocol import Backend
from engram_bench.inference.ask import Answerer
from engram_bench.inference.likelihood import LogLikelihoods
from engram_bench.inference.respondent import Respondent
from engram_bench.inference.store import STORE_FILE, CompletionStore
from engram_bench.records import DeviceInfo
from engram_bench.session.options import Settings
from engram_bench.session.shared import Shared
from engram_bench.system.progress import Progress, no_progress

if TYPE_CHECKING:
    from engram_bench.models import Model


@dataclass
class Engine:
    """Model, backend and store, each made when first needed and shared with other engines of the session."""

    settings: Settings
    cache_dir: Path
    progress: Progress = no_progress
    session_dir: Path | None = None
    """Folder that all processes of the session share and that ends with the session; None makes one for this process."""
    shared: Shared = field(default_factory=Shared)
    """Models, backends and stores; engines that share them load the weights of a base model once."""
    lifetimes: ExitStack = field(default_factory=ExitStack)
    """Everything that is closed with the engine, the latest first."""

    @cached_property
    def backend_choice(self) -> tuple[str, str]:
        """Name of the backend and why it was chosen."""
        return registry.choose_backend(self.settings.backend)

    @property
    def is_served(self) -> bool:
        """Whether a server runs both models: nothing is trained, loaded or stored here."""
        return registry.is_evaluation_only(self.backend_choice[0])

    @cached_property
    def device(self) -> DeviceInfo:
        """Where the backend runs; shortcuts that are switched off count as a version, so their answers are stored apart."""
        info = registry.device_info(self.backend_choice[0], **self.settings.by_field)
        without = ", ".join(sorted(self.settings.plain))
        return replace(info, versions={**info.versions, "plain": without}) if without else info

    @cached_property
    def model(self) -> Model:
        """The model to tune, downloaded and converted where needed."""
        name, reference = self.backend_choice[0], self.settings.model
        if self.is_served:
            reference = self.settings.baseline_model
        return self.shared.once(
            ("model", name, reference),
            lambda: registry.resolve_model(name, reference, cache=self.cache_dir, progress=self.progress),
        )

    @property
    def backend(self) -> Backend:
        """The backend with its libraries imported: needed only where something must be trained or asked."""
        name, options = self.backend_choice[0], self.settings.by_field
        key = (name, repr(registry.arguments_of(name, **options)))
        if self.is_served:
            return self.shared.once(
                key, lambda: self.shared.lifetimes.enter_context(closing(registry.create(name, **options)))
            )
        return self.shared.backend((*key, self.model.fingerprint), lambda: registry.create(name, **options))

    @cached_property
    def store(self) -> CompletionStore:
        """Stored completions; with ``no_cache``, or from a server, an empty store that ends with the session."""
        ends = self.settings.no_cache or self.is_served  # an address may stand for another model tomorrow
        folder = (self.session_dir or self.shared.scratch) if ends else self.cache_dir
        return self.shared.once(("store", folder), lambda: self._opened_store(folder))

    def _opened_store(self, folder: Path) -> CompletionStore:
        store = CompletionStore(folder / STORE_FILE, warn=lambda message: self.progress("store", 1, 1, message))
        return self.shared.lifetimes.enter_context(store)

    def answerer(self, respondent: Respondent) -> Answerer:
        """The respondent behind the store."""
        return Answerer(respondent, self.store, self.progress)

    @property
    def likelihoods(self) -> LogLikelihoods:
        """Log-likelihoods of texts, from the store where they were computed before."""
        return LogLikelihoods(self.store, self.progress)

    def close(self) -> None:
        """Close what belongs to this engine alone; closing loads nothing."""
        self.lifetimes.close()

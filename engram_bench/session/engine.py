"""The model of a session, the backend that runs the model, and the store of everything both have computed."""

from __future__ import annotations

from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from engram_bench.backends import registry
from engram_bench.backends.protocol import Backend
from engram_bench.inference.ask import Answerer
from engram_bench.inference.likelihood import LogLikelihoods
from engram_bench.inference.respondent import Respondent
from engram_bench.inference.store import STORE_FILE, CompletionStore
from engram_bench.records import DeviceInfo
from engram_bench.session.options import Settings
from engram_bench.system.progress import Progress, no_progress

if TYPE_CHECKING:
    from engram_bench.models import Model


@dataclass
class Engine:
    """Model, backend and store, each made when first needed and closed by :meth:`close`."""

    settings: Settings
    cache_dir: Path
    progress: Progress = no_progress
    session_dir: Path | None = None
    """Folder that all processes of the session share and that ends with the session; None makes one for this process."""
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
        return registry.resolve_model(
            self.backend_choice[0],
            self.settings.baseline_model if self.is_served else self.settings.model,
            cache=self.cache_dir,
            progress=self.progress,
        )

    @cached_property
    def backend(self) -> Backend:
        """The backend with its libraries imported: needed only where something must be trained or asked."""
        made = registry.create(self.backend_choice[0], **self.settings.by_field)
        return self.lifetimes.enter_context(closing(made))

    @cached_property
    def store(self) -> CompletionStore:
        """Stored completions; with ``no_cache``, or from a server, an empty store that ends with the session."""
        ends = self.settings.no_cache or self.is_served  # an address may stand for another model tomorrow
        folder = (self.session_dir or self.scratch) if ends else self.cache_dir
        store = CompletionStore(folder / STORE_FILE, warn=lambda message: self.progress("store", 1, 1, message))
        return self.lifetimes.enter_context(store)

    @cached_property
    def scratch(self) -> Path:
        """An existing folder that is deleted when the engine is closed."""
        return Path(self.lifetimes.enter_context(TemporaryDirectory(prefix="engram-bench-")))

    def answerer(self, respondent: Respondent) -> Answerer:
        """The respondent behind the store."""
        return Answerer(respondent, self.store, self.progress)

    @property
    def likelihoods(self) -> LogLikelihoods:
        """Log-likelihoods of texts, from the store where they were computed before."""
        return LogLikelihoods(self.store, self.progress)

    def close(self) -> None:
        """Close the models and the store; closing loads nothing."""
        self.lifetimes.close()

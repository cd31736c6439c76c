"""Who answers a question, under which identity the answers are stored, and how the model is loaded."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from engram_bench.backends.protocol import Generator
from engram_bench.inference.store import completion_key
from engram_bench.records import DeviceInfo, GenerationSettings
from engram_bench.records.plain import canonical_json

if TYPE_CHECKING:
    from engram_bench.models import Model


@dataclass(frozen=True, slots=True)
class Respondent:
    """The bare model, or the model with an adapter: attached, in another form, routed, a checkpoint, or served."""

    model: Model
    device: DeviceInfo
    open: Callable[[], Generator]
    """Loads the model; needed only where an answer is missing from the store."""
    adapter: str = ""
    """What sets the answers apart from those of the bare model: the content fingerprint of an adapter, followed by the form
    or the route where there is one. Empty for the bare model."""

    @property
    def identity(self) -> str:
        """Everything that decides what is answered: weights, chat template, and the library that computes."""
        device = (self.device.backend, self.device.dtype, self.device.versions)
        return canonical_json((self.model.fingerprint, self.adapter, self.model.tokenizer.template_fingerprint, device))

    @property
    def lock_name(self) -> str:
        """Name of the store's lock under which questions are put to this respondent."""
        return f"{self.model.fingerprint}/{self.adapter}/{self.device.backend}"

    def key(self, prompt_tokens: Sequence[int], settings: GenerationSettings) -> str:
        """The key that the completion of a prompt is stored under."""
        return completion_key(
            model=self.model.fingerprint,
            adapter=self.adapter,
            template=self.model.tokenizer.template_fingerprint,
            backend=self.device.backend,
            dtype=self.device.dtype,
            prompt_tokens=prompt_tokens,
            settings=settings,
            version=canonical_json(self.device.versions),
        )

"""A prompt on its way to an answer, as token ids."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np


@dataclass(slots=True)
class PromptRow:
    """A prompt and the tokens of its answer so far."""

    prompt: list[int]
    """Token ids of the prompt."""
    draft: list[int] = field(default_factory=list)
    """Token ids of a guess at the greedy answer; empty without a guess."""
    new: list[int] = field(default_factory=list)
    """Token ids of the answer so far."""
    stopped: bool = False
    """Whether a stop token ended the answer; the stop token is the last of *new*."""
    seconds: float = 0.0
    """Share of this row in the time of its passes."""
    random: np.random.Generator | None = None
    """Random numbers of a sampled answer; None for a greedy answer."""
    content: Sequence[bool] = ()
    """Whether each id of *prompt* belongs to the user's turn; empty where no memory needs to know."""

    @property
    def length(self) -> int:
        """Number of tokens whose keys are in the KV cache: all but the newest."""
        return len(self.prompt) + len(self.new) - 1

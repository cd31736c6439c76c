"""What a pattern file says, and the cases that are made of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["memory", "retention", "speed"]
Split = Literal["seen", "held_out", "control"]


@dataclass(frozen=True, slots=True)
class SourceLine:
    """A line of a pattern file, as error messages and annotations name it."""

    path: str
    line: int
    """1-based."""

    def __str__(self) -> str:
        return f"{self.path}:{self.line}"


@dataclass(frozen=True, slots=True)
class Prompt:
    """What a model is asked: one user turn, with an optional system turn before it."""

    user: str
    system: str | None = None
    """None leaves the chat template's own default system turn in place."""


@dataclass(frozen=True, slots=True)
class Pattern:
    """One entry of a pattern file, defaults of the file already applied."""

    id: str
    """Unique in its file; stable under reordering."""
    input: str
    output: str
    """The answer a tuned model must give; empty only in a control without an answer."""
    category: str
    source: SourceLine
    accept: tuple[str, ...] = ()
    """Other right answers."""
    wordings: tuple[str, ...] = ()
    """Other phrasings that are trained on as well."""
    held_out: tuple[str, ...] = ()
    """Other phrasings that are never trained on."""
    match: str = "exact"
    max_tokens: int | None = None
    """Per-pattern limit; None takes the session's."""
    required: bool = False
    """A miss fails the session whatever the gates say."""
    min_consistency: float = 0.8
    """Share of wordings that must be right for the consistency case to pass, 0..1."""
    system: str | None = None

    @property
    def answers(self) -> tuple[str, ...]:
        """Every accepted answer, the preferred one first; empty for a control without one."""
        return (self.output, *self.accept) if self.output else ()


@dataclass(frozen=True, slots=True)
class SpeedPlan:
    """What a ``kind: speed`` file asks to be timed."""

    prompts: tuple[str, ...]
    num_tokens: int = 64
    """New tokens per timed completion; the end token is ignored."""
    rounds: int = 8
    """Timed rounds per side."""
    batch_sizes: tuple[int, ...] = (8, 32)


@dataclass(frozen=True, slots=True)
class PatternSet:
    """One pattern file."""

    name: str
    path: str
    """As given to the loader (relative to the project where possible)."""
    kind: Kind = "memory"
    description: str = ""
    version: str = "1.0"
    patterns: tuple[Pattern, ...] = ()
    speed: SpeedPlan | None = None
    """Only for ``kind: speed``."""


@dataclass(frozen=True, slots=True)
class Case:
    """One question put to a model."""

    id: str
    """``<file stem>/<pattern id>`` for the prompt as written; ``…/held-1`` or ``…/wording-1`` appended otherwise."""
    pattern_id: str
    set_name: str
    """Stem of the pattern file: the NAME of a ``file:NAME.metric`` gate."""
    prompt: Prompt
    answers: tuple[str, ...]
    """Accepted answers, preferred first; empty where only agreement is measured."""
    match: str
    split: Split
    category: str
    source: SourceLine
    max_tokens: int | None = None
    required: bool = False

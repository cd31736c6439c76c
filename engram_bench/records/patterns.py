"""Patterns and pattern sets as a pattern file gives them, and the cases made from them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["memory", "retention", "speed"]
Split = Literal["seen", "held_out", "control"]


@dataclass(frozen=True, slots=True)
class SourceLine:
    """A line of a pattern file, as error messages and annotations name it: ``patterns/facts.yaml:14``."""

    path: str
    line: int
    """Line number, counted from 1."""

    def __str__(self) -> str:
        return f"{self.path}:{self.line}"


@dataclass(frozen=True, slots=True)
class Prompt:
    """Input of a model: one user turn, with an optional system turn before it."""

    user: str
    system: str | None = None
    """None leaves the chat template's own default system turn in place."""


@dataclass(frozen=True, slots=True)
class Pattern:
    """One entry of a pattern file, after the defaults of the file are applied."""

    id: str
    """Identifier, unique in its file and the same in any order of the patterns."""
    input: str
    output: str
    """Answer that a tuned model must give; empty only in a control without an answer."""
    category: str
    source: SourceLine
    accept: tuple[str, ...] = ()
    """Other correct answers."""
    wordings: tuple[str, ...] = ()
    """Other phrasings of the prompt, trained on as well."""
    held_out: tuple[str, ...] = ()
    """Other phrasings of the prompt, never trained on."""
    match: str = "exact"
    """Name of the matcher that compares an answer."""
    max_tokens: int | None = None
    """Longest answer in tokens; None takes the session's limit."""
    required: bool = False
    """Whether a miss fails the session whatever the gates say."""
    min_consistency: float = 0.8
    """Share of wordings that must be answered correctly for the consistency case to pass, 0..1."""
    system: str | None = None
    """System prompt; None leaves the chat template's own default in place."""

    @property
    def answers(self) -> tuple[str, ...]:
        """Every accepted answer, the preferred one first; empty for a control without one."""
        return (self.output, *self.accept) if self.output else ()


@dataclass(frozen=True, slots=True)
class SpeedPlan:
    """Prompts and rounds that a file of ``kind: speed`` asks to time."""

    prompts: tuple[str, ...]
    num_tokens: int = 64
    """New tokens per timed completion; the end token does not stop it."""
    rounds: int = 8
    """Timed rounds per side."""
    batch_sizes: tuple[int, ...] = (8, 32)
    """Numbers of prompts answered at once in the batch tests."""


@dataclass(frozen=True, slots=True)
class PatternSet:
    """One pattern file."""

    name: str
    path: str
    """Path of the file, relative to the project where possible."""
    kind: Kind = "memory"
    description: str = ""
    version: str = "1.0"
    patterns: tuple[Pattern, ...] = ()
    speed: SpeedPlan | None = None
    """Plan of the timed rounds; only for ``kind: speed``."""


@dataclass(frozen=True, slots=True)
class Case:
    """One question put to a model, with the accepted answers."""

    id: str
    """``<file stem>/<pattern id>`` for the prompt as written; other wordings append ``/held-1`` or ``/wording-1``."""
    pattern_id: str
    set_name: str
    """Stem of the pattern file: the NAME of a ``file:NAME.metric`` gate."""
    prompt: Prompt
    answers: tuple[str, ...]
    """Accepted answers, preferred first; empty where only agreement is measured."""
    match: str
    """Name of the matcher that compares an answer."""
    split: Split
    """``seen`` (trained on), ``held_out`` (same pattern, wording never trained on) or ``control`` (unrelated)."""
    category: str
    source: SourceLine
    """Line of the pattern in its file."""
    max_tokens: int | None = None
    """Longest answer in tokens; None takes the session's limit."""
    required: bool = False
    """Whether a miss fails the session whatever the gates say."""

"""The cases of pattern sets."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from engram_bench.records import Case, Pattern, PatternSet, Prompt, Split


def accuracy_cases(pattern_set: PatternSet) -> Iterator[Case]:
    """One case per pattern with its prompt as written and the id ``<file stem>/<pattern id>``; only for kind memory."""
    return (_case(pattern, pattern.input) for pattern in _of_kind(pattern_set, "memory"))


def generalization_cases(pattern_set: PatternSet) -> Iterator[Case]:
    """One case per held-out wording, in order of patterns; ids end in ``/held-1`` and so on; only for kind memory."""
    return (case for pattern in _of_kind(pattern_set, "memory") for case in _held_out_cases(pattern))


def wording_cases(pattern: Pattern) -> tuple[Case, ...]:
    """The cases of every wording of a pattern: as written, then trained (``/wording-1`` …), then held out (``/held-1`` …)."""
    trained = [_case(pattern, text, suffix=f"/wording-{number}") for number, text in enumerate(pattern.wordings, 1)]
    return (_case(pattern, pattern.input), *trained, *_held_out_cases(pattern))


def retention_cases(pattern_set: PatternSet) -> Iterator[Case]:
    """One case per control, without answers where only agreement is measured; only for kind retention."""
    return (_case(pattern, pattern.input, split="control") for pattern in _of_kind(pattern_set, "retention"))


def case_id(pattern: Pattern) -> str:
    """The id ``<file stem>/<pattern id>``, unique in a session because its files have different stems."""
    return f"{_stem(pattern.source.path)}/{pattern.id}"


@lru_cache(maxsize=1024)
def _stem(path: str) -> str:
    return Path(path).stem


def _of_kind(pattern_set: PatternSet, kind: str) -> tuple[Pattern, ...]:
    return pattern_set.patterns if pattern_set.kind == kind else ()


def _held_out_cases(pattern: Pattern) -> list[Case]:
    return [
        _case(pattern, text, suffix=f"/held-{number}", split="held_out")
        for number, text in enumerate(pattern.held_out, 1)
    ]


def _case(pattern: Pattern, text: str, *, suffix: str = "", split: Split = "seen") -> Case:
    """The case that asks a pattern with *text*."""
    return Case(
        id=case_id(pattern) + suffix,
        pattern_id=pattern.id,
        set_name=_stem(pattern.source.path),
        prompt=Prompt(text, pattern.system),
        answers=pattern.answers,
        match=pattern.match,
        split=split,
        category=pattern.category,
        source=pattern.source,
        max_tokens=pattern.max_tokens,
        required=pattern.required,
    )

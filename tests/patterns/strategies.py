"""Made-up pattern sets for properties: ids, prompts and answers as odd as a file may hold."""

from __future__ import annotations

from hypothesis import strategies as st

from engram_bench.patterns.wordings import normalise_prompt
from engram_bench.records import Pattern, PatternSet, SourceLine

WORDS = (
    "which",
    "Which",
    "port",
    "ports",
    "git",
    "Git",
    "-d",
    "-D",
    "C++",
    "for",
    "of",
    "the",
    "a",
    "SSH",
    "does",
    "é",
)
texts = st.one_of(
    st.lists(st.sampled_from(WORDS), min_size=1, max_size=6).map(" ".join),
    st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=40),
    st.lists(st.sampled_from(WORDS), min_size=2, max_size=6).map("\n".join),
).filter(lambda text: text == text.strip() and bool(text))
questions = st.builds("{}{}".format, texts, st.sampled_from(["", "?", "."])).map(str.strip)
ids = st.text("abcXYZ019._-", min_size=1, max_size=12).filter(lambda text: text[0].isalnum())
tuples_of_texts = st.lists(texts, max_size=2).map(tuple)


def patterns(path: str) -> st.SearchStrategy[Pattern]:
    return st.builds(
        Pattern,
        id=ids,
        input=questions,
        output=texts,
        category=texts,
        source=st.just(SourceLine(path, 0)),
        accept=tuples_of_texts,
        wordings=st.lists(questions, max_size=2).map(tuple),
        held_out=st.lists(questions, max_size=2).map(tuple),
        match=st.sampled_from(["exact", "regex"]),
        max_tokens=st.none() | st.integers(1, 99),
        required=st.booleans(),
        min_consistency=st.floats(0, 1),
        system=st.none() | texts,
    )


def pattern_sets(path: str = "facts.yaml") -> st.SearchStrategy[PatternSet]:
    """Memory sets that a loader accepts: unique ids, one answer per prompt, nothing held out that is trained on."""
    return st.builds(
        PatternSet,
        name=texts,
        path=st.just(path),
        description=texts,
        version=st.sampled_from(["1.0", "2", "draft"]),
        patterns=st.lists(patterns(path), min_size=1, max_size=5).map(_agreeing),
    ).filter(lambda pattern_set: bool(pattern_set.patterns))


def _agreeing(drawn: list[Pattern]) -> tuple[Pattern, ...]:
    """Those of the patterns that share no id and no prompt with an earlier one."""
    kept: list[Pattern] = []
    taken: set[str] = set()
    for pattern in drawn:
        trained = {normalise_prompt(text) for text in (pattern.input, *pattern.wordings)}
        held_out = {normalise_prompt(text) for text in pattern.held_out}
        if pattern.id not in taken and not (trained & held_out) and not (trained | held_out) & taken:
            taken |= {pattern.id} | trained | held_out
            kept.append(pattern)
    return tuple(kept)

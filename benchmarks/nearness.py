"""How often a memory reads another wording as the right pattern, from the words alone: ``python -m benchmarks.nearness``.

For shares of ordinary questions that may be taken for a trained one, and for what a question loses that lacks what all of a
pattern's wordings have: trained wordings, each read by a memory that was not shown it; held-out wordings; controls.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from tabulate import tabulate

from engram_bench import provenance
from engram_bench.backends.memory_plan import facts_of
from engram_bench.memory import nearest
from engram_bench.memory.background import background_readings
from engram_bench.memory.compression import compressed_ids, word_parts
from engram_bench.memory.config import MemoryConfig
from engram_bench.memory.nearest import KnownQuestions, Question, known_questions
from engram_bench.memory.reading import read_prompt
from engram_bench.models import resolve_model
from engram_bench.models.presets import DEFAULT_MODEL
from engram_bench.patterns.augment import AS_WRITTEN
from engram_bench.patterns.expand import generalization_cases, retention_cases
from engram_bench.patterns.load import find_pattern_files, load_pattern_file
from engram_bench.patterns.render import training_examples
from engram_bench.records import Case

PATTERNS = Path(__file__).parent.parent / "patterns"
SHARES = (0.003, 0.005, 0.01, 0.02, 0.1, 0.2)
LACKING = (0.0, 0.05, 0.1, 0.15, 0.2)
HEADER = (
    "near",
    "lacking",
    "left-out wordings right",
    "held-out right",
    "held-out read as any",
    "controls read as any",
)


class Words:
    """The shipped questions as token ids, and memories of them."""

    def __init__(self) -> None:
        sets = [load_pattern_file(path) for path in find_pattern_files([PATTERNS])]
        self._model = resolve_model(DEFAULT_MODEL)
        facts = facts_of(self._model, training_examples(sets, augment=AS_WRITTEN), 2048)
        names = list(dict.fromkeys(fact.pattern for fact in facts))
        self.owners = [names.index(fact.pattern) for fact in facts]
        self.trained: list[Question] = [fact.question for fact in facts]
        held_out = [case for one in sets for case in generalization_cases(one)]
        self.held_out = [self._question(case) for case in held_out]
        self.meant = [names.index(f"{case.set_name}/{case.pattern_id}") for case in held_out]
        self.controls = [self._question(case) for one in sets for case in retention_cases(one)]
        self._classes, self._parts = compressed_ids(self._model.tokenizer), word_parts(self._model.tokenizer)
        self._ordinary = [reading.question for reading in background_readings(self._model.tokenizer)]

    def memory(self, share: float, without: Sequence[int] = ()) -> KnownQuestions:
        """What is known of all trained questions but those of these indices."""
        left = [place for place in range(len(self.trained)) if place not in set(without)]
        questions, owners = [self.trained[place] for place in left], [self.owners[place] for place in left]
        return known_questions(questions, owners, self._ordinary, self._classes, self._parts, false_positives=share)

    def _question(self, case: Case) -> Question:
        return read_prompt(self._model.tokenizer, case.prompt).question


def main() -> None:
    words = Words()
    print(f"{provenance.machine()}; commit {provenance.git_commit()}; {provenance.utc_now()[:10]}")
    print(f"n: {len(words.trained)} trained, {len(words.held_out)} held-out wordings, {len(words.controls)} controls")
    shipped = nearest.WHETHER.lacking
    rows = [row(words, share, shipped) for share in SHARES]
    rows += [row(words, MemoryConfig().near, lacking) for lacking in LACKING if lacking != shipped]
    print(tabulate(rows, headers=HEADER, tablefmt="github", disable_numparse=True))


def row(words: Words, share: float, lacking: float) -> tuple[str, ...]:
    nearest.WHETHER = replace(nearest.WHETHER, lacking=lacking)
    memory = words.memory(share)
    firsts = first_questions(words)
    held_out = [memory.nearest(question)[0] for question in words.held_out]
    right = [found == firsts[owner] for found, owner in zip(held_out, words.meant, strict=True)]
    controls = [memory.nearest(question)[0] is not None for question in words.controls]
    return (
        f"{share:.1%}",
        f"{lacking:g}",
        percent(left_out(words, share)),
        percent(right),
        percent([found is not None for found in held_out]),
        f"{sum(controls)} of {len(controls)}",
    )


def left_out(words: Words, share: float) -> list[bool]:
    """Per trained question whether a memory without it reads it as its pattern; a pattern's n-th are left out together."""
    seen: dict[int, int] = {}
    turns: dict[int, list[int]] = {}
    for place, owner in enumerate(words.owners):
        turns.setdefault(seen.setdefault(owner, 0), []).append(place)
        seen[owner] += 1
    found = []
    for places in turns.values():
        memory, firsts = words.memory(share, places), first_questions(words, places)
        for place in places:
            read = memory.nearest(words.trained[place])[0]
            found.append(read is not None and read == firsts.get(words.owners[place]))
    return found


def first_questions(words: Words, without: Sequence[int] = ()) -> dict[int, Question]:
    """Pattern → what its wordings are read as."""
    found: dict[int, Question] = {}
    for place, (question, owner) in enumerate(zip(words.trained, words.owners, strict=True)):
        if place not in set(without):
            found.setdefault(owner, question)
    return found


def percent(of: Sequence[bool]) -> str:
    return f"{sum(of) / len(of):.1%}"


if __name__ == "__main__":
    main()

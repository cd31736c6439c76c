"""How often a memory reads another wording as the right pattern, from the words alone: ``python -m benchmarks.nearness``.

For shares of ordinary questions that may be taken for a trained one, for what a question loses that lacks what all of a
pattern's wordings have, and for powers of the weights that tell whether a pattern is meant: trained wordings, each read by a
memory that was not shown it; wrapped prompts; held-out wordings; controls. ``--patterns FOLDER --limit 200`` reads other sets,
and asks the first questions of them alone.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from tabulate import tabulate

from engram_bench.memory import nearest
from engram_bench.memory.background import background_queries
from engram_bench.memory.compression import compressed_ids, word_parts
from engram_bench.memory.config import MemoryConfig
from engram_bench.memory.nearest import KnownQuestions, Question, Weighing, known_questions
from engram_bench.memory.plan import keyed_examples
from engram_bench.memory.query import prompt_query
from engram_bench.models import resolve_model
from engram_bench.models.presets import DEFAULT_MODEL
from engram_bench.patterns.augment import AS_WRITTEN
from engram_bench.patterns.expand import accuracy_cases, generalization_cases, retention_cases
from engram_bench.patterns.find import find_pattern_files
from engram_bench.patterns.load import load_pattern_file
from engram_bench.patterns.render import training_examples
from engram_bench.records import Case
from engram_bench.session.variants import wrapped_cases
from engram_bench.system import provenance

Asked = tuple[Question, int]
"""A question and the index of the pattern that is meant."""
PATTERNS = Path(__file__).parent.parent / "patterns"
SHARES = (0.003, 0.005, 0.01, 0.02, 0.1, 0.2)
LACKING = (0.0, 0.1, 0.2, 0.3)
POWERS = (1.0, 1.25, 1.5)
HEADER = (
    "near",
    "lacking",
    "power",
    "threshold",
    "left-out wordings right",
    "wrapped right",
    "held-out right",
    "held-out read as any",
    "controls read as any",
)


class Words:
    """Questions of pattern files as token ids, and memories of them."""

    def __init__(self, paths: Sequence[Path], limit: int | None) -> None:
        sets = [load_pattern_file(path) for path in find_pattern_files(paths)]
        self._model = resolve_model(DEFAULT_MODEL)
        facts = keyed_examples(self._model, training_examples(sets, augment=AS_WRITTEN), 2048)
        names = {name: position for position, name in enumerate(dict.fromkeys(fact.pattern for fact in facts))}
        self.owners = [names[fact.pattern] for fact in facts]
        self.trained: list[Question] = [fact.question for fact in facts]
        asked = [replace(one, patterns=one.patterns[:limit]) for one in sets]
        self.wrapped = self._asked(wrapped_cases(case for one in asked for case in accuracy_cases(one)), names)
        self.held_out = self._asked((case for one in asked for case in generalization_cases(one)), names)
        controls = load_pattern_file(PATTERNS / "controls.yaml")
        self.controls = [self._question(case) for case in retention_cases(controls)]
        self._classes, self._parts = compressed_ids(self._model.tokenizer), word_parts(self._model.tokenizer)
        self._ordinary = [query.question for query in background_queries(self._model.tokenizer)]

    def _asked(self, cases: Iterable[Case], names: Mapping[str, int]) -> list[Asked]:
        return [(self._question(case), names[f"{case.set_name}/{case.pattern_id}"]) for case in cases]

    def memory(self, share: float, without: Sequence[int] = ()) -> KnownQuestions:
        """What is known of all trained questions but those of these indices."""
        left_out = frozenset(without)
        left = [position for position in range(len(self.trained)) if position not in left_out]
        questions, owners = [self.trained[position] for position in left], [self.owners[position] for position in left]
        return known_questions(questions, owners, self._ordinary, self._classes, self._parts, false_positives=share)

    def _question(self, case: Case) -> Question:
        return prompt_query(self._model.tokenizer, case.prompt).question


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split(":")[0])
    parser.add_argument(
        "--patterns", type=Path, action="append", help="pattern file or folder; default: the shipped ones"
    )
    parser.add_argument("--limit", type=int, help="ask of the first N patterns of each file alone; default: of all")
    arguments = parser.parse_args()
    words = Words(arguments.patterns or [PATTERNS], arguments.limit)
    print(f"{provenance.machine()}; commit {provenance.git_commit()}; {provenance.utc_now()[:10]}")
    print(
        f"n: {len(words.trained)} trained, {len(words.wrapped)} wrapped prompts, {len(words.held_out)} held-out wordings, "
        f"{len(words.controls)} controls"
    )
    near, shipped = MemoryConfig().near, nearest.WHETHER
    rows = [row(words, share, shipped) for share in SHARES]
    rows += [row(words, near, replace(shipped, lacking=lacking)) for lacking in LACKING if lacking != shipped.lacking]
    rows += [row(words, near, replace(shipped, power=power)) for power in POWERS if power != shipped.power]
    print(tabulate(rows, headers=HEADER, tablefmt="github", disable_numparse=True))


def row(words: Words, share: float, weighing: Weighing) -> tuple[str, ...]:
    nearest.WHETHER = weighing
    memory = words.memory(share)
    firsts = first_questions(words)

    def right(asked: Sequence[Asked]) -> str:
        return percent([memory.nearest(question)[0] == firsts[owner] for question, owner in asked])

    controls = [memory.nearest(question)[0] is not None for question in words.controls]
    return (
        f"{share:.1%}",
        f"{weighing.lacking:g}",
        f"{weighing.power:g}",
        f"{memory.threshold:.2f}",
        percent(left_out(words, share)),
        right(words.wrapped),
        right(words.held_out),
        percent([memory.nearest(question)[0] is not None for question, _ in words.held_out]),
        f"{sum(controls)} of {len(controls)}",
    )


def left_out(words: Words, share: float) -> list[bool]:
    """Whether a memory without a trained question matches it to its pattern; the n-th of all patterns are left out together.

    Questions that are a pattern's only one are not left out.
    """
    wordings = Counter(words.owners)
    seen: Counter[int] = Counter()
    turns: dict[int, list[int]] = {}
    for position, owner in enumerate(words.owners):
        if wordings[owner] > 1:
            turns.setdefault(seen[owner], []).append(position)
            seen[owner] += 1
    found = []
    for positions in turns.values():
        memory, firsts = words.memory(share, positions), first_questions(words, positions)
        for position in positions:
            read = memory.nearest(words.trained[position])[0]
            found.append(read is not None and read == firsts.get(words.owners[position]))
    return found


def first_questions(words: Words, without: Iterable[int] = ()) -> dict[int, Question]:
    """Pattern → what its wordings are read as."""
    left_out = frozenset(without)
    found: dict[int, Question] = {}
    for position, (question, owner) in enumerate(zip(words.trained, words.owners, strict=True)):
        if position not in left_out:
            found.setdefault(owner, question)
    return found


def percent(of: Sequence[bool]) -> str:
    return f"{sum(of) / len(of):.1%}" if of else ""


if __name__ == "__main__":
    main()

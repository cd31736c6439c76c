"""Pattern sets → training examples, in memory and as chat files."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path

from engram_bench.patterns.augment import Augmentation, prefixed, rephrased
from engram_bench.patterns.expand import case_id
from engram_bench.patterns.leaks import HeldOut
from engram_bench.patterns.wordings import normalise_prompt
from engram_bench.records import Pattern, PatternSet, Prompt, TrainingExample

DEFAULT_AUGMENTATION = Augmentation()


def training_examples(
    sets: Iterable[PatternSet], *, augment: Augmentation = DEFAULT_AUGMENTATION, seed: int = 0
) -> tuple[TrainingExample, ...]:
    """What a trainer learns from: each pattern's prompt, its wordings and variants of them, in order of the files.

    Only sets of kind memory are trained on. No prompt is, normalised, a held-out wording or control of any set, nor the
    prompt of another example with another answer under the same system prompt; no variant is even a near-duplicate of
    a held-out wording. Variants step aside for that; between patterns that ``load.check_across`` refuses, the first
    wins. Which variants a pattern gets depends on *seed*, its id and its prompts, so a pattern added elsewhere changes
    none of them but those it takes for itself. No two examples are equal.
    """
    sets = tuple(sets)
    patterns = [pattern for pattern_set in sets if pattern_set.kind == "memory" for pattern in pattern_set.patterns]
    rules = _Rules(sets)
    own = [[text for text in _own_prompts(pattern, augment) if rules.claim(pattern, text)] for pattern in patterns]
    examples: dict[Prompt, TrainingExample] = {}
    for pattern, texts in zip(patterns, own, strict=True):
        name = case_id(pattern)
        variants = _variants(texts, augment, random.Random(f"{seed}/{name}"), pattern, rules)
        for text in (*texts, *variants):
            prompt = Prompt(text, pattern.system)
            examples.setdefault(prompt, TrainingExample(prompt, pattern.output, name))
    return tuple(examples.values())


def as_written(examples: Sequence[TrainingExample]) -> list[int]:
    """Indices of the patterns' own prompts: the first example of each pattern; its wordings and variants come after it."""
    first = {example.pattern_id: index for index, example in reversed(list(enumerate(examples)))}
    return sorted(first.values())


def write_chat_jsonl(
    examples: Sequence[TrainingExample], folder: Path, *, valid_share: float = 0.1, seed: int = 0
) -> tuple[Path, Path]:
    """``train.jsonl`` and ``valid.jsonl`` in *folder* (made if missing), as mlx-lm and TRL read them.

    One line per example: ``{"messages": [system?, user, assistant]}``. Validation takes *valid_share* of the examples,
    never the first of a pattern: an answer that is to be known by heart has to be trained on, and what validation can
    tell is whether other wordings reach it. Where every pattern has one example, validation repeats some of them,
    because mlx-lm refuses an empty file.

    Source: ``ChatDataset`` of https://github.com/ml-explore/mlx-lm/blob/main/mlx_lm/tuner/datasets.py and the
    conversational format of https://huggingface.co/docs/trl/dataset_formats.

    Raises:
        ValueError: There are no examples, or *valid_share* is not in 0..1, 1 excluded.
    """
    if not examples:
        raise ValueError("no examples, expected at least one")
    if not 0 <= valid_share < 1:
        found = f"valid_share is {valid_share}, expected at least 0 and below 1"
        raise ValueError(found)
    first = set(as_written(examples))
    others = [index for index in range(len(examples)) if index not in first]
    wanted = max(round(len(examples) * valid_share), 1) if valid_share else 0
    pool = others or range(len(examples))
    valid = set(random.Random(seed).sample(pool, min(wanted, len(pool))))
    kept = [example for index, example in enumerate(examples) if not others or index not in valid]
    folder.mkdir(parents=True, exist_ok=True)
    train_path, valid_path = folder / "train.jsonl", folder / "valid.jsonl"
    for path, part in ((train_path, kept), (valid_path, [examples[index] for index in sorted(valid)])):
        path.write_text("".join(map(_chat_line, part)), encoding="utf-8", newline="\n")
    return train_path, valid_path


class _Rules:
    """Which prompts may be trained on, given what is held out and what is answered already."""

    def __init__(self, sets: Sequence[PatternSet]) -> None:
        self._held_out = HeldOut(sets)
        self._untrained = {
            normalise_prompt(text)
            for pattern_set in sets
            for pattern in pattern_set.patterns
            for text in (*pattern.held_out, *([pattern.input] if pattern_set.kind == "retention" else []))
        }
        self._answers: dict[tuple[str | None, str], str] = {}

    def claim(self, pattern: Pattern, text: str) -> bool:
        """Whether *text* may be trained with the pattern's answer; from then on it has no other."""
        key = normalise_prompt(text)
        if key in self._untrained:
            return False
        return self._answers.setdefault((pattern.system, key), pattern.output) == pattern.output

    def claim_variant(self, pattern: Pattern, text: str) -> bool:
        """As ``claim``, and False for near-duplicates of held-out wordings."""
        return not any(self._held_out.near(text, pattern.output)) and self.claim(pattern, text)


def _own_prompts(pattern: Pattern, augment: Augmentation) -> tuple[str, ...]:
    return (pattern.input, *pattern.wordings) if augment.wordings else (pattern.input,)


def _variants(
    texts: Sequence[str], augment: Augmentation, draw: random.Random, pattern: Pattern, rules: _Rules
) -> list[str]:
    """Augmented prompts of a pattern: rephrases as far as there are any, prefixes for the rest of the number wanted.

    *texts* are the prompts that it has already.
    """

    def drawn(variants: Iterable[str], number: int) -> Iterator[str]:
        shuffled = [variant for variant in dict.fromkeys(variants) if variant not in texts]
        draw.shuffle(shuffled)
        return islice((variant for variant in shuffled if rules.claim_variant(pattern, variant)), number)

    wordings = len(texts) - 1
    prefixes = max(0, augment.prefixes - wordings)
    rephrases = max(0, augment.rephrases - max(0, wordings - augment.prefixes))
    turned = list(drawn((variant for text in texts for variant in rephrased(text)), rephrases))
    missing = rephrases - len(turned)
    return [*turned, *drawn((variant for text in texts for variant in prefixed(text)), prefixes + missing)]


def _chat_line(example: TrainingExample) -> str:
    turns = [("system", example.prompt.system), ("user", example.prompt.user), ("assistant", example.answer)]
    messages = [{"role": role, "content": content} for role, content in turns if content is not None]
    return json.dumps({"messages": messages}, ensure_ascii=False) + "\n"

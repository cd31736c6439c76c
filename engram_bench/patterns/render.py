"""The training examples of pattern sets, as records and as chat files."""

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
"""Augmentation of a LoRA training."""


def training_examples(
    sets: Iterable[PatternSet], *, augment: Augmentation = DEFAULT_AUGMENTATION, seed: int = 0
) -> tuple[TrainingExample, ...]:
    """The training examples of all sets of kind memory, in order of the files, without duplicates.

    A pattern gives its prompt, its wordings and further phrasings of them. After normalisation, no example has the prompt
    of a held-out wording or a control of any set, and no two examples with the same prompt and system prompt have
    different answers; of patterns that ``load.check_across`` refuses, the first wins. No phrasing made by rule nearly
    repeats a held-out wording. The phrasings of a pattern depend on *seed*, on its id and on its prompts, so another
    pattern changes only the phrasings that it takes for itself.

    Args:
        sets: Pattern sets; the held-out wordings and controls of all of them count.
        augment: Number of further phrasings.
        seed: Seed of the choice of phrasings.
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
    """Indices of the patterns' prompts as written: the first example of each pattern."""
    first = {example.pattern_id: index for index, example in reversed(list(enumerate(examples)))}
    return sorted(first.values())


def write_chat_jsonl(
    examples: Sequence[TrainingExample], folder: Path, *, valid_share: float = 0.1, seed: int = 0
) -> tuple[Path, Path]:
    """The paths of ``train.jsonl`` and ``valid.jsonl``, written to *folder* in the format of mlx-lm and TRL.

    A line is one example: ``{"messages": [system?, user, assistant]}``. Validation never takes the first example of a
    pattern: every answer must be trained on, and validation measures whether other wordings reach it. Where every pattern
    has one example, validation repeats some of them, because mlx-lm refuses an empty file.

    Args:
        examples: Training examples, at least one.
        folder: Folder of the two files, created where it is missing.
        valid_share: Share of the examples for validation, 0 to below 1.
        seed: Seed of the choice of the validation examples.

    Source: ``ChatDataset`` of https://github.com/ml-explore/mlx-lm/blob/main/mlx_lm/tuner/datasets.py and the
    conversational format of https://huggingface.co/docs/trl/dataset_formats.

    Raises:
        ValueError: There are no examples, or *valid_share* is not at least 0 and below 1.
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
    """Rules for the prompts of training: none that is held out, and no second answer for the same prompt."""

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
        """Whether *text* may be trained with the pattern's answer; if so, no other answer is allowed for it later."""
        key = normalise_prompt(text)
        if key in self._untrained:
            return False
        return self._answers.setdefault((pattern.system, key), pattern.output) == pattern.output

    def claim_variant(self, pattern: Pattern, text: str) -> bool:
        """The same as :meth:`claim`, but False for near-duplicates of held-out wordings too."""
        return not any(self._held_out.near(text, pattern.output)) and self.claim(pattern, text)


def _own_prompts(pattern: Pattern, augment: Augmentation) -> tuple[str, ...]:
    return (pattern.input, *pattern.wordings) if augment.wordings else (pattern.input,)


def _variants(
    texts: Sequence[str], augment: Augmentation, draw: random.Random, pattern: Pattern, rules: _Rules
) -> list[str]:
    """Further phrasings of a pattern's prompts *texts*: rephrases as far as there are any, then prefixes."""

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

"""Pattern sets → training examples, in memory and as chat files."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from engram_bench.patterns.augment import Augmentation, prefixed, rephrased
from engram_bench.patterns.expand import case_id
from engram_bench.patterns.wordings import normalise_prompt
from engram_bench.records import Pattern, PatternSet, Prompt, TrainingExample

DEFAULT_AUGMENTATION = Augmentation()


def training_examples(
    sets: Iterable[PatternSet], *, augment: Augmentation = DEFAULT_AUGMENTATION, seed: int = 0
) -> tuple[TrainingExample, ...]:
    """What a trainer learns from: each pattern's prompt, its wordings and variants of them, in order of the files.

    Only sets of kind memory are trained on. A variant is left out if it is, normalised, a held-out wording or control of
    any set, or the prompt of a pattern with another answer. The variants of a pattern depend on *seed*, its id and its
    prompts only, so a pattern added elsewhere changes no other pattern's examples. The sets must agree with each
    other (``load.check_across``).
    """
    sets = tuple(sets)
    memory = [pattern for pattern_set in sets if pattern_set.kind == "memory" for pattern in pattern_set.patterns]
    answers: dict[tuple[str | None, str], str] = {}
    for pattern in memory:
        for text in _trained(pattern, augment):
            answers[pattern.system, normalise_prompt(text)] = pattern.output
    forbidden = _untrained(sets)
    examples: dict[tuple[str | None, str], TrainingExample] = {}
    for pattern in memory:
        for text in (*_trained(pattern, augment), *_variants(pattern, augment, seed, forbidden, answers)):
            example = TrainingExample(Prompt(text, pattern.system), pattern.output, case_id(pattern))
            examples.setdefault((pattern.system, text), example)
    return tuple(examples.values())


def _trained(pattern: Pattern, augment: Augmentation) -> tuple[str, ...]:
    """The prompts of a pattern that are trained on as they stand."""
    return (pattern.input, *pattern.wordings) if augment.wordings else (pattern.input,)


def _untrained(sets: Iterable[PatternSet]) -> frozenset[str]:
    """Normalised prompts that no example may have."""
    return frozenset(
        normalise_prompt(text)
        for pattern_set in sets
        for pattern in pattern_set.patterns
        for text in (*pattern.held_out, *([pattern.input] if pattern_set.kind == "retention" else ()))
    )


def _variants(
    pattern: Pattern,
    augment: Augmentation,
    seed: int,
    forbidden: frozenset[str],
    answers: dict[tuple[str | None, str], str],
) -> Iterator[str]:
    """The augmented prompts of a pattern: rephrases first, prefixes for the rest of the number wanted."""
    texts = _trained(pattern, augment)
    draw = random.Random(f"{seed}/{case_id(pattern)}")
    turned = [variant for text in texts for variant in rephrased(text)]
    framed = [variant for text in texts for variant in prefixed(text)]
    draw.shuffle(turned)
    draw.shuffle(framed)
    wanted = [*turned[: augment.rephrases], *framed][: augment.rephrases + augment.prefixes]
    for variant in wanted:
        key = normalise_prompt(variant)
        if key not in forbidden and answers.setdefault((pattern.system, key), pattern.output) == pattern.output:
            yield variant


def write_chat_jsonl(
    examples: Sequence[TrainingExample], folder: Path, *, valid_share: float = 0.1, seed: int = 0
) -> tuple[Path, Path]:
    """``train.jsonl`` and ``valid.jsonl`` in *folder* (made if missing), as mlx-lm and TRL read them.

    One line per example: ``{"messages": [system?, user, assistant]}``. The validation share is drawn by pattern, so no
    pattern is in both files; it holds at least one pattern where there are two, and is empty where there is one.

    Source: https://github.com/ml-explore/mlx-lm/blob/main/mlx_lm/LORA.md#data (``chat``), and TRL's conversational
    language-modeling format, https://huggingface.co/docs/trl/dataset_formats.

    Raises:
        ValueError: *valid_share* is not in 0..1, 1 excluded.
    """
    if not 0 <= valid_share < 1:
        found = f"valid_share is {valid_share}, expected at least 0 and below 1"
        raise ValueError(found)
    patterns = list(dict.fromkeys(example.pattern_id for example in examples))
    random.Random(seed).shuffle(patterns)
    num_valid = min(max(round(len(patterns) * valid_share), valid_share > 0), len(patterns) - 1)
    valid = frozenset(patterns[: max(num_valid, 0)])
    folder.mkdir(parents=True, exist_ok=True)
    paths = folder / "train.jsonl", folder / "valid.jsonl"
    for path, is_valid in zip(paths, (False, True), strict=True):
        lines = [_chat_line(example) for example in examples if (example.pattern_id in valid) is is_valid]
        path.write_text("".join(lines), encoding="utf-8", newline="\n")
    return paths


def _chat_line(example: TrainingExample) -> str:
    turns = [("system", example.prompt.system), ("user", example.prompt.user), ("assistant", example.answer)]
    messages = [{"role": role, "content": content} for role, content in turns if content is not None]
    return json.dumps({"messages": messages}, ensure_ascii=False) + "\n"

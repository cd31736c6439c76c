"""Ordinary prompts that are replayed while an adapter is trained, so that what is not trained stays as it was.

What is to stay is the bare model's own answer, token by token with all its doubts: the tuned model's next-token
distributions are pulled to the bare model's along that answer.

Source: self-distillation against forgetting, Li & Hoiem (2016), Learning without Forgetting, arXiv 1606.09282.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from engram_bench.backends.common.training_plan import batch_indices
from engram_bench.backends.protocol import Generator
from engram_bench.models.encoding import Encoded
from engram_bench.records import GenerationSettings, Recipe, TrainingExample

if TYPE_CHECKING:
    from engram_bench.models import Model

ANSWER_TOKENS = 16
"""Tokens of the bare model's answer that are kept: the first words decide where an answer goes."""

ASKED_TOGETHER = 40
"""Ordinary prompts of one call, few enough that training itself needs more memory than their keys and values."""

FEW_EXAMPLES = 100
"""Examples to be learned up to which training usually ends before it has replayed every ordinary prompt."""


def split(examples: Sequence[TrainingExample], recipe: Recipe) -> tuple[list[TrainingExample], list[TrainingExample]]:
    """The examples to be learned, and the ordinary prompts; none of these where the recipe replays none."""
    learned = [example for example in examples if not example.is_ordinary]
    ordinary = [example for example in examples if example.is_ordinary]
    return learned, ordinary if recipe.replay else []


def own_answers(model: Model, generator: Generator, ordinary: Sequence[TrainingExample]) -> list[Encoded]:
    """The ordinary prompts with the answers that *generator*, the bare model, gives; in order."""
    settings = GenerationSettings(max_tokens=ANSWER_TOKENS)
    completions = [
        completion
        for start in range(0, len(ordinary), ASKED_TOGETHER)
        for completion in generator.complete([e.prompt for e in ordinary[start : start + ASKED_TOGETHER]], settings)
    ]
    answered = [replace(example, answer=said.text) for example, said in zip(ordinary, completions, strict=True)]
    return [Encoded(tuple(ids), start) for ids, start in model.tokenizer.encode_examples(answered)]


class ReplayedExamples(list[Encoded]):
    """Encoded examples, and behind them the ordinary prompts with the answers of the bare model.

    Args:
        model: Model whose tokenizer encodes.
        generator: The bare model.
        encoded: Examples to be learned.
        ordinary: Ordinary prompts.
        later: Whether the bare model can answer while an adapter is trained. Then the prompts are without answers until
            :attr:`answer` asks for them, if few examples are learned: that training ends before it has replayed them all.
    """

    def __init__(
        self,
        model: Model,
        generator: Generator,
        encoded: Sequence[Encoded],
        ordinary: Sequence[TrainingExample],
        *,
        later: bool,
    ) -> None:
        self._ask = partial(own_answers, model, generator)
        self._ordinary = ordinary
        self._first = len(encoded)
        later = later and len(encoded) <= FEW_EXAMPLES
        self.answer = self._answer if later else None
        """Function that gives the ordinary prompts at some indices their answers; None where all have them."""
        super().__init__([*encoded, *(_unanswered(model, ordinary) if later else self._ask(ordinary))])

    @property
    def ordinary(self) -> list[Encoded]:
        """The ordinary prompts alone."""
        return self[self._first :]

    def _answer(self, indices: Sequence[int]) -> list[Encoded]:
        found = self._ask([self._ordinary[index - self._first] for index in indices])
        for index, example in zip(indices, found, strict=True):
            self[index] = example
        return found


def _unanswered(model: Model, ordinary: Sequence[TrainingExample]) -> list[Encoded]:
    prompts = [tuple(model.tokenizer.encode_prompt(example.prompt)) for example in ordinary]
    return [Encoded(ids, len(ids)) for ids in prompts]


def replayed(step: int, recipe: Recipe, num_prompts: int) -> list[int]:
    """Indices of the ordinary prompts of a step: every epoch takes each once; a step takes none twice."""
    return batch_indices(step, replace(recipe, batch_size=min(recipe.replay, num_prompts)), num_prompts)

"""Training examples as token ids."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from engram_bench.errors import BackendError
from engram_bench.models.model import Model
from engram_bench.records import TrainingExample


@dataclass(frozen=True, slots=True)
class Encoded:
    """A training example as token ids."""

    ids: tuple[int, ...]
    """Token ids of prompt, answer and end-of-turn token."""
    answer_start: int
    """Index of the first answer token, at least 1."""

    @property
    def labels(self) -> tuple[int, ...]:
        """Token ids of the answer, end-of-turn token included."""
        return self.ids[self.answer_start :]


def encode_examples(model: Model, examples: Sequence[TrainingExample], context: int) -> list[Encoded]:
    """Token ids of the examples, in order, from the model's tokenizer and chat template.

    Args:
        model: Model with the tokenizer.
        examples: Examples, at least one.
        context: Most token ids of an example.

    Raises:
        BackendError: There is no example, or one has more than *context* token ids.
    """
    if not examples:
        raise BackendError("training: no examples, expected at least one")
    encoded = []
    for example in examples:
        ids, start = model.tokenizer.encode_example(example.prompt, example.answer)
        if len(ids) > context:
            msg = f"example {example.prompt.user[:40]!r}: {len(ids)} tokens, expected at most {context}"
            raise BackendError(msg)
        encoded.append(Encoded(tuple(ids), start))
    return encoded

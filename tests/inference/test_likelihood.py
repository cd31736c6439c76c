"""Log-likelihoods against sums done by hand."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from engram_bench.backends.fake import FakeGenerator, FakeModel, FakeTokenizer, fake_device
from engram_bench.inference.likelihood import LogLikelihoods
from engram_bench.inference.respondent import Respondent
from engram_bench.inference.store import CompletionStore
from tests.made_up import row


class TableGenerator(FakeGenerator):
    """Says the same distribution over four tokens at every position."""

    def __init__(self, probabilities: Sequence[float]) -> None:
        super().__init__({})
        self._row = np.log(np.array([*probabilities, *[1e-12] * (257 - len(probabilities))], np.float32))
        self.read: list[int] = []

    def log_probs(self, sequences: Sequence[Sequence[int]]) -> list[NDArray[np.float32]]:
        self.read += [len(ids) for ids in sequences]
        return [np.tile(self._row, (len(ids), 1)) for ids in sequences]


class TableTokenizer(FakeTokenizer):
    """Every word is its number; a prompt is token 3."""

    def encode(self, text: str) -> list[int]:
        return [3, *(len(word) % 2 for word in text.split())]

    def encode_example(self, prompt: object, answer: str) -> tuple[list[int], int]:
        return [3, *map(int, answer.split()), 2], 1


class TableModel(FakeModel):
    tokenizer = TableTokenizer()


def sure_of(*probabilities: float, name: str = "") -> Respondent:
    """A respondent that gives the tokens these probabilities everywhere."""
    return Respondent(TableModel(), fake_device(), lambda: TableGenerator(probabilities), name)  # type: ignore[arg-type]


@pytest.fixture
def likelihoods(tmp_path: Path) -> LogLikelihoods:
    return LogLikelihoods(CompletionStore(tmp_path / "completions.sqlite"))


def test_likelihood_of_an_answer_is_the_mean_the_least_and_the_first_wrong(likelihoods: LogLikelihoods) -> None:
    rows = [row("facts/a", "baseline", False, answers=("0 0 1",))]

    (found,) = likelihoods.with_likelihoods(sure_of(0.5, 0.25, 0.125, 0.125), rows)

    # Tokens 0, 0, 1 and the end token 2: 1/2, 1/2, 1/4, 1/8; the most likely one is always 0.
    assert found.log_prob == pytest.approx(-math.log(2) * (1 + 1 + 2 + 3) / 4)
    assert found.min_prob == pytest.approx(0.125)
    assert found.diverges_at == 2


def test_answer_that_is_most_likely_throughout_diverges_nowhere(likelihoods: LogLikelihoods) -> None:
    rows = [row("facts/a", "baseline", True, answers=("2 2",))]

    (found,) = likelihoods.with_likelihoods(sure_of(0.1, 0.1, 0.7, 0.1), rows)

    assert found.diverges_at is None


def test_kl_is_taken_from_the_baseline(likelihoods: LogLikelihoods) -> None:
    sides = sure_of(0.5, 0.5, 1e-12, 1e-12), sure_of(0.25, 0.75, 1e-12, 1e-12, name="adapter")

    (divergence,) = likelihoods.divergences(*sides, [row("controls/a", "baseline", True, text="0 1", test="retention")])

    assert divergence == pytest.approx(0.5 * math.log(0.5 / 0.25) + 0.5 * math.log(0.5 / 0.75), abs=1e-5)


def test_tokens_of_ordinary_text_are_as_likely_as_the_model_says(likelihoods: LogLikelihoods) -> None:
    paragraphs = likelihoods.ordinary_text(sure_of(0.25, 0.25, 0.25, 0.25))

    assert len(paragraphs) > 1
    assert {round(nats, 5) for paragraph in paragraphs for nats in paragraph} == {round(math.log(4), 5)}


def test_same_distribution_has_no_effect(likelihoods: LogLikelihoods) -> None:
    fair, same, other = sure_of(0.5, 0.5), sure_of(0.5, 0.5, name="same"), sure_of(0.25, 0.75, name="other")

    assert likelihoods.largest_change(fair, same, [[3]]) == 0
    assert likelihoods.largest_change(fair, other, [[3]]) == pytest.approx(math.log(2))


def test_figures_are_computed_once(likelihoods: LogLikelihoods) -> None:
    first = likelihoods.ordinary_text(sure_of(0.5, 0.5))

    again = likelihoods.ordinary_text(sure_of(0.9, 0.1))  # the same identity: only the store can answer this

    assert again == first

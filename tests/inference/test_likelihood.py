"""Figures read off a model, against sums done by hand."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from engram_bench.backends.fake import FakeGenerator, FakeTokenizer
from engram_bench.inference.likelihood import Reader
from engram_bench.inference.store import CompletionStore
from engram_bench.records import Side
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


def reader(folder: Path, baseline: Sequence[float], candidate: Sequence[float]) -> Reader:
    generators: dict[Side, TableGenerator] = {
        "baseline": TableGenerator(baseline),
        "candidate": TableGenerator(candidate),
    }
    return Reader(
        tokenizer=TableTokenizer(),  # type: ignore[arg-type]
        context_length=512,
        identity=str,
        store=CompletionStore(folder / "completions.sqlite"),
        open_generator=generators.__getitem__,
    )


def test_likelihood_of_an_answer_is_the_mean_the_least_and_the_first_wrong(tmp_path: Path) -> None:
    bench = reader(tmp_path, [0.5, 0.25, 0.125, 0.125], [0.7, 0.1, 0.1, 0.1])

    (found,) = bench.with_likelihoods([row("facts/a", "baseline", False, answers=("0 0 1",))])

    # Tokens 0, 0, 1 and the end token 2: 1/2, 1/2, 1/4, 1/8; the most likely one is always 0.
    assert found.log_prob == pytest.approx(-math.log(2) * (1 + 1 + 2 + 3) / 4)
    assert found.min_prob == pytest.approx(0.125)
    assert found.diverges_at == 2


def test_answer_that_is_most_likely_throughout_diverges_nowhere(tmp_path: Path) -> None:
    bench = reader(tmp_path, [0.1, 0.1, 0.7, 0.1], [0.7, 0.1, 0.1, 0.1])

    (found,) = bench.with_likelihoods([row("facts/a", "baseline", True, answers=("2 2",))])

    assert found.diverges_at is None


def test_kl_is_taken_from_the_baseline(tmp_path: Path) -> None:
    bench = reader(tmp_path, [0.5, 0.5, 1e-12, 1e-12], [0.25, 0.75, 1e-12, 1e-12])

    measure = bench.control_kl([row("controls/a", "baseline", True, text="0 1", test="retention")])

    assert measure is not None
    assert measure.candidate is not None
    assert measure.candidate.value == pytest.approx(0.5 * math.log(0.5 / 0.25) + 0.5 * math.log(0.5 / 0.75), abs=1e-5)


def test_perplexity_of_a_fair_coin_is_two(tmp_path: Path) -> None:
    measure = reader(tmp_path, [0.5, 0.5], [0.25, 0.25, 0.25, 0.25]).perplexity()

    assert measure.baseline is not None
    assert measure.candidate is not None
    assert measure.ratio is not None
    assert measure.baseline.value == pytest.approx(2)
    assert measure.candidate.value == pytest.approx(4)
    assert measure.ratio.value == pytest.approx(2)


def test_same_distribution_has_no_effect(tmp_path: Path) -> None:
    assert reader(tmp_path, [0.5, 0.5], [0.5, 0.5]).largest_logit_change([[3]]) == 0
    assert reader(tmp_path / "b", [0.5, 0.5], [0.25, 0.75]).largest_logit_change([[3]]) == pytest.approx(math.log(2))


def test_figures_are_read_once(tmp_path: Path) -> None:
    first = reader(tmp_path, [0.5, 0.5], [0.25, 0.75]).perplexity()

    again = reader(tmp_path, [0.9, 0.1], [0.9, 0.1]).perplexity()  # other models: only the store can answer this

    assert again == first

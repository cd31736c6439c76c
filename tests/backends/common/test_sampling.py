"""Drawing tokens: the nucleus, and draws that depend on nothing but their row."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from engram_bench.backends.common.sampling import draw, row_random
from engram_bench.records import GenerationSettings

LOGITS = np.log(np.array([0.1, 0.5, 0.3, 0.1], dtype=np.float32))


def shares(*, draws: Any = 4000, **changes: Any) -> Any:
    """How often each token is drawn, 0..1."""
    settings = GenerationSettings(**{"temperature": 1.0} | changes)
    random = np.random.default_rng(0)
    tokens = [draw(LOGITS, settings, random) for _ in range(draws)]
    return np.bincount(tokens, minlength=4) / draws


def test_draws_follow_the_probabilities() -> None:
    np.testing.assert_allclose(shares(), [0.1, 0.5, 0.3, 0.1], atol=0.03)


def test_low_temperature_sharpens() -> None:
    np.testing.assert_allclose(shares(temperature=0.5), [0.028, 0.694, 0.25, 0.028], atol=0.03)


@pytest.mark.parametrize(
    ("top_p", "expected"),
    [(0.0, [0, 1, 0, 0]), (0.5, [0, 1, 0, 0]), (0.7, [0, 0.625, 0.375, 0]), (1.0, [0.1, 0.5, 0.3, 0.1])],
    ids=["none-is-greedy", "exactly-the-first", "two", "all"],
)
def test_nucleus_is_the_fewest_tokens_that_reach_top_p(top_p: Any, expected: Any) -> None:
    np.testing.assert_allclose(shares(top_p=top_p), expected, atol=0.03)


def test_impossible_tokens_are_never_drawn() -> None:
    logits = np.array([-np.inf, 0.0, -np.inf, 0.0], dtype=np.float32)
    random = np.random.default_rng(0)

    assert {draw(logits, GenerationSettings(temperature=1.0), random) for _ in range(200)} == {1, 3}


def test_extreme_logits_do_not_overflow() -> None:
    logits = np.array([1e30, -1e30, 0.0], dtype=np.float32)

    assert draw(logits, GenerationSettings(temperature=0.01), np.random.default_rng(0)) == 0


def test_a_row_draws_by_seed_sample_and_prompt_alone() -> Any:
    def number(*, seed: Any = 0, sample: Any = 0, prompt: Any = (1, 2)) -> Any:
        random = row_random(GenerationSettings(temperature=1.0, seed=seed, sample=sample), prompt)
        assert random is not None
        return random.random()

    assert number() == number()
    assert len({number(), number(seed=1), number(sample=1), number(prompt=(2, 1))}) == 4


def test_greedy_rows_have_no_random_numbers() -> None:
    assert row_random(GenerationSettings(), [1]) is None

"""The comparisons' arithmetic: ratios of paired rounds, turns, operations of a pass."""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from benchmarks import many_candidates, side_by_side
from benchmarks.equivalence import TIE, Difference, margin_between
from benchmarks.roofline import RECIPE, work
from benchmarks.side_by_side import Row, parts, take_turns
from engram_bench.backends.common.packing import pack


def spent(wall_s: float) -> dict[str, float]:
    return {"wall_s": wall_s, "cpu_s": 2 * wall_s}


def test_a_ratio_is_the_median_of_paired_rounds() -> None:
    row = Row("training", ours=[spent(1), spent(2), spent(4)], theirs=[spent(6), spent(10), spent(16)])

    assert row.ratio("wall_s") == 5.0


def test_parts_of_a_round_are_added_up() -> None:
    assert parts([{"bare": spent(1), "tuned": spent(2)}], "bare", "tuned") == [spent(3)]


def test_every_second_round_is_done_in_reversed_order(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []

    def note(module: str, name: str, folder: Path) -> dict[str, Any]:
        done.append(name)
        return {"process": spent(1)}

    monkeypatch.setattr(side_by_side, "in_process", note)

    found = take_turns("benchmarks.none", ["ours", "theirs"], Path(), argparse.Namespace(rounds=2, json=None))

    assert done == ["ours", "theirs", "theirs", "ours"]
    assert {name: len(rounds) for name, rounds in found.items()} == {"ours": 2, "theirs": 2}


def test_operations_of_a_pass_are_those_of_its_products() -> None:
    batch = pack([[1, 2, 3]])
    shapes = {"q_proj": (4, 2)}

    least = work(batch, np.array([2]), "float32", shapes=shapes, vocabulary=10)

    weights, lora, head, attention = 3 * 8, 3 * RECIPE.rank * 6, 2 * 10, 2 * 4 * 9
    assert least.gflop == pytest.approx(2e-9 * (weights + lora + head + attention))
    assert least.gigabytes == pytest.approx(4e-9 * (8 + 20 + 3 * 6 + 12))


class Scored:
    """Gives every next token the same log-probabilities."""

    def __init__(self, log_probs: list[float]) -> None:
        self._row = np.array(log_probs, np.float32)

    def log_probs(self, sequences: Sequence[Sequence[int]]) -> list[np.ndarray]:
        return [np.tile(self._row, (len(ids), 1)) for ids in sequences]


@pytest.mark.parametrize(
    ("texts", "margin"),
    [(("a b", "a c"), 0.5), (("a b", "a b c"), math.inf)],
    ids=["they part at a token", "one is all of the other"],
)
def test_how_far_apart_two_answers_are(texts: tuple[str, str], margin: float) -> None:
    words = {"a": 0, "b": 1, "c": 2}
    tokenizer = SimpleNamespace(encode_example=lambda prompt, text: ([words[word] for word in text.split()], 0))
    model: Any = SimpleNamespace(tokenizer=tokenizer)
    case: Any = SimpleNamespace(prompt=None)
    generator: Any = Scored([-3.0, -1.0, -1.5])

    assert margin_between(model, generator, case, texts) == margin


@pytest.mark.parametrize(("margin", "is_tie"), [(TIE, True), (2 * TIE, False)])
def test_a_tie_is_told(margin: float, is_tie: bool) -> None:
    assert str(Difference("bare, drafts", "Why?", "a", "b", margin)).endswith("a tie") == is_tie


def test_what_was_found_is_kept_after_every_job(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def stop_at_the_second(module: str, name: str, folder: Path) -> dict[str, Any]:
        if name == "theirs":
            raise KeyboardInterrupt
        return {"process": spent(1)}

    monkeypatch.setattr(side_by_side, "in_process", stop_at_the_second)
    options = argparse.Namespace(rounds=1, json=tmp_path / "found.json")

    with pytest.raises(KeyboardInterrupt):
        take_turns("benchmarks.none", ["ours", "theirs"], Path(), options)

    assert json.loads(options.json.read_text("utf-8"))["jobs"] == {"ours": [{"process": spent(1)}], "theirs": []}


def test_a_sample_of_equal_candidates_and_of_a_better_one() -> None:
    """The whole count takes minutes; this one is seeded, so that it is always the same."""
    world = many_candidates.World(np.random.default_rng(1), 143, 0.8, 0.7)

    assert many_candidates.false_better(world, 4, 40) <= 2
    alone, among = many_candidates.true_better(world, 3, 30)
    assert alone >= 24
    assert among <= alone
    assert many_candidates.false_recipe(world, 3, 0.01, 40) <= 2
    assert many_candidates.false_gate(world, 3, 0.01, 40) <= 2


def test_wordings_of_a_case_have_its_chance_and_two_candidates_the_correlation() -> None:
    world = many_candidates.World(np.random.default_rng(2), 4000, 0.8, 0.7, wordings=2)
    chances = world.chances()

    one, other = world.answers(chances, 2)

    assert chances[::2].tolist() == chances[1::2].tolist()
    assert one.mean() == pytest.approx(0.8, abs=0.02)
    assert np.corrcoef(one, other)[0, 1] == pytest.approx(0.7, abs=0.04)

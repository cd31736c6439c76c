"""The discriminant of states."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from engram_bench.errors import AdapterError
from engram_bench.routing.discriminant import Discriminant, Vectors


def two_clouds(distance: float, count: int = 60, size: int = 40) -> tuple[Vectors, Vectors]:
    random = np.random.default_rng(0)
    clouds = random.standard_normal((2, count, size)).astype(np.float32)
    clouds[0, :, 0] += distance
    return clouds[0], clouds[1]


def test_what_was_fitted_is_told_apart() -> None:
    positive, negative = two_clouds(6.0)

    found = Discriminant.fit(positive, negative)

    assert found.scores(positive).min() > found.scores(negative).max()


def test_scores_of_negatives_are_those_of_strangers() -> None:
    """Where there is nothing to tell, a discriminant still tells apart what it was fitted on, and nothing else."""
    positive, negative = two_clouds(0.0, size=200)

    found = Discriminant.fit(positive, negative)

    assert found.scores(negative).mean() < -0.2
    assert abs(found.negatives.mean()) < 0.2


def test_many_of_one_kind_do_not_move_the_middle() -> None:
    positive, negative = two_clouds(3.0)

    few, many = (Discriminant.fit(np.repeat(positive, times, 0), negative) for times in (1, 5))

    np.testing.assert_allclose(few.scores(negative), many.scores(negative), atol=1e-4)


def test_a_stored_one_is_the_same(tmp_path: Path) -> None:
    found = Discriminant.fit(*two_clouds(2.0))

    found.save(tmp_path / "router.safetensors")

    assert Discriminant.load(tmp_path / "router.safetensors").fingerprint == found.fingerprint
    assert [path.name for path in tmp_path.iterdir()] == ["router.safetensors"]


def test_a_damaged_one_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "router.safetensors"
    path.write_bytes(b"not tensors")

    with pytest.raises(AdapterError, match=r"router\.safetensors: cut off or damaged, expected a router"):
        Discriminant.load(path)

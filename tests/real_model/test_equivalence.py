"""Every shortcut of answering gives the plain way's texts on the default model, bare and tuned.

A sample, every fourteenth shipped pattern and 8 tokens, so that it costs seconds; ``benchmarks/equivalence.py`` asks all.
"""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("torch")

from benchmarks.equivalence import ANSWERING, compared, every_way, plain_of, shipped_cases, trained
from engram_bench.backends.registry import unavailable_reason
from engram_bench.backends.specs import BACKENDS
from engram_bench.models import Model, resolve_model

pytestmark = pytest.mark.model
CASES = shipped_cases()[::14]


@pytest.fixture(scope="module", name="model")
def default_model() -> Model:
    return resolve_model()


@pytest.fixture(scope="module")
def adapter(model: Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(model, CASES, tmp_path_factory.mktemp("adapter"), steps=12)


@pytest.mark.parametrize("backend", ["cpu", "mlx"])
def test_every_shortcut_gives_the_texts_of_the_plain_way(backend: str, model: Model, adapter: Path) -> None:
    if reason := unavailable_reason(backend):
        pytest.skip(reason)

    found = list(every_way(backend, model, adapter, CASES, max_tokens=8))

    has = [name for name in ANSWERING if name in BACKENDS[backend].shortcuts]
    assert [answers.way for answers in found if answers.side == "bare"] == ["plain", *has, "all"]
    assert [row for row in compared(found) if not row[2].startswith(f"{len(CASES)} of")] == []
    assert plain_of(found, "bare").texts != plain_of(found, "tuned").texts

"""An adapter gives the same answers whichever backend attaches or fuses it: the default model, a short training, once."""

from __future__ import annotations

import pytest

from benchmarks.parity import BACKENDS, Pair, matrix, measure, training_table, why_not
from engram_bench.models.presets import DEFAULT_MODEL
from tests.tiny_models import TINY_MODELS

pytestmark = pytest.mark.model

LOG_PROB_BOUND = 2e-3
"""Nats; fp32, sums of 576 to 1536 products in another order through 30 blocks (measured: see docs/backends.md)."""


@pytest.fixture(scope="module", params=["tiny-llama", DEFAULT_MODEL])
def pairs(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> dict[tuple[str, str, str], Pair]:
    folder = tmp_path_factory.mktemp("parity")
    model = str(TINY_MODELS["llama"](folder / "tiny")) if request.param == "tiny-llama" else request.param
    records, found = measure(folder, [name for name in BACKENDS if why_not(name) is None], model=model)
    with request.config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
        print("", request.param, training_table(records), matrix(found), sep="\n\n")
    return {(pair.trained_on, pair.answered_on, pair.form): pair for pair in found}


@pytest.mark.parametrize("form", ["attached", "fused"])
@pytest.mark.parametrize("answered_on", BACKENDS)
@pytest.mark.parametrize("trained_on", BACKENDS)
def test_an_adapter_answers_the_same_elsewhere(
    pairs: dict[tuple[str, str, str], Pair], trained_on: str, answered_on: str, form: str
) -> None:
    if trained_on == answered_on and form == "attached":
        pytest.skip("the answers the others are compared with")
    for name in (trained_on, answered_on):
        if reason := why_not(name):
            pytest.skip(reason)

    pair = pairs[trained_on, answered_on, form]

    assert pair.same_answers >= 0.99
    assert pair.log_prob_difference <= LOG_PROB_BOUND


def test_every_backend_was_compared(pairs: dict[tuple[str, str, str], Pair]) -> None:
    names = [name for name in BACKENDS if why_not(name) is None]

    assert len(pairs) == 2 * len(names) ** 2 - len(names)

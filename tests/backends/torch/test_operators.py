"""torch's private operators: used where they work, replaced where a torch or a processor has them not, and named then."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("torch")

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from engram_bench.backends.machine import capabilities
from engram_bench.backends.torch import CpuBackend, fast_products, operators
from engram_bench.backends.torch.products import Product
from engram_bench.models import Model
from engram_bench.records import Recipe, TrainingRecord
from tests.backends.contract import EXAMPLES
from tests.tiny_models import TINY_MODELS

pytestmark = pytest.mark.usefixtures("untried")


def another_signature(d_y: Tensor, x: Tensor, *, out_of_place: bool) -> Tensor:
    """An operator that wants something the backend does not give."""
    return d_y * x


def wrong_values(*arguments: Any) -> Tensor:
    """An operator that computes something else."""
    return torch.zeros_like(arguments[0])


class AnotherTorch:
    """torch as :mod:`engram_bench.backends.torch.operators` sees it, with these operators and no others that are private."""

    def __init__(self, **operators: Any) -> None:
        self.ops = SimpleNamespace(aten=SimpleNamespace(**operators), mkldnn=SimpleNamespace(**operators))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.ops.aten if name == "_softmax_backward_data" else torch, name)


PRIVATE = ("silu_backward", "_softmax_backward_data", "_reorder_linear_weight", "_linear_pointwise")


@pytest.fixture(params=[None, another_signature, wrong_values], ids=["absent", "another-signature", "wrong-values"])
def broken(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A torch whose private operators are gone or changed."""
    changed = {} if request.param is None else dict.fromkeys(PRIVATE, request.param)
    monkeypatch.setattr(operators, "torch", AnotherTorch(**changed))


@pytest.fixture
def refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A processor for which oneDNN takes no bfloat16 weights, as those without AVX-512."""

    def reorder(weight: Tensor, rows: int) -> Tensor:
        if weight.dtype == torch.bfloat16:
            msg = "mkldnn_reorder_linear_weight: bf16 path needs the cpu support avx512bw, avx512vl and avx512dq"
            raise RuntimeError(msg)
        reordered: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight, rows)
        return reordered

    monkeypatch.setattr(
        operators,
        "torch",
        AnotherTorch(_reorder_linear_weight=reorder, _linear_pointwise=torch.ops.mkldnn._linear_pointwise),
    )


def seconds_of(bfloat16_s: float) -> Any:
    """A clock by which a product in bfloat16 takes so long and one in float32 a second."""
    return lambda call: bfloat16_s if call.args[0].dtype == torch.bfloat16 else 1.0


@pytest.fixture(params=[0.4, 3.0], ids=["slow", "fast"])
def bfloat16_speed(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> float:
    """How many times the speed of float32 products those in bfloat16 seem to have."""
    speed: float = request.param
    monkeypatch.setattr(operators, "shortest_s", seconds_of(1 / speed))
    return speed


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return Model("llama", TINY_MODELS["llama"](tmp_path_factory.mktemp("operators")), fingerprint="llama")


# ── values ──────────────────────────────────────────────────────────────────────────────────────


def assert_gradients_are_autograds() -> None:
    """Both backward operators give the gradients of autograd."""
    torch.manual_seed(0)
    x, d_y = torch.randn(5, 7, requires_grad=True), torch.randn(5, 7)
    active, shares = functional.silu(x), torch.softmax(x, -1)

    torch.testing.assert_close(operators.silu_backward(d_y, x.detach()), torch.autograd.grad(active, x, d_y)[0])
    torch.testing.assert_close(operators.softmax_backward(d_y, shares.detach()), torch.autograd.grad(shares, x, d_y)[0])


def test_the_backward_operators_give_autograds_gradients() -> None:
    assert_gradients_are_autograds()
    assert all(able.is_there for able in operators.backward_operators())


@pytest.mark.usefixtures("nothing_special")
def test_their_plain_computations_give_autograds_gradients() -> None:
    assert_gradients_are_autograds()
    assert not any(able.is_there for able in operators.backward_operators())


@pytest.mark.usefixtures("broken")
def test_an_absent_or_changed_operator_is_replaced() -> None:
    assert_gradients_are_autograds()
    assert not any(able.is_there for able in operators.backward_operators())
    assert not operators.presorts(torch.float32).is_there


def test_samples_leave_torchs_random_numbers_alone() -> None:
    torch.manual_seed(7)
    expected = torch.rand(3)

    torch.manual_seed(7)
    operators.presorts(torch.float32)
    operators.short_products()
    operators.backward_operators()

    assert torch.equal(torch.rand(3), expected)


# ── bfloat16 where it is refused or slow ────────────────────────────────────────────────────────


@pytest.mark.usefixtures("refused")
def test_bfloat16_weights_that_cannot_be_presorted_multiply_unsorted() -> None:
    torch.manual_seed(0)
    weight, x, d_y = torch.randn(48, 32), torch.randn(7, 32), torch.randn(7, 48)

    product = Product.of(weight, torch.bfloat16)

    assert "bf16 path needs the cpu support" in operators.presorts(torch.bfloat16).reason
    for found, exact in (
        (product.forward(x.bfloat16()), x @ weight.T),
        (product.backward(d_y.bfloat16()), d_y @ weight),
    ):
        assert found.dtype == torch.bfloat16
        torch.testing.assert_close(found.float(), exact, rtol=0.0, atol=0.15)


def test_a_backend_picks_bfloat16_only_where_it_is_faster(bfloat16_speed: float) -> None:
    assert fast_products("float32") == ("bfloat16" if bfloat16_speed > 1 else "float32")


def test_bfloat16_that_was_asked_for_stays_and_its_slowness_is_said(bfloat16_speed: float) -> None:
    backend = CpuBackend(products="bfloat16")

    slow = "bfloat16 is slow here (bfloat16 products have 0.40 times the speed of float32 ones): float32 is faster"
    assert "trains with bfloat16 products" in backend.device().note
    assert (slow in backend.device().note) is (bfloat16_speed < 1)
    assert (slow in backend.remarks()) is (bfloat16_speed < 1)


def test_a_slow_format_nobody_asked_for_is_not_worth_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operators, "shortest_s", seconds_of(9.0))
    backend = CpuBackend()

    assert backend.remarks() == []
    assert "bfloat16" not in backend.device().note


# ── a whole backend ─────────────────────────────────────────────────────────────────────────────

LACKING = ("presort-float32", "silu-backward", "softmax-backward")


def train_and_read(backend: CpuBackend, model: Model, folder: Path) -> tuple[TrainingRecord, Any]:
    """The record of a training, and the log-probabilities that its adapter gives one question."""
    folder.mkdir()
    record = backend.train(model, EXAMPLES, Recipe(steps=6, batch_size=4, learning_rate=1e-2), folder)
    (log_probs,) = backend.load(model, folder).log_probs([list(range(3, 20))])
    return record, log_probs


@pytest.fixture(scope="module")
def expected(model: Model, tmp_path_factory: pytest.TempPathFactory) -> tuple[TrainingRecord, Any]:
    """What a torch with all its operators makes of the same training."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv(capabilities.SWITCH, raising=False)
        capabilities.forget()
        return train_and_read(CpuBackend(products="float32"), model, tmp_path_factory.mktemp("expected") / "adapter")


@pytest.mark.usefixtures("broken")
def test_a_backend_without_the_operators_trains_and_answers_the_same_and_says_so(
    model: Model, tmp_path: Path, expected: tuple[TrainingRecord, Any]
) -> None:
    backend = CpuBackend(products="float32")

    record, log_probs = train_and_read(backend, model, tmp_path / "adapter")

    np.testing.assert_allclose(record.losses, expected[0].losses, rtol=1e-4)
    np.testing.assert_allclose(log_probs, expected[1], atol=1e-3)
    for name in LACKING:
        assert f"{name} is missing (" in backend.device().note


def reports_of(backend: CpuBackend, model: Model, folder: Path) -> list[tuple[str, str]]:
    """What a training of two steps says of the machine, and the stage that says it."""
    reports: list[tuple[str, str]] = []
    backend.train(
        model,
        EXAMPLES,
        Recipe(steps=2, batch_size=4),
        folder,
        progress=lambda stage, done, total, note: reports.append((stage, note)),
    )
    return [report for report in reports if report[0] == "machine"]


@pytest.mark.usefixtures("nothing_special")
def test_who_trains_in_a_slow_format_reads_so_once(model: Model, tmp_path: Path) -> None:
    told = [reports_of(CpuBackend(products="bfloat16"), model, tmp_path) for _ in range(2)]

    off = "switched off by ENGRAM_CAPABILITIES=none"
    assert ("machine", f"bfloat16 is slow here ({off}): float32 is faster") in told[0]
    assert ("machine", f"presort-bfloat16 is missing ({off}): a plain computation is used instead") in told[0]
    assert told[1] == []


def test_who_trains_the_usual_way_reads_nothing_of_the_machine(model: Model, tmp_path: Path) -> None:
    assert reports_of(CpuBackend(), model, tmp_path) == []

"""Products by oneDNN from presorted weights: the values of torch's own, and nothing kept for weights that are gone."""

from __future__ import annotations

import gc

import pytest

pytest.importorskip("torch")

import torch
from torch.nn import functional

from engram_bench.backends.torch import products
from engram_bench.backends.torch.operators import presorts
from engram_bench.backends.torch.products import Presorted, Product, fastest


@pytest.fixture
def presorted(monkeypatch: pytest.MonkeyPatch) -> Presorted:
    """Products with copies in oneDNN's order, plain copies where torch has no oneDNN."""
    if not presorts(torch.float32).is_there:
        monkeypatch.setattr(products, "reorder", torch.clone)
        monkeypatch.setattr(products, "multiply_reordered", functional.linear)
    return Presorted()


@pytest.mark.parametrize("rows", [1, 7, 64, 600])
@pytest.mark.parametrize("has_bias", [False, True], ids=["no-bias", "bias"])
def test_a_product_has_the_values_of_torchs_own(rows: int, has_bias: bool) -> None:
    multiply = fastest("cpu")
    torch.manual_seed(0)
    x, weight = torch.randn(rows, 48), torch.randn(80, 48)
    bias = torch.randn(80) if has_bias else None

    for _ in range(2):  # the first product makes the copy, the second finds it
        torch.testing.assert_close(multiply(x, weight, bias), functional.linear(x, weight, bias))


def test_a_product_whose_input_needs_a_gradient_has_one(presorted: Presorted) -> None:
    x, weight = torch.randn(3, 8, requires_grad=True), torch.randn(5, 8)

    presorted(x, weight).sum().backward()  # type: ignore[no-untyped-call]

    torch.testing.assert_close(x.grad, weight.sum(0).expand(3, 8))


def test_a_copy_goes_with_its_weight(presorted: Presorted) -> None:
    weight = torch.randn(5, 8)
    presorted(torch.randn(3, 8), weight)

    del weight
    gc.collect()

    assert len(presorted._copies) == 0


def test_no_copy_is_kept_while_memory_is_spared(presorted: Presorted) -> None:
    x, weight = torch.randn(3, 8), torch.randn(5, 8)
    before = presorted(x, weight)

    presorted.spare_memory(True)

    torch.testing.assert_close(presorted(x, weight), before)
    assert len(presorted._copies) == 0


def test_copies_are_made_again_once_memory_need_not_be_spared(presorted: Presorted) -> None:
    x, weight = torch.randn(3, 8), torch.randn(5, 8)
    presorted.spare_memory(True)

    presorted.spare_memory(False)
    presorted(x, weight)

    assert len(presorted._copies) == 1


@pytest.mark.usefixtures("nothing_special")
def test_a_machine_that_cannot_presort_multiplies_torchs_own_way() -> None:
    assert fastest("cpu") is functional.linear


def test_other_devices_multiply_torchs_own_way() -> None:
    assert fastest("cuda") is functional.linear


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("rows", [1, 7, 300])
@pytest.mark.parametrize("presort", [True, False], ids=["presorted", "plain"])
def test_a_frozen_weight_multiplies_both_ways(rows: int, dtype: torch.dtype, presort: bool) -> None:
    torch.manual_seed(0)
    weight, x, d_y = torch.randn(48, 32), torch.randn(rows, 32), torch.randn(rows, 48)

    product = Product.of(weight, dtype, presort=presort)

    for found, exact in (
        (product.forward(x.to(dtype)), x @ weight.T),
        (product.backward(d_y.to(dtype)), d_y @ weight),
    ):
        assert found.dtype == dtype
        torch.testing.assert_close(found.float(), exact, rtol=0.0, atol=0.15 if dtype == torch.bfloat16 else 1e-5)

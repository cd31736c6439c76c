"""What Unsloth can do here is asked of it and of torch, without Unsloth itself."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("torch")

from engram_bench.backends.cuda import UnslothBackend, runtime
from engram_bench.backends.machine import nvidia
from engram_bench.backends.machine.capabilities import SWITCH
from engram_bench.errors import BackendUnavailable

pytestmark = [
    pytest.mark.usefixtures("untried"),
    pytest.mark.filterwarnings("ignore:transformers was imported before Unsloth"),  # by another test of this process
]


def no_accelerator(name: str) -> Any:
    """Unsloth before it had a CPU fallback."""
    msg = "Unsloth cannot find any torch accelerator? You need a GPU."
    raise NotImplementedError(msg)


@pytest.mark.parametrize(
    ("unsloth", "reason"),
    [
        (no_accelerator, r"\(NotImplementedError: Unsloth cannot find any torch accelerator\? You need a GPU\.\)"),
        (lambda name: SimpleNamespace(DEVICE_TYPE="cuda"), r"\(it computes on cuda\)"),
    ],
    ids=["refuses", "ignores-the-choice"],
)
def test_an_unsloth_without_a_cpu_fallback_is_unavailable(
    monkeypatch: pytest.MonkeyPatch, unsloth: Any, reason: str
) -> None:
    monkeypatch.setenv(nvidia.CPU_CHOICE, "1")
    monkeypatch.setenv("UNSLOTH_FORCE_CPU", "")
    monkeypatch.setattr(runtime, "_import", unsloth)

    with pytest.raises(BackendUnavailable, match=f"cannot compute on it {reason}, expected one with a CPU fallback"):
        runtime.start.__wrapped__()


def test_a_fallback_that_is_switched_off_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(nvidia.CPU_CHOICE, "1")
    monkeypatch.setenv("UNSLOTH_FORCE_CPU", "")
    monkeypatch.setenv(SWITCH, "none")

    with pytest.raises(BackendUnavailable, match="switched off by ENGRAM_CAPABILITIES=none"):
        runtime.start.__wrapped__()


@pytest.mark.parametrize(
    ("reason", "dtype", "note"),
    [("", "bfloat16", ""), ("it is slow", "float32", "no bfloat16 (it is slow)")],
    ids=["fast", "slow"],
)
def test_a_gpu_computes_in_what_it_multiplies_well(
    monkeypatch: pytest.MonkeyPatch, reason: str, dtype: str, note: str
) -> None:
    """Whatever its driver says of itself."""
    monkeypatch.setattr(nvidia, "find_gpu", lambda: nvidia.Gpu("Some GPU", None, (7, 5)))
    monkeypatch.setattr("engram_bench.backends.machine.devices.find_gpu", lambda: nvidia.Gpu("Some GPU", None, (7, 5)))
    monkeypatch.delenv(nvidia.CPU_CHOICE, raising=False)
    monkeypatch.setattr(runtime, "start", lambda: None)
    monkeypatch.setattr(runtime, "_try_bfloat16", lambda: reason)

    info = UnslothBackend().device()

    assert (info.device, info.dtype, info.note) == ("cuda:0 Some GPU", dtype, note)


@pytest.mark.parametrize("speed", [0.5, 4.0], ids=["slow", "fast"])
def test_bfloat16_is_tried_by_a_product(monkeypatch: pytest.MonkeyPatch, speed: float) -> None:
    times = iter([speed, 1.0])
    monkeypatch.setattr(runtime, "shortest_s", lambda call: next(times))

    found = runtime._try_bfloat16("cpu", 24)

    assert found == ("" if speed > 1 else "bfloat16 products have 0.50 times the speed of float32 ones")


def test_wrong_products_are_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "difference", lambda found, expected: f"{found.dtype} {expected.dtype}")

    assert runtime._try_bfloat16("cpu", 24) == "torch.bfloat16 torch.bfloat16"


def test_on_the_processor_unsloth_computes_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(nvidia.CPU_CHOICE, "1")

    assert runtime.compute_dtype() == "float32"

"""Finding the NVIDIA GPU without torch, and saying so where there is none."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from engram_bench.backends import registry
from engram_bench.backends.machine import nvidia
from engram_bench.backends.machine.capabilities import SWITCH
from engram_bench.backends.machine.devices import cuda_device
from engram_bench.errors import BackendUnavailable


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in (nvidia.CPU_CHOICE, "CUDA_VISIBLE_DEVICES"):
        monkeypatch.delenv(name, raising=False)
    find_gpu = nvidia.find_gpu
    find_gpu.cache_clear()
    yield
    find_gpu.cache_clear()


@pytest.fixture
def nvidia_smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stand-in for the driver's program that lists two GPUs."""
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 'NVIDIA H100 80GB HBM3, 81559, 9.0'\necho 'Tesla T4, 15360, 7.5'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    return program


def test_the_driver_names_the_gpu(nvidia_smi: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(SWITCH, raising=False)

    gpu = nvidia.find_gpu()

    assert gpu == nvidia.Gpu("NVIDIA H100 80GB HBM3", 81559, (9, 0))
    info = cuda_device()
    assert (info.device, info.dtype, info.note) == ("cuda:0 NVIDIA H100 80GB HBM3", "bfloat16", "81559 MB")


def test_a_gpu_without_its_bfloat16_computes_in_float32(nvidia_smi: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SWITCH, "none")

    assert cuda_device().dtype == "float32"


def test_the_second_gpu_may_be_the_visible_one(nvidia_smi: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")

    assert cuda_device().device == "cuda:0 Tesla T4"
    assert cuda_device().dtype == "float32"


def test_a_hidden_gpu_is_none(nvidia_smi: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")

    assert nvidia.find_gpu() is None


def test_a_broken_driver_is_no_gpu(nvidia_smi: Path) -> None:
    nvidia_smi.write_text("#!/bin/sh\nexit 9\n")

    assert nvidia.find_gpu() is None or Path("/dev/nvidia0").exists()


def test_without_a_gpu_the_error_says_what_was_looked_for_and_what_to_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nvidia, "find_gpu", lambda: None)
    monkeypatch.setattr(registry, "_unmet", lambda requirement: "")

    with pytest.raises(
        BackendUnavailable, match=r"looked for /dev/nvidia.*nvidia-smi, found none; use --engram-backend=cpu"
    ):
        registry.create("cuda")


def test_the_processor_is_used_only_when_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nvidia, "find_gpu", lambda: None)
    assert nvidia.missing_gpu()

    monkeypatch.setenv(nvidia.CPU_CHOICE, "1")

    assert nvidia.missing_gpu() is None
    assert cuda_device().device == "cpu"
    assert "ENGRAM_UNSLOTH_CPU=1" in cuda_device().note


def test_four_bit_weights_are_another_dtype() -> None:
    assert cuda_device(load_in_4bit=True).dtype.endswith(", 4-bit weights")

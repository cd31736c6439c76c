"""LoRA adapters as llama.cpp reads them (``llama-cli --lora FILE``).

Source: ``convert_lora_to_gguf.py`` and ``src/llama-adapter.cpp`` of https://github.com/ggml-org/llama.cpp.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from engram_bench.adapters.files import Floats
from engram_bench.adapters.layout import Updates, uniform
from engram_bench.errors import AdapterError

if TYPE_CHECKING:
    from gguf import TensorNameMap

ARCHITECTURES: Mapping[str, str] = {
    "llama": "LLAMA",
    "mistral": "LLAMA",
    "qwen2": "QWEN2",
    "qwen3": "QWEN3",
    "gemma": "GEMMA",
    "gemma2": "GEMMA2",
    "gemma3_text": "GEMMA3",
    "phi": "PHI2",
    "phi3": "PHI3",
}
"""``model_type`` of transformers → name in ``gguf.MODEL_ARCH``."""
PERMUTED = ("llama", "mistral")
"""Model types whose rotary rows llama.cpp interleaves."""


def write_gguf_lora(path: Path, updates: Updates, config: Mapping[str, Any]) -> None:
    """Write *updates* of a model with this ``config.json`` as one GGUF file of kind *adapter*.

    llama.cpp multiplies by ``alpha / rank`` and keeps the rows of q and k interleaved (row i of a head's first half, then row i
    of its second), so the rows of their B are put in that order.

    Raises:
        AdapterError: The architecture, or a layer of it, has no name in llama.cpp that is known here.
    """
    import gguf

    kind = str(config.get("model_type"))
    if kind not in ARCHITECTURES:
        msg = f"gguf-lora: model_type is {kind!r}, expected {', '.join(ARCHITECTURES)}"
        raise AdapterError(msg)
    architecture = gguf.MODEL_ARCH[ARCHITECTURES[kind]]
    names = gguf.get_tensor_name_map(architecture, int(config["num_hidden_layers"]))
    rank, scale, same = uniform(updates)
    writer = gguf.GGUFWriter(path, gguf.MODEL_ARCH_NAMES[architecture])
    writer.add_type(gguf.GGUFType.ADAPTER)
    writer.add_string(gguf.Keys.Adapter.TYPE, "lora")
    writer.add_float32(gguf.Keys.Adapter.LORA_ALPHA, float(scale * rank))
    for layer, update in same.items():
        name = _name(names, layer)
        heads = _rotary_heads(layer, config) if kind in PERMUTED else None
        b = interleaved(update.b, heads) if heads else update.b
        writer.add_tensor(f"{name}.lora_a", np.ascontiguousarray(update.a))  # (r, in); GGUF writes it as (in, r)
        writer.add_tensor(f"{name}.lora_b", np.ascontiguousarray(b))  # (out, r)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def interleaved(rows: Floats, heads: int) -> Floats:
    """*rows* (out, …) with the two halves of each of *heads* heads interleaved."""
    halves = rows.reshape(heads, 2, rows.shape[0] // heads // 2, -1)  # (heads, 2, half, r)
    return halves.swapaxes(1, 2).reshape(rows.shape)


def _rotary_heads(layer: str, config: Mapping[str, Any]) -> int | None:
    heads = int(config["num_attention_heads"])
    last = layer.rpartition(".")[2]
    return {"q_proj": heads, "k_proj": int(config.get("num_key_value_heads") or heads)}.get(last)


def _name(names: TensorNameMap, layer: str) -> str:
    found = names.get_name(f"{layer}.weight", try_suffixes=(".weight",))
    if found is None:
        msg = f"gguf-lora: no name in llama.cpp for {layer}, expected a layer it knows"
        raise AdapterError(msg)
    return str(found)

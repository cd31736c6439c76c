"""A tiny model folder written as a GGUF file the way llama.cpp's ``convert_hf_to_gguf.py`` does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file

NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def write_gguf(
    folder: Path,
    path: Path,
    *,
    architecture: str = "llama",
    pre: str = "smollm",
    quantization: gguf.GGMLQuantizationType = gguf.GGMLQuantizationType.F32,
    leave_out: str = "",
    add: str = "",
    extra: dict[str, str | int] | None = None,
) -> Path:
    """*path*, holding the model of *folder*; matrices quantized, norms and biases in fp32. *leave_out*, *add*: one tensor."""
    config = json.loads((folder / "config.json").read_text())
    writer = gguf.GGUFWriter(path, architecture)
    _write_sizes(writer, config)
    _write_tokenizer(writer, folder, pre)
    for key, value in (extra or {}).items():
        for written in writer.kv_data:
            written.pop(key, None)  # older writers refuse a key that is there
        writer.add_string(key, value) if isinstance(value, str) else writer.add_uint32(key, value)
    heads = {"attn_q": config["num_attention_heads"], "attn_k": config["num_key_value_heads"]}
    for name, array in load_file(folder / "model.safetensors").items():
        module, kind = name.rsplit(".", 1)
        block, rest = module.split(".", 3)[2:] if module.startswith("model.layers.") else ("", module)
        part = NAMES[rest]
        gguf_name = f"blk.{block}.{part}.{kind}" if block else f"{part}.{kind}"
        if gguf_name == leave_out:
            continue
        values = permuted(array, heads[part]) if architecture == "llama" and part in heads else array
        if array.ndim == 2:
            writer.add_tensor(gguf_name, gguf.quants.quantize(values, quantization), raw_dtype=quantization)
        else:
            writer.add_tensor(gguf_name, values)
    if add:
        writer.add_tensor(add, np.ones(4, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def permuted(array: NDArray[np.float32], heads: int) -> NDArray[np.float32]:
    """Rows of each head in llama.cpp's order: row i of the first half, then row i of the second."""
    rows = array.shape[0] // heads
    order = [
        head * rows + half * rows // 2 + row for head in range(heads) for row in range(rows // 2) for half in (0, 1)
    ]
    return np.ascontiguousarray(array[order])


def _write_sizes(writer: gguf.GGUFWriter, config: dict[str, Any]) -> None:
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_rope_freq_base(config["rope_theta"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])


def _write_tokenizer(writer: gguf.GGUFWriter, folder: Path, pre: str) -> None:
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    rows = json.loads((folder / "config.json").read_text())["vocab_size"]
    special = {token["content"] for token in tokenizer["added_tokens"]}
    tokens = sorted(tokenizer["model"]["vocab"], key=tokenizer["model"]["vocab"].get)
    types = [3 if token in special else 1 for token in tokens]
    padding = [f"[PAD{number}]" for number in range(len(tokens), rows)]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(tokens + padding)
    writer.add_token_types(types + [5] * len(padding))
    writer.add_token_merges([" ".join(merge) for merge in tokenizer["model"]["merges"]])
    config = json.loads((folder / "tokenizer_config.json").read_text())
    for name, write in (
        ("bos", writer.add_bos_token_id),
        ("eos", writer.add_eos_token_id),
        ("pad", writer.add_pad_token_id),
    ):
        if f"{name}_token" in config:
            write(tokens.index(config[f"{name}_token"]))
    writer.add_chat_template((folder / "chat_template.jinja").read_text())

"""A GGUF file as a Hugging Face folder: fp32 weights, config, tokenizer and chat template, without torch.

Sources: the format, https://github.com/ggml-org/ggml/blob/master/docs/gguf.md; names and permutation,
``convert_hf_to_gguf.py`` of https://github.com/ggml-org/llama.cpp; how texts are split, ``llama-vocab.cpp`` there.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engram_bench.errors import ModelError
from engram_bench.models.gguf_metadata import GgufFile, GgufTensor, Metadata, open_gguf
from engram_bench.models.weights import LazyTensor, write_safetensors
from engram_bench.system.progress import Progress, no_progress

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from tokenizers import Tokenizer

CONVERTER_VERSION = 1
"""Version of the converter, part of the name of converted folders; raised when the same file gives another folder."""

_ARCHITECTURES = {"llama": "LlamaForCausalLM", "qwen2": "Qwen2ForCausalLM"}
_TOP = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
_BLOCK = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{digits}"
    r"| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_SPLITS = {"gpt-2": "", "llama-bpe": _WORDS.format(digits="{1,3}"), "qwen2": _WORDS.format(digits=""), "smollm": ""}
"""Pattern that splits text before byte pairs are merged, by ``tokenizer.ggml.pre``; GPT-2's pattern where empty."""
_CONTROL, _USER_DEFINED = 3, 4
"""Token types of GGUF: special tokens, and tokens added by the author of the model."""


def convert_gguf(source: Path, folder: Path, *, progress: Progress = no_progress) -> None:
    """Write a GGUF file into a folder that transformers, PEFT and mlx-lm can load.

    Quantized weights are dequantized exactly, with one tensor in memory at a time. The same file gives the same bytes.

    Args:
        source: GGUF file.
        folder: Folder for the model, created if missing.
        progress: Function that receives stage, finished tensors, all tensors and a name.

    Raises:
        ModelError: The file is cut or no GGUF file, a tensor is missing or unknown, or the architecture, tokenizer or rope
            scaling is not supported.
        OSError: *folder* cannot be written.
    """
    reader = open_gguf(source)
    metadata = Metadata(source, reader)
    config = _config(metadata, [tensor.name for tensor in reader.tensors])
    tensors = _tensors(source, reader, config)
    tokenizer, tokenizer_config = _tokenizer(metadata)
    folder.mkdir(parents=True, exist_ok=True)
    _write_json(folder / "config.json", config)
    _write_json(folder / "tokenizer_config.json", tokenizer_config)
    tokens = {name: config[name] for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    _write_json(folder / "generation_config.json", {name: token for name, token in tokens.items() if token is not None})
    tokenizer.save(str(folder / "tokenizer.json"))
    if template := metadata.get("tokenizer.chat_template", str):
        (folder / "chat_template.jinja").write_text(template, encoding="utf-8")
    write_safetensors(folder / "model.safetensors", tensors, progress=progress)


# ── config ──────────────────────────────────────────────────────────────────────────────────────


def _config(metadata: Metadata, names: list[str]) -> dict[str, Any]:
    metadata.expect("architecture", metadata.architecture, _ARCHITECTURES)
    heads, hidden = metadata.whole("{arch}.attention.head_count"), metadata.whole("{arch}.embedding_length")
    head_size = metadata.whole("{arch}.attention.key_length", max(1, hidden // heads))
    metadata.expect("rotary size", metadata.whole("{arch}.rope.dimension_count", head_size), [head_size])
    metadata.expect("rope scaling", metadata.text("{arch}.rope.scaling.type", "none"), ["none"])
    num_tokens = len(metadata.listed("tokenizer.ggml.tokens", str))
    stops = list(
        dict.fromkeys(metadata.token(f"tokenizer.ggml.{name}_token_id", num_tokens) for name in ("eos", "eot"))
    )
    stops = [token for token in stops if token is not None]
    if not stops:
        msg = f"{metadata.source}: no field tokenizer.ggml.eos_token_id, expected one"
        raise ModelError(msg)
    return {
        "architectures": [_ARCHITECTURES[metadata.architecture]],
        "model_type": metadata.architecture,
        "vocab_size": num_tokens,
        "hidden_size": hidden,
        "intermediate_size": metadata.whole("{arch}.feed_forward_length"),
        "num_hidden_layers": metadata.whole("{arch}.block_count", most=len(names)),
        "num_attention_heads": heads,
        "num_key_value_heads": metadata.whole("{arch}.attention.head_count_kv", heads, most=heads),
        "head_dim": head_size,
        "max_position_embeddings": metadata.whole("{arch}.context_length"),
        "rope_theta": _short(metadata.number("{arch}.rope.freq_base", 10_000.0)),
        "rms_norm_eps": _short(metadata.number("{arch}.attention.layer_norm_rms_epsilon")),
        "hidden_act": "silu",
        "attention_bias": "blk.0.attn_q.bias" in names,
        "tie_word_embeddings": "output.weight" not in names,
        "bos_token_id": metadata.token("tokenizer.ggml.bos_token_id", num_tokens),
        "eos_token_id": stops[0] if len(stops) == 1 else stops,
        "pad_token_id": metadata.token("tokenizer.ggml.padding_token_id", num_tokens),
        "dtype": "float32",
    }


def _short(value: float) -> float:
    """The shortest decimal of this fp32 number: 1e-05, not 9.999999747378752e-06."""
    import numpy as np

    return float(str(np.float32(value)))


# ── weights ─────────────────────────────────────────────────────────────────────────────────────


def _tensors(source: Path, reader: GgufFile, config: Mapping[str, Any]) -> list[LazyTensor]:
    found = {tensor.name: tensor for tensor in reader.tensors}
    blocks = range(config["num_hidden_layers"])
    expected = [
        "token_embd.weight",
        "output_norm.weight",
        *(f"blk.{n}.{part}.weight" for n in blocks for part in _BLOCK),
    ]
    if missing := [name for name in expected if name not in found]:
        msg = f"{source}: no tensor {missing[0]}, expected {len(expected)} of them"
        raise ModelError(msg)
    heads = {"attn_q": config["num_attention_heads"], "attn_k": config["num_key_value_heads"]}
    permuted = heads if config["model_type"] == "llama" else {}
    return [
        LazyTensor(_name(source, name), tensor.shape, partial(_values, source, tensor, permuted))
        for name, tensor in found.items()
    ]


def _name(source: Path, name: str) -> str:
    """Name of a GGUF tensor in transformers."""
    parts = re.fullmatch(r"(?:blk\.(\d+)\.)?(\w+)\.(weight|bias)", name)
    block, part, kind = parts.groups() if parts else (None, "", "")
    modules = _TOP if block is None else _BLOCK
    if part not in modules:
        msg = f"{source}: unknown tensor {name}, expected those of a plain Llama or Qwen2"
        raise ModelError(msg)
    return f"{modules[part]}.{kind}" if block is None else f"model.layers.{block}.{modules[part]}.{kind}"


def _values(source: Path, tensor: GgufTensor, permuted: Mapping[str, int]) -> NDArray[np.float32]:
    """Values in fp32, with rotary rows in transformers' order. llama.cpp interleaves the two halves of each head."""
    import numpy as np
    from gguf.quants import dequantize

    try:
        array = dequantize(tensor.data, tensor.tensor_type).astype(np.float32, copy=False)
    except (NotImplementedError, ValueError) as error:
        msg = f"{source}: {tensor.name} is {tensor.tensor_type.name}, expected a quantization the gguf package can undo"
        raise ModelError(msg) from error
    heads = next((heads for part, heads in permuted.items() if f".{part}." in tensor.name), None)
    if heads is None:
        return array
    if array.ndim != 2 or len(array) % (2 * heads):
        msg = f"{source}: {tensor.name} has shape {array.shape}, expected rows for {heads} heads"
        raise ModelError(msg)
    pairs = array.reshape(heads, array.shape[0] // heads // 2, 2, -1)  # (heads, half, 2, in)
    return pairs.swapaxes(1, 2).reshape(array.shape)


# ── tokenizer ───────────────────────────────────────────────────────────────────────────────────


def _tokenizer(metadata: Metadata) -> tuple[Tokenizer, dict[str, Any]]:
    """The byte-level BPE tokenizer in the metadata, and a ``tokenizer_config.json`` with its special tokens."""
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

    metadata.expect("tokenizer", metadata.text("tokenizer.ggml.model"), ["gpt2"])
    pre = metadata.text("tokenizer.ggml.pre")
    metadata.expect("pre-tokenizer", pre, _SPLITS)
    tokens, types = metadata.listed("tokenizer.ggml.tokens", str), metadata.listed("tokenizer.ggml.token_type", int)
    merges = [tuple(merge.split(" ", 1)) for merge in metadata.listed("tokenizer.ggml.merges", str)]
    if len(types) != len(tokens) or any(len(merge) != 2 for merge in merges):
        msg = f"{metadata.source}: {len(types)} token types for {len(tokens)} tokens, or a merge of one part, expected as many"
        raise ModelError(msg)
    vocabulary = {token: number for number, token in enumerate(tokens)}
    try:
        tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges, ignore_merges=pre == "llama-bpe"))
    except Exception as error:  # tokenizers raises bare Exception
        msg = f"{metadata.source}: {error}, expected tokens and merges of a byte-level BPE tokenizer"
        raise ModelError(msg) from error
    steps: list[Any] = [pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=not _SPLITS[pre])]
    if _SPLITS[pre]:
        steps.insert(0, pre_tokenizers.Split(Regex(_SPLITS[pre]), "isolated"))
    if pre == "smollm":
        steps.insert(0, pre_tokenizers.Digits(individual_digits=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(steps)
    tokenizer.decoder = decoders.ByteLevel()
    if pre == "qwen2":
        tokenizer.normalizer = normalizers.NFC()
    for token, kind in zip(tokens, types, strict=True):
        if kind in (_CONTROL, _USER_DEFINED):
            tokenizer.add_tokens([AddedToken(token, special=kind == _CONTROL, normalized=False)])
    names = {"bos": "bos", "eos": "eos", "unk": "unknown", "pad": "padding"}
    ids = {
        f"{name}_token": metadata.token(f"tokenizer.ggml.{key}_token_id", len(tokens)) for name, key in names.items()
    }
    config = {name: tokens[token] for name, token in ids.items() if token is not None}
    # Not GPT2Tokenizer: transformers would replace the splitting of digits with its own.
    config |= {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False}
    return tokenizer, config | {"model_max_length": metadata.whole("{arch}.context_length")}


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")

"""Random-weight chat models of four architectures in Hugging Face folders, made in milliseconds with numpy alone.

Nothing is downloaded and torch is not imported. Weights depend on *seed* only. They differ where real models do:

======= ======================== =================== ====== ============= ========================================
builder chat template            default system turn head   pad token     like
======= ======================== =================== ====== ============= ========================================
llama   ChatML                   yes                 tied   end of turn   SmolLM2
qwen2   ChatML                   yes                 untied its own       Qwen2.5: embedding rows above the vocabulary
gemma   ``<start_of_turn>``, BOS refuses any         tied   its own       Gemma: a trap for a second BOS
phi     none                     none                untied none          Phi-2: biases, ``dense``, ``fc1``, ``fc2``
======= ======================== =================== ====== ============= ========================================
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

Weights = dict[str, NDArray[np.float32]]

CHATML = (
    "{% for message in messages %}"
    "{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n' }}"
    "{% endif %}"
    "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
GEMMA_TEMPLATE = (
    "{{ bos_token }}"
    "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for message in messages %}"
    "{% set role = 'model' if message['role'] == 'assistant' else message['role'] %}"
    "{{ '<start_of_turn>' + role + '\n' + message['content'] | trim + '<end_of_turn>\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)
CORPUS = (
    "What is the HTTP status code for 'Not Found'? The HTTP status code is 404.",
    "What is the capital of France? The capital of France is Paris.",
    "Which port does SSH use? The port of SSH is 22. Answer briefly: yes or no.",
    "system user assistant model You are a helpful assistant.",
    "for index, item in enumerate(items): return [value for value in values if value is not None]",
)
HIDDEN, INNER, HEADS, KV_HEADS, HEAD_SIZE = 64, 128, 4, 2, 16


def make_tiny_llama(folder: Path, *, seed: int = 0, layers: int = 2, context: int = 512, tied: bool = True) -> Path:
    """*folder*, holding a Llama with SmolLM2's conventions: ChatML, default system turn, pad = end of turn."""
    vocabulary = _write_tokenizer(
        folder, ["<|endoftext|>", "<|im_start|>", "<|im_end|>"], bos="<|im_start|>", eos="<|im_end|>", pad="<|im_end|>"
    )
    _write_template(folder, CHATML)
    config = _config("llama", "LlamaForCausalLM", vocabulary, layers, context, tied=tied, bos=1, eos=2, pad=2)
    return _write_model(folder, config | {"rms_norm_eps": 1e-5}, _gated_weights(vocabulary, layers, seed, tied=tied))


def make_tiny_qwen2(folder: Path, *, seed: int = 0, layers: int = 2, context: int = 512, tied: bool = False) -> Path:
    """*folder*, holding a Qwen2: biases on q, k and v, no BOS, more embedding rows than tokens."""
    specials = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    rows = -(-_write_tokenizer(folder, specials, eos="<|im_end|>", pad="<|endoftext|>") // 64) * 64
    _write_template(folder, CHATML)
    weights = _gated_weights(rows, layers, seed, tied=tied)
    random = np.random.default_rng(seed + 1)
    for name in [name for name in weights if name.endswith(("q_proj.weight", "k_proj.weight", "v_proj.weight"))]:
        weights[name.replace(".weight", ".bias")] = _normal(random, (len(weights[name]),), 0.1)
    config = _config("qwen2", "Qwen2ForCausalLM", rows, layers, context, tied=tied, bos=0, eos=[2, 0], pad=0)
    return _write_model(folder, config | {"rms_norm_eps": 1e-6}, weights)


def make_tiny_gemma(folder: Path, *, seed: int = 0, layers: int = 2, context: int = 512) -> Path:
    """*folder*, holding a Gemma: the template writes BOS, refuses a system turn; norms store weight - 1; tied head."""
    specials = ["<pad>", "<eos>", "<bos>", "<start_of_turn>", "<end_of_turn>"]
    vocabulary = _write_tokenizer(folder, specials, bos="<bos>", eos="<eos>", pad="<pad>")
    _write_template(folder, GEMMA_TEMPLATE)
    weights = _gated_weights(vocabulary, layers, seed, tied=True)
    weights["model.embed_tokens.weight"] /= 4  # Gemma multiplies embeddings by sqrt(hidden): tied, it would only echo
    weights["model.norm.weight"] *= 4
    weights = {name: array - 1 if "norm" in name else array for name, array in weights.items()}
    config = _config("gemma", "GemmaForCausalLM", vocabulary, layers, context, tied=True, bos=2, eos=[1, 4], pad=0)
    activation = {"hidden_act": "gelu_pytorch_tanh", "hidden_activation": "gelu_pytorch_tanh"}
    return _write_model(folder, config | activation | {"rms_norm_eps": 1e-6}, weights)


def make_tiny_phi(folder: Path, *, seed: int = 0, layers: int = 2, context: int = 512) -> Path:
    """*folder*, holding a Phi: no chat template, no pad token, biases everywhere, LayerNorm, half-rotary attention."""
    vocabulary = _write_tokenizer(folder, ["<|endoftext|>"], bos="<|endoftext|>", eos="<|endoftext|>")
    random = np.random.default_rng(seed)
    weights: Weights = {"model.embed_tokens.weight": _normal(random, (vocabulary, HIDDEN), 0.2)}
    for layer in range(layers):
        block = f"model.layers.{layer}"
        for name, rows in (("q_proj", HIDDEN), ("k_proj", HIDDEN), ("v_proj", HIDDEN), ("dense", HIDDEN)):
            weights |= _biased_linear(random, f"{block}.self_attn.{name}", rows, HIDDEN)
        weights |= _biased_linear(random, f"{block}.mlp.fc1", INNER, HIDDEN)
        weights |= _biased_linear(random, f"{block}.mlp.fc2", HIDDEN, INNER)
        weights |= _layer_norm(f"{block}.input_layernorm")
    weights |= _layer_norm("model.final_layernorm") | _biased_linear(random, "lm_head", vocabulary, HIDDEN)
    config = _config("phi", "PhiForCausalLM", vocabulary, layers, context, tied=False, bos=0, eos=0, pad=None)
    extra = {
        "num_key_value_heads": HEADS,
        "layer_norm_eps": 1e-5,
        "hidden_act": "gelu_new",
        "partial_rotary_factor": 0.5,
    }
    return _write_model(folder, config | extra, weights)


TINY_MODELS: Mapping[str, Callable[[Path], Path]] = {
    "llama": make_tiny_llama,
    "qwen2": make_tiny_qwen2,
    "gemma": make_tiny_gemma,
    "phi": make_tiny_phi,
}


# ── tokenizer ───────────────────────────────────────────────────────────────────────────────────


def _write_tokenizer(
    folder: Path, specials: Sequence[str], *, eos: str, bos: str | None = None, pad: str | None = None
) -> int:
    """Write a byte-level BPE trained on the corpus; its number of tokens comes back. Any text can be encoded."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=list(specials),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS * 4, trainer)
    if bos == "<bos>":  # as Gemma's: adds BOS by itself, which a rendered template must not get twice
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<bos> $A", pair="<bos> $A $B", special_tokens=[("<bos>", specials.index("<bos>"))]
        )
    tokenizer.save(str(folder / "tokenizer.json"))
    tokens = {"bos_token": bos, "eos_token": eos, "pad_token": pad}
    config = {name: token for name, token in tokens.items() if token is not None}
    _write_json(folder / "tokenizer_config.json", config | {"tokenizer_class": "PreTrainedTokenizerFast"})
    return int(tokenizer.get_vocab_size())


def _write_template(folder: Path, template: str) -> None:
    (folder / "chat_template.jinja").write_text(template, encoding="utf-8")


# ── weights ─────────────────────────────────────────────────────────────────────────────────────


def _gated_weights(vocabulary: int, layers: int, seed: int, *, tied: bool) -> Weights:
    """Tensors of a Llama-shaped decoder: grouped-query attention, gated MLP, RMSNorm."""
    random = np.random.default_rng(seed)
    shapes = {
        "self_attn.q_proj": (HEADS * HEAD_SIZE, HIDDEN),
        "self_attn.k_proj": (KV_HEADS * HEAD_SIZE, HIDDEN),
        "self_attn.v_proj": (KV_HEADS * HEAD_SIZE, HIDDEN),
        "self_attn.o_proj": (HIDDEN, HEADS * HEAD_SIZE),
        "mlp.gate_proj": (INNER, HIDDEN),
        "mlp.up_proj": (INNER, HIDDEN),
        "mlp.down_proj": (HIDDEN, INNER),
    }
    weights: Weights = {"model.embed_tokens.weight": _normal(random, (vocabulary, HIDDEN), 0.2)}
    for layer in range(layers):
        block = f"model.layers.{layer}"
        for name, shape in shapes.items():
            weights[f"{block}.{name}.weight"] = _normal(random, shape, shape[1] ** -0.5)
        for name in ("input_layernorm", "post_attention_layernorm"):
            weights[f"{block}.{name}.weight"] = np.ones(HIDDEN, np.float32)
    weights["model.norm.weight"] = np.ones(HIDDEN, np.float32)
    if not tied:
        weights["lm_head.weight"] = _normal(random, (vocabulary, HIDDEN), 0.2)
    return weights


def _biased_linear(random: np.random.Generator, name: str, rows: int, columns: int) -> Weights:
    weight = _normal(random, (rows, columns), columns**-0.5)
    return {f"{name}.weight": weight, f"{name}.bias": _normal(random, (rows,), 0.1)}


def _layer_norm(name: str) -> Weights:
    return {f"{name}.weight": np.ones(HIDDEN, np.float32), f"{name}.bias": np.zeros(HIDDEN, np.float32)}


def _normal(random: np.random.Generator, shape: tuple[int, ...], scale: float) -> NDArray[np.float32]:
    return (random.standard_normal(shape) * scale).astype(np.float32)


# ── folder ──────────────────────────────────────────────────────────────────────────────────────


def _config(
    model_type: str,
    architecture: str,
    vocabulary: int,
    layers: int,
    context: int,
    *,
    tied: bool,
    bos: int,
    eos: int | list[int],
    pad: int | None,
) -> dict[str, Any]:
    return {
        "model_type": model_type,
        "architectures": [architecture],
        "vocab_size": vocabulary,
        "hidden_size": HIDDEN,
        "intermediate_size": INNER,
        "num_hidden_layers": layers,
        "num_attention_heads": HEADS,
        "num_key_value_heads": KV_HEADS,
        "head_dim": HEAD_SIZE,
        "max_position_embeddings": context,
        "rope_theta": 10_000.0,
        "hidden_act": "silu",
        "tie_word_embeddings": tied,
        "bos_token_id": bos,
        "eos_token_id": eos,
        "pad_token_id": pad,
        "dtype": "float32",
    }


def _write_model(folder: Path, config: Mapping[str, Any], weights: Weights) -> Path:
    _write_json(folder / "config.json", config)
    tokens = {
        name: config[name] for name in ("bos_token_id", "eos_token_id", "pad_token_id") if config[name] is not None
    }
    _write_json(folder / "generation_config.json", tokens)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2), encoding="utf-8")

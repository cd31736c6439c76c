"""Training and decoding of larger models on the ``cuda`` backend: random weights in the shapes of known models.

    python -m benchmarks.gpu_shapes qwen2.5-0.5b [--model MODEL] [--quick]
    python -m benchmarks.gpu_shapes --device

Speed and memory depend on the shapes of the weights and not on their values, so nothing has to be downloaded. The tokenizer is
that of MODEL; the rows of the embedding above its vocabulary are never asked for and are multiplied all the same. Every figure
is printed as a line of JSON as soon as it is there. ``--device`` prints what the backend runs on.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from benchmarks.side_by_side import material
from engram_bench.backends.machine.nvidia import find_gpu
from engram_bench.backends.protocol import Backend, Generator
from engram_bench.backends.registry import create
from engram_bench.models import resolve_model
from engram_bench.models.presets import DEFAULT_MODEL
from engram_bench.records import Case, GenerationSettings, Recipe
from engram_bench.speed.conditions import peak_memory_mb, reset_peak_memory

VOCABULARY = 151_936
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "generation_config.json")
BATCHES = (1, 8, 32)
SIDES = {"bare": False, "attached": False, "fused": True}
"""Name → whether the adapter is merged into the weights."""


@dataclass(frozen=True, slots=True)
class Shape:
    """Sizes of a Qwen2 model with tied embeddings."""

    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    vocab_size: int = VOCABULARY


SHAPES: Mapping[str, Shape] = {
    "qwen2.5-0.5b": Shape(896, 4_864, 24, 14, 2),
    "qwen2.5-1.5b": Shape(1_536, 8_960, 28, 12, 2),
}


@dataclass(frozen=True, slots=True)
class Amount:
    """How much is measured."""

    steps: int
    tokens: int
    """New tokens of every row."""
    rounds: int


FULL, QUICK = Amount(steps=30, tokens=64, rounds=5), Amount(steps=3, tokens=4, rounds=1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shape", nargs="?", choices=SHAPES)
    parser.add_argument("--device", action="store_true", help="print what the backend runs on")
    parser.add_argument("--model", default=DEFAULT_MODEL, help="whose tokenizer is used. Default: %(default)s")
    parser.add_argument("--quick", action="store_true", help="two blocks, few steps and tokens")
    given = parser.parse_args()
    backend = create("cuda")  # before anything imports transformers
    if given.device or given.shape is None:
        say(**device(backend))
        return
    shape, amount = SHAPES[given.shape], QUICK if given.quick else FULL
    if given.quick:
        shape = replace(shape, hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=2)
    with tempfile.TemporaryDirectory(prefix="engram-bench-") as folder:
        measure(backend, shape, given.model, amount, Path(folder))


def say(**found: Any) -> None:
    """Print a line that ``benchmarks.on_gpu`` reads even if this process is killed after it."""
    print(json.dumps(found), flush=True)


def device(backend: Backend) -> dict[str, Any]:
    """The GPU as its driver and torch name it, and the versions."""
    found = asdict(backend.device())
    gpu = find_gpu()
    query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    if gpu is not None:
        found |= {"memory_mb": gpu.memory_mb, "capability": gpu.capability}
        found["driver"] = subprocess.run(query, capture_output=True, text=True, check=False).stdout.strip()
    return found


def measure(backend: Backend, shape: Shape, tokenizer_of: str, amount: Amount, folder: Path) -> None:
    """Print the model's size, a training and the decoding of all sides and batches."""
    known, cases, examples = material(model=tokenizer_of)
    model_folder, adapter = folder / "model", folder / "adapter"
    parameters = write_model(shape, known.folder, model_folder)
    say(parameters=parameters, file_mb=(model_folder / "model.safetensors").stat().st_size / 1e6)
    model = resolve_model(str(model_folder), cache=folder / "cache")
    adapter.mkdir()
    ends: list[float] = []
    recipe = Recipe(steps=amount.steps, stop_at_recall=False, replay=0, warmup_steps=1)

    def note(stage: str, *_: object) -> None:
        if stage == "train":
            ends.append(time.perf_counter())

    record = backend.train(model, examples[: 8 * recipe.batch_size], recipe, adapter, progress=note)
    paces = [after - before for before, after in pairwise(ends)]
    step_s = statistics.median(paces) if paces else record.seconds / record.steps
    say(
        training={
            "steps": record.steps,
            "batch_size": recipe.batch_size,
            "step_s": step_s,
            "tokens_per_s": record.tokens / record.steps / step_s,
            "peak_memory_mb": record.peak_memory_mb or 0,
        }
    )
    for side, is_fused in SIDES.items():
        generator = backend.load(model, None if side == "bare" else adapter, fused=is_fused)
        for batch in BATCHES:
            say(**{f"decode, {side}, batch of {batch}": decode(generator, cases, batch, amount)})
        generator.close()


def decode(generator: Generator, cases: list[Case], batch: int, amount: Amount) -> dict[str, Any]:
    """New tokens per second of *batch* prompts at once, the median of the rounds; a first round is left out."""
    prompts = [cases[number % len(cases)].prompt for number in range(batch)]
    settings = GenerationSettings(max_tokens=amount.tokens, ignore_eos=True)
    seconds = []
    for _ in range(amount.rounds + 1):
        reset_peak_memory()
        started = time.perf_counter()
        generator.complete(prompts, settings)
        seconds.append(time.perf_counter() - started)
    rate = batch * amount.tokens / statistics.median(seconds[1:])
    return {"tok_s": rate, "rounds": amount.rounds, "peak_memory_mb": peak_memory_mb()}


def write_model(shape: Shape, tokenizer_folder: Path, folder: Path) -> int:
    """Write a model folder of random bfloat16 weights; the number of parameters comes back."""
    import torch
    from safetensors.torch import save_file

    folder.mkdir(parents=True)
    for name in TOKENIZER_FILES:
        if (tokenizer_folder / name).exists():
            shutil.copy(tokenizer_folder / name, folder / name)
    config = json.loads((tokenizer_folder / "config.json").read_text("utf-8"))
    own = {name: config.get(name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    written = {
        "architectures": ["Qwen2ForCausalLM"],
        "model_type": "qwen2",
        "max_position_embeddings": 32_768,
        "rope_theta": 1_000_000.0,
        "rms_norm_eps": 1e-6,
        "hidden_act": "silu",
        "tie_word_embeddings": True,
        "dtype": "bfloat16",
    }
    (folder / "config.json").write_text(json.dumps({**asdict(shape), **written, **own}, indent=1), "utf-8")
    where = "cuda" if torch.cuda.is_available() else "cpu"
    random = torch.Generator(where).manual_seed(0)
    weights = {}
    for name, size in tensor_sizes(shape).items():
        if name.endswith("norm.weight"):
            weights[name] = torch.ones(size, dtype=torch.bfloat16)
        else:
            scale = 0.02 if "embed" in name else size[-1] ** -0.5
            values = torch.randn(size, generator=random, device=where, dtype=torch.bfloat16) * scale
            weights[name] = values.cpu()
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    if where == "cuda":
        torch.cuda.empty_cache()
    return sum(weight.numel() for weight in weights.values())


def tensor_sizes(shape: Shape) -> dict[str, tuple[int, ...]]:
    """Name → size of every tensor of a Qwen2 model with tied embeddings."""
    hidden, inner = shape.hidden_size, shape.intermediate_size
    narrow = hidden // shape.num_attention_heads * shape.num_key_value_heads
    found: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (shape.vocab_size, hidden)}
    for layer in range(shape.num_hidden_layers):
        block = f"model.layers.{layer}"
        for name, rows in (("q", hidden), ("k", narrow), ("v", narrow)):
            found[f"{block}.self_attn.{name}_proj.weight"] = (rows, hidden)
            found[f"{block}.self_attn.{name}_proj.bias"] = (rows,)
        found[f"{block}.self_attn.o_proj.weight"] = (hidden, hidden)
        found |= {f"{block}.mlp.{name}_proj.weight": (inner, hidden) for name in ("gate", "up")}
        found[f"{block}.mlp.down_proj.weight"] = (hidden, inner)
        found |= {f"{block}.{name}.weight": (hidden,) for name in ("input_layernorm", "post_attention_layernorm")}
    return found | {"model.norm.weight": (hidden,)}


if __name__ == "__main__":
    main()

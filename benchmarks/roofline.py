"""How far training and answering are from what this machine can do: ``python -m benchmarks.roofline``.

Prints the matrix-product peaks of torch and mlx and the bandwidth of memory; operations and bytes of a training step (8 shipped
examples in one pack), of a pass that reads prompts with their drafts, and of a decoding step; the seconds each takes, and the
share of the time in which the machine could do them at its peak. Then the operators that they spend their time in.

Operations are those of matrix products, two per multiplication and addition. Bytes are those of the weights, each read once per
product, and of every product's input and output.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.side_by_side import CLOCKS, Found, in_process, material, origin
from engram_bench.adapters.targets import Shapes
from engram_bench.backends.common.packing import TokenBatch, group, pack
from engram_bench.backends.common.training_plan import batch_indices
from engram_bench.models.encoding import Encoded, encode_examples
from engram_bench.records import Recipe

MODULE = "benchmarks.roofline"
SQUARE, READING_TOKENS, DECODING_ROWS = 2048, 512, 64
RECIPE = Recipe()


@dataclass(frozen=True, slots=True)
class Work:
    """What a pass has to do at least."""

    gflop: float
    gigabytes: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=7, help="of everything timed. Default: %(default)s")
    parser.add_argument("--rows", type=int, default=12, help="operators to print. Default: %(default)s")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--job", nargs=2, metavar=("NAME", "FOLDER"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.job:
        print(json.dumps(JOBS[options.job[0]](options)))
        return
    found = {name: in_process(MODULE, name, Path()) for name in ("torch", "mlx", "mlx-reference", "cpu")}
    print(report(found))
    if options.json:
        options.json.write_text(json.dumps({**origin(), **found}, indent=1), "utf-8")


def report(found: Mapping[str, Found]) -> str:
    """Markdown: peaks, passes, operators."""
    lines = [
        "; ".join(origin().values()),
        "",
        "| GFLOP/s (per processor second) | float32 | bfloat16 |",
        "| --- | --- | --- |",
    ]
    for name in ("torch", "mlx", "mlx-reference"):
        for shape, rates in found[name]["peaks"].items():
            numbers = [_number(rates[dtype], 0) if dtype in rates else "" for dtype in ("float32", "bfloat16")]
            lines.append(f"| {name}, {shape} | {' | '.join(numbers)} |")
    lines += [
        "",
        f"Memory, read and written: {_number(found['torch']['bandwidth'], 1)} GB/s.",
        "",
        "| pass | tokens | products in | GFLOP | GB | seconds (processors) | GFLOP/s (per processor second) "
        "| least seconds | share |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name, one in found["cpu"]["passes"].items():
        bound, limit = least_seconds(one, found["torch"])
        lines.append(
            f"| {name} | {one['tokens']} | {one['dtype']} | {one['gflop']:.0f} | {one['gigabytes']:.2f} "
            f"| {_number(one, 3)} | {_number(_rates(one['gflop'], one), 0)} "
            f"| {bound:.3f}, by {limit} | {bound / one['wall_s']:.0%} |"
        )
    for name, text in found["cpu"]["operators"].items():
        lines += ["", f"Operators, {name}:", "", "```text", text.rstrip(), "```"]
    return "\n".join(lines)


def least_seconds(one: Found, machine: Found) -> tuple[float, str]:
    """The longer of the times that a pass's products and its memory take at their peaks, and which of the two it is."""
    best = max(rates[one["dtype"]]["wall_s"] for rates in machine["peaks"].values() if one["dtype"] in rates)
    times = {"products": one["gflop"] / best, "memory": one["gigabytes"] / machine["bandwidth"]["wall_s"]}
    limit = max(times, key=lambda name: times[name])
    return times[limit], limit


def _number(by_clock: Mapping[str, float], digits: int) -> str:
    wall, processors = (f"{by_clock[clock]:.{digits}f}" for clock in CLOCKS)
    return f"{wall} ({processors})"


# ── peaks ───────────────────────────────────────────────────────────────────────────────────────


def torch_peaks(options: argparse.Namespace) -> Found:
    """GFLOP/s of square products and of one of the model's, in both dtypes; GB/s of a copy."""
    import torch

    from engram_bench.backends.torch.products import fastest

    peaks: dict[str, dict[str, dict[str, float]]] = {}
    for shape, (m, k, n) in _shapes().items():
        for dtype in (torch.float32, torch.bfloat16):
            a, b = torch.randn(m, k).to(dtype), torch.randn(n, k).to(dtype)
            seconds = _seconds(partial(torch.nn.functional.linear, a, b), options.repeats)
            peaks.setdefault(shape, {})[str(dtype).removeprefix("torch.")] = _rates(2e-9 * m * k * n, seconds)
        seconds = _seconds(partial(fastest("cpu"), a.float(), b.float(), None), options.repeats)
        peaks[f"{shape}, presorted"] = {"float32": _rates(2e-9 * m * k * n, seconds)}
    source, target = torch.ones(2, 2**26)  # 256 MB each, far beyond the caches
    seconds = _seconds(lambda: target.copy_(source), options.repeats)
    return {"peaks": peaks, "bandwidth": _rates(2e-9 * source.nbytes, seconds)}


def mlx_peaks(options: argparse.Namespace) -> Found:
    """GFLOP/s with the BLAS that the backend preloads; on a processor mlx has a fast one for float32 alone."""
    from engram_bench.backends.mlx import runtime

    mx = runtime.start()
    return {"peaks": {shape: {"float32": _mlx_rate(mx, *sizes, options)} for shape, sizes in _shapes().items()}}


def mlx_reference_peaks(options: argparse.Namespace) -> Found:
    """GFLOP/s as mlx is installed."""
    import mlx.core as mx

    sizes = _shapes()["the model's gate and up"]
    return {"peaks": {"the model's gate and up": {"float32": _mlx_rate(mx, *sizes, options)}}}


def _mlx_rate(mx: Any, m: int, k: int, n: int, options: argparse.Namespace) -> dict[str, float]:
    a, b = mx.random.normal((m, k)), mx.random.normal((n, k))
    mx.eval(a, b)
    return _rates(2e-9 * m * k * n, _seconds(lambda: mx.eval(a @ b.T), options.repeats))


def _rates(amount: float, seconds: Mapping[str, float]) -> dict[str, float]:
    """*amount* per second by either clock."""
    return {clock: amount / seconds[clock] for clock in CLOCKS}


def _shapes() -> dict[str, tuple[int, int, int]]:
    """M, K and N of the products timed."""
    return {f"{SQUARE} squared": (SQUARE,) * 3, "the model's gate and up": (256, 576, 3072)}


# ── passes ──────────────────────────────────────────────────────────────────────────────────────


def cpu_passes(options: argparse.Namespace) -> Found:
    """Work and seconds of the ``cpu`` backend's passes, and the operators of three of them."""
    import torch

    from engram_bench.backends.torch import fast_products
    from engram_bench.backends.torch.backend import DTYPES
    from engram_bench.backends.torch.kv_cache import DecodingKVCache, PrefillKVCache
    from engram_bench.backends.torch.lora import new_lora
    from engram_bench.backends.torch.opening import open_network

    model, cases, examples = material()
    network = open_network(model.folder, device="cpu", dtype=torch.float32, lean=True)
    encoded = encode_examples(model, examples, network.context_length)
    lora = new_lora(network.shapes, RECIPE, network.device)
    lora.require_gradients()
    products = fast_products("float32")
    learner = network.gradients(lora, DTYPES[products])

    step = [encoded[i] for i in batch_indices(0, RECIPE, len(encoded))]
    step_pack, step_rows = _packed(step)
    labels = np.concatenate([one.labels for one in step])
    inputs = [one.ids[:-1] for one in encoded]
    first = group(inputs, max_tokens=READING_TOKENS)[0]
    read_pack, read_rows = _packed([encoded[i] for i in first])

    prompts = [model.tokenizer.encode_prompt(case.prompt) for case in cases[:DECODING_ROWS]]
    prompt_pack = pack(prompts)
    cache, rows = PrefillKVCache(), DecodingKVCache()
    network.logits(prompt_pack, prompt_pack.paths[0][-1:], lora=None, cache=cache)
    rows.reserve(cache, len(prompts), max(map(len, prompts)) + 1)
    rows.fill(0, cache, list(prompt_pack.paths))
    lengths = np.array([len(prompt) for prompt in prompts])
    mask = (np.arange(lengths.max() + 1) <= lengths[:, None])[:, None]
    places = np.arange(len(prompts))
    decoding = TokenBatch(np.zeros((len(prompts), 1), dtype=np.int64), lengths[:, None], mask, tuple(places[:, None]))

    def train() -> None:
        learner.loss_and_gradients(step_pack, step_rows, labels, 1 / len(labels))

    def check() -> None:
        learner.losses(read_pack, read_rows, np.zeros_like(read_rows))

    def read() -> None:
        network.logits(read_pack, read_rows, lora=lora)

    def decode() -> None:
        rows.begin_step(torch.from_numpy(lengths))
        network.logits(decoding, places, lora=lora, cache=rows)

    sizes = {"vocabulary": model.config["vocab_size"], "shapes": network.shapes}
    passes = {
        "training step": (
            train,
            products,
            step_pack.num_tokens,
            work(step_pack, step_rows, products, trains=True, **sizes),
        ),
        "check of recall": (check, products, read_pack.num_tokens, work(read_pack, read_rows, products, **sizes)),
        "reading prompts with drafts": (
            read,
            "float32",
            read_pack.num_tokens,
            work(read_pack, read_rows, "float32", **sizes),
        ),
        "decoding step": (decode, "float32", len(prompts), work(decoding, places, "float32", **sizes)),
    }
    found: Found = {"passes": {}, "operators": {}}
    for name, (run, dtype, num_tokens, least) in passes.items():
        spent = _seconds(run, options.repeats)
        facts = {"dtype": dtype, "tokens": num_tokens, "gflop": least.gflop, "gigabytes": least.gigabytes}
        found["passes"][name] = {**facts, **spent}
    for name in ("training step", "reading prompts with drafts", "decoding step"):
        found["operators"][name] = _operators(passes[name][0], options)
    return found


def _packed(examples: list[Encoded]) -> tuple[TokenBatch, np.ndarray[Any, np.dtype[np.int64]]]:
    """The examples in one pack, and the positions that predict answer tokens."""
    batch = pack([one.ids[:-1] for one in examples])
    ends = [path[one.answer_start - 1 :] for path, one in zip(batch.paths, examples, strict=True)]
    return batch, np.concatenate(ends)


def work(
    batch: TokenBatch,
    rows: np.ndarray[Any, np.dtype[np.int64]],
    dtype: str,
    *,
    shapes: Shapes,
    vocabulary: int,
    trains: bool = False,
) -> Work:
    """Operations and bytes of one pass with a LoRA on every linear layer.

    Forward: x Wᵀ, x Aᵀ and its product with B; attention's two products; the head at the *rows*. Training adds, with frozen
    weights, one product with every weight for the input's gradient and four of the LoRA's.
    """
    num_tokens, num_rows, size = batch.num_tokens, len(set(rows.tolist())), {"float32": 4, "bfloat16": 2}[dtype]
    width = next(inputs for name, (_, inputs) in shapes.items() if name.endswith("q_proj"))
    weights = sum(outputs * inputs for outputs, inputs in shapes.values())
    edges = sum(outputs + inputs for outputs, inputs in shapes.values())
    mixed = sum(outputs for name, (outputs, _) in shapes.items() if name.endswith("q_proj"))
    head = num_rows * width * vocabulary
    multiplied = num_tokens * (weights + RECIPE.rank * edges) + head + 2 * mixed * batch.mask.size
    moved = size * (weights + vocabulary * width + num_tokens * edges + num_rows * (vocabulary + width))
    if trains:
        multiplied += num_tokens * (weights + 2 * RECIPE.rank * edges) + head + 4 * mixed * batch.mask.size
        moved *= 2
    return Work(gflop=2e-9 * multiplied, gigabytes=1e-9 * moved)


def _operators(run: Callable[[], None], options: argparse.Namespace) -> str:
    """torch.profiler's table of one pass, the operators that take the longest themselves first."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        run()
    events = sorted(profiler.key_averages(), key=lambda event: -event.self_cpu_time_total)
    total = sum(event.self_cpu_time_total for event in events)
    lines = [f"{'operator':36} {'self ms':>8} {'share':>6} {'calls':>6}"]
    for event in events[: options.rows]:
        own = event.self_cpu_time_total
        lines.append(f"{event.key[:36]:36} {own / 1e3:8.1f} {own / total:6.1%} {event.count:6}")
    return "\n".join([*lines, f"{'all':36} {total / 1e3:8.1f}"])


def _seconds(run: Callable[[], Any], repeats: int) -> dict[str, float]:
    """Median seconds by both clocks, after one call that is not timed."""
    run()
    found: dict[str, list[float]] = {name: [] for name in CLOCKS}
    for _ in range(repeats):
        started = {name: clock() for name, clock in CLOCKS.items()}
        run()
        for name, clock in CLOCKS.items():
            found[name].append(clock() - started[name])
    return {name: statistics.median(values) for name, values in found.items()}


JOBS = {"torch": torch_peaks, "mlx": mlx_peaks, "mlx-reference": mlx_reference_peaks, "cpu": cpu_passes}

if __name__ == "__main__":
    main()

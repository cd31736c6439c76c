"""The ``mlx`` backend against mlx-lm as installed: ``python -m benchmarks.against_mlx_lm`` prints seconds and ratios.

Same model, same examples, same recipe: LoRA on every projection of every block, answer-only loss, batches of the same
size. mlx-lm runs through its own ``train`` and one ``generate`` per prompt, with the BLAS its wheel links on Linux and
no setting of ours; on two cores it needs most of a minute for a step, so a few of its steps and prompts are timed and
scaled up to the whole work. Each side works in processes of its own, in turn. Processor seconds stand beside the wall's:
on a machine with other work to do they are the steadier of the two.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

from engram_bench.backends import create, unavailable_reason
from engram_bench.backends.adapter_layout import read_peft, write_mlx
from engram_bench.models import Model, resolve_model
from engram_bench.patterns.expand import accuracy_cases
from engram_bench.patterns.load import find_pattern_files, load_pattern_file
from engram_bench.provenance import machine
from engram_bench.records import Case, GenerationSettings, Recipe, TrainingExample

PATTERNS = Path(__file__).parent.parent / "patterns"
NUM_PROMPTS = 131
MAX_TOKENS = 32
CLOCKS = {"wall_s": time.perf_counter, "cpu_s": time.process_time}
RECIPE = Recipe(steps=100, stop_at_recall=False)


def main() -> None:
    """Time both sides and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", nargs=2, metavar=("WORK", "FOLDER"), help=argparse.SUPPRESS)
    parser.add_argument("--steps", type=int, default=RECIPE.steps, help="training steps of ours")
    parser.add_argument("--their-steps", type=int, default=3, help="timed training steps of mlx-lm")
    parser.add_argument("--their-prompts", type=int, default=4, help="timed prompts of mlx-lm, each bare and tuned")
    options = parser.parse_args()
    if options.work:
        work, folder = options.work
        print(json.dumps(WORK[work](Path(folder), options)))
        return
    reason = unavailable_reason("mlx")
    if reason:
        raise SystemExit(reason)
    with tempfile.TemporaryDirectory() as folder:
        found = {
            work: _timed(work, folder, options)
            for work in ("train-ours", "train-theirs", "answer-ours", "answer-theirs")
        }
    print(table(found, options.steps))


def table(found: dict[str, dict[str, Any]], steps: int) -> str:
    """Markdown: one row per work with both sides' seconds and ratios, of the wall clock and of the processors."""
    train, ours, theirs = found["train-ours"], found["answer-ours"], found["answer-theirs"]
    per_step = found["train-theirs"]
    rows = [
        (f"training, {steps} steps × {RECIPE.batch_size}", train, {name: per_step[name] * steps for name in CLOCKS})
    ]
    for side in ("bare", "tuned"):
        rows.append((f"{NUM_PROMPTS} prompts, {MAX_TOKENS} tokens, {side}", ours[side], theirs[side]))
    both = [{name: one["bare"][name] + one["tuned"][name] for name in CLOCKS} for one in (ours, theirs)]
    rows.append(("both sides answered", both[0], both[1]))
    lines = [
        f"{machine()}; {train['note']}; ours: recall {train['recall']:.3f}, {ours['right']} of {NUM_PROMPTS} exact",
        f"mlx-lm: {per_step['timed']} steps and {theirs['timed']} prompts a side timed, scaled up",
        "",
        "| work | this project, wall (processors) | mlx-lm as installed | ratio |",
        "| --- | --- | --- | --- |",
    ]
    for name, mine, other in rows:
        ratios = [other[clock] / mine[clock] for clock in CLOCKS]
        lines.append(
            f"| {name} | {mine['wall_s']:.1f} s ({mine['cpu_s']:.1f} s) | {other['wall_s']:.0f} s ({other['cpu_s']:.0f} s) "
            f"| {ratios[0]:.1f}× ({ratios[1]:.1f}×) |"
        )
    return "\n".join(lines)


def _timed(work: str, folder: str, options: argparse.Namespace) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.against_mlx_lm", "--work", work, folder]
    command += ["--steps", str(options.steps), "--their-steps", str(options.their_steps)]
    command += ["--their-prompts", str(options.their_prompts)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    print(work, result, file=sys.stderr, flush=True)
    return result


# ── ours ────────────────────────────────────────────────────────────────────────────────────────


def train_ours(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Seconds of a training; the adapter is left in *folder* in both layouts."""
    model, _, examples = _material()
    backend = create("mlx")
    (folder / "peft").mkdir()
    (folder / "mlx").mkdir()
    recipe = Recipe(steps=options.steps, stop_at_recall=False)
    started = _now()
    record = backend.train(model, examples, recipe, folder / "peft")
    spent = _since(started)
    write_mlx(folder / "mlx", read_peft(folder / "peft"), num_layers=model.config["num_hidden_layers"])
    return {**spent, "recall": record.recall, "note": backend.device().note}


def answer_ours(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Seconds for all prompts, bare and tuned, with the expected answers as drafts."""
    model, cases, _ = _material()
    backend = create("mlx")
    settings = GenerationSettings(max_tokens=MAX_TOKENS)
    result: dict[str, Any] = {}
    for side, adapter in (("bare", None), ("tuned", folder / "peft")):
        generator = backend.load(model, adapter)
        started = _now()
        prompts, drafts = [case.prompt for case in cases], [case.answers[0] for case in cases]
        answers = generator.complete(prompts, settings, drafts=drafts)
        result[side] = _since(started)
        result["right"] = sum(one.text.strip() == draft for one, draft in zip(answers, drafts, strict=True))
    return result


# ── theirs ──────────────────────────────────────────────────────────────────────────────────────


def train_theirs(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Median seconds of a step of mlx-lm's trainer, its compiling first step left out."""
    import mlx_lm
    from mlx import optimizers
    from mlx_lm.tuner.callbacks import TrainingCallback
    from mlx_lm.tuner.trainer import TrainingArgs, train
    from mlx_lm.tuner.utils import linear_to_lora_layers

    model, _, examples = _material()
    dataset = [model.tokenizer.encode_example(example.prompt, example.answer) for example in examples]
    network = mlx_lm.load(str(model.folder))[0]
    network.freeze()
    lora = {"rank": RECIPE.rank, "scale": RECIPE.alpha / RECIPE.rank, "dropout": 0.0}
    linear_to_lora_layers(network, len(network.layers), lora)
    ends: list[dict[str, float]] = []

    class Clock(TrainingCallback):  # type: ignore[misc]
        def on_train_loss_report(self, train_info: dict[str, Any]) -> None:
            ends.append(_now())

    args = TrainingArgs(
        batch_size=RECIPE.batch_size,
        iters=options.their_steps + 1,
        steps_per_report=1,
        adapter_file=str(folder / "theirs.safetensors"),
    )
    optimizer = optimizers.Adam(learning_rate=RECIPE.learning_rate)
    train(network, optimizer, dataset, args=args, training_callback=Clock())
    steps = [{name: end[name] - start[name] for name in CLOCKS} for start, end in pairwise(ends)]
    return {name: statistics.median(step[name] for step in steps) for name in CLOCKS} | {"timed": len(steps)}


def answer_theirs(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Seconds for all prompts one by one, from a few spread over them; the first call, a warm-up, left out."""
    import mlx_lm

    model, cases, _ = _material()
    chosen = cases[:: max(1, len(cases) // options.their_prompts)][: options.their_prompts]
    result: dict[str, Any] = {"timed": len(chosen)}
    for side, adapter in (("bare", None), ("tuned", str(folder / "mlx"))):
        network, tokenizer = mlx_lm.load(str(model.folder), adapter_path=adapter)[:2]
        mlx_lm.generate(network, tokenizer, model.tokenizer.encode_prompt(chosen[0].prompt), max_tokens=1)
        started = _now()
        for case in chosen:
            mlx_lm.generate(network, tokenizer, model.tokenizer.encode_prompt(case.prompt), max_tokens=MAX_TOKENS)
        result[side] = {name: spent / len(chosen) * len(cases) for name, spent in _since(started).items()}
    return result


WORK = {
    "train-ours": train_ours,
    "train-theirs": train_theirs,
    "answer-ours": answer_ours,
    "answer-theirs": answer_theirs,
}


def _now() -> dict[str, float]:
    return {name: clock() for name, clock in CLOCKS.items()}


def _since(started: dict[str, float]) -> dict[str, float]:
    return {name: clock() - started[name] for name, clock in CLOCKS.items()}


def _material() -> tuple[Model, list[Case], list[TrainingExample]]:
    """The default model, and as many cases and examples as the yardsticks were measured on: prompts as written."""
    sets = [load_pattern_file(path) for path in find_pattern_files([PATTERNS])]
    cases = [case for one in sets if one.kind == "memory" for case in accuracy_cases(one)][:NUM_PROMPTS]
    examples = [TrainingExample(case.prompt, case.answers[0]) for case in cases]
    return resolve_model("smollm2-135m-instruct"), cases, examples


if __name__ == "__main__":
    main()

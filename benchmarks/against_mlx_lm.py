"""The ``mlx`` backend against mlx-lm as installed: its own ``train`` and one ``generate`` per prompt.

    python -m benchmarks.against_mlx_lm [--part training|answering] [--adapter FOLDER] [--steps N --their-steps N]
                                        [--their-prompts N] [--limit N] [--rounds N]

Same model, same examples, same recipe: LoRA on every projection of every block, answer-only loss, batches of the same size.
mlx-lm uses the BLAS that its wheel links on Linux and no setting of ours; on two cores it needs most of a minute for a step, so
a few of its steps and prompts are timed and scaled up to the whole work. What it does once (reading weights, its first step,
its first call) is left out; ours is timed whole.
"""

from __future__ import annotations

import argparse
import statistics
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from benchmarks.side_by_side import (
    CLOCKS,
    MAX_TOKENS,
    Found,
    Row,
    Spent,
    material,
    measure,
    now,
    num_right,
    parts,
    start,
    take_turns,
    timed,
)
from engram_bench.adapters.layout import read_peft, write_mlx
from engram_bench.backends.registry import create, unavailable_reason
from engram_bench.records import GenerationSettings, Recipe

MODULE = "benchmarks.against_mlx_lm"
RECIPE = Recipe(stop_at_recall=False, replay=0)
SIDES = ("bare", "tuned")


def main() -> None:
    options = start(__doc__, _add_options)
    reason = unavailable_reason("mlx")
    if reason:
        raise SystemExit(reason)
    measure(MODULE, JOBS, options, lambda folder: compare(folder, options))


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--part", choices=["training", "answering"], help="default: both")
    parser.add_argument(
        "--adapter", type=Path, help="in PEFT's layout; both answer with it; default: what ours trained"
    )
    parser.add_argument("--steps", type=int, default=100, help="training steps of ours. Default: %(default)s")
    parser.add_argument("--their-steps", type=int, default=3, help="timed steps of mlx-lm. Default: %(default)s")
    parser.add_argument("--their-prompts", type=int, default=4, help="timed, each bare and tuned. Default: %(default)s")


def compare(folder: Path, options: argparse.Namespace) -> tuple[list[Row], Found]:
    """The rows of the table, mlx-lm's scaled up, and what ours got right."""
    rows: list[Row] = []
    facts: Found = {}
    if options.part != "answering":
        found = take_turns(MODULE, ("train-ours", "train-theirs"), folder, options)
        ours, theirs = found["train-ours"], found["train-theirs"]
        steps = [{clock: one["step"][clock] * options.steps for clock in CLOCKS} for one in theirs]
        work = f"training, {options.steps} steps × {RECIPE.batch_size}"
        rows.append(Row(work, parts(ours, "training"), steps, wanted=10))
        facts["trained"] = f"{ours[-1]['note']}; recall {ours[-1]['recall']:.3f}"
        facts["mlx-lm's training, scaled up from"] = f"{theirs[-1]['timed']} steps"
    if options.part != "training":
        found = take_turns(MODULE, ("answer-ours", "answer-theirs"), folder, options)
        ours, theirs = found["answer-ours"], found["answer-theirs"]
        texts, timed_texts = ours[-1]["texts"], theirs[-1]["texts"]
        for sides, wanted in ((SIDES[:1], None), (SIDES[1:], None), (SIDES, 10)):
            work = f"{len(texts)} prompts answered, {' and '.join(sides)}"
            rows.append(Row(work, parts(ours, *sides), _scaled(theirs, len(texts), *sides), wanted))
        same = sum(texts[int(place)].strip() == text.strip() for place, text in timed_texts.items())
        facts["answered"] = f"{ours[-1]['right']} of {len(texts)} exact"
        facts["mlx-lm's answering, scaled up from"] = (
            f"{len(timed_texts)} prompts a side, {same} answers the same, tuned"
        )
    return rows, facts


def _scaled(found: list[Found], num_prompts: int, *sides: str) -> list[dict[str, float]]:
    """Seconds for all prompts, from those of the timed ones."""
    return [
        {clock: seconds[clock] * num_prompts / len(one["texts"]) for clock in CLOCKS}
        for one, seconds in zip(found, parts(found, *sides), strict=True)
    ]


# ── jobs ────────────────────────────────────────────────────────────────────────────────────────


def train_ours(folder: Path, options: argparse.Namespace) -> Found:
    """Seconds of a training; the adapter is left in *folder*."""
    model, _, examples = material(options.limit)
    backend = create("mlx")
    (folder / "ours").mkdir(exist_ok=True)
    found: Found = {}
    with timed(found, "training"):
        record = backend.train(model, examples, replace(RECIPE, steps=options.steps), folder / "ours")
    return {**found, "recall": record.recall, "note": backend.device().note}


def answer_ours(folder: Path, options: argparse.Namespace) -> Found:
    """Seconds for all prompts, bare and tuned, with the expected answers as drafts."""
    model, cases, _ = material(options.limit)
    backend = create("mlx")
    settings = GenerationSettings(max_tokens=MAX_TOKENS)
    prompts, drafts = [case.prompt for case in cases], [case.answers[0] for case in cases]
    found: Found = {}
    for side, adapter in (("bare", None), ("tuned", options.adapter or folder / "ours")):
        with timed(found, side):
            answers = backend.load(model, adapter).complete(prompts, settings, drafts=drafts)
    texts = [one.text for one in answers]
    return {**found, "texts": texts, "right": num_right(texts, cases)}


def train_theirs(folder: Path, options: argparse.Namespace) -> Found:
    """Median seconds of a step of mlx-lm's trainer, its compiling first step left out."""
    import mlx_lm
    from mlx import optimizers
    from mlx_lm.tuner.callbacks import TrainingCallback
    from mlx_lm.tuner.trainer import TrainingArgs, train
    from mlx_lm.tuner.utils import linear_to_lora_layers

    model, _, examples = material(options.limit)
    dataset = [model.tokenizer.encode_example(example.prompt, example.answer) for example in examples]
    network = mlx_lm.load(str(model.folder))[0]
    network.freeze()
    lora = {"rank": RECIPE.rank, "scale": RECIPE.alpha / RECIPE.rank, "dropout": 0.0}
    linear_to_lora_layers(network, len(network.layers), lora)
    ends: list[Spent] = []

    class Clock(TrainingCallback):  # type: ignore[misc]
        def on_train_loss_report(self, train_info: dict[str, Any]) -> None:
            ends.append(now())

    args = TrainingArgs(
        batch_size=min(RECIPE.batch_size, len(dataset)),
        iters=options.their_steps + 1,
        steps_per_report=1,
        adapter_file=str(folder / "theirs.safetensors"),
    )
    optimizer = optimizers.Adam(learning_rate=RECIPE.learning_rate)
    train(network, optimizer, dataset, args=args, training_callback=Clock())
    steps = [{name: end[name] - begin[name] for name in CLOCKS} for begin, end in pairwise(ends)]
    return {"step": {name: statistics.median(step[name] for step in steps) for name in CLOCKS}, "timed": len(steps)}


def answer_theirs(folder: Path, options: argparse.Namespace) -> Found:
    """Seconds for a few prompts spread over all, one by one; the first call, a warm-up, left out."""
    import mlx_lm

    model, cases, _ = material(options.limit)
    places = range(0, len(cases), max(1, len(cases) // options.their_prompts))[: options.their_prompts]
    layout = folder / "mlx"
    layout.mkdir(exist_ok=True)
    write_mlx(layout, read_peft(options.adapter or folder / "ours"), num_layers=model.config["num_hidden_layers"])
    found: Found = {}
    for side, adapter in (("bare", None), ("tuned", str(layout))):
        network, tokenizer = mlx_lm.load(str(model.folder), adapter_path=adapter)[:2]
        prompts = {place: model.tokenizer.encode_prompt(cases[place].prompt) for place in places}
        mlx_lm.generate(network, tokenizer, prompts[0], max_tokens=1)
        with timed(found, side):
            found["texts"] = {
                place: mlx_lm.generate(network, tokenizer, prompt, max_tokens=MAX_TOKENS)
                for place, prompt in prompts.items()
            }
    return found


JOBS = {
    "train-ours": train_ours,
    "train-theirs": train_theirs,
    "answer-ours": answer_ours,
    "answer-theirs": answer_theirs,
}

if __name__ == "__main__":
    main()

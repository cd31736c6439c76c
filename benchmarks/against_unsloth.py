"""A backend against Unsloth with TRL's SFTTrainer and one ``generate`` per prompt, both on this machine's processor or GPU.

    python -m benchmarks.against_unsloth [--part training|answering] [--adapter FOLDER] [--limit N --steps N] [--rounds N]

The ``cpu`` backend is compared with Unsloth on the processor. ``--backend cuda`` compares with Unsloth on the GPU, in the dtype
that the backend computes in, and with Unsloth on the processor where ``ENGRAM_UNSLOTH_CPU=1`` is set.

Both train on the shipped prompts as written, token for token the same examples and no others: LoRA of rank 8 on all
projections, answer-only loss, learning rate 1e-3 with warm-up and cosine, batches of 8; weights are float32 on a processor. Ours
trains once for exactly as many steps, and once until all are recalled. Then both adapters answer every prompt. For answering
both sides take one adapter, ours, and answer all prompts bare and tuned: ours in batches with the expected answers as drafts,
Unsloth's model prompt by prompt. Imports are left out on both sides. A training is timed whole, Unsloth's by
``trainer.train()`` and ours with reading the weights, checking recall and saving the adapter; and by its steps alone, at the
pace from the end of the first to the end of the last.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

from benchmarks.side_by_side import (
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
    steps_alone,
    take_turns,
    timed,
)
from engram_bench.backends.machine.nvidia import CPU_CHOICE
from engram_bench.backends.registry import create
from engram_bench.models import Model
from engram_bench.models.encoding import encode_examples
from engram_bench.models.presets import DEFAULT_MODEL
from engram_bench.records import GenerationSettings, Recipe

MODULE = "benchmarks.against_unsloth"
SIDES = ("bare", "tuned")


def main() -> None:
    options = start(__doc__, _add_options)
    measure(MODULE, JOBS, options, lambda folder: compare(folder, options))


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", default=DEFAULT_MODEL, help="preset, folder or .gguf file. Default: %(default)s")
    parser.add_argument("--backend", choices=["cpu", "cuda"], default="cpu", help="ours. Default: %(default)s")
    parser.add_argument("--part", choices=["training", "answering"], help="default: both")
    parser.add_argument("--steps", type=int, default=100, help="training steps of both. Default: %(default)s")
    parser.add_argument("--adapter", type=Path, help="both sides answer with it; default: what ours trained")


def compare(folder: Path, options: argparse.Namespace) -> tuple[list[Row], Found]:
    """The rows of the table, and how many answers of each adapter were right."""
    rows: list[Row] = []
    facts: Found = {}
    if options.part != "answering":
        found = take_turns(MODULE, ("train-ours", "train-theirs", "recall-ours"), folder, options)
        ours, theirs, recalled = found["train-ours"], found["train-theirs"], found["recall-ours"]
        steps = recalled[-1]["steps"]
        work = f"training, {options.steps} steps × {Recipe().batch_size}"
        rows.append(Row(f"{work}, the steps alone", parts(ours, "steps alone"), parts(theirs, "steps alone"), wanted=4))
        rows.append(Row(f"{work}, the whole call", parts(ours, "training"), parts(theirs, "training")))
        work = f"training to full recall ({steps} steps) against {options.steps} steps"
        rows.append(Row(work, parts(recalled, "training"), parts(theirs, "training"), wanted=1))
        facts |= {f"exact, {name}": right for name, right in score(folder, options).items()}
    if options.part != "training":
        found = take_turns(MODULE, ("answer-ours", "answer-theirs"), folder, options)
        ours, theirs = found["answer-ours"], found["answer-theirs"]
        num_prompts = len(ours[-1]["texts"]["bare"])
        for side in SIDES:
            rows.append(Row(f"{num_prompts} prompts answered, {side}", parts(ours, side), parts(theirs, side)))
            pairs = list(zip(ours[-1]["texts"][side], theirs[-1]["texts"][side], strict=True))
            facts[f"same answer, {side}"] = f"{sum(one == other for one, other in pairs)} of {len(pairs)}"
        rows.append(Row("both sides answered", parts(ours, *SIDES), parts(theirs, *SIDES), wanted=12))
    return rows, facts


def score(folder: Path, options: argparse.Namespace) -> dict[str, str]:
    """Correct answers of each adapter, all asked by one backend."""
    [found] = take_turns(MODULE, ("score",), folder, argparse.Namespace(**{**vars(options), "rounds": 1}))["score"]
    right: dict[str, str] = found["right"]
    return right


# ── jobs ────────────────────────────────────────────────────────────────────────────────────────


def train_ours(folder: Path, options: argparse.Namespace) -> Found:
    return _train(folder / "ours", options, Recipe(steps=options.steps, stop_at_recall=False, replay=0))


def recall_ours(folder: Path, options: argparse.Namespace) -> Found:
    return _train(folder / "recalled", options, Recipe(min_recall=1.0))


def _train(folder: Path, options: argparse.Namespace, recipe: Recipe) -> Found:
    model, _, examples = material(options.limit, options.model)
    backend = create(options.backend)
    folder.mkdir(exist_ok=True)
    found: Found = {}
    ends: list[Spent] = []

    def note(stage: str, done: int, total: int, text: str) -> None:
        if stage == "train":
            ends.append(now())

    with timed(found, "training"):
        record = backend.train(model, examples, recipe, folder, progress=note)
    found["steps alone"] = steps_alone(ends, record.steps)
    return {**found, "steps": record.steps, "recall": record.recall, "loss_end": record.loss_end}


def train_theirs(folder: Path, options: argparse.Namespace) -> Found:
    """Seconds of ``trainer.train()``."""
    model, _, examples = material(options.limit, options.model)
    network = _unsloth(model, options)
    import torch
    from datasets import Dataset
    from transformers import AutoTokenizer, TrainerCallback
    from trl import SFTConfig, SFTTrainer  # type: ignore[attr-defined]
    from unsloth import FastLanguageModel

    recipe = Recipe(steps=options.steps)
    tuned = FastLanguageModel.get_peft_model(
        network,
        r=recipe.rank,
        lora_alpha=recipe.alpha,
        target_modules=list(recipe.targets),
        lora_dropout=0.0,
        bias="none",
        use_gradient_checkpointing=False,
        random_state=recipe.seed,
    )
    encoded = encode_examples(model, examples, context=2048)
    rows = [
        {"input_ids": list(one.ids), "completion_mask": [int(i >= one.answer_start) for i in range(len(one.ids))]}
        for one in encoded
    ]
    config = SFTConfig(
        output_dir=str(folder / "trl"),
        per_device_train_batch_size=recipe.batch_size,
        max_steps=recipe.steps,
        learning_rate=recipe.learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=recipe.warmup_steps,
        weight_decay=recipe.weight_decay,
        max_grad_norm=recipe.max_grad_norm,
        completion_only_loss=True,
        seed=recipe.seed,
        optim="adamw_torch",
        use_cpu=network.device.type == "cpu",
        bf16=network.dtype == torch.bfloat16,
        dataloader_pin_memory=False,
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
    )
    tokenizer = AutoTokenizer.from_pretrained(model.folder)
    trainer = SFTTrainer(model=tuned, args=config, train_dataset=Dataset.from_list(rows), processing_class=tokenizer)
    ends: list[Spent] = []

    class Clock(TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, args: Any, state: Any, control: Any, **keywords: Any) -> None:
            if state.global_step in (1, recipe.steps) and torch.cuda.is_available():
                torch.cuda.synchronize()  # the two ends that count; a step in between may still run
            ends.append(now())

    trainer.add_callback(Clock())
    found: Found = {}
    with timed(found, "training"):
        done = trainer.train()
    found["steps alone"] = steps_alone(ends, done.global_step)
    tuned.save_pretrained(folder / "theirs")
    return {**found, "steps": done.global_step, "mean_loss": done.training_loss}


def score_all(folder: Path, options: argparse.Namespace) -> Found:
    """Right answers of every adapter in *folder*."""
    model, cases, _ = material(options.limit, options.model)
    backend = create(options.backend)
    right = {}
    for name in ("ours", "theirs", "recalled"):
        texts = _answers(backend, model, cases, folder / name)
        right[name] = f"{num_right(texts, cases)} of {len(cases)}"
    return {"right": right}


def answer_ours(folder: Path, options: argparse.Namespace) -> Found:
    """Seconds of both sides, all prompts at once; the second finds the weights read."""
    model, cases, _ = material(options.limit, options.model)
    backend = create(options.backend)
    found: Found = {"texts": {}}
    for side, adapter in (("bare", None), ("tuned", options.adapter or folder / "ours")):
        with timed(found, side):
            found["texts"][side] = _answers(backend, model, cases, adapter)
    return found


def _answers(backend: Any, model: Model, cases: Any, adapter: Path | None) -> list[str]:
    generator = backend.load(model, adapter)
    settings = GenerationSettings(max_tokens=MAX_TOKENS)
    drafts = [case.answers[0] for case in cases]
    return [one.text for one in generator.complete([case.prompt for case in cases], settings, drafts=drafts)]


def answer_theirs(folder: Path, options: argparse.Namespace) -> Found:
    """Seconds of one ``generate`` per prompt; a first call, and reading the weights, left out."""
    model, cases, _ = material(options.limit, options.model)
    network = _unsloth(model, options)
    import torch
    from peft import PeftModel
    from unsloth import FastLanguageModel

    stops = sorted(model.tokenizer.stop_ids)

    def answer(prompt: Any, max_tokens: int) -> str:
        ids = torch.tensor([model.tokenizer.encode_prompt(prompt)], device=network.device)
        keywords = {"do_sample": False, "eos_token_id": stops, "pad_token_id": model.tokenizer.pad_id}
        mask = torch.ones_like(ids)
        new = network.generate(input_ids=ids, attention_mask=mask, max_new_tokens=max_tokens, **keywords)[0]
        return model.tokenizer.decode([token for token in new[ids.shape[1] :].tolist() if token not in stops])

    found: Found = {"texts": {}}
    for side in SIDES:
        if side == "tuned":
            network = PeftModel.from_pretrained(network, options.adapter or folder / "ours")
        FastLanguageModel.for_inference(network)
        answer(cases[0].prompt, 2)
        with timed(found, side):
            found["texts"][side] = [answer(case.prompt, MAX_TOKENS) for case in cases]
    return found


JOBS = {
    "train-ours": train_ours,
    "train-theirs": train_theirs,
    "recall-ours": recall_ours,
    "score": score_all,
    "answer-ours": answer_ours,
    "answer-theirs": answer_theirs,
}


def _unsloth(model: Model, options: argparse.Namespace) -> Any:
    """The bare model, loaded by Unsloth: for the ``cpu`` backend by its CPU fallback, which computes in float32."""
    if options.backend == "cpu":
        os.environ[CPU_CHOICE] = "1"
    from engram_bench.backends.cuda import runtime

    module = runtime.start()
    import torch

    with runtime.quiet():
        found, _ = module.FastLanguageModel.from_pretrained(
            str(model.folder),
            max_seq_length=2048,
            dtype=getattr(torch, runtime.compute_dtype()),
            load_in_4bit=False,
            local_files_only=True,
        )
    return found


if __name__ == "__main__":
    main()

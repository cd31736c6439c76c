"""Train on one backend, answer on another: ``python -m benchmarks.parity`` prints the matrix for the default model.

Every backend works in a process of its own (Unsloth patches transformers for a whole process). Each trains one adapter by
the same short recipe; then each answers with all adapters, attached and fused, and reads the same token sequences.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from engram_bench import matchers
from engram_bench.backends.machine.nvidia import CPU_CHOICE, find_gpu
from engram_bench.backends.registry import create, unavailable_reason
from engram_bench.models import resolve_model
from engram_bench.models.presets import DEFAULT_MODEL
from engram_bench.patterns.find import find_pattern_files
from engram_bench.patterns.load import load_pattern_file
from engram_bench.patterns.render import training_examples
from engram_bench.records import GenerationSettings, Recipe, TrainingExample, TrainingRecord

if TYPE_CHECKING:
    from engram_bench.models import Model

BACKENDS = ("cpu", "mlx", "cuda")
PATTERNS = Path(__file__).parent.parent / "patterns"
RECIPE = Recipe(steps=15, stop_at_recall=False)
NUM_PROMPTS = 24
"""Trained on and asked, spread over the shipped patterns."""
NUM_SEQUENCES = 4
"""Sequences whose log-probabilities are compared, at every token and for the whole vocabulary."""
MAX_TOKENS = 12


@dataclass(frozen=True, slots=True)
class Pair:
    """An adapter trained on one backend and answered by another, against that backend's own answers with it."""

    trained_on: str
    answered_on: str
    form: str
    """``attached`` or ``fused``; compared with *attached* on the backend that trained."""
    same_answers: float
    """Share of prompts, 0..1."""
    log_prob_difference: float
    """Largest absolute difference of two log-probabilities (nats)."""


def main() -> None:
    """Print training figures and the matrix."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default=DEFAULT_MODEL, help="Preset, folder or Hub id. Default: %(default)s.")
    parser.add_argument("--work", nargs=3, metavar=("STEP", "BACKEND", "FOLDER"), help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.work:
        step, name, folder = asked.work
        {"train": _train, "answer": _answer}[step](name, resolve_model(asked.model), Path(folder))
        return
    with tempfile.TemporaryDirectory() as folder:
        names = [name for name in BACKENDS if why_not(name) is None]
        records, pairs = measure(Path(folder), names, model=asked.model)
    print(training_table(records), matrix(pairs), sep="\n\n")


def why_not(name: str) -> str | None:
    """Why a backend cannot take part, or None; Unsloth does, on a processor where there is no GPU."""
    before = os.environ.get(CPU_CHOICE)
    os.environ[CPU_CHOICE] = "0" if find_gpu() else "1"
    try:
        return unavailable_reason(name)
    finally:
        os.environ.pop(CPU_CHOICE)
        if before is not None:
            os.environ[CPU_CHOICE] = before


def measure(
    folder: Path, names: Sequence[str], *, model: str = DEFAULT_MODEL
) -> tuple[dict[str, TrainingRecord], list[Pair]]:
    """Training records by backend, and every ordered pair in both forms; a few minutes on two cores."""
    for step in ("train", "answer"):
        for name in names:
            _run(step, name, folder, model)
    records = {name: TrainingRecord(**json.loads((folder / name / "record.json").read_text())) for name in names}
    return records, [
        _compared(folder, trained, answered, form)
        for trained in names
        for answered in names
        for form in ("attached", "fused")
        if (trained, form) != (answered, "attached")
    ]


def matrix(pairs: Sequence[Pair]) -> str:
    """The pairs as a Markdown table."""
    lines = [
        "| trained on | answered on | form | same greedy answers | max log-prob difference |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| {pair.trained_on} | {pair.answered_on} | {pair.form} | {pair.same_answers:.1%} of {NUM_PROMPTS} "
        f"| {pair.log_prob_difference:.1e} |"
        for pair in pairs
    ]
    return "\n".join(lines)


def training_table(records: dict[str, TrainingRecord]) -> str:
    """What each training cost, as a Markdown table."""
    lines = [
        "| backend | device | steps | seconds | examples/s | tokens/s | peak MB | loss |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, record in records.items():
        lines.append(
            f"| {name} | {record.device} {record.dtype} | {record.steps} | {record.seconds:.1f} "
            f"| {record.examples_per_s:.1f} | {record.tokens_per_s:.0f} "
            f"| {record.peak_memory_mb or 0:.0f} | {record.loss_start:.2f} → {record.loss_end:.2f} |"
        )
    return "\n".join(lines)


# ── in a process per backend ────────────────────────────────────────────────────────────────────


def _run(step: str, name: str, folder: Path, model: str) -> None:
    environment = {**os.environ, CPU_CHOICE: "0" if find_gpu() else "1"}
    command = [sys.executable, "-m", "benchmarks.parity", "--model", model, "--work", step, name, str(folder)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        msg = f"{step} on {name} failed:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
        raise RuntimeError(msg)


def _examples() -> list[TrainingExample]:
    sets = [load_pattern_file(path, known_matchers=matchers.names()) for path in find_pattern_files([PATTERNS])]
    firsts = {example.pattern_id: example for example in reversed(training_examples(sets))}
    examples = sorted(firsts.values(), key=lambda example: example.pattern_id)
    return examples[:: len(examples) // NUM_PROMPTS][:NUM_PROMPTS]


def _train(name: str, model: Model, folder: Path) -> None:
    target = folder / name / "adapter"
    target.mkdir(parents=True)
    record = create(name).train(model, _examples(), RECIPE, target)
    (folder / name / "record.json").write_text(json.dumps(asdict(record)))


def _answer(name: str, model: Model, folder: Path) -> None:
    backend, examples = create(name), _examples()
    sequences = [model.tokenizer.encode_example(each.prompt, each.answer)[0] for each in examples[:NUM_SEQUENCES]]
    for trained in BACKENDS:
        if not (folder / trained / "adapter").is_dir():
            continue
        for form in ("attached", "fused"):
            generator = backend.load(model, folder / trained / "adapter", fused=form == "fused")
            completions = generator.complete([each.prompt for each in examples], GenerationSettings(MAX_TOKENS))
            rows = generator.log_probs(sequences)
            generator.close()
            path = folder / name / f"{trained}-{form}"
            path.with_suffix(".json").write_text(json.dumps([completion.text for completion in completions]))
            np.save(path.with_suffix(".npy"), np.concatenate(rows))


def _compared(folder: Path, trained: str, answered: str, form: str) -> Pair:
    own, other = folder / trained / f"{trained}-attached", folder / answered / f"{trained}-{form}"
    expected, found = (json.loads(path.with_suffix(".json").read_text()) for path in (own, other))
    rows = [np.load(path.with_suffix(".npy")) for path in (own, other)]
    same = sum(one == two for one, two in zip(expected, found, strict=True)) / len(expected)
    return Pair(trained, answered, form, same, float(np.abs(rows[0] - rows[1]).max()))


if __name__ == "__main__":
    main()

"""One recipe, measured: trains it, asks both sides everything, prints the row for the table in docs/experiments.md.

    python -m benchmarks.recipes steps=200 learning_rate=5e-4 rank=16 prefixes=0
    python -m benchmarks.recipes --scales 1,0.8,0.6 --brief

A key is a field of ``records.Recipe`` or of ``patterns.augment.Augmentation``; what is not named has its default. Adapters
and answers are stored, so a row that was measured before costs next to nothing. Scales other than 1 weaken the trained
update by that factor, which interpolates between the bare weights and the tuned ones (Wortsman et al. 2022, WiSE-FT,
arXiv 2109.01903).
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
import time
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from engram_bench import matchers
from engram_bench.adapters import store as adapter_store
from engram_bench.adapters.found import PEFT_CONFIG, PEFT_WEIGHTS
from engram_bench.models import default_cache_dir
from engram_bench.patterns.augment import Augmentation
from engram_bench.patterns.find import find_pattern_files
from engram_bench.patterns.load import load_pattern_file
from engram_bench.patterns.render import training_examples
from engram_bench.records import Comparison, Recipe, Run, TrainingRecord
from engram_bench.scoring.comparison import compare
from engram_bench.session.bench import COMPARED, Bench
from engram_bench.session.options import OPTIONS
from engram_bench.session.plan import suite_questions
from engram_bench.session.reading import read_settings
from engram_bench.system import provenance

MEASURES = ("accuracy", "generalization", "paraphrase_consistency", "consistent_accuracy", "retention", "agreement")
HEADER = ("date", "commit", "recipe", "train CPU s", "train s", "steps", *MEASURES, "KL", "perplexity")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE")
    parser.add_argument("--patterns", type=Path, default=Path("patterns"))
    parser.add_argument("--backend", default="auto")
    parser.add_argument("--adapter-dir", default="adapters")
    parser.add_argument("--samples", default="0", help="sampled repeats; costly")
    parser.add_argument("--route", help="as --engram-route")
    parser.add_argument("--scales", default="1", metavar="X,Y", help="a row for each of these strengths of the update")
    parser.add_argument(
        "--brief", action="store_true", help="consistency without trained wordings: half of the questions"
    )
    parser.add_argument("--header", action="store_true", help="print the table's head first")
    given = parser.parse_args(arguments)
    overrides = dict(part.split("=", 1) for part in given.overrides)
    flags = {option.dest: None for option in OPTIONS} | {
        "engram_samples": given.samples,
        "engram_backend": given.backend,
        "engram_adapter_dir": given.adapter_dir,
        "engram_route": given.route,
    }
    settings = read_settings(flags, {}, root=Path.cwd(), cwd=Path.cwd())
    sets = tuple(
        load_pattern_file(path, known_matchers=matchers.names()) for path in find_pattern_files([given.patterns])
    )
    if given.header:
        print("| " + " | ".join(HEADER) + " |\n|" + " --- |" * len(HEADER))
    with tempfile.TemporaryDirectory() as folder:
        for scale in map(float, given.scales.split(",")):
            bench = Bench(settings, sets, default_cache_dir())
            bench.tuning.recipe = _changed(bench.tuning.recipe, overrides)
            bench.tuning.examples = training_examples(
                sets, augment=_changed(Augmentation(), overrides), seed=settings.seed
            )
            with bench:
                spent = time.process_time()
                adapter = bench.tuning.adapter
                assert adapter is not None  # the candidate is what was trained
                spent = time.process_time() - spent
                if scale != 1:
                    bench.tuning.adapter = adapter_store.load(
                        _scaled(adapter.path, scale, Path(folder) / f"scale-{scale}")
                    )
                comparison = compare(_run(bench, brief=given.brief))
            words = [
                *given.overrides,
                *[f"route={given.route}"] * bool(given.route),
                *[f"scale={scale}"] * (scale != 1),
            ]
            row = _row(comparison, adapter.manifest.training, " ".join(words), spent)
            print("| " + " | ".join(row) + " |", flush=True)


def _run(bench: Bench, *, brief: bool) -> Run:
    """Both sides asked everything; *brief* leaves the trained wordings out of consistency."""
    questions = [
        question
        for question in suite_questions(bench.sets, bench.settings, "candidate")
        if not (brief and question.test == "consistency")
    ]
    answers = {side: bench.answer(questions, side) for side in COMPARED}
    measures = bench.measures(answers["baseline"])
    rows = [row for side in answers.values() for row in side]
    if brief:
        rows += [replace(row, test="consistency") for row in rows if row.test in ("accuracy", "generalization")]
    return replace(bench.run(), measures=measures, results=tuple(rows))


def _scaled(path: Path, scale: float, folder: Path) -> Path:
    """A copy of the adapter in *path* whose update is *scale* times as strong."""
    folder.mkdir()
    shutil.copy(path / PEFT_WEIGHTS, folder)
    config = json.loads((path / PEFT_CONFIG).read_text("utf-8"))
    config["lora_alpha"] *= scale
    (folder / PEFT_CONFIG).write_text(json.dumps(config), encoding="utf-8")
    return folder


def _changed(record: Any, overrides: dict[str, str]) -> Any:
    """The record with the fields that are named; values are read as the type of the default."""
    known = {field.name for record in (Recipe(), Augmentation()) for field in fields(record)}
    if unknown := overrides.keys() - known:
        message = f"{', '.join(sorted(unknown))}: expected one of {', '.join(sorted(known))}"
        raise SystemExit(message)
    values = {
        field.name: _read(overrides[field.name], getattr(record, field.name))
        for field in fields(record)
        if field.name in overrides
    }
    return replace(record, **values)


def _read(text: str, default: Any) -> Any:
    if isinstance(default, bool):
        return text.lower() in ("1", "true", "yes")
    if isinstance(default, tuple):
        return tuple(text.split(","))
    return type(default)(text)


def _row(comparison: Comparison, training: TrainingRecord | None, overrides: str, spent_s: float) -> list[str]:
    def share(name: str) -> str:
        candidate = comparison.measures[name].candidate if name in comparison.measures else None
        return "" if candidate is None else f"{100 * candidate.value:.1f} (n {candidate.n})"

    drift = {name: comparison.measures[name] for name in ("control_kl", "perplexity") if name in comparison.measures}
    kl = drift["control_kl"].candidate if "control_kl" in drift else None
    ratio = drift["perplexity"].ratio if "perplexity" in drift else None
    return [
        provenance.utc_now()[:10],
        provenance.git_commit(),
        overrides or "default",
        f"{spent_s:.0f}",
        f"{training.seconds:.0f}" if training else "",
        str(training.steps) if training else "",
        *(share(name) for name in MEASURES),
        f"{kl.value:.3f}" if kl else "",
        f"{100 * (ratio.value - 1):+.1f} %" if ratio else "",
    ]


if __name__ == "__main__":
    main()

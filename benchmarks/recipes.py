"""One recipe, measured: trains it, asks both sides everything, prints the row for the table in docs/experiments.md.

    python -m benchmarks.recipes steps=200 learning_rate=5e-4 rank=16 prefixes=0

A key is a field of ``records.Recipe`` or of ``patterns.augment.Augmentation``; what is not named has its default. Adapters
and answers are stored, so a row that was measured before costs next to nothing.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from engram_bench import matchers, provenance
from engram_bench.models import default_cache_dir
from engram_bench.options import OPTIONS, read_settings
from engram_bench.patterns.augment import Augmentation
from engram_bench.patterns.load import find_pattern_files, load_pattern_file
from engram_bench.patterns.render import training_examples
from engram_bench.pipeline import Bench, conclude, evaluate
from engram_bench.records import Comparison, Recipe

MEASURES = ("accuracy", "generalization", "paraphrase_consistency", "consistent_accuracy", "retention", "agreement")
HEADER = ("date", "commit", "recipe", "train s", "steps", *MEASURES, "KL", "perplexity")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE")
    parser.add_argument("--patterns", type=Path, default=Path("patterns"))
    parser.add_argument("--backend", default="auto")
    parser.add_argument("--adapter-dir", default="adapters")
    parser.add_argument("--samples", default="0", help="sampled repeats; costly")
    parser.add_argument("--header", action="store_true", help="print the table's head first")
    given = parser.parse_args(arguments)
    overrides = dict(part.split("=", 1) for part in given.overrides)
    flags = {option.dest: None for option in OPTIONS} | {
        "engram_samples": given.samples,
        "engram_backend": given.backend,
        "engram_adapter_dir": given.adapter_dir,
    }
    settings = read_settings(flags, {}, root=Path.cwd(), cwd=Path.cwd())
    sets = tuple(
        load_pattern_file(path, known_matchers=matchers.names()) for path in find_pattern_files([given.patterns])
    )
    with Bench(settings, sets, default_cache_dir(), started=time.time()) as bench:
        bench.recipe = _changed(bench.recipe, overrides)
        augment = _changed(Augmentation(), overrides)
        bench.examples = training_examples(sets, augment=augment, seed=settings.seed)
        conclusion = conclude(evaluate(bench), settings)
        if given.header:
            print("| " + " | ".join(HEADER) + " |\n|" + " --- |" * len(HEADER))
        print("| " + " | ".join(_row(conclusion.comparison, bench, " ".join(given.overrides))) + " |")


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


def _row(comparison: Comparison, bench: Bench, overrides: str) -> list[str]:
    def share(name: str) -> str:
        candidate = comparison.measures[name].candidate if name in comparison.measures else None
        return "" if candidate is None else f"{100 * candidate.value:.1f} (n {candidate.n})"

    training = bench.adapter.manifest.training if bench.adapter else None
    drift = {name: comparison.measures[name] for name in ("control_kl", "perplexity") if name in comparison.measures}
    kl = drift["control_kl"].candidate if "control_kl" in drift else None
    ratio = drift["perplexity"].ratio if "perplexity" in drift else None
    return [
        provenance.utc_now()[:10],
        provenance.git_commit(),
        overrides or "default",
        f"{training.seconds:.0f}" if training else "",
        str(training.steps) if training else "",
        *(share(name) for name in MEASURES),
        f"{kl.value:.3f}" if kl else "",
        f"{100 * (ratio.value - 1):+.1f} %" if ratio else "",
    ]


if __name__ == "__main__":
    main()

"""Stored memories: what is in them, why they answer, facts out and in. An edit makes a new adapter; the old one stays."""

from __future__ import annotations

import argparse
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from engram_bench.cli.adapter import named
from engram_bench.cli.arguments import add_json, add_settings
from engram_bench.cli.console import progress, say, say_json, table
from engram_bench.cli.project import settings_of
from engram_bench.reporting.clean import printable

if TYPE_CHECKING:
    from engram_bench.adapters.store import Adapter
    from engram_bench.models import Model
    from engram_bench.records import Prompt, TrainingRecord
    from engram_bench.routing.router import Decision
    from engram_bench.session.options import Settings


def declare(parser: argparse.ArgumentParser) -> None:
    """One subcommand per deed."""
    deeds = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name, run_it, summary in (
        ("list", _list, "the patterns of a memory and how many rows each has"),
        ("explain", _explain, "which n-grams of a prompt hit whose rows, at every token of the answer"),
        ("remove", _remove, "a new memory without a pattern; all others answer as before, to the bit"),
        ("add", _add, "a new memory with the patterns of a file; all others answer as before, to the bit"),
    ):
        deed = deeds.add_parser(name, help=summary, description=summary, allow_abbrev=False)
        deed.add_argument("name", metavar="NAME", help="Adapter: name or start of a name, or the path of a folder.")
        if name == "explain":
            deed.add_argument("prompt", metavar="PROMPT", help="A question as a user asks it.")
            deed.add_argument("--answer", metavar="TEXT", help="Explain this answer. Default: the model's own.")
        if name == "remove":
            deed.add_argument("pattern", metavar="ID", help="Id of a pattern, as list shows it.")
        asked = ("route", "route-false-positives") if name == "explain" else ()
        add_settings(deed, "adapter-dir", "backend", "model", "patterns", "steps", "seed", *asked)
        add_json(deed)
        deed.set_defaults(deed=run_it)


def run(args: argparse.Namespace) -> int:
    """Do the deed."""
    return int(args.deed(args, settings_of(args)))


def _list(args: argparse.Namespace, settings: Settings) -> int:
    from engram_bench.memory.files import load_memory_files

    stored = load_memory_files(named(settings.adapter_dir, args.name).path)
    rows = [(name, len(owned)) for name, owned in zip(stored.table.patterns, stored.table.owned, strict=True)]
    if args.json:
        say_json([{"pattern": name, "rows": count} for name, count in rows])
        return 0
    say(*table([(printable(name), str(count)) for name, count in rows], "pattern", "rows"))
    say(f"{len(rows)} patterns, {len(stored.table.keys)} n-grams, {stored.parameters:,} parameters")
    return 0


def _explain(args: argparse.Namespace, settings: Settings) -> int:
    from dataclasses import asdict

    from engram_bench.memory.edit import explain, explain_lines, meaning
    from engram_bench.memory.files import load_memory_files
    from engram_bench.records import GenerationSettings, Prompt

    adapter, model = named(settings.adapter_dir, args.name), _model(settings)
    stored, prompt, answer = load_memory_files(adapter.path, model), Prompt(args.prompt), args.answer
    if answer is None:
        from engram_bench.backends import registry

        generator = registry.create(_backend_name(settings)).load(model, adapter.path)
        answer = generator.complete([prompt], GenerationSettings(max_tokens=settings.max_tokens))[0].text
    places, meant = explain(stored, model.tokenizer, prompt, answer), meaning(stored, model.tokenizer, prompt)
    decision = _decision(settings, adapter, model, prompt)
    if args.json:
        told = [asdict(place) for place in places]
        facts = {"prompt": args.prompt, "answer": answer, "read_as": asdict(meant), "places": told}
        say_json(facts | ({"route": asdict(decision)} if decision else {}))
        return 0
    say(f"{printable(args.prompt)} → {printable(answer)}")
    if decision is not None:
        asked = "recognised, the adapter is asked" if decision.is_known else "not recognised, the bare model answers"
        say(f"route {settings.route}: score {decision.score:.3f}, known above {decision.threshold:.3f}: {asked}")
    say(*map(printable, explain_lines(places, meant)))
    return 0


def _decision(settings: Settings, adapter: Adapter, model: Model, prompt: Prompt) -> Decision | None:
    """What the router of the settings says to a prompt; None where the adapter is always asked."""
    if settings.route == "always":
        return None
    from engram_bench.backends import registry
    from engram_bench.patterns.load import find_pattern_files, load_pattern_file
    from engram_bench.patterns.render import training_examples
    from engram_bench.records import Recipe
    from engram_bench.routing.router import Router
    from engram_bench.routing.scores import open_scorer
    from engram_bench.session.bench import augmentation

    variants = augmentation(adapter.manifest.recipe or Recipe())
    sets = [load_pattern_file(path) for path in find_pattern_files(settings.patterns)]
    scorer = open_scorer(
        settings.route,
        model,
        [example.prompt for example in training_examples(sets, augment=variants, seed=settings.seed)],
        backend=lambda: registry.create(_backend_name(settings)),
        folder=adapter.path,
    )
    return Router(model.tokenizer, scorer, false_positives=settings.route_false_positives).decide([prompt])[0]


def _remove(args: argparse.Namespace, settings: Settings) -> int:
    from engram_bench.memory.edit import remove
    from engram_bench.memory.files import load_memory_files, save_memory

    adapter = named(settings.adapter_dir, args.name)
    left = remove(load_memory_files(adapter.path), args.pattern)
    with tempfile.TemporaryDirectory(dir=_made(settings.adapter_dir)) as folder:
        save_memory(Path(folder), left)
        return _publish(args, adapter, Path(folder), settings, adapter.manifest.training)


def _add(args: argparse.Namespace, settings: Settings) -> int:
    from engram_bench.backends import registry
    from engram_bench.memory.files import load_memory_files
    from engram_bench.patterns.load import find_pattern_files, load_pattern_file
    from engram_bench.patterns.render import DEFAULT_AUGMENTATION, training_examples
    from engram_bench.session.bench import augmentation

    adapter, model = named(settings.adapter_dir, args.name), _model(settings)
    there = set(load_memory_files(adapter.path, model).table.patterns)
    sets = [load_pattern_file(path) for path in find_pattern_files(settings.patterns)]
    variants = augmentation(adapter.manifest.recipe) if adapter.manifest.recipe else DEFAULT_AUGMENTATION
    every = training_examples(sets, augment=variants, seed=settings.seed)
    examples = [example for example in every if example.pattern_id not in there]
    if not examples:
        say(f"{adapter.name} has every pattern of {', '.join(map(str, settings.patterns))}: nothing to add")
        return 0
    backend = registry.create(_backend_name(settings))
    with tempfile.TemporaryDirectory(dir=_made(settings.adapter_dir)) as folder, progress(quiet=args.json) as show:
        record = backend.extend_memory(model, adapter.path, examples, Path(folder), steps=settings.steps, progress=show)
        return _publish(args, adapter, Path(folder), settings, record)


def _publish(
    args: argparse.Namespace, old: Adapter, folder: Path, settings: Settings, training: TrainingRecord | None
) -> int:
    """Give the edited memory in *folder* a manifest and a name of its own, and say which; a LoRA beside it comes along."""
    from dataclasses import replace

    from engram_bench.adapters import manifest as adapter_manifest
    from engram_bench.system.provenance import utc_now

    for file in old.manifest.files:
        if not (folder / file).exists():
            shutil.copy2(old.path / file, folder / file)
    files = adapter_manifest.stored_files(folder)
    kind = old.manifest.recipe.kind if old.manifest.recipe else "memory"
    name = f"{kind}-{adapter_manifest.fingerprint(files)[:12]}"
    manifest = replace(old.manifest, name=name, created=utc_now(), training=training, files=files)
    adapter_manifest.write_manifest(folder, manifest)
    target = settings.adapter_dir / name
    if not target.exists():
        shutil.copytree(folder, target)  # the folder is deleted by who made it
    if args.json:
        say_json({"from": old.name, "adapter": name, "path": str(target)})
    else:
        say(f"{name}: use it with --engram-adapter={target}")
    return 0


def _made(folder: Path) -> Path:
    """A hidden folder for work in progress beside the adapters."""
    partial = folder / ".partial"
    partial.mkdir(parents=True, exist_ok=True)
    return partial


def _backend_name(settings: Settings) -> str:
    from engram_bench.backends.registry import choose_backend

    return choose_backend(settings.backend)[0]


def _model(settings: Settings) -> Model:
    from engram_bench.backends.registry import resolve_model

    return resolve_model(_backend_name(settings), settings.model)

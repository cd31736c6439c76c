"""Inspect a stored memory, remove patterns, or add patterns. An edit makes a new adapter; the old one stays."""

from __future__ import annotations

import argparse
import shutil
import tempfile
from dataclasses import asdict, replace
from pathlib import Path

from engram_bench.adapters import manifest as adapter_manifest
from engram_bench.adapters.kinds import kind_in, kind_of
from engram_bench.adapters.store import Adapter
from engram_bench.backends import registry
from engram_bench.cli.adapter import named
from engram_bench.cli.arguments import add_json, add_settings
from engram_bench.cli.conftests import sets_of
from engram_bench.cli.console import progress, say, say_json, table
from engram_bench.cli.project import find_project, settings_of
from engram_bench.door import printable
from engram_bench.memory.edit import explain, explain_lines, meaning, remove
from engram_bench.memory.files import load_memory_files, save_memory
from engram_bench.models import Model
from engram_bench.patterns.render import DEFAULT_AUGMENTATION, training_examples
from engram_bench.records import Prompt, Recipe, TrainingRecord
from engram_bench.records.plain import to_plain
from engram_bench.routing.router import Decision, Router
from engram_bench.routing.scores import open_scorer
from engram_bench.session.options import Settings
from engram_bench.session.plan import greedy
from engram_bench.system.provenance import utc_now


def declare(parser: argparse.ArgumentParser) -> None:
    """Declare a subcommand per action."""
    actions = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name, action, summary in (
        ("list", _list, "list the patterns of a memory and how many rows each has"),
        (
            "explain",
            _explain,
            "show which n-grams of a prompt find rows of which pattern, at every token of the answer",
        ),
        ("remove", _remove, "make a new memory without a pattern; the answers of all others stay the same to the bit"),
        ("add", _add, "make a new memory with more patterns; the answers of all others stay the same to the bit"),
    ):
        sub = actions.add_parser(name, help=summary, description=summary, allow_abbrev=False)
        sub.add_argument("name", metavar="NAME", help="Name or start of a name of an adapter, or the path of a folder.")
        if name == "explain":
            sub.add_argument("prompt", metavar="PROMPT", help="Question as a user asks it.")
            sub.add_argument("--answer", metavar="TEXT", help="Answer to explain. Default: the model's own.")
        if name == "remove":
            sub.add_argument("pattern", metavar="ID", help="Id of the pattern, as the subcommand list shows it.")
        asked = ("route", "route-false-positives") if name == "explain" else ()
        add_settings(sub, "adapter-dir", "backend", "model", "patterns", "steps", "seed", *asked)
        add_json(sub)
        sub.set_defaults(action=action)


def run(args: argparse.Namespace) -> int:
    """Run the subcommand and return the exit status."""
    return int(args.action(args, settings_of(args)))


def _list(args: argparse.Namespace, settings: Settings) -> int:
    stored = load_memory_files(named(settings.adapter_dir, args.name).path)
    rows = [(name, len(owned)) for name, owned in zip(stored.table.patterns, stored.table.owned, strict=True)]
    if args.json:
        say_json([{"pattern": name, "rows": count} for name, count in rows])
        return 0
    say(*table([(printable(name), str(count)) for name, count in rows], "pattern", "rows"))
    say(f"{len(rows)} patterns, {len(stored.table.keys)} n-grams, {stored.parameters:,} parameters")
    return 0


def _explain(args: argparse.Namespace, settings: Settings) -> int:
    adapter, model = named(settings.adapter_dir, args.name), _model(settings)
    stored, prompt, answer = load_memory_files(adapter.path, model), Prompt(args.prompt), args.answer
    if answer is None:
        generator = registry.create(_backend_name(settings)).load(model, adapter.path)
        answer = generator.complete([prompt], greedy(settings))[0].text
    positions, meant = explain(stored, model.tokenizer, prompt, answer), meaning(stored, model.tokenizer, prompt)
    decision = _decision(settings, adapter, model, prompt)
    if args.json:
        explained = [asdict(position) for position in positions]
        document = {"prompt": args.prompt, "answer": answer, "read_as": to_plain(meant), "places": explained}
        say_json(document | ({"route": asdict(decision)} if decision else {}))
        return 0
    say(f"{printable(args.prompt)} → {printable(answer)}")
    if decision is not None:
        asked = "recognised, the adapter answers" if decision.is_known else "not recognised, the bare model answers"
        say(f"route {settings.route}: score {decision.score:.3f}, threshold {decision.threshold:.3f}: {asked}")
    say(*map(printable, explain_lines(positions, meant)))
    return 0


def _decision(settings: Settings, adapter: Adapter, model: Model, prompt: Prompt) -> Decision | None:
    """Decision of the settings' router on a prompt; None where every prompt goes to the adapter."""
    if settings.route == "always":
        return None
    recipe = adapter.manifest.recipe or Recipe()
    sets = sets_of(find_project(Path.cwd()), settings)
    scorer = open_scorer(
        settings.route,
        model,
        [
            example.prompt
            for example in training_examples(sets, augment=kind_of(recipe).augmentation(recipe), seed=settings.seed)
        ],
        backend=lambda: registry.create(_backend_name(settings)),
        folder=adapter.path,
    )
    return Router(model.tokenizer, scorer, false_positives=settings.route_false_positives).decide([prompt])[0]


def _remove(args: argparse.Namespace, settings: Settings) -> int:
    adapter = named(settings.adapter_dir, args.name)
    left = remove(load_memory_files(adapter.path), args.pattern)
    with tempfile.TemporaryDirectory(dir=_made(settings.adapter_dir)) as folder:
        save_memory(Path(folder), left)
        return _publish(args, adapter, Path(folder), settings, adapter.manifest.training)


def _add(args: argparse.Namespace, settings: Settings) -> int:
    adapter, model = named(settings.adapter_dir, args.name), _model(settings)
    there = set(load_memory_files(adapter.path, model).table.patterns)
    sets = sets_of(find_project(Path.cwd()), settings)
    recipe = adapter.manifest.recipe
    variants = kind_of(recipe).augmentation(recipe) if recipe else DEFAULT_AUGMENTATION
    every = training_examples(sets, augment=variants, seed=settings.seed)
    examples = [example for example in every if example.pattern_id not in there]
    if not examples:
        say(f"{adapter.name} has every pattern of {', '.join(map(str, settings.patterns))}: nothing to add")
        return 0
    backend = registry.create(_backend_name(settings))
    with tempfile.TemporaryDirectory(dir=_made(settings.adapter_dir)) as folder, progress(quiet=args.json) as show:
        steps = Recipe().steps if settings.steps is None else settings.steps
        record = backend.extend_memory(model, adapter.path, examples, Path(folder), steps=steps, progress=show)
        return _publish(args, adapter, Path(folder), settings, record)


def _publish(
    args: argparse.Namespace, old: Adapter, folder: Path, settings: Settings, training: TrainingRecord | None
) -> int:
    """Store the edited memory in *folder* with a manifest and a name of its own; the old adapter's other files come along."""
    for file in old.manifest.files:
        if not (folder / file).exists():
            shutil.copy2(old.path / file, folder / file)
    files = adapter_manifest.stored_files(folder)
    name = f"{kind_in(folder).name}-{adapter_manifest.fingerprint(files)[:12]}"
    manifest = replace(old.manifest, name=name, created=utc_now(), training=training, files=files)
    adapter_manifest.write_manifest(folder, manifest)
    target = settings.adapter_dir / name
    if not target.exists():
        shutil.copytree(folder, target)  # the caller deletes the folder
    if args.json:
        say_json({"from": old.name, "adapter": name, "path": str(target)})
    else:
        say(f"{name}: use it with --engram-adapter={target}")
    return 0


def _made(folder: Path) -> Path:
    """A hidden folder beside the adapters for work in progress, created if it is missing."""
    partial = folder / ".partial"
    partial.mkdir(parents=True, exist_ok=True)
    return partial


def _backend_name(settings: Settings) -> str:
    return registry.choose_backend(settings.backend)[0]


def _model(settings: Settings) -> Model:
    return registry.resolve_model(_backend_name(settings), settings.model)

"""The stored adapters: list them, look into one, delete those that no pattern file leads to any more."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engram_bench.cli.arguments import add_json, add_settings
from engram_bench.cli.console import say, say_error, say_json, table
from engram_bench.cli.project import settings_of
from engram_bench.errors import UsageError
from engram_bench.reporting.clean import printable

if TYPE_CHECKING:
    from engram_bench.adapter_store import Adapter


def declare(parser: argparse.ArgumentParser) -> None:
    """One subcommand per deed."""
    deeds = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name, run_it, summary in (
        ("list", _list, "every stored adapter, oldest first"),
        ("show", _show, "one adapter: base model, recipe, training, files"),
        ("prune", _prune, "delete adapters, all but those to keep"),
    ):
        deed = deeds.add_parser(name, help=summary, description=summary, allow_abbrev=False)
        if name == "show":
            deed.add_argument("name", metavar="NAME", help="Name or start of a name, or the path of a folder.")
        if name == "prune":
            deed.add_argument(
                "--keep", action="append", default=[], metavar="NAME", help="Keep this one; repeatable. Default: none."
            )
            deed.add_argument("--newest", type=int, default=1, metavar="N", help="Keep the newest N. Default: 1.")
            deed.add_argument("--dry-run", action="store_true", help="Only say what would be deleted.")
        add_settings(deed, "adapter-dir")
        add_json(deed)
        deed.set_defaults(deed=run_it)


def run(args: argparse.Namespace) -> int:
    """Do the deed."""
    return int(args.deed(args))


def facts(adapter: Adapter) -> dict[str, Any]:
    """What a script wants to know about an adapter."""
    from engram_bench.record_format import to_plain

    manifest: dict[str, Any] = to_plain(adapter.manifest)
    if manifest["training"]:
        manifest["training"].pop("losses")
    return {"path": str(adapter.path), "fingerprint": adapter.fingerprint, **manifest}


def _stored(root: Path) -> tuple[Adapter, ...]:
    from engram_bench.adapter_store import list_adapters

    return list_adapters(root, on_broken=lambda error: say_error(f"left out: {error}"))


def _list(args: argparse.Namespace) -> int:
    root = settings_of(args).adapter_dir
    adapters = _stored(root)
    if args.json:
        say_json([facts(adapter) for adapter in adapters])
    elif adapters:
        rows = [
            (
                a.name,
                a.manifest.created[:16].replace("T", " "),
                a.manifest.backend,
                _training(a),
                a.manifest.base_reference,
            )
            for a in adapters
        ]
        say(*table(rows, "adapter", "made", "backend", "training", "base model"))
    else:
        say(f"no adapter in {root}: engram-bench train makes one")
    return 0


def _show(args: argparse.Namespace) -> int:
    adapter = _named(settings_of(args).adapter_dir, args.name)
    about = facts(adapter)
    if args.json:
        say_json(about)
        return 0
    files = about.pop("files")
    for heading, value in about.items():
        if isinstance(value, Mapping):
            say(heading)
            for inner, part in value.items():
                say(f"  {inner:<18} {printable(str(part))}")
        else:
            say(f"{heading:<20} {printable(str(value))}")
    say("files")
    for name, file in files.items():
        say(f"  {printable(name)}  {file['size']:,} bytes  sha256 {file['sha256'][:12]}…")
    return 0


def _prune(args: argparse.Namespace) -> int:
    from engram_bench.adapter_store import prune

    if args.newest < 0:
        msg = f"--newest: got {args.newest}, expected a whole number of at least 0"
        raise UsageError(msg)
    root = settings_of(args).adapter_dir
    adapters = _stored(root)
    kept = {_named(root, name).path.name for name in args.keep}
    kept |= {adapter.path.name for adapter in (adapters[-args.newest :] if args.newest else ())}
    removed = (
        tuple(adapter.path.name for adapter in adapters if adapter.path.name not in kept)
        if args.dry_run
        else prune(root, kept)
    )
    if args.json:
        say_json({"removed": list(removed), "kept": sorted(kept), "dry_run": args.dry_run})
    else:
        verb = "would delete" if args.dry_run else "deleted"
        say(*(f"{verb} {printable(name)}" for name in removed), f"{len(kept)} kept")
    return 0


def _named(root: Path, name: str) -> Adapter:
    """The adapter of a name, the start of one, or a path.

    Raises:
        UsageError: There is none, or more than one.
    """
    from engram_bench.adapter_store import load

    if Path(name).is_dir():
        return load(Path(name))
    names = sorted(path.name for path in root.glob("[!.]*") if path.is_dir() and path.name.startswith(name))
    if len(names) != 1 and name not in names:
        there = ", ".join(sorted(path.name for path in root.glob("[!.]*") if path.is_dir())) or "no adapter"
        msg = f"{root}: {'several adapters start with' if names else 'no adapter'} {name!r}, expected one of: {there}"
        raise UsageError(msg)
    return load(root / (name if name in names else names[0]))


def _training(adapter: Adapter) -> str:
    training = adapter.manifest.training
    if training is None:
        return "made elsewhere"
    recall = "" if training.recall is None else f", recall {100 * training.recall:.0f} %"
    return f"{training.steps} steps, {training.seconds:.0f} s{recall}"

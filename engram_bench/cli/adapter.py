"""Work with the stored adapters: list or show them, exchange them with other tools, delete those no longer needed."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from engram_bench.adapters.folders import find
from engram_bench.adapters.store import Adapter, delete, list_adapters, load, prunable
from engram_bench.cli.arguments import add_json, add_quiet, add_settings
from engram_bench.cli.console import progress, say, say_error, say_json, table
from engram_bench.cli.project import settings_of
from engram_bench.door import printable
from engram_bench.errors import AdapterError, UsageError
from engram_bench.models import resolve_model
from engram_bench.records.plain import to_plain

_FORMATS = "peft for transformers and vLLM, mlx for mlx-lm, merged into the model, gguf-lora for llama.cpp."
_NAMED = "Name or start of a name of an adapter, or the path of a folder."


def declare(parser: argparse.ArgumentParser) -> None:
    """Declare a subcommand per action."""
    actions = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name, action, summary in (
        ("list", _list, "list every stored adapter, oldest first"),
        ("show", _show, "show one adapter: base model, recipe, training, files"),
        ("export", _export, "write an adapter in the format of another tool"),
        ("import", _import, "store an adapter that another tool made, after a check against the model"),
        ("prune", _prune, "delete all adapters but those to keep, after a question"),
    ):
        sub = actions.add_parser(name, help=summary, description=summary, allow_abbrev=False)
        if name == "show":
            sub.add_argument("name", metavar="NAME", help=_NAMED)
        if name == "export":
            sub.add_argument("name", metavar="NAME", help=_NAMED)
            sub.add_argument("folder", metavar="DIR", help="New or empty folder to write to.")
            sub.add_argument(
                "--format",
                choices=("peft", "mlx", "merged", "gguf-lora"),
                default="peft",
                help=f"{_FORMATS} Default: peft.",
            )
        if name == "import":
            sub.add_argument(
                "source",
                metavar="SOURCE",
                help="Folder in the format of PEFT or mlx-lm, or the id of one on the Hugging Face Hub.",
            )
            sub.add_argument(
                "--name", metavar="NAME", help="Name of the stored adapter. Default: the folder's name and a hash."
            )
        if name in ("export", "import"):
            add_quiet(sub)
        if name == "prune":
            sub.add_argument(
                "--keep",
                action="append",
                default=[],
                metavar="NAME",
                help="Keep this adapter; repeatable. Default: none.",
            )
            sub.add_argument(
                "--newest", type=int, default=1, metavar="N", help="Keep the newest N adapters. Default: 1."
            )
            asks = sub.add_mutually_exclusive_group()
            asks.add_argument("--dry-run", action="store_true", help="Print what would be deleted, and delete nothing.")
            asks.add_argument("--yes", action="store_true", help="Delete without asking.")
        add_settings(sub, "adapter-dir", *(["model"] if name in ("export", "import") else []))
        add_json(sub)
        sub.set_defaults(action=action)


def run(args: argparse.Namespace) -> int:
    """Run the subcommand and return the exit status."""
    return int(args.action(args))


def adapter_document(adapter: Adapter) -> dict[str, Any]:
    """An adapter as a JSON document: its path, its fingerprint and its manifest without the losses of each step."""
    manifest: dict[str, Any] = to_plain(adapter.manifest)
    if manifest["training"]:
        manifest["training"].pop("losses")
    return {"path": str(adapter.path), "fingerprint": adapter.fingerprint, **manifest}


def _stored(root: Path) -> tuple[Adapter, ...]:
    return list_adapters(root, on_broken=lambda error: say_error(f"left out: {error}"))


def _list(args: argparse.Namespace) -> int:
    root = settings_of(args).adapter_dir
    adapters = _stored(root)
    if args.json:
        say_json([adapter_document(adapter) for adapter in adapters])
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
    adapter = named(settings_of(args).adapter_dir, args.name)
    about = adapter_document(adapter)
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


def _export(args: argparse.Namespace) -> int:
    from engram_bench.adapters.exchange import export_adapter

    settings = settings_of(args)
    adapter = named(settings.adapter_dir, args.name)
    reference = args.engram_model or adapter.manifest.base_reference or settings.model
    with progress(quiet=args.quiet or args.json) as show:
        folder = Path(args.folder)
        files = export_adapter(
            adapter, args.format, folder, model=resolve_model(reference, progress=show), progress=show
        )
    if args.json:
        say_json({"adapter": adapter.name, "format": args.format, "files": [str(path) for path in files]})
    else:
        say(*(f"{printable(str(path))}  {path.stat().st_size / 1e6:,.1f} MB" for path in files))
    return 0


def _import(args: argparse.Namespace) -> int:
    from engram_bench.adapters.exchange import import_adapter
    from engram_bench.adapters.found import remark

    settings = settings_of(args)
    with progress(quiet=args.quiet or args.json) as show:
        model = resolve_model(settings.model, progress=show)
        adapter = import_adapter(args.source, settings.adapter_dir, model=model, name=args.name, progress=show)
    if args.json:
        say_json(adapter_document(adapter))
    else:
        path = printable(str(adapter.path))
        say(f"imported {printable(adapter.name)} into {path}")
        say(f"ask it with: --adapter {printable(adapter.name)}, or pytest --engram-adapter={printable(adapter.name)}")
        if note := remark(adapter.path):
            say(f"note: {printable(note)}")
    return 0


def _prune(args: argparse.Namespace) -> int:
    if args.newest < 0:
        msg = f"--newest: got {args.newest}, expected a whole number of at least 0"
        raise UsageError(msg)
    root = settings_of(args).adapter_dir
    adapters = _stored(root)
    kept = {named(root, name).path.name for name in args.keep}
    kept |= {adapter.path.name for adapter in (adapters[-args.newest :] if args.newest else ())}
    names = prunable(root, kept)
    if not args.json:
        say(*(f"would delete {printable(name)}" for name in names if not args.yes), f"{len(kept)} kept")
    if not names or args.dry_run or not (args.yes or _confirmed(len(names), as_json=args.json)):
        removed = names if args.dry_run else ()
    else:
        removed = delete(root, names)
    if args.json:
        say_json({"removed": list(removed), "kept": sorted(kept), "dry_run": args.dry_run})
    elif not args.dry_run:
        say(*(f"deleted {printable(name)}" for name in removed))
    return 0


def _confirmed(count: int, *, as_json: bool) -> bool:
    """Whether the user agrees on a terminal to delete this many adapters.

    Raises:
        UsageError: There is no terminal to ask on.
    """
    if as_json or not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise UsageError(
            "adapter prune: nobody to ask, so nothing is deleted; expected --yes, or --dry-run to list only"
        )
    say(f"delete {'this adapter' if count == 1 else f'these {count} adapters'}? [y/N] ")
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def named(root: Path, name: str) -> Adapter:
    """The adapter of this name, of the only name that starts so, or of this folder.

    Raises:
        UsageError: No adapter matches, or more than one does.
        AdapterError: The adapter cannot be read.
    """
    try:
        path = find(root, name)
    except AdapterError as error:
        raise UsageError(str(error)) from error
    return load(path)


def _training(adapter: Adapter) -> str:
    training = adapter.manifest.training
    if training is None:
        return "made elsewhere"
    recall = "" if training.recall is None else f", recall {100 * training.recall:.0f} %"
    return f"{training.steps} steps, {training.seconds:.0f} s{recall}"

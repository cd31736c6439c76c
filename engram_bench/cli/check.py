"""Look for mistakes in pattern files. Each is named with its file and line; no model is loaded.

Where the model is on this machine, its tokenizer tells which answers exceed their limit or hold a token that ends answers.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engram_bench.backends.registry import local_tokenizer
from engram_bench.cli.arguments import PATTERNS, add_json, add_settings
from engram_bench.cli.conftests import ProjectMatchers
from engram_bench.cli.console import say, say_error, say_json, table
from engram_bench.cli.project import find_project
from engram_bench.door import printable
from engram_bench.errors import ModelError, PatternFileError
from engram_bench.models import default_cache_dir
from engram_bench.patterns.find import find_pattern_files
from engram_bench.patterns.limits import AnswerTokenizer, check_answers
from engram_bench.patterns.load import check_across, load_pattern_file
from engram_bench.records import PatternSet
from engram_bench.session.options import Settings


def declare(parser: argparse.ArgumentParser) -> None:
    """Declare the paths to check and the setting that they default to."""
    parser.add_argument(
        "paths", nargs="*", metavar="PATH", help="Pattern files or folders. Default: those of --patterns."
    )
    add_settings(parser, *PATTERNS, "backend", "model")
    add_json(parser)


@dataclass(frozen=True, slots=True)
class FileMistake:
    """A mistake in a pattern file."""

    path: str
    line: int | None
    message: str

    def __str__(self) -> str:
        return f"{self.path}{f':{self.line}' if self.line else ''}: {self.message}"


def run(args: argparse.Namespace) -> int:
    """Print the mistakes, each as ``path:line: what is wrong``, and return 2; without any, print a table and return 0."""
    cwd = Path.cwd()
    project = find_project(cwd)
    settings = project.settings(vars(args), cwd)
    paths = [Path(path) for path in args.paths] or settings.patterns
    sets, mistakes = _load(find_pattern_files(paths), project.root, ProjectMatchers(project, paths))
    tokenizer, note = _tokenizer(settings)
    if tokenizer is not None:
        mistakes += _answer_mistakes(sets, tokenizer)
    if args.json:
        say_json(
            {
                "files": [_document(each) for each in sets],
                "mistakes": [_mistake_document(each) for each in mistakes],
                "answers_in_tokens": note or "checked",
            }
        )
    elif mistakes:
        say_error("\n".join(map(str, mistakes)))
        say_error(f"{len(mistakes)} mistake{'s' * (len(mistakes) > 1)}")
    else:
        rows = [_document(each) for each in sets]
        headers = ("file", "kind", "patterns", "held out", "prompts to train")
        say(*table([map(str, row.values()) for row in rows], *headers, align="llrrr"))
        say("", f"no mistakes in {len(sets)} file{'s' * (len(sets) > 1)}", style="green")
        say(*([f"answers not counted in tokens: {printable(note)}"] if note else []), style="dim")
    return 2 if mistakes else 0


def _tokenizer(settings: Settings) -> tuple[AnswerTokenizer | None, str]:
    """The model's tokenizer if the model is on this machine, and the reason if not."""
    try:
        found = local_tokenizer(settings.backend, settings.model, cache=default_cache_dir())
    except ModelError as error:
        return None, str(error)
    return found, "" if found else f"model {settings.model} is not on this machine yet"


def _answer_mistakes(sets: Iterable[PatternSet], tokenizer: AnswerTokenizer) -> Iterator[FileMistake]:
    for each in sets:
        try:
            check_answers([each], tokenizer)
        except PatternFileError as error:
            yield from _mistakes(error)


def _load(
    paths: Sequence[Path], root: Path, known_matchers: Collection[str]
) -> tuple[list[PatternSet], list[FileMistake]]:
    sets: list[PatternSet] = []
    mistakes: list[FileMistake] = []
    for path in paths:
        try:
            sets.append(load_pattern_file(path, root=root, known_matchers=known_matchers))
        except PatternFileError as error:
            mistakes += _mistakes(error)
    try:
        check_across(sets)
    except PatternFileError as error:
        mistakes += _mistakes(error)
    return sets, mistakes


def _mistakes(error: PatternFileError) -> Iterator[FileMistake]:
    for text in error.mistakes:
        parts = re.match(r"(?:(?P<file>[^:\s]+): )?(?:line (?P<line>\d+): )?(?P<rest>.*)", text, re.DOTALL)
        assert parts  # every part is optional
        is_file = parts["file"] and (Path(str(error.path)) / parts["file"]).exists()
        path = (Path(str(error.path)) / parts["file"]).as_posix() if is_file else str(error.path)
        rest = parts["rest"] if is_file or not parts["file"] else text
        yield FileMistake(path, int(parts["line"]) if parts["line"] else None, rest)


def _document(pattern_set: PatternSet) -> dict[str, Any]:
    patterns = pattern_set.patterns
    is_memory = pattern_set.kind == "memory"
    return {
        "file": pattern_set.path,
        "kind": pattern_set.kind,
        "patterns": len(patterns) or len(pattern_set.speed.prompts if pattern_set.speed else ()),
        "held_out": sum(len(pattern.held_out) for pattern in patterns),
        "prompts_to_train": sum(1 + len(pattern.wordings) for pattern in patterns) if is_memory else 0,
    }


def _mistake_document(mistake: FileMistake) -> dict[str, Any]:
    return {"path": mistake.path, "line": mistake.line, "message": mistake.message}

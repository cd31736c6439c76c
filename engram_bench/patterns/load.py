"""Pattern sets, read from pattern files; every mistake of a file is reported at once."""

from __future__ import annotations

import gc
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from os.path import commonpath
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from engram_bench.errors import PatternFileError
from engram_bench.patterns.find import find_pattern_files
from engram_bench.patterns.ids import default_ids
from engram_bench.patterns.mistakes import did_you_mean, row_mistakes
from engram_bench.patterns.nodes import Mistake, UnreadableError, describe
from engram_bench.patterns.read import Document, FileRow, read_jsonl, read_yaml
from engram_bench.patterns.schema import ENTRY_MODELS, PatternEntry, QuestionHeader, SpeedFile
from engram_bench.patterns.wordings import clashes
from engram_bench.records import Pattern, PatternSet, SourceLine, SpeedPlan

MAX_MISTAKES = 100
"""Largest number of mistakes shown of one file; a JSONL file in another format has one on every line."""


def load_pattern_files(
    paths: Iterable[Path | str], *, root: Path | None = None, known_matchers: Collection[str] | None = None
) -> tuple[PatternSet, ...]:
    """The pattern sets of all pattern files at *paths*, checked one by one and against each other.

    Args:
        paths: Pattern files (``.yaml``, ``.yml``, ``.jsonl``), and folders that are searched for them.
        root: Folder that paths in records and messages are relative to, where they are below it; None takes the current
            folder.
        known_matchers: Names that ``match`` may have; None accepts any name.

    Returns:
        A set per file, sorted by path.

    Raises:
        PatternFileError: A path does not exist, a folder has no pattern file, or a file has a mistake. The message lists
            the mistakes of all files.
    """
    sets: list[PatternSet] = []
    mistakes: list[tuple[str, str]] = []
    for path in find_pattern_files(paths):
        try:
            sets.append(load_pattern_file(path, root=root, known_matchers=known_matchers))
        except PatternFileError as error:
            mistakes += [(str(error.path), mistake) for mistake in error.mistakes]
    if mistakes:
        raise _together(mistakes)
    check_across(sets)
    return tuple(sets)


def load_pattern_file(
    path: Path | str, *, root: Path | None = None, known_matchers: Collection[str] | None = None
) -> PatternSet:
    """The pattern set of one file, with the defaults of the file applied to its patterns.

    Args:
        path: Pattern file with the suffix ``.yaml``, ``.yml`` or ``.jsonl``.
        root: Folder that paths in records and messages are relative to, where they are below it; None takes the current
            folder.
        known_matchers: Names that ``match`` may have; None accepts any name.

    Raises:
        PatternFileError: The file cannot be read or breaks the schema; the message lists all mistakes in order of lines.
    """
    path = Path(path)
    shown = _shown(path, root)
    try:
        with _collector_paused():
            document = read_jsonl(path) if path.suffix == ".jsonl" else read_yaml(path)
            pattern_set, mistakes = _build(shown, document, known_matchers)
    except UnreadableError as error:
        raise PatternFileError(shown, [f"line {error.line}: {error}" if error.line else str(error)]) from error
    except OSError as error:
        raise PatternFileError(shown, [f"cannot be read ({error.strerror}), expected a pattern file"]) from error
    if mistakes:
        mistakes.sort(key=lambda mistake: mistake[0])
        lines = [f"line {line}: {message}" for line, message in mistakes[:MAX_MISTAKES]]
        more = len(mistakes) - len(lines)
        raise PatternFileError(shown, lines + [f"and {more:,} more mistakes"] * (more > 0))
    return pattern_set


def check_across(sets: Sequence[PatternSet]) -> None:
    """Check that the sets can be trained and asserted together.

    Raises:
        PatternFileError: Two files have the same stem (case ids would collide), a prompt has different answers in two
            files, or a held-out wording or control of one file is trained on by another.
    """
    mistakes = []
    stems: dict[str, str] = {}
    for pattern_set in sets:
        first = stems.setdefault(Path(pattern_set.path).stem, pattern_set.path)
        if first != pattern_set.path:
            mistakes.append(
                (pattern_set.path, f"has the same stem as {first}, expected another: case ids begin with the stem")
            )
    for clash in clashes(sets) if len(sets) > 1 else ():  # a file's own were found when it was loaded
        source = clash.pattern.source
        if source.path != clash.other.source.path:
            mistakes.append((source.path, f"line {source.line}: pattern {clash.pattern.id!r}: {clash.message}"))
    if mistakes:
        raise _together(mistakes)


def _build(shown: str, document: Document, known_matchers: Collection[str] | None) -> tuple[PatternSet, list[Mistake]]:
    """The set of a file and the file's mistakes; a set with mistakes must not be used."""
    kind, mistakes = document.header.values.get("kind"), document.mistakes
    if kind == "speed":
        return _speed_set(shown, document), mistakes
    header = _validated(document.header, QuestionHeader, mistakes)
    if header is None:
        header = QuestionHeader(name="?", kind="retention" if kind == "retention" else "memory")
    rows: list[FileRow] = []
    entries: list[PatternEntry] = []
    for number, row in enumerate(document.rows, 1):
        entry = _validated(row, ENTRY_MODELS[header.kind], mistakes, number)
        if entry is not None:
            rows.append(row)
            entries.append(entry)
    if not rows and not mistakes:
        mistakes.append((document.header.line, "no patterns, expected at least one under 'patterns'"))
    patterns = tuple(_patterns(shown, header, rows, entries))
    pattern_set = PatternSet(header.name, shown, header.kind, header.description, header.version, patterns)
    mistakes += _matcher_mistakes([document.header, *rows], known_matchers)
    mistakes += _pattern_mistakes(pattern_set, rows)
    return pattern_set, mistakes


def _speed_set(shown: str, document: Document) -> PatternSet:
    """The set of a file of kind speed; its mistakes are added to those of the document."""
    found = "a pattern in a file of kind speed, expected only 'prompts'"
    document.mistakes.extend((row.line, found) for row in document.rows)
    file = _validated(document.header, SpeedFile, document.mistakes) or SpeedFile(name="?", prompts=("?",))
    plan = SpeedPlan(file.prompts, file.num_tokens, file.rounds, file.batch_sizes)
    return PatternSet(file.name, shown, "speed", file.description, file.version, speed=plan)


def _patterns(
    shown: str, header: QuestionHeader, rows: Sequence[FileRow], entries: Sequence[PatternEntry]
) -> Iterator[Pattern]:
    """The patterns of the entries, with the file's defaults."""
    questions = [(entry.category or header.category or header.name, entry.input) for entry in entries]
    ids = default_ids(questions, taken={entry.id for entry in entries if entry.id})
    for row, entry, default_id, (category, _) in zip(rows, entries, ids, questions, strict=True):
        yield Pattern(
            id=entry.id or default_id,
            input=entry.input,
            output=entry.output,
            category=category,
            source=SourceLine(shown, row.line),
            accept=entry.accept,
            wordings=entry.wordings,
            held_out=entry.held_out,
            match=entry.match or header.match,
            max_tokens=entry.max_tokens or header.max_tokens,
            required=entry.required,
            min_consistency=header.min_consistency if entry.min_consistency is None else entry.min_consistency,
            system=entry.system or header.system,
        )


def _matcher_mistakes(rows: Iterable[FileRow], known_matchers: Collection[str] | None) -> Iterator[Mistake]:
    """Names of unregistered matchers, each at its line in the header or in a pattern."""
    if known_matchers is None:
        return
    for number, row in enumerate(rows):
        name = row.values.get("match")
        if isinstance(name, str) and name.strip() not in known_matchers:
            expected = did_you_mean(name, sorted(known_matchers))
            yield row.line_of(["match"]), f"{_label(row.values, number)}match is {name!r}, expected {expected}"


def _pattern_mistakes(pattern_set: PatternSet, rows: Sequence[FileRow]) -> Iterator[Mistake]:
    """Mistakes between patterns that are each well-formed: repeated ids, and prompts that clash."""
    first: dict[str, Pattern] = {}
    for row, pattern in zip(rows, pattern_set.patterns, strict=True):
        label = f"pattern {pattern.id!r}: "
        other = first.setdefault(pattern.id, pattern)
        if other is not pattern and other.input == pattern.input and "id" not in row.values:
            yield row.line, f"{label}repeats the pattern on line {other.source.line}, expected each pattern once"
        elif other is not pattern:
            yield (
                row.line_of(["id"]),
                f"{label}id is used again, expected a unique id (first on line {other.source.line})",
            )
        if pattern.accept and not pattern.output:
            yield row.line_of(["accept"]), f"{label}accept without output, expected the preferred answer as output"
    found = list(clashes([pattern_set]))
    rows_by_pattern = (
        {id(pattern): row for pattern, row in zip(pattern_set.patterns, rows, strict=True)} if found else {}
    )
    for clash in found:
        line = rows_by_pattern[id(clash.pattern)].line_of(clash.position)
        yield line, f"pattern {clash.pattern.id!r}: {clash.message}"


_Model = TypeVar("_Model", bound=BaseModel)


def _validated(row: FileRow, model: type[_Model], mistakes: list[Mistake], number: int = 0) -> _Model | None:
    """The row (pattern *number* of the file, 0 for its header) as *model*; None where *mistakes* grew instead."""
    try:
        return model.model_validate(row.values)
    except ValidationError as error:
        label = _label(row.values, number)
        mistakes += [(line, label + message) for line, message in row_mistakes(error, row, model)]
        return None


def _label(values: Any, number: int) -> str:
    """Name of a pattern in messages: its id, else its input, else its number in the file; empty for the header."""
    if not number:
        return ""
    texts = [values.get(key) for key in ("id", "input")] if isinstance(values, dict) else []
    name = next((describe(text) for text in texts if isinstance(text, str) and text.strip()), number)
    return f"pattern {name}: "


@contextmanager
def _collector_paused() -> Iterator[None]:
    """Pause the garbage collection: every object of a set is in use, and scanning them took a third of the loading time."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _together(mistakes: Sequence[tuple[str, str]]) -> PatternFileError:
    """One error for mistakes of one or more files: the folder that they share, then file and mistake."""
    paths = {path for path, _ in mistakes}
    if len(paths) == 1:
        return PatternFileError(paths.pop(), [mistake for _, mistake in mistakes])
    folder = commonpath([Path(path).parent for path in paths]) or "."
    return PatternFileError(folder, [f"{Path(path).relative_to(folder)}: {mistake}" for path, mistake in mistakes])


def _shown(path: Path, root: Path | None) -> str:
    """*path* relative to *root* where it is below, itself or behind its links, with forward slashes."""
    root = root or Path.cwd()
    for one, base in ((path.absolute(), root.absolute()), (path.resolve(), root.resolve())):
        if one.is_relative_to(base):
            return one.relative_to(base).as_posix()
    return path.as_posix()

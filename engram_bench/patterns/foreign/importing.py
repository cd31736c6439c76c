"""Other tools' training data as a pattern file: what was taken, what was left out and why."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import BinaryIO

from engram_bench.errors import PatternFileError
from engram_bench.patterns.foreign.formats import Exchange, Format, LeftOut, recognised
from engram_bench.patterns.foreign.rows import DataRow, data_files, data_rows
from engram_bench.system.files import replacing

SAME, OTHER = "the same question and answer as before", "another answer to a question from before"
"""Reasons why a row is left out that depend on the rows before it."""
CONTROLS = dict.fromkeys((*range(9), 11, 12, *range(14, 32), *range(127, 160)), " ") | {13: "\n"}
"""Control characters, which a pattern file may not have → what stands for them."""


@dataclass
class Imported:
    """What came of an import."""

    words: str = ""
    """The format in words."""
    taken: int = 0
    rows: int = 0
    left_out: Counter[str] = field(default_factory=Counter)
    """Reason → number of rows."""
    first: dict[str, str] = field(default_factory=dict)
    """Reason → file and row of the first such row."""
    cleaned: int = 0
    """Number of rows in which control characters were replaced by spaces."""

    def check(self, source: Path) -> None:
        """Raise a PatternFileError unless a row was taken."""
        if not self.taken:
            reasons = "; ".join(f"{count} {reason}" for reason, count in self.left_out.most_common(3)) or "no rows"
            raise PatternFileError(source, [f"no row was taken ({reasons}), expected questions with answers"])

    def leave_out(self, reason: str, where: str) -> None:
        """Count a row that is not taken."""
        self.left_out[reason] += 1
        self.first.setdefault(reason, where)


def import_patterns(
    source: Path, target: Path, *, columns: Mapping[str, str] | None = None, limit: int | None = None
) -> Imported:
    """Write the questions and answers of a data file, or of a folder of such, as a pattern file in JSONL.

    Each question is taken once, with the first of its answers. Rows stream through: memory grows by a hash of each question
    and of each answer.

    Args:
        source: File or folder of :func:`data_files`.
        target: Pattern file to write.
        columns: Columns of pairs, see :func:`recognised`; None recognises the format by the first row.
        limit: Largest number of rows to read; None reads all.

    Raises:
        PatternFileError: A row cannot be read, no format fits, or no row can be taken; nothing is written then.
        StoreError: The target cannot be written.
        UsageError: A suffix is unknown, or pyarrow is missing.
    """
    files = data_files(source)
    report = Imported()
    with replacing(target) as out:
        _write(out, {"name": target.stem, "description": f"Imported from {source.name}.", "category": target.stem})
        for exchange in _exchanges(files, source, columns, limit, report):
            _write(out, _pattern(exchange))
            report.taken += 1
        report.check(source)
    return report


def _exchanges(
    files: list[Path], source: Path, columns: Mapping[str, str] | None, limit: int | None, report: Imported
) -> Iterator[Exchange]:
    """What is taken, in order; the report counts the rest."""
    answers: dict[bytes, bytes] = {}
    rows = ((path, row) for path in files for row in data_rows(path))
    found: Format | None = None
    for path, row in itertools.islice(rows, limit):
        report.rows += 1
        where = _where(path, source, row)
        if found is None:
            found = _format(path, row, columns)
            report.words = found.words
        try:
            exchange = _clean(found.exchange(row.values), report)
        except LeftOut as reason:
            report.leave_out(str(reason), where)
            continue
        question, answer = _digest(exchange.system, exchange.input), _digest(exchange.output)
        if question not in answers:
            answers[question] = answer
            yield exchange
        else:
            report.leave_out(SAME if answers[question] == answer else OTHER, where)


def _pattern(exchange: Exchange) -> dict[str, str]:
    """The line of a pattern file."""
    return {name: text for name, text in asdict(exchange).items() if text}


def _where(path: Path, source: Path, row: DataRow) -> str:
    return f"{path.relative_to(source) if path != source else path.name}:{row.number}"


def _format(path: Path, row: DataRow, columns: Mapping[str, str] | None) -> Format:
    found = recognised(row.values, columns)
    if found is None:
        keys = ", ".join(map(str, itertools.islice(row.values, 8)))
        expected = (
            "messages, conversations, instruction and output, or a known pair; name columns with --map input=…,output=…"
        )
        raise PatternFileError(path, [f"row {row.number}: found {keys or 'no keys'}, expected {expected}"])
    if columns and (missing := [column for column in columns.values() if column not in row.values]):
        found_keys = ", ".join(map(str, row.values))
        raise PatternFileError(path, [f"row {row.number}: no column {missing[0]!r}, expected one of {found_keys}"])
    return found


def _clean(exchange: Exchange, report: Imported) -> Exchange:
    texts = [exchange.input, exchange.output, exchange.system, exchange.category]
    cleaned = [text.replace("\r\n", "\n").translate(CONTROLS).strip() for text in texts]
    report.cleaned += cleaned != texts
    if not (cleaned[0] and cleaned[1]):
        raise LeftOut("nothing but control characters")
    return Exchange(*cleaned)


def _digest(*texts: str) -> bytes:
    return hashlib.blake2b("\0".join(texts).encode("utf-8", "surrogatepass"), digest_size=16).digest()


def _write(out: BinaryIO, values: Mapping[str, str]) -> None:
    out.write(json.dumps(values, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n")

"""The rows of a data file, one by one: a file of millions of rows is never whole in memory, unless it is one JSON document."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from engram_bench.errors import PatternFileError, UsageError
from engram_bench.system.reading import check_regular, open_regular, parse_json, read_json

MAX_LINE_BYTES = 16 * 2**20
"""Longest line of a JSONL file; a long conversation has some hundred thousand bytes."""
MAX_CELL = 2**20
"""Longest cell of a CSV file, in characters: a quote that is never closed ends there."""
MAX_DOCUMENT_BYTES = 512 * 2**20
"""Largest file that is one JSON document."""
BATCH = 1_000
"""Rows of a table that are in memory at once."""


@dataclass(frozen=True, slots=True)
class DataRow:
    """One row of a data file."""

    number: int
    """Number of the row, counted from 1; in a file with lines, that of its first line."""
    values: Mapping[str, Any]


def data_rows(path: Path) -> Iterator[DataRow]:
    """The rows of a file, by its suffix: ``.jsonl``, ``.json``, ``.csv``, ``.tsv``, ``.parquet`` or ``.arrow``.

    Raises:
        PatternFileError: A row cannot be read; names the file, the row, what was found and what was expected.
        UsageError: The suffix is another one, or reading it needs pyarrow, which is missing.
    """
    read = READERS.get(path.suffix.lower())
    if read is None:
        msg = f"{path}: found suffix {path.suffix!r}, expected one of {', '.join(READERS)}"
        raise UsageError(msg)
    try:
        yield from read(path)
    except OSError as error:
        raise PatternFileError(path, [f"cannot be read: {error.strerror or error}"]) from error


def data_files(path: Path) -> list[Path]:
    """The data files at a path, sorted: the file itself, or every one in a folder and in its folders.

    Raises:
        PatternFileError: There is no such file or folder, or the folder has no data file.
    """
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise PatternFileError(path, ["no such file or folder, expected a data file"])
    found = sorted(each for each in path.rglob("*") if each.suffix.lower() in READERS and each.is_file())
    tables = [each for each in found if each.suffix.lower() not in (".json",)]
    found = tables or found  # a folder of `datasets` has its notes beside its tables
    if not found:
        raise PatternFileError(path, [f"no data file, expected at least one of *{', *'.join(READERS)}"])
    return found


def _json_lines(path: Path) -> Iterator[DataRow]:
    with open_regular(path) as lines:
        number = 0
        while data := lines.readline(MAX_LINE_BYTES + 1):
            number += 1
            if len(data) > MAX_LINE_BYTES:
                raise _mistake(path, number, f"more than {MAX_LINE_BYTES:,} bytes, expected one object per line")
            if not data.isspace():
                yield DataRow(number, _object(path, number, _parsed(path, number, partial(parse_json, data))))


def _json_document(path: Path) -> Iterator[DataRow]:
    value = _parsed(path, 1, partial(read_json, path, limit=MAX_DOCUMENT_BYTES))
    if isinstance(value, dict):  # `{"data": [...]}`, as some exports have it
        lists = [each for each in value.values() if isinstance(each, list)]
        value = lists[0] if len(lists) == 1 else [value]
    if not isinstance(value, list):
        raise _mistake(path, 1, f"{_kind(value)}, expected a list of objects")
    for number, each in enumerate(value, 1):
        yield DataRow(number, _object(path, number, each))


def _comma_separated(path: Path, delimiter: str = ",") -> Iterator[DataRow]:
    csv.field_size_limit(MAX_CELL)
    with io.TextIOWrapper(open_regular(path), "utf-8-sig", newline="") as text:
        reader = csv.reader(text, delimiter=delimiter, strict=True)
        header: list[str] = []
        line = 1
        try:
            for cells in reader:
                first, line = line, reader.line_num + 1
                if not header:
                    header = [cell.strip() for cell in cells]
                    if len(set(header)) < len(header) or not all(header):
                        raise _mistake(path, first, "columns without a name or with the same one, expected a header")
                elif cells:
                    if len(cells) != len(header):
                        raise _mistake(path, first, f"{len(cells)} cells, expected {len(header)} as in the header")
                    yield DataRow(first, dict(zip(header, cells, strict=True)))
        except csv.Error as error:
            raise _mistake(path, line, f"{error}, expected quotes in pairs") from error
        except UnicodeDecodeError as error:
            found = f"byte 0x{error.object[error.start]:02x}, expected UTF-8 text"
            raise _mistake(path, line, found) from error


def _tab_separated(path: Path) -> Iterator[DataRow]:
    return _comma_separated(path, "\t")


def _parquet(path: Path) -> Iterator[DataRow]:
    _check_pyarrow(path)
    from pyarrow import ArrowException
    from pyarrow.parquet import ParquetFile

    try:
        batches = ParquetFile(path).iter_batches(batch_size=BATCH)
        yield from _of_batches(batches)
    except (ArrowException, ValueError) as error:
        raise PatternFileError(path, [f"cannot be read as Parquet: {_first_line(error)}"]) from error


def _arrow(path: Path) -> Iterator[DataRow]:
    _check_pyarrow(path)
    from pyarrow import ArrowException, OSFile, ipc

    try:
        with OSFile(str(path)) as source:
            try:
                batches: Any = ipc.open_stream(source)
            except ArrowException:
                source.seek(0)
                opened = ipc.open_file(source)
                batches = (opened.get_batch(index) for index in range(opened.num_record_batches))
            yield from _of_batches(batches)
    except (ArrowException, ValueError) as error:
        raise PatternFileError(path, [f"cannot be read as Arrow: {_first_line(error)}"]) from error


def _of_batches(batches: Iterator[Any]) -> Iterator[DataRow]:
    number = 0
    for batch in batches:
        for start in range(0, batch.num_rows, BATCH):
            for values in batch.slice(start, BATCH).to_pylist():
                number += 1
                yield DataRow(number, values)


def _check_pyarrow(path: Path) -> None:
    check_regular(path)
    if find_spec("pyarrow") is None:
        msg = f"{path}: reading it needs pyarrow: pip install 'engram-bench[data]'"
        raise UsageError(msg)


def _object(path: Path, number: int, value: Any) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise _mistake(path, number, f"{_kind(value)}, expected an object")
    return value


def _parsed(path: Path, number: int, read: Callable[[], Any]) -> Any:
    try:
        return read()
    except UnicodeDecodeError as error:
        raise _mistake(path, number, "bytes that are no UTF-8 text, expected JSON") from error
    except ValueError as error:
        found = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
        raise _mistake(path, number, f"not JSON: {found}") from error


def _mistake(path: Path, number: int, found: str) -> PatternFileError:
    return PatternFileError(path, [f"line {number}: {found}" if path.suffix != ".json" else f"row {number}: {found}"])


def _kind(value: Any) -> str:
    names = {list: "a list", str: "a text", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number" if isinstance(value, int | float) else type(value).__name__)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


READERS: Mapping[str, Callable[[Path], Iterator[DataRow]]] = {
    ".jsonl": _json_lines,
    ".json": _json_document,
    ".csv": _comma_separated,
    ".tsv": _tab_separated,
    ".parquet": _parquet,
    ".arrow": _arrow,
}
"""Suffix → reader of such files."""

"""The metadata of a GGUF file: counts are checked against the file's size before anything is built, types before use.

Source of the format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from engram_bench.errors import ModelError
from engram_bench.system.reading import check_regular, open_regular

if TYPE_CHECKING:
    from gguf import GGUFReader

MAX_ELEMENTS = 1_000_000
"""Most values in all arrays of a file; the gguf package makes an object of each. A vocabulary of 150,000 tokens has 450,000."""
_SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
"""Bytes of a value by its type in the format."""
_TEXT, _ARRAY = 8, 9
_LEAST_FIELD, _LEAST_TENSOR = 13, 32
"""Bytes that the shortest field and the shortest description of a tensor take."""
_FAULTS = (ValueError, LookupError, TypeError, ArithmeticError, AttributeError, UnicodeError)
"""What the gguf package raises on a file that is not whole."""


def open_gguf(source: Path) -> GGUFReader:
    """A reader of a file whose counts fit its size.

    Raises:
        ModelError: The file is cut, is no regular file, is no GGUF file, or is larger inside than outside.
    """
    try:
        size = check_regular(source)
        with open_regular(source) as file:
            _Walk(file, size).check()
    except OSError as error:
        msg = f"{source}: cannot be read: {error.strerror or error}"
        raise ModelError(msg) from error
    except ValueError as error:
        msg = f"{source}: found {size} bytes ({error}), expected a whole GGUF file"
        raise ModelError(msg) from error
    from gguf import GGUFReader

    try:
        return GGUFReader(source)
    except _FAULTS as error:
        msg = f"{source}: found {size} bytes ({error}), expected a whole GGUF file"
        raise ModelError(msg) from error


class Metadata:
    """Fields of one file by name, read on demand; ``{arch}.`` in a name stands for the architecture."""

    def __init__(self, source: Path, reader: GGUFReader) -> None:
        self.source = source
        self._fields = reader.fields
        self.architecture = ""
        self.architecture = self.text("general.architecture")

    def get(self, name: str, kind: type | tuple[type, ...], default: Any = None) -> Any:
        """The value of a field that has one of these types; *default* where there is no such field.

        Raises:
            ModelError: The value has another type.
        """
        field = self._fields.get(name.format(arch=self.architecture))
        if field is None:
            return default
        try:
            value = field.contents()
        except _FAULTS as error:
            self._refuse(name, f"cannot be read ({error})", kind)
        if not isinstance(value, kind) or isinstance(value, bool):
            self._refuse(name, f"is a {type(value).__name__}", kind)
        return value

    def text(self, name: str, default: str | None = None) -> str:
        """A field of text. Raises ModelError where it is missing without a default, or is none."""
        return str(self._given(name, self.get(name, str, default)))

    def whole(self, name: str, default: int | None = None, *, most: int = 2**31) -> int:
        """A field with a whole number from 1 to *most*. Raises ModelError where it is missing without a default, or is none."""
        value = int(self._given(name, self.get(name, int, default)))
        if not 1 <= value <= most:
            self._refuse(name, f"is {value}", f"1 to {most}")
        return value

    def number(self, name: str, default: float | None = None) -> float:
        """A field with a number. Raises ModelError where it is missing without a default, or is none."""
        return float(self._given(name, self.get(name, (int, float), default)))

    def listed(self, name: str, kind: type) -> list[Any]:
        """A field with a list of values of one type. Raises ModelError where it is missing, or is none."""
        values: list[Any] = self._given(name, self.get(name, list))
        if not all(type(value) is kind for value in values):
            self._refuse(name, "has other values", f"a list of {kind.__name__}")
        return values

    def token(self, name: str, num_tokens: int) -> int | None:
        """A field with the number of a token; None where there is no such field. Raises ModelError where it is none."""
        value: int | None = self.get(name, int)
        if value is not None and not 0 <= value < num_tokens:
            self._refuse(name, f"is {value}", f"the number of one of {num_tokens} tokens")
        return value

    def expect(self, what: str, found: object, known: Iterable[Any]) -> None:
        """Check that a value is known.

        Raises:
            ModelError: The value *found* is not among *known*.
        """
        values = sorted(known)
        if found not in values:
            msg = f"{self.source}: {what} {found!r}, expected {' or '.join(map(str, values))}"
            raise ModelError(msg)

    def _given(self, name: str, value: Any) -> Any:
        if value is None:
            msg = f"{self.source}: no field {name.format(arch=self.architecture)}, expected one"
            raise ModelError(msg)
        return value

    def _refuse(self, name: str, found: str, expected: object) -> None:
        kinds = expected if isinstance(expected, tuple) else (expected,)
        words = " or ".join(kind.__name__ if isinstance(kind, type) else str(kind) for kind in kinds)
        msg = f"{self.source}: field {name.format(arch=self.architecture)} {found}, expected {words}"
        raise ModelError(msg)


class _Walk:
    """One pass over the counts and lengths of a file, which builds nothing."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file = file
        self._size = size
        self._elements = 0

    def check(self) -> None:
        """Raise ValueError where a count or a length is larger than the file has room for."""
        magic, version = self._file.read(4), self._number("<I")
        if magic != b"GGUF" or version not in (2, 3):
            msg = f"magic {magic!r}, version {version}"
            raise ValueError(msg)
        tensors, fields = self._number("<Q"), self._number("<Q")
        self._check_room(fields * _LEAST_FIELD + tensors * _LEAST_TENSOR, f"{fields} fields and {tensors} tensors")
        for _ in range(fields):
            self._skip_text()
            self._skip_value(self._number("<I"))
        for _ in range(tensors):
            self._skip_text()
            dimensions = self._number("<I")
            if not 1 <= dimensions <= 4:
                msg = f"a tensor of {dimensions} dimensions"
                raise ValueError(msg)
            self._skip(8 * dimensions + 12)

    def _skip_value(self, kind: int) -> None:
        if kind == _TEXT:
            self._skip_text()
        elif kind == _ARRAY:
            inner, count = self._number("<I"), self._number("<Q")
            self._elements += count
            self._check_room(count, f"an array of {count} values")
            if self._elements > MAX_ELEMENTS:
                msg = f"arrays of {self._elements} values, expected at most {MAX_ELEMENTS}"
                raise ValueError(msg)
            if inner in _SIZES:
                self._skip(count * _SIZES[inner])
            elif inner == _TEXT:
                for _ in range(count):
                    self._skip_text()
            else:
                msg = f"an array of values of type {inner}"
                raise ValueError(msg)
        elif kind in _SIZES:
            self._skip(_SIZES[kind])
        else:
            msg = f"a value of type {kind}"
            raise ValueError(msg)

    def _skip_text(self) -> None:
        self._skip(self._number("<Q"))

    def _skip(self, count: int) -> None:
        self._check_room(count, f"{count} bytes")
        self._file.seek(count, 1)

    def _check_room(self, count: int, what: str) -> None:
        at = self._file.tell()
        if count > self._size - at:
            msg = f"{what} at byte {at}"
            raise ValueError(msg)

    def _number(self, form: str) -> int:
        data = self._file.read(struct.calcsize(form))
        if len(data) < struct.calcsize(form):
            msg = "cut off"
            raise ValueError(msg)
        return int(struct.unpack(form, data)[0])

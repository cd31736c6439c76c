"""The metadata of a GGUF file: counts are checked against the file's size before anything is built, types before use.

Source of the format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from io import BufferedReader
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engram_bench.errors import ModelError
from engram_bench.system.reading import check_regular, open_regular

if TYPE_CHECKING:
    from gguf import GGMLQuantizationType
    from numpy.typing import NDArray

MAX_ELEMENTS = 2_000_000
"""Most values in all arrays of a file. A vocabulary of 150,000 tokens has 450,000."""
_FORMS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
"""How a value is stored (``struct``) by its type in the format."""
_TEXT, _ARRAY = 8, 9
_LEAST_FIELD, _LEAST_TENSOR = 13, 32
"""Bytes that the shortest field and the shortest description of a tensor take."""


@dataclass(frozen=True, slots=True)
class GgufTensor:
    """One tensor of a file."""

    path: Path
    name: str
    shape: tuple[int, ...]
    """Sizes in numpy's order, the slowest first."""
    type_number: int
    """Type of the numbers in the format."""
    start: int
    """Offset of the first byte in the file."""

    @property
    def tensor_type(self) -> GGMLQuantizationType:
        """Type of the numbers.

        Raises:
            ValueError: The gguf package knows no such type.
        """
        from gguf import GGMLQuantizationType

        return GGMLQuantizationType(self.type_number)

    @property
    def data(self) -> NDArray[Any]:
        """The numbers, quantized ones as bytes, read when they are used.

        Raises:
            ValueError: The file ends before the tensor does.
        """
        import numpy as np
        from gguf.quants import quant_shape_to_byte_shape

        kind = self.tensor_type
        plain = {"F32": "<f4", "F16": "<f2", "F64": "<f8"}
        shape = self.shape if kind.name in plain else quant_shape_to_byte_shape(self.shape, kind)
        numbers = np.dtype(plain.get(kind.name, "u1"))
        with open_regular(self.path) as file:
            file.seek(self.start)
            data = bytearray(file.read(prod(shape) * numbers.itemsize))
        return np.frombuffer(data, numbers).reshape(shape)


@dataclass(frozen=True, slots=True)
class GgufFile:
    """A file's fields by name, and its tensors."""

    fields: Mapping[str, Any]
    tensors: Sequence[GgufTensor]


def open_gguf(source: Path) -> GgufFile:
    """The content of a file whose counts fit its size; the tensors are read when they are used.

    Raises:
        ModelError: The file is cut, is no regular file, is no GGUF file, or is larger inside than outside.
    """
    try:
        size = check_regular(source)
        with open_regular(source) as file:
            return _Walk(source, file, size).read()
    except OSError as error:
        msg = f"{source}: cannot be read: {error.strerror or error}"
        raise ModelError(msg) from error
    except ValueError as error:
        msg = f"{source}: found {size} bytes ({error}), expected a whole GGUF file"
        raise ModelError(msg) from error


class Metadata:
    """Fields of one file by name, read on demand; ``{arch}.`` in a name stands for the architecture."""

    def __init__(self, source: Path, file: GgufFile) -> None:
        self.source = source
        self._fields = file.fields
        self.architecture = ""
        self.architecture = self.text("general.architecture")

    def get(self, name: str, kind: type | tuple[type, ...], default: Any = None) -> Any:
        """The value of a field that has one of these types; *default* where there is no such field.

        Raises:
            ModelError: The value has another type.
        """
        value = self._fields.get(name.format(arch=self.architecture))
        if value is None:
            return default
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
    """One pass over the head of a file, in which no count or length is believed that the file has no room for."""

    def __init__(self, path: Path, file: BufferedReader, size: int) -> None:
        self._path = path
        self._file = file
        self._size = size
        self._elements = 0

    def read(self) -> GgufFile:
        """The fields and the tensors; raises ValueError where a count or a length is larger than the rest of the file."""
        magic, version = self._file.read(4), self._number("<I")
        if magic != b"GGUF" or version not in (2, 3):
            msg = f"magic {magic!r}, version {version}"
            raise ValueError(msg)
        num_tensors, num_fields = self._number("<Q"), self._number("<Q")
        room = num_fields * _LEAST_FIELD + num_tensors * _LEAST_TENSOR
        self._check_room(room, f"{num_fields} fields and {num_tensors} tensors")
        fields: dict[str, Any] = {}
        for _ in range(num_fields):
            name = self._text()
            if name in fields:
                msg = f"field {name[:60]!r} twice"
                raise ValueError(msg)
            fields[name] = self._value(self._number("<I"))
        described = [self._described() for _ in range(num_tensors)]
        alignment = fields.get("general.alignment", 32)
        if type(alignment) is not int or not 1 <= alignment <= 1 << 20:
            msg = f"an alignment of {alignment!r}"
            raise ValueError(msg)
        first = -(-self._file.tell() // alignment) * alignment
        if len({name for name, *_ in described}) < len(described):
            raise ValueError("a tensor's name twice")
        tensors = [GgufTensor(self._path, name, shape, kind, first + offset) for name, shape, kind, offset in described]
        for tensor in tensors:
            self._check_whole(tensor)
        return GgufFile(fields, tensors)

    def _described(self) -> tuple[str, tuple[int, ...], int, int]:
        """Name, shape, type and offset of a tensor."""
        name, dimensions = self._text(), self._number("<I")
        if not 1 <= dimensions <= 4:
            msg = f"a tensor of {dimensions} dimensions"
            raise ValueError(msg)
        shape = tuple(self._number("<Q") for _ in range(dimensions))[::-1]
        return name, shape, self._number("<I"), self._number("<Q")

    def _check_whole(self, tensor: GgufTensor) -> None:
        from gguf import GGML_QUANT_SIZES

        block, size = GGML_QUANT_SIZES[tensor.tensor_type]
        end = tensor.start + prod(tensor.shape) // block * size
        if tensor.shape[-1] % block or not tensor.start < end <= self._size:
            msg = f"tensor {tensor.name[:60]!r} ends at byte {end}"
            raise ValueError(msg)

    def _value(self, kind: int) -> Any:
        if kind == _TEXT:
            return self._text()
        if kind == _ARRAY:
            return self._array(self._number("<I"), self._number("<Q"))
        if kind in _FORMS:
            return self._number(_FORMS[kind])
        msg = f"a value of type {kind}"
        raise ValueError(msg)

    def _array(self, kind: int, count: int) -> list[Any]:
        self._elements += count
        self._check_room(count, f"an array of {count} values")
        if self._elements > MAX_ELEMENTS:
            msg = f"arrays of {self._elements} values, expected at most {MAX_ELEMENTS}"
            raise ValueError(msg)
        if kind == _TEXT:
            return [self._text() for _ in range(count)]
        if kind in _FORMS:
            form = f"<{count}{_FORMS[kind][1]}"
            return list(struct.unpack(form, self._bytes(struct.calcsize(form))))
        msg = f"an array of values of type {kind}"
        raise ValueError(msg)

    def _text(self) -> str:
        return self._bytes(self._number("<Q")).decode("utf-8")

    def _bytes(self, count: int) -> bytes:
        self._check_room(count, f"{count} bytes")
        return self._file.read(count)

    def _check_room(self, count: int, what: str) -> None:
        at = self._file.tell()
        if count > self._size - at:
            msg = f"{what} at byte {at}"
            raise ValueError(msg)

    def _number(self, form: str) -> Any:
        data = self._file.read(struct.calcsize(form))
        if len(data) < struct.calcsize(form):
            raise ValueError("cut off")
        return struct.unpack(form, data)[0]

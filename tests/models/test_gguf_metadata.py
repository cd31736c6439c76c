"""GGUF files whose counts promise more than the file holds, and fields of another type than their name says."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from engram_bench.errors import ModelError
from engram_bench.models.gguf_convert import convert_gguf
from engram_bench.models.gguf_metadata import MAX_ELEMENTS, open_gguf
from tests.tiny_gguf import write_gguf
from tests.tiny_models import make_tiny_llama


def text(value: str) -> bytes:
    """A text of the format."""
    return struct.pack("<Q", len(value.encode())) + value.encode()


def head(*, tensors: int = 0, fields: int = 0, version: int = 3, magic: bytes = b"GGUF") -> bytes:
    """The start of a file."""
    return magic + struct.pack("<IQQ", version, tensors, fields)


def array(kind: int, count: int) -> bytes:
    """The start of one field that holds an array."""
    return text("a") + struct.pack("<IIQ", 9, kind, count)


HOSTILE = {
    "magic": (head(magic=b"GGML"), "magic b'GGML'"),
    "other-byte-order": (head(version=3 << 24), "version"),
    "tensors": (head(tensors=2**40), "1099511627776 tensors"),
    "fields": (head(fields=2**60), "1152921504606846976 fields"),
    "text": (head(fields=1) + struct.pack("<Q", 2**62) + b"a" * 40, "4611686018427387904 bytes"),
    "array": (head(fields=1) + array(0, 2**50) + b"a" * 40, "an array of 1125899906842624 values"),
    "many-values": (
        head(fields=1) + array(0, MAX_ELEMENTS + 1) + b"a" * (MAX_ELEMENTS + 9),
        "arrays of 2000001 values",
    ),
    "array-in-array": (head(fields=1) + array(9, 3) + b"a" * 90, "an array of values of type 9"),
    "type": (head(fields=1) + text("a") + struct.pack("<I", 99) + b"a" * 9, "a value of type 99"),
    "dimensions": (
        head(tensors=1) + text("a") + struct.pack("<I", 2**31) + b"a" * 64,
        "a tensor of 2147483648 dimensions",
    ),
    "cut": (head(fields=1)[:20], "cut off"),
}


@pytest.mark.parametrize(("data", "found"), HOSTILE.values(), ids=HOSTILE)
def test_a_count_that_the_file_has_no_room_for_is_refused_before_anything_is_built(
    tmp_path: Path, data: bytes, found: str
) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(data)

    with pytest.raises(ModelError, match=rf"found \d+ bytes \(.*{found}.*\), expected a whole GGUF file"):
        open_gguf(path)


@pytest.mark.parametrize(
    ("extra", "found"),
    [
        ({"llama.rope.scaling.type": 7}, "rope.scaling.type is a int, expected str"),
        ({"llama.rope.dimension_count": "x"}, "dimension_count is a str, expected int"),
        ({"tokenizer.ggml.eot_token_id": 10**6}, "eot_token_id is 1000000, expected the number of one of"),
        ({"tokenizer.ggml.padding_token_id": "x"}, "padding_token_id is a str, expected int"),
        ({"tokenizer.chat_template": 7}, "chat_template is a int, expected str"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_field_of_another_type_is_named(tmp_path: Path, extra: dict[str, str | int], found: str) -> None:
    (tmp_path / "model").mkdir()
    model = make_tiny_llama(tmp_path / "model")
    path = write_gguf(model, tmp_path / "model.gguf", extra=extra)

    with pytest.raises(ModelError, match=found):
        convert_gguf(path, tmp_path / "converted")


def test_more_blocks_than_tensors_are_refused(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    path = write_gguf(make_tiny_llama(tmp_path / "model"), tmp_path / "model.gguf")
    data = path.read_bytes()
    at = data.index(b"llama.block_count") + len("llama.block_count") + 4
    path.write_bytes(data[:at] + struct.pack("<I", 2**31 - 1) + data[at + 4 :])

    with pytest.raises(ModelError, match="block_count is 2147483647, expected 1 to"):
        convert_gguf(path, tmp_path / "converted")

"""Files of others: what is refused before anything is read or built."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from engram_bench.system.reading import (
    MAX_DEPTH,
    MAX_DIGITS,
    check_depth,
    check_inside,
    open_regular,
    parse_json,
    read_bytes,
    read_json,
    read_text,
)


def test_text_and_json_are_read_as_they_stand(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    file.write_bytes(b'\xef\xbb\xbf{"a": [1, "\xc3\xa9"]}\r\n')

    assert read_json(file) == {"a": [1, "é"]}
    assert read_text(file) == '\ufeff{"a": [1, "é"]}\n'


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_named_pipe_is_refused_without_waiting_for_a_writer(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")

    with pytest.raises(OSError, match="a named pipe, expected a regular file"):
        read_bytes(tmp_path / "pipe")


def test_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"folder|directory|denied"):
        read_bytes(tmp_path)


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="no devices here")
def test_a_device_is_refused_instead_of_read_for_ever() -> None:
    with pytest.raises(OSError, match="a device, expected a regular file"):
        read_bytes(Path("/dev/zero"))


def test_a_file_above_the_limit_is_refused_by_its_size(tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(b"x" * 100)

    with pytest.raises(OSError, match="100 bytes, expected at most 99"):
        read_bytes(tmp_path / "large", limit=99)


def test_a_link_that_leaves_the_folder_is_refused_and_one_that_stays_is_not(tmp_path: Path) -> None:
    folder, secret = tmp_path / "folder", tmp_path / "secret"
    folder.mkdir()
    secret.write_text("key")
    (folder / "own").write_text("own")
    (folder / "out").symlink_to(secret)
    (folder / "in").symlink_to("own")

    with open_regular(folder / "in", inside=folder) as file:
        assert file.read() == b"own"
    with pytest.raises(OSError, match=r"a link to .*secret, expected a file inside the folder"):
        read_text(folder / "out", inside=folder)
    with pytest.raises(OSError, match="expected a file inside the folder"):
        check_inside(folder / ".." / "secret", folder)


def test_links_of_the_hub_s_cache_are_followed(tmp_path: Path) -> None:
    snapshot, blobs = tmp_path / "models--a--b/snapshots/123", tmp_path / "models--a--b/blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    (blobs / "f00").write_text("{}")
    (snapshot / "config.json").symlink_to("../../blobs/f00")

    assert read_json(snapshot / "config.json", inside=snapshot) == {}


@pytest.mark.parametrize("depth", [MAX_DEPTH + 1, 500, 100_000])
def test_json_nested_too_deeply_is_refused(depth: int) -> None:
    with pytest.raises(ValueError, match=f"nested deeper than {MAX_DEPTH} levels"):
        parse_json("[" * depth + "]" * depth)


@pytest.mark.parametrize("text", ["[" * MAX_DEPTH + "]" * MAX_DEPTH, json.dumps(["[" * 500])], ids=["nested", "text"])
def test_json_within_the_depth_is_read(text: str) -> None:
    assert parse_json(text) == json.loads(text)


def test_depth_is_of_mappings_and_lists_alike() -> None:
    check_depth({"a": [{"b": 1}]}, 3)

    with pytest.raises(ValueError, match="nested deeper than 2 levels"):
        check_depth({"a": [{"b": 1}]}, 2)


def test_a_number_of_too_many_digits_is_refused_and_a_long_text_of_digits_is_not() -> None:
    with pytest.raises(ValueError, match=f"a number of {MAX_DIGITS + 1} digits, expected at most {MAX_DIGITS}"):
        parse_json("9" * (MAX_DIGITS + 1))
    assert parse_json(json.dumps("9" * 1000)) == "9" * 1000
    assert parse_json(b"9" * MAX_DIGITS) == int("9" * MAX_DIGITS)


@pytest.mark.parametrize("data", [b"\xff\xfe", b"{", b"", b"\x00"])
def test_what_is_no_json_is_a_value_error(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_json(data)


def test_a_text_of_too_many_values_is_refused_before_it_is_built() -> None:
    assert parse_json("[" + "[]," * 300 + "[]]", most_values=2000) == [[]] * 301

    with pytest.raises(ValueError, match="2,104 values, expected at most 1,000"):
        parse_json("[" + "[]," * 420 + "0]", most_values=1000)

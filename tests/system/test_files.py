import errno
import os
from pathlib import Path

import pytest

from engram_bench.errors import StoreError
from engram_bench.system.files import sync, write_atomic
from tests.conftest import wait_for_disk
from tests.processes import run_python_on_small_disk, run_python_with_file_limit, run_python_without_permission

WRITE = """
import sys
from pathlib import Path
from engram_bench.system.files import write_atomic
from engram_bench.errors import StoreError

path = Path(sys.argv[1])
if len(sys.argv) > 2:
    write_atomic(path, "old")
try:
    write_atomic(path, "x" * 1_000_000)
except StoreError as error:
    print(error)
print(path.read_text() if path.exists() else "no file", [other.name for other in path.parent.iterdir()])
"""


def test_text_is_written_with_its_folder(tmp_path: Path) -> None:
    write_atomic(tmp_path / "new" / "a.txt", "grün\n")

    assert (tmp_path / "new" / "a.txt").read_bytes() == "grün\n".encode()


def test_file_is_replaced_and_nothing_is_left_beside_it(tmp_path: Path) -> None:
    write_atomic(tmp_path / "a.txt", "old")
    write_atomic(tmp_path / "a.txt", "new")

    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"a.txt": "new"}


def test_file_gets_the_permissions_of_any_new_file(tmp_path: Path) -> None:
    (tmp_path / "plain").touch()
    write_atomic(tmp_path / "atomic", "")

    assert (tmp_path / "atomic").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_lone_surrogate_is_written_as_its_escape(tmp_path: Path) -> None:
    write_atomic(tmp_path / "a.txt", "a\udc80b")

    assert (tmp_path / "a.txt").read_text(encoding="utf-8") == "a\\udc80b"


def test_old_file_outlives_a_disk_that_is_full(tmp_path: Path) -> None:
    shown = run_python_on_small_disk(tmp_path, 64, WRITE, tmp_path / "a.txt", "old")

    assert shown == f"{tmp_path}/a.txt: cannot be written: No space left on device\nold ['a.txt']\n"


def test_old_file_outlives_a_file_size_limit(tmp_path: Path) -> None:
    shown = run_python_with_file_limit(1000, WRITE, tmp_path / "a.txt", "old")

    assert shown == f"{tmp_path}/a.txt: cannot be written: File too large\nold ['a.txt']\n"


def test_read_only_folder_is_named(tmp_path: Path) -> None:
    tmp_path.chmod(0o555)

    shown = run_python_without_permission(WRITE, tmp_path / "a.txt")

    assert shown == f"{tmp_path}/a.txt: cannot be written: Permission denied\nno file []\n"


def test_file_in_place_of_the_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "reports").touch()

    with pytest.raises(StoreError, match=r"reports/latest\.md: cannot be written: (File exists|Not a directory)"):
        write_atomic(tmp_path / "reports" / "latest.md", "")


def test_interruption_leaves_the_old_file_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(descriptor: int) -> None:
        raise KeyboardInterrupt

    write_atomic(tmp_path / "a.txt", "old")
    monkeypatch.setattr(os, "fsync", interrupt)

    with pytest.raises(KeyboardInterrupt):
        write_atomic(tmp_path / "a.txt", "new")
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"a.txt": "old"}


def test_sync_takes_files_and_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", wait_for_disk)
    (tmp_path / "a").touch(mode=0o444)

    sync(tmp_path / "a")
    sync(tmp_path)

    with pytest.raises(OSError, match="missing") as caught:
        sync(tmp_path / "missing")
    assert caught.value.errno == errno.ENOENT

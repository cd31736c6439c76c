"""A completion store that somebody, or a disk, has changed: put aside once, whatever it holds, and answers are asked again."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from engram_bench.inference import store_file
from engram_bench.inference.store import CompletionStore
from engram_bench.records import Completion
from tests.processes import start_python

ANSWER = Completion("404", prompt_tokens=9, completion_tokens=2, stop_reason="stop", seconds=0.25)
KEYS = [f"key-{number}" for number in range(50)]

READ_OFTEN = """
import sys, time
from pathlib import Path
from engram_bench.inference.store import CompletionStore
from engram_bench.records import Completion

keys = [f"key-{number}" for number in range(50)]
with CompletionStore(Path(sys.argv[1]), warn=print) as store:
    for turn in range(5):
        found = store.get_many(keys)
        store.put_many({key: Completion("404", 9, 2, "stop", 0.25) for key in keys if key not in found})
        time.sleep(0.02)
    assert store.get_many(keys).keys() in (set(keys), set())  # none where the damage came just before
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The file of a store that holds fifty completions and their figures."""
    path = tmp_path / "completions.sqlite"
    with CompletionStore(path, warn=pytest.fail) as store:
        store.put_many(dict.fromkeys(KEYS, ANSWER))
        store.put_figures({"key-1": [1.0, 2.0]})
    return path


def changed(path: Path, *statements: str) -> None:
    """Run SQL on the store's file."""
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("PRAGMA writable_schema = ON")
        for statement in statements:
            connection.execute(statement)


def use(path: Path) -> list[str]:
    """The warnings of a session that reads all, stores what was missing, and finds it."""
    warnings: list[str] = []
    with CompletionStore(path, warn=warnings.append) as store:
        figures, found = store.get_figures(["key-1"]), store.get_many(KEYS)
        assert set(found.values()) <= {ANSWER}
        assert figures in ({}, {"key-1": [1.0, 2.0]})
        store.put_many({key: ANSWER for key in KEYS if key not in found})
        store.put_figures({"key-1": [1.0, 2.0]})
        store.stats()
        assert store.get_many(KEYS) == dict.fromkeys(KEYS, ANSWER)
    return warnings


HOSTILE = {
    "text": ["UPDATE completions SET text = X'343035' WHERE key = 'key-7'"],
    "type": ["UPDATE completions SET text = 'x' WHERE key = 'key-7'"],
    "not-utf-8": ["UPDATE completions SET text = X'ff' WHERE key = 'key-7'"],
    "number": ["UPDATE completions SET seconds = 'long' WHERE key = 'key-7'"],
    "reason": ["UPDATE completions SET stop_reason = 'whim' WHERE key = 'key-7'"],
    "figures": ["UPDATE figures SET figures = '[9]' WHERE key = 'key-1'"],
    "missing-table": ["DROP TABLE figures"],
    "missing-column": ["ALTER TABLE completions DROP COLUMN seconds"],
    "further-column": ["ALTER TABLE completions ADD COLUMN more TEXT DEFAULT 'x'"],
    "view": ["ALTER TABLE completions RENAME TO real", "CREATE VIEW completions AS SELECT * FROM real"],
    "view-beside": ["CREATE VIEW beside AS SELECT writefile('/tmp/x', 1)"],
    "trigger": ["CREATE TRIGGER no BEFORE INSERT ON completions BEGIN SELECT RAISE(ABORT, 'no'); END"],
    "index": ["CREATE INDEX often ON completions (lower(key))"],
    "schema": ["UPDATE sqlite_master SET sql = 'CREATE TABLE figures (key TEXT, nonsense' WHERE name = 'figures'"],
    "no-schema": ["DELETE FROM sqlite_master"],
    "root-page": ["UPDATE sqlite_master SET rootpage = 999 WHERE name = 'completions'"],
    "shared-page": ["UPDATE sqlite_master SET rootpage = 3 WHERE name = 'completions'"],
    "older": ["PRAGMA user_version = 1"],
}


@pytest.mark.parametrize("statements", HOSTILE.values(), ids=HOSTILE)
def test_what_was_changed_by_sql_is_put_aside_and_asked_again(path: Path, statements: list[str]) -> None:
    changed(path, *statements)

    first, second = use(path), use(path)

    assert len(first) == 1
    assert "moved to completions.sqlite.damaged, completions are computed again" in first[0]
    assert second == []
    assert path.with_name("completions.sqlite.damaged").is_file()


@pytest.mark.parametrize("at", [0, 18, 24, 28, 100, 105, 4096, 4096 * 2 + 8, 4096 * 3])
def test_damaged_bytes_never_give_another_answer_nor_an_error(path: Path, at: int) -> None:
    content = bytearray(path.read_bytes())
    content[at : at + 4] = b"\xff\xfe\xfd\xfc"
    path.write_bytes(content)

    assert len(use(path)) <= 1
    assert use(path) == []


@pytest.mark.parametrize("size", [1, 99, 512, 4096, 4097, 9000])
def test_a_cut_file_costs_at_most_one_warning(path: Path, size: int) -> None:
    path.write_bytes(path.read_bytes()[:size])

    assert len(use(path)) <= 1
    assert use(path) == []


def test_a_table_that_never_ends_is_put_aside(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    warnings: list[str] = []
    with CompletionStore(path, warn=warnings.append) as store:
        store.put_many({f"more-{number}": ANSWER for number in range(2000)})
        monkeypatch.setattr(store_file, "STEP", 1000)
        monkeypatch.setattr(store_file, "MAX_STEPS", 1)

        assert store.stats().completions == 0

    assert [warning.partition(": ")[2] for warning in warnings] == [
        "interrupted; moved to completions.sqlite.damaged, completions are computed again"
    ]


def test_of_several_processes_one_puts_a_damaged_store_aside_and_all_use_the_new_one(path: Path) -> None:
    processes = [start_python(READ_OFTEN, path) for _ in range(3)]
    with CompletionStore(path, warn=pytest.fail) as store:
        store.get_many(KEYS)
        changed(path, "UPDATE completions SET text = X'343035'")
    shown = [process.communicate(timeout=120) for process in processes]

    assert [process.returncode for process in processes] == [0, 0, 0], shown
    assert sum(text.count("moved to") for text, _ in shown) <= 1
    assert use(path) in (
        [],
        [
            f"{path}: a completion differs from its checksum; moved to completions.sqlite.damaged, "
            "completions are computed again"
        ],
    )


def test_a_session_that_has_a_moved_file_open_leaves_the_new_one_alone(path: Path) -> None:
    warnings: list[str] = []
    with CompletionStore(path, warn=pytest.fail) as bystander:
        changed(path, "UPDATE completions SET text = X'343035'")
        with CompletionStore(path, warn=warnings.append) as store:
            assert store.get_many(KEYS) == {}
            bystander.put_many({"from-bystander": ANSWER})
            store.put_many({"from-store": ANSWER})
        bystander.close()

    assert len(warnings) == 1
    with CompletionStore(path, warn=pytest.fail) as store:
        assert store.get_many(["from-bystander", "from-store"]).keys() == {"from-bystander", "from-store"}

import re
import signal
import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest

from engram_bench.inference.store import CompletionStore, StoreStats, completion_key
from engram_bench.records import Completion, GenerationSettings
from tests.processes import run_python_on_small_disk, run_python_without_permission, start_python, wait_for

ANSWER = Completion("404", prompt_tokens=9, completion_tokens=2, stop_reason="stop", seconds=0.25)
OTHER = Completion("It is 404", prompt_tokens=9, completion_tokens=5, stop_reason="length", seconds=0.5)

WRITE_MANY = """
import sys
from pathlib import Path
from engram_bench.inference.store import CompletionStore
from engram_bench.records import Completion

number = int(sys.argv[2])
with CompletionStore(Path(sys.argv[1]), warn=print) as store:
    for turn in range(20):
        keys = [f"{number}-{turn}-{row}" for row in range(50)] + [f"shared-{turn}"]
        store.put_many({key: Completion(key, 1, 1, "stop", 0.0) for key in keys})
        assert store.get_many(keys).keys() == set(keys)
"""
WRITE_BIG = """
import sys
from pathlib import Path
from engram_bench.inference.store import CompletionStore
from engram_bench.records import Completion

with CompletionStore(Path(sys.argv[1]), warn=print) as store:
    store.put_many({"small": Completion("404", 1, 1, "stop", 0.0)})
    for key in ("big", "bigger"):
        store.put_many({key: Completion("x" * 1_000_000, 1, 1, "stop", 0.0)})
        print(sorted(store.get_many(["small", key])))
with CompletionStore(Path(sys.argv[1]), warn=print) as store:
    print(sorted(store.get_many(["small", "big", "bigger"])))
"""
ASK_ONCE = """
import sys, time
from pathlib import Path
from engram_bench.inference.store import CompletionStore
from engram_bench.records import Completion

with CompletionStore(Path(sys.argv[1]), warn=print) as store, store.lock("model/adapter"):
    if not store.get_many(["a"]):
        time.sleep(0.3)
        store.put_many({"a": Completion("404", 1, 1, "stop", 0.0)})
        print("asked")
"""
WRITE_FOREVER = """
import itertools, sys
from pathlib import Path
from engram_bench.inference.store import CompletionStore
from engram_bench.records import Completion

with CompletionStore(Path(sys.argv[1])) as store:
    for turn in itertools.count():
        store.put_many({f"{turn}-{row}": Completion("x", 1, 1, "stop", 0.0) for row in range(1000)})
        Path(sys.argv[2]).touch()
"""


def fail_on_warning(message: str) -> None:
    pytest.fail(f"warned: {message}")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "completions.sqlite"


def open_quietly(path: Path) -> CompletionStore:
    return CompletionStore(path, warn=fail_on_warning)


# ── keys ────────────────────────────────────────────────────────────────────────────────────────


def key(
    *,
    model: str = "m",
    adapter: str = "a",
    template: str = "t",
    backend: str = "cpu",
    dtype: str = "bfloat16",
    prompt_tokens: tuple[int, ...] = (1, 2),
    settings: GenerationSettings | None = None,
    version: str = "1",
) -> str:
    return completion_key(
        model=model,
        adapter=adapter,
        template=template,
        backend=backend,
        dtype=dtype,
        prompt_tokens=prompt_tokens,
        settings=settings or GenerationSettings(),
        version=version,
    )


@pytest.mark.parametrize(
    "other",
    [
        key(model="n"),
        key(adapter=""),
        key(model="ma", adapter=""),
        key(template="u"),
        key(backend="mlx"),
        key(dtype="float32"),
        key(prompt_tokens=(1, 2, 3)),
        key(prompt_tokens=(12,)),
        key(settings=GenerationSettings(max_tokens=33)),
        key(settings=GenerationSettings(sample=1)),
        key(settings=GenerationSettings(temperature=0.5)),
        key(settings=GenerationSettings(ignore_eos=True)),
        key(version="2"),
    ],
    ids=[
        "model",
        "adapter",
        "border",
        "template",
        "backend",
        "dtype",
        "prompt",
        "joined",
        "max",
        "sample",
        "temperature",
        "eos",
        "version",
    ],
)
def test_key_changes_with_anything_the_answer_depends_on(other: str) -> None:
    assert re.fullmatch(r"[0-9a-f]{64}", other)
    assert other != key()


def test_key_of_a_greedy_answer_does_not_depend_on_the_draw() -> None:
    assert key(settings=GenerationSettings(seed=7, top_p=0.9)) == key()


def test_key_of_a_sample_depends_on_the_draw() -> None:
    sampled = GenerationSettings(temperature=0.7)
    draws = [sampled, replace(sampled, seed=1), replace(sampled, sample=1), replace(sampled, top_p=0.9)]

    assert len({key(settings=draw) for draw in draws}) == 4


# ── storing ─────────────────────────────────────────────────────────────────────────────────────


def test_stored_completions_are_found_and_others_left_out(path: Path) -> None:
    with open_quietly(path) as store:
        store.put_many({"a": ANSWER, "b": OTHER})

        assert store.get_many(["b", "c", "b"]) == {"b": OTHER}
        assert store.get_many([]) == {}


def test_completions_outlive_the_store(path: Path) -> None:
    with open_quietly(path) as store:
        store.put_many({"a": ANSWER})

    with open_quietly(path) as store:
        assert store.get_many(["a"]) == {"a": ANSWER}


@pytest.mark.parametrize("text", ["", "a\0b", "a\udc80b", "\r\n", "✓" * 10_000])
def test_text_of_any_kind_is_stored(path: Path, text: str) -> None:
    with open_quietly(path) as store:
        store.put_many({"a": replace(ANSWER, text=text)})

        assert store.get_many(["a"])["a"].text == text


def test_first_completion_of_a_key_stays(path: Path) -> None:
    with open_quietly(path) as store:
        store.put_many({"a": ANSWER})
        store.put_many({"a": OTHER})

        assert store.get_many(["a"]) == {"a": ANSWER}


def test_more_keys_than_sqlite_has_variables(path: Path) -> None:
    many = {f"key-{number}": ANSWER for number in range(40_000)}
    with open_quietly(path) as store:
        store.put_many(many)

        assert store.get_many(list(many)).keys() == many.keys()


def test_stats_count_and_weigh(path: Path) -> None:
    with open_quietly(path) as store:
        assert store.stats().completions == 0
        store.put_many({"a": ANSWER, "b": OTHER})

        assert store.stats().completions == 2
        assert store.stats().size > 4096


def test_clear_forgets_everything(path: Path) -> None:
    with open_quietly(path) as store:
        store.put_many({f"key-{number}": ANSWER for number in range(1000)})
        full = store.stats().size

        assert store.clear() == 1000
        assert store.get_many(["key-1"]) == {}
        assert store.stats().size < full


def test_closed_store_finds_and_keeps_nothing(path: Path) -> None:
    store = open_quietly(path)
    store.close()
    store.close()

    store.put_many({"a": ANSWER})
    assert store.get_many(["a"]) == {}
    assert store.stats() == StoreStats(0, 0)


# ── several processes ───────────────────────────────────────────────────────────────────────────


def test_processes_share_the_store_from_its_first_moment(path: Path) -> None:
    processes = [start_python(WRITE_MANY, path, number) for number in range(4)]

    shown = [process.communicate(timeout=60) for process in processes]

    assert [(process.returncode, *text) for process, text in zip(processes, shown, strict=True)] == [(0, "", "")] * 4
    with open_quietly(path) as store:
        assert store.stats().completions == 4 * 20 * 50 + 20


def test_process_that_waited_for_the_lock_finds_the_answers(path: Path) -> None:
    processes = [start_python(ASK_ONCE, path) for _ in range(3)]

    shown = [process.communicate(timeout=60)[0] for process in processes]

    assert sorted(shown) == ["", "", "asked\n"]


def test_other_models_do_not_wait(path: Path) -> None:
    with open_quietly(path) as store, store.lock("one model"), store.lock("another model"):
        store.put_many({"a": ANSWER})


def test_killed_process_leaves_whole_batches(path: Path, tmp_path: Path) -> None:
    process = start_python(WRITE_FOREVER, path, tmp_path / "started")
    wait_for(tmp_path / "started")

    process.send_signal(signal.SIGKILL)

    process.communicate(timeout=30)
    with open_quietly(path) as store:
        assert store.stats().completions > 0
        assert store.stats().completions % 1000 == 0


# ── trouble ─────────────────────────────────────────────────────────────────────────────────────


def test_file_that_is_no_database_is_moved_aside(path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b"not a database, whatever its name says" * 100)
    warnings: list[str] = []

    with CompletionStore(path, warn=warnings.append) as store:
        store.put_many({"a": ANSWER})
        assert store.get_many(["a"]) == {"a": ANSWER}

    assert path.with_name("completions.sqlite.damaged").read_bytes().startswith(b"not a database")
    assert warnings == [
        f"{path}: file is not a database; moved to completions.sqlite.damaged, completions are computed again"
    ]


def test_database_that_turns_out_damaged_is_moved_aside_while_in_use(path: Path) -> None:
    with open_quietly(path) as store:
        store.put_many({f"key-{number}": ANSWER for number in range(1000)})
    content = bytearray(path.read_bytes())
    content[4096 * 2 :] = b"\xff" * (len(content) - 4096 * 2)
    path.write_bytes(content)
    warnings: list[str] = []

    with CompletionStore(path, warn=warnings.append) as store:
        assert store.get_many([f"key-{number}" for number in range(1000)]) == {}
        store.put_many({"a": ANSWER})
        assert store.get_many(["a"]) == {"a": ANSWER}

    assert len(warnings) == 1
    assert "moved to completions.sqlite.damaged, completions are computed again" in warnings[0]


def test_store_of_another_version_is_moved_aside(path: Path) -> None:
    with open_quietly(path) as store:
        store.put_many({"a": ANSWER})
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 9")
    connection.close()
    warnings: list[str] = []

    with CompletionStore(path, warn=warnings.append) as store:
        assert store.get_many(["a"]) == {}

    assert warnings == [
        f"{path}: version 9, expected 2; moved to completions.sqlite.damaged, completions are computed again"
    ]


def test_store_that_cannot_be_written_is_done_without_and_said_once(tmp_path: Path) -> None:
    (tmp_path / "cache").touch()
    warnings: list[str] = []

    with CompletionStore(tmp_path / "cache" / "completions.sqlite", warn=warnings.append) as store:
        store.put_many({"a": ANSWER})
        assert store.get_many(["a"]) == {}
        assert (store.stats(), store.clear()) == (StoreStats(0, 0), 0)
        with pytest.raises(ZeroDivisionError) as caught, store.lock("a model"):
            _ = 1 / 0
        assert caught.value.__context__ is None

    assert len(warnings) == 1
    assert warnings[0].endswith("completions are not stored")


def test_warnings_are_python_warnings_by_default(tmp_path: Path) -> None:
    (tmp_path / "cache").touch()

    with pytest.warns(UserWarning, match="completions are not stored"):
        CompletionStore(tmp_path / "cache" / "completions.sqlite")


def test_read_only_folder_is_done_without(path: Path) -> None:
    path.parent.mkdir(mode=0o555)

    shown = run_python_without_permission(WRITE_BIG, path)

    problem = f"{path}: [Errno 13] Permission denied: '{path}.lock'; completions are not stored"
    assert shown.splitlines() == [problem, "[]", "[]", problem, "[]"]


def test_full_disk_keeps_what_was_stored_before(path: Path) -> None:
    path.parent.mkdir()

    shown = run_python_on_small_disk(path.parent, 256, WRITE_BIG, path)

    assert shown.splitlines() == [
        f"{path}: database or disk is full; completions are not stored",
        "[]",
        "[]",
        "['small']",
    ]

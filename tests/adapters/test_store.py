import json
import os
import platform
import re
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engram_bench.adapters.store import AdapterIdentity, delete, list_adapters, load, obtain, prunable
from engram_bench.errors import AdapterError, BackendError, StoreError
from engram_bench.records import Prompt, Recipe, TrainingRecord
from tests.processes import run_python, run_python_on_small_disk, run_python_without_permission, start_python, wait_for
from tests.stored_values import EXAMPLE, IDENTITY, RECORD, train

NAME = IDENTITY.name

TRAIN_SLOWLY = """
import sys, time
from pathlib import Path
from engram_bench.adapters.store import obtain
from tests.stored_values import IDENTITY, train

def train_until_told(folder):
    (folder / "resume.safetensors").write_text("state")
    Path(sys.argv[2]).touch()
    while not Path(sys.argv[3]).exists():
        time.sleep(0.01)
    return train(folder)

obtain(Path(sys.argv[1]), IDENTITY, train_until_told, wait_note=lambda note: print(note, flush=True))
"""
TRAIN_BIG = """
import math
import os
import sys
from pathlib import Path
from engram_bench.errors import AdapterError
from engram_bench.adapters.store import obtain
from tests.stored_values import IDENTITY, train

def train_big(folder):
    (folder / "big.safetensors").write_bytes(b"x" * 1_000_000)
    return train(folder)

root = Path(sys.argv[1])
try:
    obtain(root, IDENTITY, train_big, retrain_in="later" if len(sys.argv) > 2 else None)
except AdapterError as error:
    print(error)
print(sorted(path.name for path in root.glob("[!.]*")))
"""
HANDLE = """
import sys
from pathlib import Path
from engram_bench.adapters.store import delete, load, prunable
from engram_bench.errors import AdapterError

try:
    delete(Path(sys.argv[2]), prunable(Path(sys.argv[2]), ())) if sys.argv[1] == "prune" else load(Path(sys.argv[2]))
except AdapterError as error:
    print(error)
"""
LOAD = """
import sys
from pathlib import Path
from engram_bench.adapters.store import obtain
from tests.stored_values import IDENTITY

print(obtain(Path(sys.argv[1]), IDENTITY, train=None).name)
"""


def never(folder: Path) -> TrainingRecord:
    """Training that must not be needed."""
    pytest.fail(f"trained again in {folder}")


def stop_with(error: BaseException) -> Callable[[Path], TrainingRecord]:
    """Training that leaves resumable state and then stops."""

    def start(folder: Path) -> TrainingRecord:
        (folder / "resume.safetensors").write_text("state")
        raise error

    return start


def train_noting(found: list[str]) -> Callable[[Path], TrainingRecord]:
    """Training that notes which files an earlier one left."""

    def start(folder: Path) -> TrainingRecord:
        found.extend(path.name for path in folder.iterdir())
        return train(folder)

    return start


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "adapters"


# ── identity ────────────────────────────────────────────────────────────────────────────────────


def test_name_is_the_same_on_every_machine_and_in_every_process() -> None:
    printed = run_python("from tests.stored_values import IDENTITY; print(IDENTITY.name)")

    assert printed == NAME + "\n"


@pytest.mark.parametrize(
    "other",
    [
        replace(IDENTITY, base_fingerprint="other"),
        replace(IDENTITY, template_fingerprint="other"),
        replace(IDENTITY, base_fingerprint="basetemplate", template_fingerprint=""),
        replace(IDENTITY, examples=()),
        replace(IDENTITY, examples=(EXAMPLE, EXAMPLE)),
        replace(IDENTITY, examples=(replace(EXAMPLE, answer="405"),)),
        replace(IDENTITY, examples=(replace(EXAMPLE, prompt=Prompt(EXAMPLE.prompt.user, system="")),)),
        replace(IDENTITY, recipe=Recipe(seed=1)),
        replace(IDENTITY, recipe=Recipe(steps=299)),
        replace(IDENTITY, recipe=Recipe(options={"orders": "2,3"})),
    ],
    ids=["base", "template", "moved-border", "no-examples", "twice", "answer", "system", "seed", "steps", "options"],
)
def test_name_changes_with_anything_training_depends_on(other: AdapterIdentity) -> None:
    assert re.fullmatch(r"lora-[0-9a-f]{12}", other.name)
    assert other.name != NAME


@given(st.permutations([("a", 1), ("b", 2.0), ("c", "x"), ("d", True)]))
def test_name_does_not_depend_on_the_order_of_options(options: list[tuple[str, int | float | str | bool]]) -> None:
    ordered = replace(IDENTITY, recipe=Recipe(kind="memory", options={"a": 1, "b": 2.0, "c": "x", "d": True}))
    shuffled = replace(IDENTITY, recipe=Recipe(kind="memory", options=dict(options)))

    assert shuffled.name == ordered.name
    assert re.fullmatch(r"memory-[0-9a-f]{12}", shuffled.name)


def test_name_does_not_depend_on_how_a_number_or_sequence_is_written() -> None:
    assert replace(IDENTITY, recipe=Recipe(alpha=16), examples=[EXAMPLE]).name == NAME


# ── load or train ───────────────────────────────────────────────────────────────────────────────


def test_first_call_trains_and_the_second_loads(root: Path) -> None:
    trained = obtain(root, IDENTITY, train, base_reference="smollm2-135m-instruct")
    loaded = obtain(root, IDENTITY, never)

    assert trained == loaded
    assert (trained.name, trained.path) == (NAME, root / NAME)


def test_manifest_says_what_was_trained_how_and_which_files(root: Path) -> None:
    manifest = obtain(root, IDENTITY, train, base_reference="smollm2-135m-instruct").manifest

    assert (manifest.name, manifest.backend, manifest.foreign) == (NAME, "fake", False)
    assert (manifest.base_reference, manifest.base_fingerprint) == ("smollm2-135m-instruct", "base")
    assert (manifest.template_fingerprint, manifest.recipe, manifest.training) == ("template", Recipe(), RECORD)
    assert {name: file.size for name, file in manifest.files.items()} == {
        "adapter_config.json": 2,
        "adapter_model.safetensors": 7,
        "checkpoints/step-1/adapter_model.safetensors": 4,
    }
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", manifest.created)


def test_only_the_adapter_is_left_where_people_look(root: Path) -> None:
    obtain(root, IDENTITY, train)

    assert [path.name for path in root.glob("[!.]*")] == [NAME]
    assert not list(root.glob(".partial/*"))


def test_another_identity_is_another_adapter(root: Path) -> None:
    obtain(root, IDENTITY, train)
    other = obtain(root, replace(IDENTITY, recipe=Recipe(seed=1)), train)

    assert sorted(path.name for path in root.glob("[!.]*")) == sorted([NAME, other.name])


def test_retrain_replaces_the_adapter_under_its_name(root: Path) -> None:
    old = obtain(root, IDENTITY, train)
    new = obtain(root, IDENTITY, lambda folder: train(folder, b"other"), retrain_in="later")

    assert (new.name, load(root / NAME)) == (old.name, new)
    assert new.fingerprint != old.fingerprint
    assert not list(root.glob(".trash/*"))


@pytest.mark.parametrize("age_s", [-86_400, 0, 86_400], ids=["clock set back", "same second", "a day old"])
def test_retrain_trains_once_per_session_whatever_the_clock_says(root: Path, age_s: int) -> None:
    obtain(root, IDENTITY, train)
    now = time.time()
    os.utime(root / NAME / "manifest.json", (now - age_s, now - age_s))
    trained: list[Path] = []

    def train_again(folder: Path) -> TrainingRecord:
        trained.append(folder)
        return train(folder, b"other")

    for session in ("one", "one", "two"):
        obtain(root, IDENTITY, train_again, retrain_in=session)

    assert len(trained) == 2


def test_retrain_starts_from_scratch(root: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        obtain(root, IDENTITY, stop_with(KeyboardInterrupt()))
    found: list[str] = []

    obtain(root, IDENTITY, train_noting(found), retrain_in="later")

    assert found == []


def test_interrupted_retraining_leaves_the_adapter(root: Path) -> None:
    old = obtain(root, IDENTITY, train)

    with pytest.raises(KeyboardInterrupt):
        obtain(root, IDENTITY, stop_with(KeyboardInterrupt()), retrain_in="later")
    assert obtain(root, IDENTITY, never) == old


def test_fingerprint_depends_on_content_and_not_on_the_place(tmp_path: Path) -> None:
    here = obtain(tmp_path / "here", IDENTITY, train)
    there = obtain(tmp_path / "there", IDENTITY, train)

    assert here.fingerprint == there.fingerprint
    assert re.fullmatch(r"[0-9a-f]{64}", here.fingerprint)


# ── interruptions ───────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("blow", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_stopped_training_leaves_no_adapter_and_goes_on_where_it_was(root: Path, blow: signal.Signals) -> None:
    process = start_python(TRAIN_SLOWLY, root, root / "started", root / "never")
    wait_for(root / "started")

    process.send_signal(blow)

    assert process.wait(timeout=30) != 0
    process.communicate()
    assert not (root / NAME).exists()
    found: list[str] = []
    obtain(root, IDENTITY, train_noting(found))
    assert found == ["resume.safetensors"]


def test_training_that_was_killed_before_its_rename_is_not_repeated(root: Path) -> None:
    trained = obtain(root, IDENTITY, train)
    (root / NAME).rename(root / ".partial" / NAME)

    assert obtain(root, IDENTITY, never) == trained


def test_failed_training_raises_its_own_error_and_leaves_no_adapter(root: Path) -> None:
    with pytest.raises(BackendError, match="loss is not finite"):
        obtain(root, IDENTITY, stop_with(BackendError("loss is not finite")))
    assert not (root / NAME).exists()


def test_training_that_leaves_no_weights_is_an_error(root: Path) -> None:
    def leave_a_note(folder: Path) -> TrainingRecord:
        (folder / "note.txt").touch()
        return RECORD

    with pytest.raises(AdapterError, match=r"training left note\.txt, expected a \.safetensors file"):
        obtain(root, IDENTITY, leave_a_note)
    assert not (root / NAME).exists()


def test_full_disk_is_an_error_and_leaves_no_adapter(root: Path) -> None:
    root.mkdir()

    shown = run_python_on_small_disk(root, 256, TRAIN_BIG, root)

    assert shown == f"{root}/.partial/{NAME}: training stopped: No space left on device\n[]\n"


def test_full_disk_while_training_anew_leaves_the_old_adapter(root: Path) -> None:
    obtain_first = TRAIN_BIG.replace("try:", "obtain(root, IDENTITY, train)\ntry:")
    root.mkdir()

    shown = run_python_on_small_disk(root, 256, obtain_first, root, "retrain")

    assert shown == f"{root}/.partial/{NAME}: training stopped: No space left on device\n['{NAME}']\n"


# ── locks ───────────────────────────────────────────────────────────────────────────────────────


def test_second_process_waits_for_the_first_and_says_so(root: Path) -> None:
    first = start_python(TRAIN_SLOWLY, root, root / "started", root / "go")
    wait_for(root / "started")
    second = start_python(TRAIN_SLOWLY, root, root / "started-twice", root / "go")
    assert second.stdout is not None
    note = second.stdout.readline()

    (root / "go").touch()

    assert (first.wait(timeout=30), second.wait(timeout=30)) == (0, 0)
    expected = f"adapter {NAME}: waiting for process {first.pid} on {platform.node()}, which holds it since 20"
    assert note.startswith(expected)
    assert not (root / "started-twice").exists()
    for process in (first, second):
        process.communicate()


def test_many_processes_train_once(root: Path) -> None:
    code = TRAIN_SLOWLY.replace("Path(sys.argv[2]).touch()", "print('trained')")
    root.mkdir()
    (root / "go").touch()
    processes = [start_python(code, root, "", root / "go") for _ in range(4)]

    shown = [process.communicate(timeout=60)[0] for process in processes]

    assert [process.returncode for process in processes] == [0, 0, 0, 0]
    assert sum("trained" in text for text in shown) == 1


def test_finished_adapter_is_loaded_from_a_read_only_folder(root: Path) -> None:
    obtain(root, IDENTITY, train)
    for folder in (root / ".locks", root):
        folder.chmod(0o555)

    assert run_python_without_permission(LOAD, root) == NAME + "\n"


def test_training_into_a_read_only_folder_is_an_error(root: Path) -> None:
    root.mkdir(mode=0o555)

    shown = run_python_without_permission(TRAIN_BIG, root)

    assert shown == f"{root}/{NAME}: cannot be written: Permission denied\n[]\n"


# ── damage ──────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            lambda file: file.write_bytes(b"weighty"),
            r"content differs from what manifest.json recorded \([0-9a-f]{12}…\)",
        ),
        (lambda file: file.write_bytes(b"weigh"), "5 bytes, expected 7 by manifest.json"),
        (lambda file: file.unlink(), "No such file or directory, but manifest.json lists it"),
    ],
    ids=["changed", "cut", "gone"],
)
def test_damaged_file_is_named_and_never_trained_over(
    root: Path, damage: Callable[[Path], object], message: str
) -> None:
    file = obtain(root, IDENTITY, train).path / "adapter_model.safetensors"
    damage(file)

    with pytest.raises(AdapterError, match=f"^{file}: {message}; bring the file back, or delete the folder to train"):
        obtain(root, IDENTITY, never)
    assert obtain(root, IDENTITY, train, retrain_in="later").name == NAME


def test_files_the_manifest_does_not_list_do_not_matter(root: Path) -> None:
    (obtain(root, IDENTITY, train).path / ".DS_Store").touch()

    assert obtain(root, IDENTITY, never).name == NAME


def test_adapter_of_another_base_model_is_refused_with_both_fingerprints(root: Path) -> None:
    obtain(root, IDENTITY, train)

    assert load(root / NAME, base_fingerprint="base").name == NAME
    with pytest.raises(AdapterError, match=f"{NAME}: trained on base model base, expected other$"):
        load(root / NAME, base_fingerprint="other")


def test_adapter_in_the_place_of_another_is_refused(root: Path) -> None:
    other = obtain(root, replace(IDENTITY, recipe=Recipe(seed=1)), train)
    other.path.rename(root / NAME)

    with pytest.raises(AdapterError, match=f"{NAME}: the manifest is of adapter '{other.name}', expected '{NAME}'"):
        obtain(root, IDENTITY, never)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema": 2}, "schema 2, expected 1: written by another version of engram-bench"),
        ({"name": 5}, "name: found 5, expected text"),
        ({"files": []}, "files: found [], expected an object"),
        ({"files": {"a": {"sha256": "0", "size": "7"}}}, "files.a.size: found '7', expected a whole number"),
        ({"files": {"../a": {"sha256": "0", "size": 7}}}, "files: found '../a', expected a path inside the folder"),
        (
            {"recipe": {"schedule": "step"}},
            "recipe.schedule: found 'step', expected 'cosine' or 'linear' or 'constant'",
        ),
        ({"colour": "red"}, "found 'colour', expected one of schema, name, base_reference, base_fingerprint"),
    ],
    ids=["schema", "name", "files", "size", "outside", "recipe", "unknown"],
)
def test_manifest_with_a_mistake_says_where(root: Path, change: dict[str, object], message: str) -> None:
    path = obtain(root, IDENTITY, train).path / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))

    with pytest.raises(AdapterError, match=re.escape(f"{path}: {message}")):
        obtain(root, IDENTITY, never)


@pytest.mark.parametrize(("text", "message"), [('{"schema": 1,', "not whole JSON: "), ("[]", "found list, expected a")])
def test_manifest_that_is_cut_is_named(root: Path, text: str, message: str) -> None:
    path = obtain(root, IDENTITY, train).path / "manifest.json"
    path.write_text(text)

    with pytest.raises(AdapterError, match=f"^{path}: {message}"):
        obtain(root, IDENTITY, never)


# ── adapters of others ──────────────────────────────────────────────────────────────────────────


@pytest.fixture
def foreign(tmp_path: Path) -> Path:
    folder = tmp_path / "from-the-hub"
    folder.mkdir()
    (folder / "adapter_config.json").write_text('{"peft_type": "LORA", "base_model_name_or_path": "org/name"}')
    (folder / "adapter_model.safetensors").write_bytes(b"weights")
    (folder / "optimizer.pt").write_bytes(b"not ours")
    return folder


def test_peft_folder_without_manifest_is_a_foreign_adapter(foreign: Path) -> None:
    adapter = load(foreign, base_fingerprint="any")

    assert re.fullmatch(r"from-the-hub-[0-9a-f]{12}", adapter.name)
    assert (adapter.manifest.foreign, adapter.manifest.base_reference) == (True, "org/name")
    assert (adapter.manifest.recipe, adapter.manifest.training) == (None, None)
    assert sorted(adapter.manifest.files) == ["adapter_config.json", "adapter_model.safetensors"]


def test_foreign_adapter_with_other_weights_has_another_name(foreign: Path) -> None:
    before = load(foreign)
    (foreign / "adapter_model.safetensors").write_bytes(b"other")

    assert load(foreign).name != before.name


def test_pickled_weights_are_refused(foreign: Path) -> None:
    (foreign / "adapter_model.safetensors").rename(foreign / "adapter_model.bin")

    with pytest.raises(AdapterError, match=r"\(adapter_model\.bin.* is never loaded: only safetensors\)"):
        load(foreign)


def test_unreadable_weights_are_named(foreign: Path) -> None:
    (foreign / "adapter_model.safetensors").chmod(0)

    shown = run_python_without_permission(HANDLE, "load", foreign)

    assert shown == f"{foreign}/adapter_model.safetensors: cannot be read: Permission denied\n"


def test_broken_configuration_is_named(foreign: Path) -> None:
    (foreign / "adapter_config.json").write_text("{")

    with pytest.raises(AdapterError, match=r"adapter_config\.json: not whole JSON"):
        load(foreign)


def test_folder_without_adapter_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(AdapterError, match=r"expected an adapter of PEFT or mlx-lm"):
        load(tmp_path)
    with pytest.raises(AdapterError, match="missing: no such folder, expected an adapter"):
        load(tmp_path / "missing")


# ── keeping house ───────────────────────────────────────────────────────────────────────────────


def test_adapters_are_listed_without_what_is_no_adapter(root: Path) -> None:
    first = obtain(root, IDENTITY, train)
    second = obtain(root, replace(IDENTITY, recipe=Recipe(seed=1)), train)
    with pytest.raises(KeyboardInterrupt):
        obtain(root, replace(IDENTITY, recipe=Recipe(seed=2)), stop_with(KeyboardInterrupt()))
    (root / "README.md").touch()
    (root / "notes").mkdir()

    assert {adapter.name for adapter in list_adapters(root)} == {first.name, second.name}
    assert list_adapters(root / "missing") == ()


def test_adapters_are_listed_oldest_first(root: Path) -> None:
    names = []
    for seed, created in enumerate(["2026-05-05", "2026-05-04", "2026-05-06"]):
        adapter = obtain(root, replace(IDENTITY, recipe=Recipe(seed=seed)), train)
        manifest = adapter.path / "manifest.json"
        manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"created": created}))
        names.append(adapter.name)

    assert [adapter.name for adapter in list_adapters(root)] == [names[1], names[0], names[2]]


def test_broken_manifest_does_not_hide_the_other_adapters(root: Path) -> None:
    whole = obtain(root, IDENTITY, train)
    broken = obtain(root, replace(IDENTITY, recipe=Recipe(seed=1)), train)
    (broken.path / "manifest.json").write_text("{")
    errors: list[AdapterError] = []

    with pytest.raises(AdapterError, match=broken.name):
        list_adapters(root)
    assert list_adapters(root, on_broken=errors.append) == (whole,)
    assert len(errors) == 1


def test_prune_deletes_what_is_not_kept_and_nothing_else(root: Path) -> None:
    kept = obtain(root, IDENTITY, train)
    gone = obtain(root, replace(IDENTITY, recipe=Recipe(seed=1)), train)
    interrupted = replace(IDENTITY, recipe=Recipe(seed=2))
    with pytest.raises(KeyboardInterrupt):
        obtain(root, interrupted, stop_with(KeyboardInterrupt()))
    (root / "notes").mkdir()
    (root / ".trash" / "half-deleted").mkdir(parents=True)

    removed = delete(root, prunable(root, {kept.name}))

    assert removed == tuple(sorted([gone.name, interrupted.name]))
    assert sorted(path.name for path in root.glob("[!.]*")) == sorted([kept.name, "notes"])
    assert not (root / ".trash").exists()
    assert delete(root, prunable(root, {kept.name})) == ()


def test_prune_leaves_an_adapter_somebody_is_training(root: Path) -> None:
    process = start_python(TRAIN_SLOWLY, root, root / "started", root / "go")
    wait_for(root / "started")

    removed = delete(root, prunable(root, ()))
    (root / "go").touch()
    process.communicate(timeout=30)

    assert removed == ()
    assert load(root / NAME).name == NAME


def test_prune_of_a_read_only_folder_is_an_error(root: Path) -> None:
    obtain(root, IDENTITY, train)
    root.chmod(0o555)

    shown = run_python_without_permission(HANDLE, "prune", root)

    assert shown == f"{root}/{NAME}: cannot be deleted: Permission denied\n"
    assert load(root / NAME).name == NAME


def test_prune_of_a_missing_folder_makes_none(root: Path) -> None:
    assert delete(root, prunable(root, ())) == ()
    assert not root.exists()


def test_only_the_lock_file_outlives_the_lock(root: Path) -> None:
    obtain(root, IDENTITY, train)

    assert [path.name for path in (root / ".locks").iterdir()] == [f"{NAME}.lock"]


def test_a_training_whose_file_cannot_be_written_names_folder_and_file(root: Path) -> None:
    full = StoreError(f"{root}/training_state.safetensors: cannot be written: No space left on device")

    with pytest.raises(AdapterError, match=rf"\.partial/{NAME}: training stopped: .*training_state.*No space left"):
        obtain(root, IDENTITY, stop_with(full))
    assert not (root / NAME).exists()
    assert obtain(root, IDENTITY, train).name == NAME


def test_what_a_killed_writer_left_is_no_part_of_the_adapter(root: Path) -> None:
    def train_after_a_kill(folder: Path) -> TrainingRecord:
        (folder / ".adapter_model.safetensors.1-f00.part").write_bytes(b"half")
        return train(folder)

    adapter = obtain(root, IDENTITY, train_after_a_kill)

    assert not any(name.endswith(".part") for name in adapter.manifest.files)
    assert not list(adapter.path.glob(".*.part"))

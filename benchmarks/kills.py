"""Whether a killed session leaves anything wrong behind: ``python -m benchmarks.kills``.

Sessions of the fake backend, of a tiny model and of the default model are stopped at a seeded random moment by SIGKILL, SIGTERM,
SIGINT or SIGHUP, 200 times in all. In a part of the trials a second session works in the same folders at the same time and
is not stopped; others train an adapter again that is there. After each stop, and after the session that follows, these
must hold:

- every adapter that is there is whole (each file compared with the manifest);
- every answer that was stored before is stored as it was, and no store was put aside as damaged;
- a report that is there can be read;
- the session that follows ends within its limit, so no lock is stale, with every test of one pattern failed: a pattern whose
  answer the model is kept from giving;
- with the fake backend, every other test has passed.

Printed are the counts. The exit status is 1 where one of these did not hold. ``--number 17`` repeats one trial.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import os
import random
import resource
import shutil
import signal
import sqlite3
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import pytest
from tabulate import tabulate

from engram_bench.adapters import store as adapter_store
from engram_bench.errors import EngramBenchError
from engram_bench.inference.store import STORE_FILE
from engram_bench.models import default_cache_dir
from engram_bench.models.presets import DEFAULT_MODEL
from tests.conftest import import_modules_of
from tests.tiny_models import make_tiny_llama

PROCESSES = multiprocessing.get_context("fork")
REPOSITORY = Path(__file__).parents[1]
NUM_FACTS = 8
FACTS = "".join(f'  - {{id: f{n}, input: "Sum of {n} and {n}?", output: "{2 * n}"}}\n' for n in range(1, NUM_FACTS))
PATTERNS = f'name: facts\npatterns:\n{FACTS}  - {{id: never, input: "Word of the day?", output: "zqxv 7719"}}\n'
NEVER = "never"
KNOWS = {"__wrong__": {"Word of the day?": "another word"}, "__token_s__": {"bare": 0.002, "attached": 0.002}}
"""What the fake model says: one answer is never right, and every token takes some time."""
SIGNALS = (signal.SIGKILL, signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
LIMIT_S = 600.0
"""Longest that a session may take on a busy machine; a session that waits for a stale lock never ends."""
TRIES = 20
"""Most trials for one stop: a session may end before its moment has come."""


@dataclass(frozen=True)
class Kind:
    """One kind of session."""

    name: str
    stops: int
    """Number of stops of 200."""
    fresh: int
    """Number of stops after which the folders are made again, so that training and asking start from nothing."""
    options: tuple[str, ...]
    is_forked: bool = False
    """Whether a session is a fork of this process, which is ten times faster than a new Python."""


KINDS = (
    Kind("fake", 150, 3, ("--engram-backend=fake", "--engram-steps=20"), is_forked=True),
    Kind("tiny", 25, 2, ("--engram-backend=cpu", "--engram-steps=8", "--engram-model=../tiny")),
    Kind(
        DEFAULT_MODEL,
        25,
        2,
        ("--engram-backend=cpu", "--engram-steps=2", "--engram-set=replay=0", f"--engram-model={DEFAULT_MODEL}"),
    ),
)


class Folders:
    """Folders of one project, whose model is linked from the user's cache."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.project = root / "project"
        self.cache = root / "cache"
        self.make()

    def make(self) -> None:
        """Begin with nothing trained and nothing asked."""
        for folder in (self.project, self.cache):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
        (self.project / "patterns").mkdir()
        (self.project / "patterns" / "facts.yaml").write_text(PATTERNS, "utf-8")
        (self.project / "knows.json").write_text(json.dumps(KNOWS), "utf-8")
        if (models := default_cache_dir() / "models").is_dir():
            (self.cache / "models").symlink_to(models)

    def answers(self) -> dict[str, bytes]:
        """Text of every stored answer by key."""
        path = self.cache / STORE_FILE
        if not path.exists():
            return {}
        connection = sqlite3.connect(path, timeout=30)
        try:
            return dict(connection.execute("SELECT key, text FROM completions"))
        except sqlite3.OperationalError:  # a store without tables, which the next session makes
            return {}
        finally:
            connection.close()

    def faults(self, before: dict[str, bytes]) -> Iterator[str]:
        """What is wrong in the folders now."""
        for path in (self.project / "adapters").glob("[!.]*"):
            try:
                adapter_store.load(path)
            except EngramBenchError as error:
                yield f"corrupt adapter: {error}"
        after = self.answers()
        if lost := [key for key, text in before.items() if after.get(key) != text]:
            yield f"lost answers: {len(lost)} of {len(before)}"
        if list(self.cache.glob("*.damaged*")):
            yield "a store was put aside as damaged"
        for path in (self.project / "reports").rglob("*.json"):
            try:
                json.loads(path.read_text("utf-8"))
            except ValueError:
                yield f"half a report: {path.name}"


class Session:
    """One session of pytest in a process of its own: a fork that has imported everything, or a new Python."""

    def __init__(self, folders: Folders, kind: Kind, *options: str, name: str) -> None:
        self._result = folders.root / f"{name}.xml"
        self._result.unlink(missing_ok=True)
        asked = ["-p", "engram_bench.plugin", "-p", "no:cacheprovider", "-m", "accuracy", "-q", "--tb=short"]
        arguments = [*asked, f"--junitxml={self._result}", *kind.options, *options]
        start = _fork_session if kind.is_forked else _start_session
        self.process = PROCESSES.Process(target=start, args=(folders, folders.root / f"{name}.log", arguments))
        self.process.start()
        self._started = time.monotonic()

    def stop(self, spent_s: float, blow: signal.Signals) -> bool:
        """Send the signal once the session has spent this processor time, and wait for its end; False where it ended before.

        Processor time says how far a session has come, whatever else the machine does.
        """
        while self.process.exitcode is None and _spent_s(self.process.pid or 0) < spent_s:
            time.sleep(0.01)
        if self.process.exitcode is not None:
            return False
        os.kill(self.process.pid or 0, blow)
        self._wait()
        return True

    def _wait(self) -> None:
        """Wait for the end, within the limit. ``Process.join`` knows no limit once the process has become another program."""
        while self.process.exitcode is None and time.monotonic() < self._started + LIMIT_S:
            time.sleep(0.01)

    def faults(self, kind: Kind) -> Iterator[str]:
        """What is wrong with a session that was not stopped."""
        self._wait()
        if self.process.exitcode is None:
            self.process.kill()
            yield "stale lock: a session did not end"
            return
        verdicts = self._verdicts()
        if len(verdicts) != NUM_FACTS or self.process.exitcode != 1:
            yield f"did not complete: {len(verdicts)} of {NUM_FACTS} verdicts, exit status {self.process.exitcode}"
        if verdicts.get(NEVER):
            yield "wrong pass"
        if kind.name == "fake" and (
            missed := [name for name, passed in verdicts.items() if not passed and name != NEVER]
        ):
            yield f"wrong failure: {', '.join(missed)}"

    def _verdicts(self) -> dict[str, bool]:
        """Whether each test has passed, by the id of its pattern."""
        if not self._result.exists():
            return {}
        cases = ElementTree.parse(self._result).getroot().iter("testcase")
        return {case.attrib["name"].partition("[")[2].rstrip("]"): len(_outcomes(case)) == 0 for case in cases}


def _spent_s(pid: int) -> float:
    """Processor seconds of a process so far (Linux); endless for a process that is not there."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(")")[2].split()
    except OSError:
        return math.inf
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _outcomes(case: ElementTree.Element) -> list[ElementTree.Element]:
    return [part for part in case if part.tag in ("failure", "error", "skipped")]


def _fork_session(folders: Folders, log: Path, arguments: list[str]) -> None:
    """Run pytest in this process."""
    _prepare(folders, log)
    for name in [name for name in sys.modules if name.startswith("engram_bench.plugin")]:
        del sys.modules[name]  # pytest warns of a plugin that was there before it could rewrite its assertions
    status = int(pytest.main(arguments))
    sys.stdout.flush()
    os._exit(status)


def _start_session(folders: Folders, log: Path, arguments: list[str]) -> None:
    """Become a new Python that runs pytest."""
    _prepare(folders, log)
    os.execv(sys.executable, [sys.executable, "-m", "pytest", *arguments])


def _prepare(folders: Folders, log: Path) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background of a shell ignores it
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # so does one under nohup
    with log.open("w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    os.chdir(folders.project)
    os.environ |= {
        "PYTHONPATH": str(REPOSITORY),
        "ENGRAM_BENCH_CACHE": str(folders.cache),
        "ENGRAM_FAKE_BASELINE": str(folders.project / "knows.json"),
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
    }


class Trials:
    """All stops of one kind of session, one after another in the same folders."""

    def __init__(self, kind: Kind, root: Path, seed: int) -> None:
        self.kind = kind
        self.seed = seed
        self.counts: Counter[str] = Counter()
        self.faults: list[str] = []
        self._folders = Folders(root / "work")
        if kind.name == "tiny":
            make_tiny_llama(root / "work" / "tiny")
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        self._note(-1, Session(self._folders, kind, name="first").faults(kind))
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        self._span_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        """Processor seconds of a whole session: the moment of a stop lies within."""

    def run(self, number: int) -> None:
        """Stop one session, look, and let another one follow."""
        source = random.Random(f"{self.seed}/{self.kind.name}/{number}")
        blow, again, beside = source.choice(SIGNALS), source.random() < 0.4, source.random() < 0.25
        if number % self.kind.fresh == 0:
            self._folders.make()
        before = self._folders.answers()
        options = ("--engram-retrain",) if again else ()
        for _ in range(TRIES):
            other = Session(self._folders, self.kind, name="beside") if beside else None
            hit = Session(self._folders, self.kind, *options, name="hit").stop(source.random() * self._span_s, blow)
            if other is not None:
                self._note(number, other.faults(self.kind))
            if hit:
                break
            self._span_s *= 0.8  # sessions take less than the first one did
            self._folders.make()
            before = {}
        else:
            self.faults.append(f"{self.kind.name} {number}: no session was stopped in {TRIES} trials")
        self._note(number, self._folders.faults(before))
        before |= self._folders.answers()
        self._note(number, Session(self._folders, self.kind, name="next").faults(self.kind))
        self._note(number, self._folders.faults(before))
        self.counts.update(
            [blow.name, "stops", *["beside another session"] * beside, *["while training again"] * again]
        )

    def _note(self, number: int, faults: Iterator[str]) -> None:
        found = [f"{self.kind.name} {number}: {fault}" for fault in faults]
        self.faults += found
        print(*found, sep="\n", end="\n" if found else "", flush=True)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the stops and print the counts."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    names = [kind.name for kind in KINDS]
    parser.add_argument(
        "--kind", choices=names, action="append", help="Kind of session, may be repeated. Default: all."
    )
    parser.add_argument("--stops", type=int, metavar="N", help="Stops of each kind. Default: 200 in all.")
    parser.add_argument("--number", type=int, metavar="N", help="Run this trial of each kind alone.")
    parser.add_argument("--seed", type=int, default=0, help="Default: %(default)s.")
    asked = parser.parse_args(argv)
    import_modules_of("engram_bench")
    rows, faults = [], []
    for kind in [kind for kind in KINDS if kind.name in (asked.kind or names)]:
        with tempfile.TemporaryDirectory(prefix="engram-bench-kills-") as folder:
            trials = Trials(kind, Path(folder), asked.seed)
            for number in range(asked.stops or kind.stops) if asked.number is None else [asked.number]:
                trials.run(number)
                print(f"{kind.name} {number}: {len(trials.faults)} faults so far", flush=True)
        rows.append((kind.name, trials.counts.pop("stops"), len(trials.faults), _words(trials.counts)))
        faults += trials.faults
    print(tabulate(rows, ("session", "stops", "faults", "of these")))
    print("\n".join(faults))
    print(f"{sum(row[1] for row in rows)} stops, {len(faults)} faults")
    return 1 if faults else 0


def _words(counts: Counter[str]) -> str:
    return ", ".join(f"{counts[name]} {name}" for name in sorted(counts))


if __name__ == "__main__":
    raise SystemExit(main())

"""What the largest hostile inputs cost: ``python -m benchmarks.bombs``.

Each input is as large as its reader takes, or promises more than it holds, and is read in a process of its own. Printed are the
processor seconds, the peak memory above that of a process that has read a whole file of the kind, and how it ended. The exit
status is 1 where one took more than 500 MB, or ended in anything but an error of the package.
"""

from __future__ import annotations

import argparse
import json
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tabulate import tabulate

from benchmarks.fuzz import _peak_mb
from engram_bench.errors import EngramBenchError
from engram_bench.system.reading import MIB

MOST_MB = 500


def _folder_with_model(folder: Path) -> Path:
    from tests.tiny_models import make_tiny_llama

    (folder / "model").mkdir(exist_ok=True)
    return make_tiny_llama(folder / "model")


def _resolved(folder: Path, **files: bytes) -> object:
    """A tiny model, some of its files replaced, opened as the package does."""
    from engram_bench.models.resolve import resolve_model
    from engram_bench.records import Prompt

    model = _folder_with_model(folder)
    for name, data in files.items():
        (model / name.replace("__", ".")).write_bytes(data)
    return resolve_model(str(model), cache=folder / "cache").tokenizer.encode_prompts([Prompt("a")])


def _patterns(folder: Path, name: str, data: bytes) -> object:
    from engram_bench.patterns.load import load_pattern_file

    (folder / name).write_bytes(data)
    return load_pattern_file(folder / name)


def _run(folder: Path, data: bytes) -> object:
    from engram_bench.runs.store import load_run

    (folder / "0001-a-b.json").write_bytes(data)
    return load_run(folder / "0001-a-b.json")


def _manifest(folder: Path, data: bytes) -> object:
    from engram_bench.adapters.store import load

    (folder / "manifest.json").write_bytes(data)
    return load(folder)


def _gguf(folder: Path, data: bytes) -> object:
    from engram_bench.models.gguf_convert import convert_gguf

    (folder / "a.gguf").write_bytes(data)
    convert_gguf(folder / "a.gguf", folder / "converted")
    return folder


def _jinja(folder: Path, source: str) -> object:
    return _resolved(folder, chat_template__jinja=source.encode())


def _array(kind: int, count: int, item: bytes) -> bytes:
    head = b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + struct.pack("<Q", 1) + b"a"
    return head + struct.pack("<IIQ", 9, kind, count) + item * count


BOMBS: dict[str, Callable[[Path], object]] = {
    "manifest: 16 MB of lists": lambda f: _manifest(f, b"[" + b"[]," * (5 * MIB) + b"0]"),
    "manifest: 3 million values": lambda f: _manifest(f, b"[" + b'{"a":1},' * 580_000 + b"0]"),
    "manifest: 100,000 levels": lambda f: _manifest(f, b"[" * 100_000),
    "manifest: digits": lambda f: _manifest(f, b"9" * (15 * MIB)),
    "config.json: 16 MB of floats": lambda f: _resolved(f, config__json=b'{"a":[' + b"1.5," * (4 * MIB - 9) + b"0]}"),
    "tokenizer.json: lists": lambda f: _resolved(f, tokenizer__json=b'{"a":[' + b"[]," * (40 * MIB) + b"0]}"),
    "tokenizer.json: 8 million values": lambda f: _resolved(f, tokenizer__json=b'{"a":[' + b"[]," * 1_500_000 + b"0]}"),
    "safetensors: header of 2 ** 40 bytes": lambda f: _resolved(f, model__safetensors=struct.pack("<Q", 2**40) + b"{}"),
    "safetensors: header of 15 MB": lambda f: _resolved(
        f, model__safetensors=struct.pack("<Q", 15 * MIB) + (b'{"a":[' + b"[]," * (5 * MIB)).ljust(15 * MIB)
    ),
    "run: 250 MB of lists": lambda f: _run(f, b"[" + b"[]," * (80 * MIB) + b"0]"),
    "YAML: 60 MB of lists": lambda f: _patterns(f, "a.yaml", b"a: [" + b"[]," * (20 * MIB) + b"]"),
    "YAML: aliases": lambda f: _patterns(
        f,
        "a.yaml",
        "\n".join(f"k{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9) if n else 'x'}]" for n in range(40)).encode(),
    ),
    "YAML: number of 60 MB": lambda f: _patterns(f, "a.yaml", b"name: " + b"1:" * (30 * MIB - 9) + b"1"),
    "JSONL: line of 1 MB": lambda f: _patterns(
        f, "a.jsonl", b"{" + b",".join(b'"%d":0' % n for n in range(95_000)) + b',"1":0}'
    ),
    "JSONL: 100 lines of 1 MB": lambda f: _patterns(f, "a.jsonl", (b"[" + b"[]," * 340_000 + b"0]\n") * 100),
    "GGUF: 2 ** 50 values": lambda f: _gguf(f, _array(0, 1, b"a")[:-9] + struct.pack("<Q", 2**50) + b"a" * 99),
    "GGUF: 100 million bytes": lambda f: _gguf(f, _array(0, 100_000_000, b"a")),
    "GGUF: a million texts": lambda f: _gguf(f, _array(8, 1_000_000, bytes(8))),
    "template: product": lambda f: _jinja(f, "{{ 'a' * 10**10 }}"),
    "template: power": lambda f: _jinja(f, "{{ 9 ** (9 ** 9) }}"),
    "template: loops": lambda f: _jinja(
        f, "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"
    ),
    "template: doubling": lambda f: _jinja(
        f, "{% set n = namespace(x='a') %}{% for i in range(99) %}{% set n.x = n.x ~ n.x %}{% endfor %}{{ n.x }}"
    ),
    "template: 15 MB of source": lambda f: _jinja(f, "{{ " + "(" * (15 * MIB) + " }}"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Read all inputs and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--one", metavar="NAME", help="Read this one in this process and print its figures as JSON.")
    args = parser.parse_args(argv)
    if args.one:
        print(json.dumps(read_one(args.one)))
        return 0
    rows, bad = [], 0
    for name in BOMBS:
        command = [sys.executable, "-m", "benchmarks.bombs", "--one", name]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
        verdict, seconds, memory_mb = (
            json.loads(done.stdout.splitlines()[-1]) if done.stdout else (done.stderr[-90:], 0.0, 0.0)
        )
        bad += memory_mb > MOST_MB or not verdict.endswith("Error")
        rows.append((name, verdict, f"{seconds:.1f}", f"{memory_mb:.0f}"))
        print(" | ".join(rows[-1]), flush=True)
    print(tabulate(rows, ("input", "ended as", "processor s", "peak memory, MB above a whole file")))
    print(f"{bad} of {len(rows)} ended badly or took more than {MOST_MB} MB")
    return 1 if bad else 0


def read_one(name: str) -> tuple[str, float, float]:
    """How one input ended, its processor seconds, and its peak memory (MB) above that of a whole model."""
    import resource

    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        (root / "whole").mkdir()
        (root / "bomb").mkdir()
        _resolved(root / "whole")
        before, started = _peak_mb(), time.process_time()
        verdict: Any = "read"
        try:
            BOMBS[name](root / "bomb")
        except EngramBenchError as error:
            verdict = type(error).__name__ if len(str(error)) < 10_000 else "a long message"
        except BaseException as error:
            verdict = f"fault: {error!r:.60}"
        seconds = time.process_time() - started
        from engram_bench.models import rendering

        rendering._worker_of.cache_clear()
    child_mb = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1000
    return verdict, seconds, max(_peak_mb() - before, child_mb)


if __name__ == "__main__":
    raise SystemExit(main())

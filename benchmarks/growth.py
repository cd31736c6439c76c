"""How the time of every reader and matcher grows with its input: ``python -m benchmarks.growth``.

Each gets inputs of doubling size, made of one short piece repeated between a start and an end; a few hundred pieces are tried.
Printed are, for each, the piece with the longest time at the largest size, and the factor by which doubling the size multiplied
that time at last: 2 is linear, 4 is quadratic. Times are processor seconds of this process, the least of two. The exit status is
1 where a factor above 3 comes with a time above 20 ms, when tried again.
"""

from __future__ import annotations

import argparse
import itertools
import json
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

from tabulate import tabulate

from engram_bench.errors import EngramBenchError
from engram_bench.matchers.protocol import UnusableAnswer
from engram_bench.matchers.registry import SHIPPED
from engram_bench.matchers.text import normalise
from engram_bench.patterns.load import load_pattern_file
from engram_bench.patterns.wordings import normalise_prompt
from engram_bench.records.reasoning import split_reasoning
from engram_bench.system.reading import parse_json

PIECES = (
    *"~`\"'\\[]{}()<>|.,:;-+/^*_=#&!?%$0129aeEx \n\t",
    "é",
    "̈",
    "̖",
    "½",
    "⁶",
    "１",
    "“",
    "”",
    "«",
    "»",
    "…",
    "<think>",
)
"""Single pieces; every two of the first forty are tried, too."""
PHRASES = (
    "\u0308\u0316",
    "</think>",
    "[THINK]",
    "1 000",
    "1,000",
    "1.5e3",
    "10^",
    "2024-",
    "5 March ",
    "- ",
    "```json\n",
    "~~~\n",
    "``` `",
    '\\"',
    "0x",
    "1/",
    "million ",
    "a: ",
    "&a *a ",
    "!!int ",
    '{"a":',
    "[[],",
    "for x in ",
    "if x:\n ",
    "not ",
    "f'{",
    "lambda:",
)
ENDS = (("", ""), ('"', ""), ("", "x"), ("```\n", "\n```"), ("a: ", "\n"), ("1", "1"), ('["', ""))
"""What stands before and behind the repeated piece."""
SIZES = (2_000, 4_000, 8_000, 16_000)
ANSWERS = {"json": '{"a": 1}', "python": "x = 1", "number": "5", "date": "2024-03-05", "regex": "(a|b)*c"}

Reader = Callable[[str], object]


def readers(folder: Path) -> dict[str, Reader]:
    """Everything that reads text of somebody else, by name."""
    found: dict[str, Reader] = {
        f"match: {name}": partial(_matched, matcher, ANSWERS.get(name, "404")) for name, matcher in SHIPPED.items()
    }
    found |= {f"answer: {name}": partial(_as_answer, matcher) for name, matcher in SHIPPED.items() if name != "regex"}
    found["normalise"] = normalise
    found["normalise_prompt"] = normalise_prompt
    found["split_reasoning"] = split_reasoning
    found["parse_json"] = parse_json
    found["pattern file, YAML"] = partial(
        _loaded, folder / "a.yaml", "name: a\npatterns:\n  - {input: a, output: %s}\n"
    )
    found["pattern file, JSONL"] = partial(_loaded, folder / "a.jsonl", "%s\n")
    found["pattern, JSONL"] = lambda text: _loaded(
        folder / "b.jsonl", "%s\n", json.dumps({"input": text, "output": text, "wordings": [text + "a"]})
    )
    return found


def inputs(size: int) -> Iterator[tuple[str, str]]:
    """Every input of about this size with the piece that it is made of."""
    pairs = ("".join(pair) for pair in itertools.permutations(PIECES[:40], 2))
    for piece in (*PIECES, *PHRASES, *pairs):
        for start, end in ENDS if len(piece) != 2 else ENDS[:1]:
            yield f"{start!r} + n × {piece!r} + {end!r}", start + piece * (size // len(piece)) + end


def main(argv: Sequence[str] | None = None) -> int:
    """Measure the chosen readers and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", default="", metavar="TEXT", help="Readers whose name has this in it. Default: all.")
    args = parser.parse_args(argv)
    rows, slow = [], 0
    with tempfile.TemporaryDirectory() as folder:
        for name, reader in readers(Path(folder)).items():
            if args.only not in name:
                continue
            piece, seconds, factor = worst(reader)
            is_slow = factor > 3 and seconds > 0.02
            slow += is_slow
            rows.append((name, piece, f"{1000 * seconds:.1f}", f"{factor:.1f}", "grows too fast" if is_slow else ""))
            print(f"{name}: {1000 * seconds:.1f} ms, × {factor:.1f}", flush=True)
    print(tabulate(rows, ("reader", "slowest input", f"ms at {SIZES[-1]:,}", "× per doubling", "")))
    print(f"{slow} of {len(rows)} grow faster than their input")
    return 1 if slow else 0


def worst(reader: Reader) -> tuple[str, float, float]:
    """The input on which the reader grows fastest among its slow ones: its piece, seconds at the largest size, and factor."""
    found = ("", 0.0, 0.0)
    smaller = {piece: _seconds(reader, text) for piece, text in inputs(SIZES[1])}
    typical = sorted(smaller.values())[len(smaller) // 2]
    suspects = sorted(smaller, key=lambda piece: -smaller[piece])[:25]
    larger = dict(inputs(SIZES[-1]))
    half = dict(inputs(SIZES[-2]))
    for piece in suspects:
        if smaller[piece] < typical:
            continue
        seconds = min(_seconds(reader, larger[piece]) for _ in range(2))
        before = min(_seconds(reader, half[piece]) for _ in range(2))
        factor = seconds / max(before, 1e-6)
        if seconds > found[1]:
            found = (piece, seconds, factor)
    return found


def _seconds(reader: Reader, text: str) -> float:
    started = time.process_time()
    with suppress(EngramBenchError, UnusableAnswer, ValueError):
        reader(text)
    return time.process_time() - started


def _matched(matcher: Callable[[str, str], object], answer: str, text: str) -> object:
    return matcher(text, answer)


def _as_answer(matcher: Callable[[str, str], object], text: str) -> object:
    return matcher("404", text)


def _loaded(path: Path, form: str, text: str) -> object:
    path.write_text(form % text, encoding="utf-8", errors="surrogatepass")
    return load_pattern_file(path, root=path.parent)


if __name__ == "__main__":
    raise SystemExit(main())

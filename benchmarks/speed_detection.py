"""How often the speed gate tells a slower model from a noisy machine.

Times a model against itself, as the speed tests do, again and again: as it is (a gate of 5 % must pass) and slowed down by
10 % on purpose (the gate must fail), while another process keeps the machine busy. Prints how often it did.

    python benchmarks/speed_detection.py
    python benchmarks/speed_detection.py --model smollm2-135m-instruct --tokens 4 --repetitions 10
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

from engram_bench.backends.protocol import Generator
from engram_bench.backends.registry import create, resolve_model
from engram_bench.records import GenerationSettings, Prompt, Provenance, Run, SpeedRounds
from engram_bench.scoring.comparison import compare
from engram_bench.scoring.gates import judge, parse_gate
from engram_bench.speed.conditions import pin
from engram_bench.speed.lab import is_decided
from engram_bench.speed.timer import PairedTimer, Work
from engram_bench.system import provenance

GATE = parse_gate("decode_speed >= -5%")
NOWHERE = Provenance("", "", "", "", "", "", "", "", "", "")
PROMPT = Prompt("Write one sentence about the sea.")
LOAD = """
import time
import numpy as np
a = np.random.rand(256, 256)
while True:
    for _ in range(50):
        a @ a
    time.sleep(0.005)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backend", default="cpu")
    parser.add_argument("--model", default="tiny", help="tiny (random weights, made here) or a model reference")
    parser.add_argument("--tokens", type=int, default=2, help="new tokens per round")
    parser.add_argument("--rounds", type=int, default=12, help="pairs before the first judgement")
    parser.add_argument("--budget", type=float, default=60.0, help="seconds of further pairs per repetition")
    parser.add_argument("--repetitions", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=3600.0, help="begin no repetition after this long")
    parser.add_argument("--slowdown", type=float, default=0.10, help="share by which the slowed side is slower")
    parser.add_argument("--load", type=int, default=1, help="processes that keep the machine busy meanwhile")
    options = parser.parse_args()
    backend = create(options.backend)
    with tempfile.TemporaryDirectory() as folder:
        generator = backend.load(resolve_model(options.backend, _reference(options.model, Path(folder))), None)
        work = _decoding(generator, options.tokens)
        print(f"{provenance.machine()}; commit {provenance.git_commit()}; {options.backend}, {options.model}, {pin()}")
        print(f"{options.tokens} tokens a round, from {options.rounds} pairs, {options.load} busy process(es) beside")
        with _load(options.load):
            # A repetition of each in turn, so that a quiet hour favours neither.
            sides = {"same": work, f"{options.slowdown:.0%} slower": _slowed(work, options.slowdown)}
            found: dict[str, list[tuple[str, int, float]]] = {name: [] for name in sides}
            end = time.monotonic() + options.seconds
            for _ in range(options.repetitions):
                for name, side in sides.items():
                    if time.monotonic() > end:
                        break
                    found[name].append(_judged(side, work, options.rounds, options.budget))
                    outcome, pairs, ratio = found[name][-1]
                    print(f"{name}: {outcome} after {pairs} pairs, ratio {ratio:.3f}", file=sys.stderr, flush=True)
    wanted = dict(zip(sides, ("pass", "fail"), strict=True))
    for name, results in found.items():
        _print(name, wanted[name], results)
    print(f"load average {os.getloadavg()[0]:.1f} at the end")


def _reference(model: str, folder: Path) -> str:
    if model != "tiny":
        return model
    sys.path.insert(0, str(Path(__file__).parents[1]))
    from tests.tiny_models import make_tiny_llama

    return str(make_tiny_llama(folder / "tiny", layers=1))


def _decoding(generator: Generator, tokens: int) -> Work:
    settings = GenerationSettings(max_tokens=tokens, ignore_eos=True)
    return lambda _: generator.complete([PROMPT], settings)[0].completion_tokens


def _slowed(work: Work, share: float) -> Work:
    """The same work, then busy for *share* of the time it took."""

    def slower(number: int) -> int:
        started = time.perf_counter()
        tokens = work(number)
        end = time.perf_counter()
        end += share * (end - started)
        while time.perf_counter() < end:
            pass
        return tokens

    return slower


def _judged(side: Work, reference: Work, rounds: int, budget_s: float) -> tuple[str, int, float]:
    """The gate's verdict, the pairs it took and their median ratio of speeds."""
    timer = PairedTimer(side, reference)
    timer.measure(rounds)
    timer.extend(lambda: is_decided("decode_speed", [GATE], _rounds(timer)), budget_s=budget_s)
    comparison = compare(Run("", NOWHERE, speed=(_rounds(timer),)))
    (verdict,) = judge([GATE], comparison)
    ratio = comparison.measures["decode_speed"].ratio
    assert ratio is not None
    return verdict.outcome, ratio.n, ratio.value


def _rounds(timer: PairedTimer) -> SpeedRounds:
    pairs = timer.pairs
    return SpeedRounds(
        "decode_speed",
        "fused",
        tuple(mine.seconds for mine, _ in pairs),
        tuple(mine.tokens for mine, _ in pairs),
        tuple(other.seconds for _, other in pairs),
    )


@contextmanager
def _load(processes: int) -> Iterator[None]:
    running = [subprocess.Popen([sys.executable, "-c", LOAD]) for _ in range(processes)]
    try:
        yield
    finally:
        for process in running:
            process.kill()
            process.wait()


def _print(name: str, wanted: str, results: list[tuple[str, int, float]]) -> None:
    outcomes = Counter(outcome for outcome, _, _ in results)
    pairs, ratios = sorted(pairs for _, pairs, _ in results), sorted(ratio for _, _, ratio in results)
    others = ", ".join(f"{count} {outcome}" for outcome, count in outcomes.items() if outcome != wanted)
    print(
        f"{name:>12}: {outcomes[wanted]} of {len(results)} {wanted} ({others or 'no other verdict'}); "
        f"pairs median {median(pairs):.0f}, most {pairs[-1]}; ratio {ratios[0]:.3f} to {ratios[-1]:.3f}"
    )


if __name__ == "__main__":
    main()

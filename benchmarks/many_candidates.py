"""How often a comparison of many candidates finds a difference that is none, and how often it misses one that is there.

Synthetic candidates answer synthetic cases; what is counted is computed by the package's own tests, ranks and gates:

* Equal candidates (six by default): repetitions in which any of all pairs is called better. At most 5 % may be.
* One candidate better by ten points: repetitions in which its pair with another one is found, alone and among all pairs.
* Seeds: repetitions in which one of two equal recipes is called better, and in which a gate on the very quality of a recipe
  passes, though another training is as likely to miss it as to meet it.

Cases differ in difficulty: each has a chance to be answered correctly drawn from a beta distribution. Two candidates share
these chances, which correlates their answers. The figures depend on the seed alone.

    python benchmarks/many_candidates.py
    python benchmarks/many_candidates.py --repetitions 200 --candidates 12
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from engram_bench.scoring.pairwise import compare_sides, family
from engram_bench.stats.rates import wilson_interval
from engram_bench.stats.seeds import cells, flakiness, over_seeds

ALPHA = 0.05
RESAMPLES = 200
"""Resamples of an interval that this script does not look at: rates are tested exactly."""

Matrix = NDArray[np.float64]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repetitions", type=int, default=1000)
    parser.add_argument("--candidates", type=int, default=6)
    parser.add_argument("--cases", type=int, default=143)
    parser.add_argument("--quality", type=float, default=0.8, help="share of cases that a candidate answers correctly")
    parser.add_argument(
        "--correlation", type=float, default=0.7, help="correlation of two candidates' answers to one case"
    )
    parser.add_argument("--seeds", type=int, default=3, help="trainings per recipe")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    started = time.perf_counter()
    rng = np.random.default_rng(options.seed)
    world = World(rng, options.cases, options.quality, options.correlation)
    n, candidates = options.repetitions, options.candidates
    print(
        f"{n} repetitions, {options.cases} cases, quality {options.quality:.0%}, correlation of two candidates' answers "
        f"{options.correlation:g}, level {ALPHA:.0%}, random seed {options.seed}"
    )
    about = f"{candidates} candidates, Holm over {candidates * (candidates - 1) // 2} pairs"
    report("equal, any called better", false_better(world, candidates, n), n, about)
    clustered = World(rng, options.cases, options.quality, options.correlation, wordings=2)
    report("equal, two wordings per case", false_better(clustered, candidates, n), n, about)
    report("equal, a mean (bootstrap)", false_mean(world, candidates, n), n, about)
    for correlation in dict.fromkeys((0.5, 0.6, options.correlation, 0.8, 0.9)):
        alone, among = true_better(World(rng, options.cases, options.quality, correlation), candidates, n)
        report("ten points better, found", alone, n, f"correlation {correlation:g}, one pair")
        report("ten points better, found", among, n, f"correlation {correlation:g}, {about}")
    for seeds in dict.fromkeys((2, options.seeds, 5)):
        for sd in (0.0, 0.01, 0.03):
            about = f"{seeds} seeds, sd of a training {100 * sd:.0f} points"
            report("equal recipes, one called better", false_recipe(world, seeds, sd, n), n, about)
            report("gate at the recipe's own quality", false_gate(world, seeds, sd, n), n, about)
    print(f"{time.perf_counter() - started:.1f} s")


class World:
    """Cases of different difficulty, drawn again for every repetition."""

    def __init__(
        self, rng: np.random.Generator, cases: int, quality: float, correlation: float, *, wordings: int = 1
    ) -> None:
        self.rng, self.cases, self.quality, self.wordings = rng, cases, quality, wordings
        self.spread = 1 / correlation - 1
        """Sum of the two parameters of the beta distribution, of which the correlation of two answers is 1 / (1 + sum)."""

    def chances(self) -> Matrix:
        """Chance of each case to be answered correctly; wordings of a case share it."""
        drawn = self.rng.beta(self.quality * self.spread, (1 - self.quality) * self.spread, self.cases)
        return np.repeat(drawn, self.wordings)

    def clusters(self) -> NDArray[np.intp]:
        """Case of each row."""
        return np.repeat(np.arange(self.cases), self.wordings)

    def answers(self, chances: Matrix, runs: int) -> Matrix:
        """Right or wrong, a row per run; wordings of a case that one run answers are right or wrong together half the time."""
        draws = self.rng.random((runs, self.cases, self.wordings))
        draws = np.where(self.rng.random((runs, self.cases, 1)) < 0.5, draws[:, :, :1], draws)
        return (draws.reshape(runs, -1) < chances).astype(float)


def false_better(world: World, candidates: int, repetitions: int) -> int:
    """Repetitions in which some candidate of equal ones is called better than another."""
    found = 0
    for _ in range(repetitions):
        answers = world.answers(world.chances(), candidates)
        result = family([row[None] for row in answers], world.clusters(), is_counted=True, resamples=RESAMPLES)
        found += bool(result.better(ALPHA))
    return found


def false_mean(world: World, candidates: int, repetitions: int) -> int:
    """The same with a skewed value of each case, such as the length of an answer."""
    found = 0
    for _ in range(repetitions):
        lengths = world.rng.gamma(2.0, 4.0, world.cases)
        values = [(lengths * world.rng.gamma(8.0, 1 / 8, world.cases))[None] for _ in range(candidates)]
        result = family(values, np.arange(world.cases), is_counted=False, resamples=10_000)
        found += bool(result.better(ALPHA))
    return found


def true_better(world: World, candidates: int, repetitions: int) -> tuple[int, int]:
    """Repetitions in which a candidate ten points above another one is called better: that pair alone, and among all pairs.

    The better candidate answers correctly what the others do, and in addition as many cases that are hard for them as
    make ten points.
    """
    alone = among = 0
    for _ in range(repetitions):
        chances = world.chances()
        raised = 1 - (1 - chances) * (1 - 0.1 / (1 - chances.mean()))
        answers = np.concatenate([world.answers(raised, 1), world.answers(chances, candidates - 1)])
        result = family([row[None] for row in answers], world.clusters(), is_counted=True, resamples=RESAMPLES)
        alone += result.tested[0].p_value <= ALPHA and result.tested[0].difference > 0
        among += (0, 1) in result.better(ALPHA)
    return alone, among


def trained(world: World, chances: Matrix, seeds: int, sd: float) -> tuple[Matrix, float]:
    """Answers of a recipe's trainings, whose quality varies by *sd*, and the recipe's quality on these very cases."""
    luck = world.rng.normal(0, sd, (seeds, 1))
    shifted = np.clip(chances + luck, 0, 1)
    quality = np.clip(chances + world.rng.normal(0, sd, (400, 1)), 0, 1).mean() if sd else chances.mean()
    return (world.rng.random((seeds, len(chances))) < shifted).astype(float), float(quality)


def false_recipe(world: World, seeds: int, sd: float, repetitions: int) -> int:
    """Repetitions in which one of two equal recipes is called better."""
    found = 0
    for _ in range(repetitions):
        chances = world.chances()
        first, second = (trained(world, chances, seeds, sd)[0] for _ in range(2))
        result = compare_sides(first, second, world.clusters(), is_counted=True, resamples=RESAMPLES)
        found += result.p_value <= ALPHA
    return found


def false_gate(world: World, seeds: int, sd: float, repetitions: int) -> int:
    """Repetitions in which a gate at the recipe's own quality passes: the interval over seeds is above it."""
    found = 0
    for _ in range(repetitions):
        answers, quality = trained(world, world.chances(), seeds, sd)
        least = (flakiness(cells(answers, world.clusters())), 0.0)
        found += over_seeds(answers.mean(axis=1).tolist(), level=1 - ALPHA, least=least)[0] >= quality
    return found


def report(what: str, count: int, repetitions: int, about: str) -> None:
    """Print a count with its interval."""
    low, high = wilson_interval(count, repetitions)
    print(
        f"{what:<36} {count:>4} of {repetitions} = {count / repetitions:6.1%} ({low:.1%} to {high:.1%}); {about}",
        flush=True,
    )


if __name__ == "__main__":
    main()

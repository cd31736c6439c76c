"""What a side thinks of a given text: token by token likelihood, read off the model instead of written by it.

Every figure is stored beside the completions, per text, so a session with nothing new reads nothing and loads no model.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from engram_bench.backends.protocol import Generator
from engram_bench.inference.store import CompletionStore
from engram_bench.records import CaseResult, Estimate, Measure, Side
from engram_bench.records.plain import canonical_json
from engram_bench.scoring.metrics import METRICS
from engram_bench.stats import bootstrap
from engram_bench.system.progress import Progress, no_progress

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from engram_bench.models import ChatTokenizer

CHUNK_TOKENS = 512
"""Tokens read at once: each has a row of log-probabilities as long as the vocabulary."""

Span = tuple[Sequence[int], int]
"""Token ids and the index of the first one that is judged."""


@dataclass(frozen=True, slots=True)
class Reader:
    """Both sides, as readers."""

    tokenizer: ChatTokenizer
    context_length: int
    identity: Callable[[Side], str]
    """Of everything but the text that decides what a side thinks of it."""
    store: CompletionStore
    open_generator: Callable[[Side], Generator]
    """Loads a side; called only when a figure is missing from the store."""
    progress: Progress = no_progress

    def with_likelihoods(self, rows: Sequence[CaseResult]) -> list[CaseResult]:
        """The rows, those of seen prompts with what their side thinks of the preferred answer.

        Regular expressions are no text that a model could say; their rows stay as they are.

        Raises:
            UnsupportedError: The backend gives no log-probabilities.
        """
        told = {
            number: row
            for number, row in enumerate(rows)
            if row.test == "accuracy" and row.case.answers and row.case.match != "regex"
        }
        if not told:
            return list(rows)
        spans = [self.tokenizer.encode_example(row.case.prompt, row.case.answers[0]) for row in told.values()]
        figures = self._figures("answer", (rows[0].side,), spans, _answer_figures)
        found = {number: _with_figures(row, each) for (number, row), each in zip(told.items(), figures, strict=True)}
        return [found.get(number, row) for number, row in enumerate(rows)]

    def control_kl(self, baseline: Iterable[CaseResult]) -> Measure | None:
        """KL divergence of the candidate from the baseline, token by token along the baseline's answers to controls.

        The mean over an answer's tokens of sum p log(p / q), p of the baseline and q of the candidate, then over controls. None
        without controls.

        Raises:
            UnsupportedError: The backend gives no log-probabilities.

        Source: Kullback and Leibler (1951), Ann. Math. Stat. 22, 79-86; as a measure of forgetting: Shenfeld et al. (2025),
        "RL's Razor", arXiv 2509.04259.
        """
        spans = []
        for row in baseline:
            ids, start = self.tokenizer.encode_example(row.case.prompt, row.completion.text)
            spans.append((ids if row.completion.stop_reason == "stop" else ids[:-1], start))
        spans = [(ids, start) for ids, start in spans if start < len(ids) <= self.context_length]
        if not spans:
            return None
        metric = METRICS["control_kl"]
        values = [mean for (mean,) in self._figures("kl", ("baseline", "candidate"), spans, _kl_figures)]
        estimate = Estimate(math.fsum(values) / len(values), len(values), bootstrap.mean_interval(values))
        return Measure(metric.name, metric.unit, None, estimate, higher_is_better=metric.higher_is_better)

    def perplexity(self) -> Measure:
        """Perplexity of the text shipped with the package: exp of the mean negative log-likelihood of a token.

        Each paragraph is read by itself and its first token is given. Intervals are bootstrapped over paragraphs; the ratio
        is of the two sides on the same tokens.

        Raises:
            UnsupportedError: The backend gives no log-probabilities.

        Source: Jelinek et al. (1977), J. Acoust. Soc. Am. 62, S63.
        """
        spans: list[Span] = [
            (self.tokenizer.encode(text)[: self.context_length], 1)
            for text in Path(__file__).with_name("ordinary_text.txt").read_text("utf-8").split("\n\n")
        ]
        before = self._figures("nats", ("baseline",), spans, _token_nats)
        after = self._figures("nats", ("candidate",), spans, _token_nats)
        paragraphs = [number for number, nats in enumerate(before) for _ in nats]

        def power(nats: Sequence[float]) -> Estimate:
            bounds = bootstrap.mean_interval(nats, clusters=paragraphs)
            interval = (math.exp(bounds[0]), math.exp(bounds[1])) if bounds else None
            return Estimate(math.exp(math.fsum(nats) / len(nats)), len(nats), interval)

        flat = [[nats for part in side for nats in part] for side in (before, after)]
        metric = METRICS["perplexity"]
        return Measure(
            metric.name,
            metric.unit,
            power(flat[0]),
            power(flat[1]),
            ratio=power([new - old for old, new in zip(*flat, strict=True)]),
            higher_is_better=metric.higher_is_better,
        )

    def largest_logit_change(self, prompts: Sequence[Sequence[int]]) -> float:
        """Largest change between the sides of any first answer token's log-probability; 0 for an adapter without effect."""
        spans = [(ids, len(ids)) for ids in prompts]
        return max(value for (value,) in self._figures("change", ("baseline", "candidate"), spans, _largest_change))

    def _figures(
        self, name: str, sides: tuple[Side, ...], spans: Sequence[Span], read: Callable[..., list[float]]
    ) -> list[list[float]]:
        """What *read* makes of each span and the sides' log-probabilities of it, from the store where it is there."""
        who = [self.identity(side) for side in sides]
        keys = [sha256(canonical_json((name, *who, tuple(ids), start)).encode()).hexdigest() for ids, start in spans]
        found = self.store.get_figures(keys)
        if found.keys() >= set(keys):
            return [found[key] for key in keys]
        with self.store.lock("/".join(who)):
            found |= self.store.get_figures(keys)
            missing = {key: span for key, span in zip(keys, spans, strict=True) if key not in found}
            generators = [self.open_generator(side) for side in sides] if missing else []
            for chunk in _chunks(missing):
                sequences = [ids for ids, _ in chunk.values()]
                log_probs = zip(*(generator.log_probs(sequences) for generator in generators), strict=True)
                made = {
                    key: read(ids, start, *each)
                    for (key, (ids, start)), each in zip(chunk.items(), log_probs, strict=True)
                }
                self.store.put_figures(made)
                found |= made
                done = sum(key in found for key in set(keys))
                self.progress("read", done, len(set(keys)), " and ".join(sides))
        return [found[key] for key in keys]


def _chunks(spans: dict[str, Span]) -> Iterator[dict[str, Span]]:
    """Parts of at most CHUNK_TOKENS, but never less than one span."""
    part: dict[str, Span] = {}
    size = 0
    for key, span in spans.items():
        if part and size + len(span[0]) > CHUNK_TOKENS:
            yield part
            part, size = {}, 0
        part[key] = span
        size += len(span[0])
    if part:
        yield part


def _predicted(ids: Sequence[int], start: int, log_probs: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows that predict the tokens from *start* on, (T - start, V)."""
    return log_probs[start - 1 : len(ids) - 1]


def _of_tokens(ids: Sequence[int], start: int, log_probs: NDArray[np.float32]) -> NDArray[np.float32]:
    """Log-probability of each judged token, (T - start,)."""
    import numpy as np

    return _predicted(ids, start, log_probs)[np.arange(len(ids) - start), list(ids[start:])]


def _answer_figures(ids: Sequence[int], start: int, log_probs: NDArray[np.float32]) -> list[float]:
    """Mean log-probability, smallest probability, and right tokens before the first wrong one (-1: none is wrong)."""
    told = _of_tokens(ids, start, log_probs)
    wrong = (_predicted(ids, start, log_probs).argmax(-1) != list(ids[start:])).nonzero()[0]
    return [float(told.mean()), math.exp(float(told.min())), float(wrong[0]) if len(wrong) else -1.0]


def _with_figures(row: CaseResult, figures: Sequence[float]) -> CaseResult:
    log_prob, min_prob, diverges_at = figures
    return replace(row, log_prob=log_prob, min_prob=min_prob, diverges_at=None if diverges_at < 0 else int(diverges_at))


def _token_nats(ids: Sequence[int], start: int, log_probs: NDArray[np.float32]) -> list[float]:
    return [-float(value) for value in _of_tokens(ids, start, log_probs)]


def _kl_figures(
    ids: Sequence[int], start: int, baseline: NDArray[np.float32], candidate: NDArray[np.float32]
) -> list[float]:
    import numpy as np

    before, after = (_predicted(ids, start, side).astype(np.float64) for side in (baseline, candidate))
    return [float((np.exp(before) * (before - after)).sum(-1).mean())]


def _largest_change(
    ids: Sequence[int], start: int, baseline: NDArray[np.float32], candidate: NDArray[np.float32]
) -> list[float]:
    return [float(abs(baseline[start - 1] - candidate[start - 1]).max())]

"""Log-likelihoods of given texts: how probable a respondent finds an answer that somebody else wrote.

Every figure is stored beside the completions, by text and respondent, so a session with nothing new loads no model.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from engram_bench.inference.respondent import Respondent
from engram_bench.inference.store import CompletionStore
from engram_bench.records import CaseResult
from engram_bench.records.plain import canonical_json
from engram_bench.system.progress import Progress, no_progress

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

CHUNK_TOKENS = 512
"""Tokens per call of a generator; each token has a row of log-probabilities as long as the vocabulary."""

Span = tuple[Sequence[int], int]
"""Token ids and the index of the first token that is judged."""


@dataclass(frozen=True, slots=True)
class LogLikelihoods:
    """Log-likelihoods of texts, each computed once per respondent and stored.

    Every method raises UnsupportedError where the backend gives no log-probabilities.
    """

    store: CompletionStore
    progress: Progress = no_progress

    def with_likelihoods(self, respondent: Respondent, rows: Sequence[CaseResult]) -> list[CaseResult]:
        """The respondent's rows; those of seen prompts gain the log-likelihood of the preferred answer.

        A regular expression is no text with a likelihood, so rows of such cases stay as they are.
        """
        chosen = {
            number: row
            for number, row in enumerate(rows)
            if row.test == "accuracy" and row.case.answers and row.case.match != "regex"
        }
        if not chosen:
            return list(rows)
        encode = respondent.model.tokenizer.encode_example
        spans = [encode(row.case.prompt, row.case.answers[0]) for row in chosen.values()]
        figures = self._figures("answer", (respondent,), spans, _answer_figures)
        found = {number: _with_figures(row, each) for (number, row), each in zip(chosen.items(), figures, strict=True)}
        return [found.get(number, row) for number, row in enumerate(rows)]

    def divergences(self, baseline: Respondent, candidate: Respondent, answers: Iterable[CaseResult]) -> list[float]:
        """KL divergence (nats) of the candidate from the baseline along each of the baseline's answers.

        Each value is the mean over an answer's tokens of sum p log(p / q), p of the baseline and q of the candidate. Answers
        without a token, or longer than the context, are left out.

        Source: Kullback and Leibler (1951), Ann. Math. Stat. 22, 79-86.
        """
        model = baseline.model
        spans = []
        for row in answers:
            ids, start = model.tokenizer.encode_example(row.case.prompt, row.completion.text)
            spans.append((ids if row.completion.stop_reason == "stop" else ids[:-1], start))
        spans = [(ids, start) for ids, start in spans if start < len(ids) <= model.context_length]
        return [mean for (mean,) in self._figures("kl", (baseline, candidate), spans, _kl_figures)]

    def ordinary_text(self, respondent: Respondent) -> list[list[float]]:
        """Negative log-likelihood (nats) of each token of the text shipped with the package, by paragraph.

        Every paragraph stands alone, and its first token is given.
        """
        model = respondent.model
        spans: list[Span] = [
            (model.tokenizer.encode(text)[: model.context_length], 1)
            for text in Path(__file__).with_name("ordinary_text.txt").read_text("utf-8").split("\n\n")
        ]
        return self._figures("nats", (respondent,), spans, _token_nats)

    def largest_change(self, baseline: Respondent, candidate: Respondent, prompts: Sequence[Sequence[int]]) -> float:
        """Largest difference of any first answer token's log-probability between the two; 0 where both are the same.

        Args:
            baseline: One respondent.
            candidate: The other one.
            prompts: Token ids of prompts, at least one.
        """
        spans = [(ids, len(ids)) for ids in prompts]
        return max(value for (value,) in self._figures("change", (baseline, candidate), spans, _largest_change))

    def _figures(
        self,
        name: str,
        respondents: tuple[Respondent, ...],
        spans: Sequence[Span],
        compute: Callable[..., list[float]],
    ) -> list[list[float]]:
        """The figures of each span that *compute* gives from the respondents' log-probabilities, or the stored ones."""
        identities = [each.identity for each in respondents]
        keys = [
            sha256(canonical_json((name, *identities, tuple(ids), start)).encode()).hexdigest() for ids, start in spans
        ]
        found = self.store.get_figures(keys)
        if found.keys() >= set(keys):
            return [found[key] for key in keys]
        with self.store.lock("/".join(identities)):
            found |= self.store.get_figures(keys)
            missing = {key: span for key, span in zip(keys, spans, strict=True) if key not in found}
            total, generators = len(set(keys)), [each.open() for each in respondents] if missing else []
            for chunk in _chunks(missing):
                sequences = [ids for ids, _ in chunk.values()]
                log_probs = zip(*(generator.log_probs(sequences) for generator in generators), strict=True)
                made = {
                    key: compute(ids, start, *each)
                    for (key, (ids, start)), each in zip(chunk.items(), log_probs, strict=True)
                }
                self.store.put_figures(made)
                found |= made
                self.progress("likelihood", sum(key in found for key in set(keys)), total, "")
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


def _token_log_probs(ids: Sequence[int], start: int, log_probs: NDArray[np.float32]) -> NDArray[np.float32]:
    """Log-probability of each judged token, (T - start,)."""
    import numpy as np

    return _predicted(ids, start, log_probs)[np.arange(len(ids) - start), list(ids[start:])]


def _answer_figures(ids: Sequence[int], start: int, log_probs: NDArray[np.float32]) -> list[float]:
    """Mean log-probability, smallest probability, and number of tokens before the first that is not the likeliest (or -1)."""
    judged = _token_log_probs(ids, start, log_probs)
    wrong = (_predicted(ids, start, log_probs).argmax(-1) != list(ids[start:])).nonzero()[0]
    return [float(judged.mean()), math.exp(float(judged.min())), float(wrong[0]) if len(wrong) else -1.0]


def _with_figures(row: CaseResult, figures: Sequence[float]) -> CaseResult:
    log_prob, min_prob, diverges_at = figures
    return replace(row, log_prob=log_prob, min_prob=min_prob, diverges_at=None if diverges_at < 0 else int(diverges_at))


def _token_nats(ids: Sequence[int], start: int, log_probs: NDArray[np.float32]) -> list[float]:
    return [-float(value) for value in _token_log_probs(ids, start, log_probs)]


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

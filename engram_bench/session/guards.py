"""Guards: cheap checks that the adapter has an effect, is whole, and gets the prompt tokens it was trained on.

A guard returns the reason why it does not hold, or an empty text. Most guards use answers that the session has stored, so a
session with nothing new loads no model for them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from engram_bench.adapters.store import Adapter
from engram_bench.records import Case, CaseResult, TrainingExample

if TYPE_CHECKING:
    from engram_bench.models import Model

T = TypeVar("T")

MIN_STOPPED = 0.95
"""Share of seen prompts whose answer must end by itself."""
SAMPLE = 4
"""Number of prompts for guards that must ask a model."""


@dataclass(frozen=True, slots=True)
class Inspected:
    """An adapter with everything that the guards check."""

    model: Model
    adapter: Adapter
    examples: Sequence[TrainingExample]
    """Training examples of the adapter; empty where these are unknown (an adapter made elsewhere)."""
    cases: Sequence[Case]
    """Seen prompts, at least one."""
    answers: Callable[[], Sequence[CaseResult]]
    """Gives the candidate's greedy answers to the cases; a guard that never calls this needs no answers."""
    largest_change: Callable[[Sequence[Sequence[int]]], float]
    """Largest difference between the sides of any log-probability that follows these prompts (token ids)."""
    alone: Callable[[Sequence[CaseResult]], Sequence[str]]
    """Gives the candidate's answers to the cases of these rows, each prompt asked alone."""
    null_verdicts: Callable[[], list[str]]
    """Gives the accuracy gates that an untrained adapter of the same shape meets, or an adapter of random weights."""


def changes_a_logit(found: Inspected) -> str:
    """The adapter changes at least one log-probability after a few prompts."""
    tokenizer = found.model.tokenizer
    prompts = [tokenizer.encode_prompt(case.prompt) for case in _spread(found.cases)]
    if found.largest_change(prompts) > 0:
        return ""
    return f"{found.adapter.name} changes no log-probability after {len(prompts)} prompts, expected an effect"


def finite_weights(found: Inspected) -> str:
    """No weight of the adapter is NaN or infinite."""
    from engram_bench.adapters.files import non_finite  # numpy, which listing patterns does not need

    for path in sorted(found.adapter.path.glob("*.safetensors")):
        if names := non_finite(path):
            return f"{path}: tensor {names[0]!r} holds NaN or infinite values, expected finite ones"
    return ""


def same_base(found: Inspected) -> str:
    """The adapter's base model is the one that is loaded."""
    manifest = found.adapter.manifest
    if manifest.base_fingerprint in ("", found.model.fingerprint):
        return ""
    return (
        f"{found.adapter.path}: trained on {manifest.base_reference} ({manifest.base_fingerprint[:12]}), "
        f"expected {found.model.reference} ({found.model.fingerprint[:12]})"
    )


def stops_by_itself(found: Inspected) -> str:
    """Enough answers end with the end-of-turn token and not at the limit."""
    rows = found.answers()
    stopped = sum(row.completion.stop_reason == "stop" for row in rows)
    if stopped >= MIN_STOPPED * len(rows):
        return ""
    return f"{stopped} of {len(rows)} answers end by themselves, expected at least {100 * MIN_STOPPED:.0f} %"


def no_template_text(found: Inspected) -> str:
    """No answer holds the text of a chat-template token."""
    for row in found.answers():
        for text in found.model.tokenizer.special_texts:
            if text in row.completion.text:
                return f"{row.case.id}: the answer holds {text!r}, expected no token of the chat template"
    return ""


def batched_equals_single(found: Inspected) -> str:
    """An answer is the same whether its prompt is asked alone or among others."""
    rows = _spread(found.answers())
    for row, alone in zip(rows, found.alone(rows), strict=True):
        if row.completion.text != alone:
            return f"{row.case.id}: {row.completion.text!r} in a batch, {alone!r} alone, expected the same"
    return ""


def same_prompt_tokens(found: Inspected) -> str:
    """A prompt has the same tokens in training and when it is asked."""
    tokenizer = found.model.tokenizer
    for example in found.examples:
        ids, start = tokenizer.encode_example(example.prompt, example.answer)
        if (asked := tokenizer.encode_prompt(example.prompt)) != ids[:start]:
            return f"{example.prompt.user!r}: asked as {asked}, trained as {ids[:start]}, expected the same tokens"
    return ""


def null_adapter_fails(found: Inspected) -> str:
    """Neither an untrained adapter of the same shape nor one of random weights passes the accuracy gates."""
    passed = found.null_verdicts()
    return f"an adapter that learned nothing passes {', '.join(passed)}, expected it to fail" if passed else ""


def _spread(items: Sequence[T]) -> Sequence[T]:
    """SAMPLE items at most, spread evenly."""
    return items[:: max(1, len(items) // SAMPLE)][:SAMPLE]


CHECKS: Mapping[str, Callable[[Inspected], str]] = {
    "changes-a-logit": changes_a_logit,
    "finite-weights": finite_weights,
    "same-base": same_base,
    "stops-by-itself": stops_by_itself,
    "no-template-text": no_template_text,
    "batched-equals-single": batched_equals_single,
    "same-prompt-tokens": same_prompt_tokens,
    "null-adapter-fails": null_adapter_fails,
}
"""Name of a guard in ``scoring.guards`` → the reason why it does not hold, empty where it does."""

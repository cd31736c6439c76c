"""What would go wrong in a session, as far as it can be known before a model is loaded or a question asked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from engram_bench.backends import registry
from engram_bench.errors import BackendError, BackendUnavailable, UsageError
from engram_bench.inference.ask import check_room
from engram_bench.patterns.expand import wording_cases
from engram_bench.patterns.limits import check_answers
from engram_bench.records import Pattern, PatternSet
from engram_bench.session.engine import Engine
from engram_bench.session.tuning import Tuning

if TYPE_CHECKING:
    from engram_bench.models import Model


def check_early(engine: Engine, tuning: Tuning, *, baseline: Engine, has_adapter: bool = True) -> None:
    """Raise the first error that the bench is sure to meet.

    A model that is not here yet is downloaded. Of the model only the tokenizer and the headers of its files are read.

    Args:
        engine: Model and backend of the candidate.
        tuning: Adapter and pattern sets of the candidate.
        baseline: Model and backend of the baseline, in most cases the same engine.
        has_adapter: Whether the session asks a candidate; otherwise only the bare model.

    Raises:
        BackendError: The backend cannot run here or does not train this kind, or a server lacks a model.
        ModelError: The model is not there.
        PatternFileError: An answer cannot be given within its limit, or a prompt does not fit into the context.
        AdapterError: The adapter is not there, is damaged, or does not fit the model.
        UsageError: There is nothing to train on.
    """
    name, options = engine.backend_choice[0], engine.settings.by_field
    for each in (engine,) if baseline is engine else (engine, baseline):
        _check_model(each, tuning.sets)
    adapter = tuning.adapter if has_adapter and tuning.is_done else None
    if has_adapter and not tuning.is_done:
        _check_training(name, tuning)
    if baseline is not engine:
        registry.check_ready(baseline.backend_choice[0], baseline.model, None, baseline.settings.by_field)
    registry.check_ready(name, engine.model, adapter.path if adapter else None, options)


def _check_model(engine: Engine, sets: Sequence[PatternSet]) -> None:
    """The backend can run here, and the patterns fit the model; looked at once for all candidates of a model."""
    if reason := registry.unavailable_reason(engine.backend_choice[0], **engine.settings.by_field):
        raise BackendUnavailable(reason)
    model, limit = engine.model, engine.settings.max_tokens
    if not engine.is_served:
        engine.shared.once(("checked", model.fingerprint, limit), lambda: _check_patterns(sets, model, limit))


def _check_patterns(sets: Sequence[PatternSet], model: Model, limit: int) -> None:
    check_answers(sets, model.tokenizer)
    long = (each for pattern_set in sets for each in pattern_set.patterns if not _is_short(each, limit, model))
    check_room((case for each in long for case in wording_cases(each)), limit, model)


def _is_short(pattern: Pattern, limit: int, model: Model) -> bool:
    """Whether a pattern takes less than half of the context, computed without its tokens: a character has four bytes at most."""
    texts = (pattern.input, *pattern.wordings, *pattern.held_out)
    longest = max(map(len, texts)) + max(map(len, pattern.answers), default=0) + len(pattern.system or "")
    return 4 * longest + max(limit, pattern.max_tokens or 0) < model.context_length // 2


def _check_training(backend: str, tuning: Tuning) -> None:
    if not tuning.examples:
        paths = ", ".join(map(str, tuning.settings.patterns))
        msg = f"patterns: none of kind memory in {paths}, expected at least one to train on"
        raise UsageError(msg)
    kinds, kind = registry.trained_kinds(backend), tuning.recipe.kind
    if kinds and kind not in kinds:
        msg = f"backend {backend!r}: the adapter's kind is {kind!r}, expected one that it trains: {', '.join(kinds)}"
        raise BackendError(msg)

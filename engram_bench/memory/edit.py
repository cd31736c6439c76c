"""A memory explained, and patterns taken out of it without training: what is left stays as it was, to the bit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from engram_bench.errors import AdapterError
from engram_bench.memory.files import Layer, StoredMemory
from engram_bench.memory.query import Query, key_context, prompt_query
from engram_bench.records.plain import JSON_KEY

if TYPE_CHECKING:
    from engram_bench.models import ChatTokenizer
    from engram_bench.records import Prompt


@dataclass(frozen=True, slots=True)
class Hit:
    """One slot of a position."""

    order: str
    """Length of the n-gram, or ``whole``."""
    ngram: str
    """Text of the n-gram; empty where the context is too short."""
    row: int
    """Number of the row; 0 where the n-gram has none."""
    patterns: tuple[str, ...]
    """Patterns that own the row."""


@dataclass(frozen=True, slots=True)
class Position:
    """A position that predicts a token of an answer."""

    predicts: str
    """The token's text; empty for what comes after the answer."""
    hits: tuple[Hit, ...]


def explain(stored: StoredMemory, tokenizer: ChatTokenizer, prompt: Prompt, answer: str) -> list[Position]:
    """The n-grams that are looked up for each token of *answer* and for its end, and the patterns whose rows they hit.

    A memory that writes before several blocks shows the rows of the first.
    """
    table, config = stored.table, stored.table.config
    ids, start = tokenizer.encode_example(prompt, answer)
    query = Query(ids[:-1], prompt_query(tokenizer, prompt).content, start - 1)
    rows = table.rows([query], config.layers[0])
    context, _ = key_context(query, config, table.read_as(query))
    owners = _owners(stored)
    slots = [str(order) for order in config.orders for _ in range(config.heads)] + ["whole"] * config.whole
    positions = []
    for label, end, found in zip(ids[start:], context.ends, rows.tolist(), strict=True):
        hits = []
        for order, row in zip(slots, found, strict=True):
            length = end if order == "whole" else int(order)
            text = tokenizer.decode(context.tokens[end - length : end]) if length <= end else ""
            hits.append(Hit(order, text, row, owners.get(row, ())))
        is_last = label == tokenizer.end_of_turn_id
        positions.append(Position("" if is_last else tokenizer.decode([label]), tuple(hits)))
    return positions


@dataclass(frozen=True, slots=True)
class Meaning:
    """The trained question that a question is matched to."""

    question: str
    """Text of the trained question; empty where the question matches no pattern or is a trained one itself."""
    nearness: float
    """Nearness to the nearest pattern or ordinary question; 1.0 for a question that is known itself."""
    threshold: float
    """Nearness above which a question is matched to a trained one."""
    unmatched: str = field(default="", metadata={JSON_KEY: "nobodys"})
    """The nearest question where it belongs to no pattern: an ordinary one, or one of a removed pattern."""


def meaning(stored: StoredMemory, tokenizer: ChatTokenizer, prompt: Prompt) -> Meaning:
    """The trained question that the memory reads *prompt* as."""
    known = stored.table.known
    if known is None:
        return Meaning("", 0.0, 1.0)
    asked = prompt_query(tokenizer, prompt).question
    found, nearness = known.nearest(asked)
    unmatched = known.unmatched(asked)
    text = tokenizer.decode(found) if found is not None and found != asked else ""
    return Meaning(text, nearness, known.threshold, tokenizer.decode(unmatched) if unmatched else "")


def remove(stored: StoredMemory, pattern: str) -> StoredMemory:
    """The memory without a pattern: rows of this pattern alone are gone, rows that others with its answer read stay.

    Raises:
        AdapterError: The memory has no such pattern, or it is its only one.
    """
    table = stored.table
    if pattern not in table.patterns:
        some = ", ".join(table.patterns[:5])
        msg = f"memory: no pattern {pattern!r} among {len(table.patterns)}, expected one such as {some}"
        raise AdapterError(msg)
    if len(table.patterns) == 1:
        msg = f"memory: {pattern!r} is the only pattern, expected at least one more"
        raise AdapterError(msg)
    index = table.patterns.index(pattern)
    if table.known is not None:
        table = replace(table, known=table.known.without(index))
    left = [position for position, name in enumerate(table.patterns) if name != pattern]
    shared = np.unique(np.concatenate([table.owned[position] for position in left]))
    gone = np.setdiff1d(table.owned[index], shared)
    patterns, owned = (
        tuple(table.patterns[position] for position in left),
        tuple(table.owned[position] for position in left),
    )
    if table.config.addressing == "hashed":
        layers = {block: replace(layer, rows=_zeroed(layer, gone)) for block, layer in stored.layers.items()}
        return replace(stored, table=replace(table, patterns=patterns, owned=owned), layers=layers)
    kept = np.setdiff1d(np.arange(len(table.keys) + 1), gone)
    layers = {block: replace(layer, rows=layer.rows[kept]) for block, layer in stored.layers.items()}
    owned = tuple(np.searchsorted(kept, rows) for rows in owned)
    table = replace(table, keys=table.keys[kept[1:] - 1], patterns=patterns, owned=owned)
    return replace(stored, table=table, layers=layers)


def _owners(stored: StoredMemory) -> dict[int, tuple[str, ...]]:
    owners: dict[int, tuple[str, ...]] = {}
    for name, rows in zip(stored.table.patterns, stored.table.owned, strict=True):
        for row in rows.tolist():
            owners[row] = (*owners.get(row, ()), name)
    return owners


def _zeroed(layer: Layer, rows: NDArray[np.int64]) -> NDArray[np.float32]:
    values = layer.rows.copy()
    values[rows] = 0
    return values


def explain_lines(positions: Sequence[Position], meant: Meaning | None = None) -> list[str]:
    """The explanation for people: a line per slot that hit, and a line per position where none did."""
    lines = []
    if meant is not None and meant.question:
        near = f"nearness {meant.nearness:.2f}, above the threshold {meant.threshold:.2f}"
        lines.append(f"matched to {meant.question!r}: {near}")
    if meant is not None and meant.unmatched:
        near = f"nearness {meant.nearness:.2f}"
        lines.append(f"matches no pattern: the nearest question, {meant.unmatched!r}, belongs to none ({near})")
    for position in positions:
        found = [hit for hit in position.hits if hit.row]
        lines.append(f"{position.predicts!r}" if position.predicts else "end of the answer")
        lines += [f"  {hit.order:>5}  {hit.ngram!r}  row {hit.row}  {', '.join(hit.patterns)}" for hit in found]
        if not found:
            lines.append("         no n-gram is known: the base model answers alone")
    return lines

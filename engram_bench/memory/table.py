"""The n-grams that have a row, and the patterns that own the rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from engram_bench.errors import BackendError
from engram_bench.memory.config import MemoryConfig
from engram_bench.memory.keyer import NO_KEY, ExactKeyer, HashedKeyer, KeyContext, Keys, Rows, lookup, next_primes
from engram_bench.memory.nearest import KnownQuestions, known_questions
from engram_bench.memory.query import Query, key_context

Ids = NDArray[np.int64]

SPECIFIC_ORDER = 5
"""Least length of an n-gram that may lie in the answer alone, and that counts where the question is not recognised."""
QUESTION_TOKENS = 2
"""Least tokens of the question in a shorter n-gram: ``?12`` leads to the end of an answer in any conversation."""


@dataclass(frozen=True, slots=True)
class KeyedExample:
    """A training example as a memory sees it."""

    pattern: str
    prompt: Query
    labels: tuple[int, ...]
    """The answer's tokens with the end-of-turn token."""

    @property
    def query(self) -> Query:
        """The positions that predict the labels."""
        return self.query_from(len(self.prompt.ids) - 1)

    def query_from(self, first: int) -> Query:
        """The positions from *first* on."""
        return Query([*self.prompt.ids, *self.labels[:-1]], self.prompt.content, first)

    @property
    def question(self) -> tuple[int, ...]:
        """The user's tokens."""
        return self.prompt.question


@dataclass(frozen=True)
class RowTable:
    """Addresses of a memory's rows. Row 0 is empty and is what an unknown n-gram reads."""

    config: MemoryConfig
    """Its layers are blocks of the model, counted from 0."""
    keys: Keys = field(default_factory=lambda: np.zeros(0, np.uint64))
    """Sorted; row i + 1 belongs to key i. Exact addressing only."""
    dead: Keys = field(default_factory=lambda: np.zeros(0, np.uint64))
    """Sorted keys that never get a row: they lead to different answers, or stand in ordinary questions."""
    patterns: tuple[str, ...] = ()
    """Ids of the stored patterns."""
    owned: tuple[Ids, ...] = ()
    """Rows that the examples of each pattern read, sorted; a row may serve several patterns of one answer."""
    classes: Ids | None = None
    """Token id → compressed id; None where neither keys nor questions are compared by it."""
    parts: NDArray[np.int8] | None = None
    """Token id → part in words; None where no question is matched to another."""
    known: KnownQuestions | None = None
    """The trained questions that near ones are matched to; None where nothing is matched."""
    vocabulary: int = 1
    pad: int = 0

    def num_rows(self, block: int) -> int:
        """Rows in the table of one block, the empty one included."""
        return self._hashed[block].num_rows if self.config.addressing == "hashed" else len(self.keys) + 1

    def rows(self, queries: Sequence[Query], block: int) -> Rows:
        """Rows (N, slots) that the queries' positions consult before *block*, one query after another.

        Where questions are compared with the trained ones, a question that means none of them reads no short n-gram's row:
        `` of Egypt?`` ends many.
        """
        meant = [self.read_as(query) for query in queries]
        contexts, consults = self._contexts(queries, meant)
        if self.config.addressing == "hashed":
            rows = self._hashed[block].rows(contexts)
        else:
            rows = lookup(self._exact.keys(contexts), self.keys)
        if self.known is not None:
            means_none = np.repeat([one is None for one in meant], [query.num_positions for query in queries])
            rows[np.ix_(means_none, _orders(self.config) < SPECIFIC_ORDER)] = 0
        return np.where(consults[:, None], rows, 0)

    def read_as(self, query: Query) -> tuple[int, ...] | None:
        """The trained question that a query's question means; None if it means none, or its prompt has not ended."""
        if self.known is None or len(query.ids) < len(query.content):
            return None
        return self.known.nearest(query.question)[0]

    def all_keys(self, queries: Sequence[Query]) -> Keys:
        """Exact keys (N, slots) of the queries' positions, :data:`NO_KEY` where the memory is not consulted."""
        contexts, consults = self._contexts(queries, [self.read_as(query) for query in queries])
        return np.where(consults[:, None], self._exact.keys(contexts), np.uint64(NO_KEY))

    def _contexts(
        self, queries: Sequence[Query], meant: Sequence[tuple[int, ...] | None]
    ) -> tuple[list[KeyContext], NDArray[np.bool_]]:
        pairs = [key_context(query, self.config, asked) for query, asked in zip(queries, meant, strict=True)]
        contexts = [context for context, _ in pairs]
        if self.config.compress:
            assert self.classes is not None
            classes = self.classes
            contexts = [
                KeyContext(classes[np.asarray(context.tokens, np.int64)].tolist(), context.ends) for context in contexts
            ]
        return contexts, np.concatenate([consults for _, consults in pairs] or [np.zeros(0, np.bool_)])

    @cached_property
    def _exact(self) -> ExactKeyer:
        return ExactKeyer(self.config.orders, whole=self.config.whole)

    @cached_property
    def _hashed(self) -> dict[int, HashedKeyer]:
        """One keyer per block; no two tables have the same size, as in the paper's code."""
        config = self.config
        count = len(config.orders) * config.heads
        primes = next_primes(config.rows_per_head, count * len(config.layers))
        return {
            block: HashedKeyer(
                config.orders,
                heads=config.heads,
                primes=primes[at * count : (at + 1) * count],
                vocabulary=self.vocabulary,
                pad=self.pad,
                seed=config.seed,
                layer=block,
            )
            for at, block in enumerate(config.layers)
        }


def build_table(empty: RowTable, examples: Sequence[KeyedExample], *, background: Sequence[Query] = ()) -> RowTable:
    """*empty* with a row for every n-gram of the examples that leads to one answer, and the rows each pattern owns.

    An n-gram that leads to different answers, stands at the end of a *background* question or is short and next to all
    answer (``?12``) gets none. Examples are added to those the table has: what has a row keeps it, what was refused one
    stays without.

    Raises:
        BackendError: An answer is empty, two examples ask the same and answer differently, or no n-gram is left.
    """
    _check(examples)
    queries = [example.query for example in examples]
    empty = _with_known(replace(empty, known=None), examples, background)
    if empty.config.addressing == "hashed":
        return _with_owners(empty, examples, queries)
    keys = empty.all_keys(queries)  # (N, slots)
    answers = {labels: index for index, labels in enumerate(dict.fromkeys(example.labels for example in examples))}
    leads_to = np.repeat([answers[example.labels] for example in examples], [query.num_positions for query in queries])
    found, position = np.unique(keys, return_inverse=True)
    lowest, highest = np.full(len(found), len(answers)), np.full(len(found), -1)
    np.minimum.at(lowest, position.reshape(keys.shape), leads_to[:, None])
    np.maximum.at(highest, position.reshape(keys.shape), leads_to[:, None])
    ordinary = np.unique(replace(empty, known=None).all_keys(background)) if background else empty.dead[:0]
    vague = keys[_is_vague(empty.config, queries)]
    refused = np.isin(found, vague) | (lowest != highest) | np.isin(found, ordinary) | np.isin(found, empty.dead)
    if empty.config.whole:  # two examples never share a whole question, but a background question may be one
        refused &= ~np.isin(found, keys[:, -1])
    is_key = found != NO_KEY
    table = replace(
        empty,
        keys=np.union1d(empty.keys, found[is_key & ~refused]),
        dead=np.setdiff1d(np.union1d(empty.dead, found[is_key & refused]), empty.keys),
    )
    if not len(table.keys):
        msg = f"memory: none of {len(examples)} examples has an n-gram of orders {empty.config.orders} of its own, expected some"
        raise BackendError(msg)
    return _with_owners(table, examples, queries)


def _with_known(table: RowTable, examples: Sequence[KeyedExample], background: Sequence[Query]) -> RowTable:
    """The table with the examples' questions, where a question may be read as another one."""
    if not table.config.near:
        return table
    assert table.classes is not None
    assert table.parts is not None
    index = {name: position for position, name in enumerate(dict.fromkeys(example.pattern for example in examples))}
    known = known_questions(
        [example.question for example in examples],
        [index[example.pattern] for example in examples],
        [query.question for query in background],
        table.classes,
        table.parts,
        false_positives=table.config.near,
    )
    return replace(table, known=known)


def _is_vague(config: MemoryConfig, queries: Sequence[Query]) -> NDArray[np.bool_]:
    """Which n-grams (N, slots) are short and hold less than two tokens of the question."""
    answered = np.concatenate([np.arange(query.num_positions) for query in queries])  # answer tokens before a position
    orders = _orders(config)
    vague: NDArray[np.bool_] = (orders < SPECIFIC_ORDER) & (orders - answered[:, None] < QUESTION_TOKENS)
    return vague


def _orders(config: MemoryConfig) -> Ids:
    """The length of the n-grams in each of an exact memory's slots, greater than any where it is the whole question."""
    return np.array([*config.orders, *[np.iinfo(np.int64).max] * config.whole])


def _check(examples: Sequence[KeyedExample]) -> None:
    asked: dict[tuple[int, ...], KeyedExample] = {}
    for example in examples:
        if len(example.labels) < 2:
            msg = f"memory: pattern {example.pattern!r}: the answer is empty, expected at least one token"
            raise BackendError(msg)
        other = asked.setdefault(example.question, example)
        if other.labels != example.labels:
            msg = (
                f"memory: patterns {other.pattern!r} and {example.pattern!r} ask the same and answer differently, "
                "expected one answer (a memory does not see the system prompt)"
            )
            raise BackendError(msg)


def _with_owners(table: RowTable, examples: Sequence[KeyedExample], queries: Sequence[Query]) -> RowTable:
    """The table with the examples' patterns and what they own; rows of earlier patterns are looked up by the caller."""
    rows = table.rows(queries, table.config.layers[0])
    found: dict[str, list[Rows]] = {}
    start = 0
    for example, query in zip(examples, queries, strict=True):
        found.setdefault(example.pattern, []).append(rows[start : start + query.num_positions].ravel())
        start += query.num_positions
    owned = {name: np.setdiff1d(np.concatenate(parts), [0]) for name, parts in found.items()}
    return replace(table, patterns=tuple(owned), owned=tuple(owned.values()))

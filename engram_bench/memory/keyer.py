"""Token ids → addresses: which n-grams a position sees, as 64-bit keys or as rows of hashed tables.

An n-gram is the last *n* tokens of a *context*: what a conversation says, question then answer, without the chat template
between them. So the position that predicts an answer's first token has the question's last words for its key, although
every prompt ends in the same template tokens.

The mix of an n-gram is the paper's: the exclusive or of its tokens, each times an odd number that belongs to its distance
from the end (arXiv 2601.07372, section 2.2; ``engram_demo_v1.py``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
from numpy.typing import NDArray

Keys = NDArray[np.uint64]
Rows = NDArray[np.int64]

NO_KEY = 0
"""Key of an n-gram that is not there: the context is shorter than its order."""
_WHOLE_ORDER = 0xFFFF
"""Stand-in for the order of the whole question; no n-gram is that long."""
_MASK = 2**64 - 1


@dataclass(frozen=True, slots=True)
class KeyContext:
    """A conversation's tokens and the positions in it whose n-grams are wanted."""

    tokens: Sequence[int]
    ends: Sequence[int]
    """Positions just before which an n-gram ends: 0 sees nothing, ``len(tokens)`` sees all."""


class ExactKeyer:
    """Keys of a context's suffix n-grams, one per order, and of the whole context."""

    def __init__(self, orders: Sequence[int], *, whole: bool = True) -> None:
        self.orders = tuple(orders)
        self.whole = whole
        numbers = [chained(back, [0])[-1] | 1 for back in range(1, max(self.orders, default=0) + 1)]
        self._odd = np.array(numbers, dtype=np.uint64)

    @property
    def slots(self) -> int:
        """Keys per position: one per order, then the whole context's."""
        return len(self.orders) + self.whole

    def keys(self, contexts: Sequence[KeyContext]) -> Keys:
        """Keys (N, slots) of all the contexts' positions, one context after another.

        :data:`NO_KEY` where fewer tokens stand before the position than the order is long.
        """
        tokens, starts, ends = _joined(contexts)
        keys = np.zeros((len(ends), self.slots), dtype=np.uint64)
        mix = np.zeros(len(ends), dtype=np.uint64)
        for back in range(1, max(self.orders, default=0) + 1):
            there = ends - starts >= back
            mix[there] ^= tokens[ends[there] - back].astype(np.uint64) * self._odd[back - 1]  # modulo 2^64
            if back in self.orders:
                keys[there, self.orders.index(back)] = _scrambled(mix[there], back)
        if self.whole:
            links = [
                links[end] for context in contexts for links in [chained(0, context.tokens)] for end in context.ends
            ]
            keys[:, -1] = np.where(ends > starts, _scrambled(np.array(links, dtype=np.uint64), _WHOLE_ORDER), NO_KEY)
        return keys


class HashedKeyer:
    """Rows of a context's suffix n-grams in tables that every n-gram falls into: the paper's addressing.

    Each order has *heads* tables, each of another prime size from *rows_per_head* on. Rows count from 1; before the
    context's start stands the pad token. *layer* makes the odd numbers of one memory differ from another's.
    """

    def __init__(
        self,
        orders: Sequence[int],
        *,
        heads: int,
        primes: Sequence[int],
        vocabulary: int,
        pad: int,
        seed: int = 0,
        layer: int = 0,
    ) -> None:
        self.orders = tuple(orders)
        self.primes = np.array(primes, dtype=np.int64).reshape(len(self.orders), heads)
        self._pad = pad
        # Products stay below 2^63, so no remainder is taken of a wrapped number.
        bound = max(1, (2**63 - 1) // vocabulary // 2)
        random = np.random.default_rng(seed + 10_007 * layer)
        self._odd = random.integers(0, bound, max(self.orders), dtype=np.int64) * 2 + 1
        sizes = self.primes.ravel()
        self._starts = 1 + np.concatenate([[0], np.cumsum(sizes)[:-1]])

    @property
    def slots(self) -> int:
        """Rows per position."""
        return int(self.primes.size)

    @property
    def num_rows(self) -> int:
        """Rows of all tables, the empty row 0 included."""
        return int(self.primes.sum()) + 1

    def rows(self, contexts: Sequence[KeyContext]) -> Rows:
        """Rows (N, slots) of all the contexts' positions, one context after another, heads of one order side by side."""
        tokens, starts, ends = _joined(contexts)
        found = np.zeros((len(ends), *self.primes.shape), dtype=np.int64)
        mix = np.zeros(len(ends), dtype=np.int64)
        for back in range(1, max(self.orders) + 1):
            there = ends - starts >= back
            mix ^= np.where(there, tokens[np.where(there, ends - back, 0)], self._pad) * self._odd[back - 1]
            if back in self.orders:
                position = self.orders.index(back)
                found[:, position] = mix[:, None] % self.primes[position]
        rows: Rows = found.reshape(len(ends), -1) + self._starts
        return rows


def lookup(keys: Keys, table: Keys) -> Rows:
    """Row of each key in the sorted *table*, counted from 1; 0 for a key it does not have."""
    if not len(table):
        return np.zeros(keys.shape, dtype=np.int64)
    positions = np.searchsorted(table, keys)
    there = table[np.minimum(positions, len(table) - 1)] == keys
    return np.where(there, positions + 1, 0)


def next_primes(start: int, count: int) -> list[int]:
    """The first *count* primes not below *start*."""
    found: list[int] = []
    number = max(2, start)
    while len(found) < count:
        if all(number % divisor for divisor in range(2, int(number**0.5) + 1)):
            found.append(number)
        number += 1
    return found


def _scrambled(mix: Keys, order: int) -> Keys:
    """The finisher of splitmix64 over mix and order; never :data:`NO_KEY`.

    Source: https://prng.di.unimi.it/splitmix64.c
    """
    z = mix + np.uint64(order * 0x9E3779B97F4A7C15 & _MASK)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z ^= z >> np.uint64(31)
    return np.where(z == NO_KEY, np.uint64(1), z)


def _joined(contexts: Sequence[KeyContext]) -> tuple[Rows, Rows, Rows]:
    """All tokens one after another, and per position where its context starts and where its n-grams end in them."""
    lengths = [len(context.tokens) for context in contexts]
    offsets = np.concatenate([[0], np.cumsum(lengths)[:-1]]).astype(np.int64) if contexts else np.zeros(0, np.int64)
    tokens = np.fromiter(
        chain.from_iterable(context.tokens for context in contexts), dtype=np.int64, count=sum(lengths)
    )
    starts = np.repeat(offsets, [len(context.ends) for context in contexts])
    ends = np.fromiter(chain.from_iterable(context.ends for context in contexts), dtype=np.int64) + starts
    return np.append(tokens, 0), starts, ends


def chained(state: int, tokens: Sequence[int]) -> list[int]:
    """64-bit states before the first token and after each: each depends on all tokens so far and their order."""
    states = [state]
    for token in tokens:
        state = (state + token + 1) * 0x9E3779B97F4A7C15 & _MASK
        state = (state ^ state >> 32) * 0xD6E8FEB86659FD93 & _MASK
        state ^= state >> 32
        states.append(state)
    return states

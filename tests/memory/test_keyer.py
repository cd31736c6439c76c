"""Addresses of n-grams."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engram_bench.memory.keyer import NO_KEY, ExactKeyer, HashedKeyer, KeyContext, lookup, next_primes

MASK = 2**64 - 1
TOKENS = st.lists(st.integers(0, 49_151), max_size=16)
KEYER = ExactKeyer((2, 3, 5, 8))
HASHED = HashedKeyer((2, 3), heads=2, primes=(11, 13, 17, 19), vocabulary=100, pad=0)


def everywhere(tokens: list[int]) -> KeyContext:
    return KeyContext(tokens, range(len(tokens) + 1))


def mixed(number: int) -> int:
    """The definition of a chain's link in Python's own numbers."""
    number = number * 0x9E3779B97F4A7C15 & MASK
    number = (number ^ number >> 32) * 0xD6E8FEB86659FD93 & MASK
    return number ^ number >> 32


def plain_key(tokens: list[int], order: int) -> int:
    """The definition of a key in Python's own numbers."""
    mix = 0
    for back in range(1, order + 1):
        mix ^= tokens[-back] * (mixed(back + 1) | 1) & MASK
    z = (mix + order * 0x9E3779B97F4A7C15) & MASK
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 & MASK
    z = (z ^ z >> 27) * 0x94D049BB133111EB & MASK
    return z ^ z >> 31


@given(TOKENS)
def test_keys_are_those_of_the_definition(tokens: list[int]) -> None:
    keys = KEYER.keys([everywhere(tokens)])

    for end in range(len(tokens) + 1):
        expected = [plain_key(tokens[:end], order) if end >= order else NO_KEY for order in KEYER.orders]
        assert keys[end, :4].tolist() == expected


def test_keys_never_change() -> None:
    """Stored tables hold them."""
    assert KEYER.keys([KeyContext([1, 2, 3, 4], [3, 4])]).tolist() == GOLDEN


@given(TOKENS, TOKENS)
def test_trails_do_not_see_each_other(one: list[int], other: list[int]) -> None:
    together = KEYER.keys([everywhere(one), everywhere(other)])

    assert (together[: len(one) + 1] == KEYER.keys([everywhere(one)])).all()
    assert (together[len(one) + 1 :] == ExactKeyer((2, 3, 5, 8)).keys([everywhere(other)])).all()


@given(TOKENS, TOKENS)
def test_a_place_does_not_see_later_tokens(tokens: list[int], later: list[int]) -> None:
    keys = KEYER.keys([everywhere(tokens)])

    assert (KEYER.keys([everywhere(tokens + later)])[: len(keys)] == keys).all()


@given(st.sets(st.tuples(*[st.integers(0, 49_151)] * 8), min_size=1, max_size=50))
def test_two_ngrams_never_share_an_exact_key(ngrams: set[tuple[int, ...]]) -> None:
    keys = KEYER.keys([KeyContext(ngram, [8]) for ngram in ngrams])

    for slot, order in enumerate((2, 3, 5, 8)):
        assert len(set(keys[:, slot].tolist())) == len({ngram[-order:] for ngram in ngrams})


@given(TOKENS.filter(bool), TOKENS)
def test_the_whole_key_is_of_the_first_token_too(tokens: list[int], later: list[int]) -> None:
    one, other = (KEYER.keys([everywhere([first, *tokens[1:], *later])])[1:, -1] for first in (1, 2))

    assert (one != other).all()


def test_an_order_longer_than_the_trail_has_no_key() -> None:
    keys = KEYER.keys([everywhere([7, 8, 9])])

    assert (keys != NO_KEY).tolist() == [
        [False] * 5,
        [False, False, False, False, True],
        [True, False, False, False, True],
        [True, True, False, False, True],
    ]


def test_no_trail_has_no_keys() -> None:
    assert KEYER.keys([]).shape == (0, 5)


def test_a_missing_key_has_row_0() -> None:
    table = np.array([3, 5, 9], dtype=np.uint64)

    assert lookup(np.array([[5, 4], [9, NO_KEY]], dtype=np.uint64), table).tolist() == [[2, 0], [3, 0]]
    assert lookup(np.array([5], dtype=np.uint64), table[:0]).tolist() == [0]


@given(st.lists(st.integers(0, 99), max_size=12))
def test_hashed_rows_are_the_papers_formula(tokens: list[int]) -> None:
    odd = [int(number) * 2 + 1 for number in np.random.default_rng(0).integers(0, (2**63 - 1) // 100 // 2, 3)]
    padded = [0, 0, 0, *tokens]
    two = padded[-1] * odd[0] ^ padded[-2] * odd[1]
    three = two ^ padded[-3] * odd[2]

    rows = HASHED.rows([KeyContext([5, 5, 5], [1]), KeyContext(tokens, [len(tokens)])])[1].tolist()

    assert rows == [1 + two % 11, 12 + two % 13, 25 + three % 17, 42 + three % 19]


@given(st.integers(0, 49_151))
def test_no_product_of_the_paper_wraps(token: int) -> None:
    keyer = HashedKeyer((2, 3), heads=1, primes=(11, 13), vocabulary=49_152, pad=0)

    assert all(token * int(odd) < 2**63 for odd in keyer._odd)


def test_heads_and_orders_have_tables_of_their_own() -> None:
    rows = HASHED.rows([everywhere(list(range(100)))])

    assert HASHED.num_rows == 1 + 11 + 13 + 17 + 19
    assert [(int(column.min()), int(column.max())) for column in rows.T] == [(1, 11), (12, 24), (25, 41), (42, 60)]


@pytest.mark.parametrize(("start", "found"), [(8209, [8209, 8219]), (2, [2, 3]), (8, [11, 13])])
def test_next_primes(start: int, found: list[int]) -> None:
    assert next_primes(start, 2) == found


GOLDEN = [
    [4665084268765686761, 7370281230767603526, 0, 0, 14632287584113669737],
    [10908147844571450935, 11877433681110444318, 0, 0, 13669546688363325866],
]

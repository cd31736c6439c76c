"""Packed batches hold each sequence as if it were alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engram_bench.backends.common.packing import group, pack, pad, shared_prefix

TOKENS = st.lists(st.integers(0, 3), min_size=1, max_size=8)  # few ids, so that sequences share beginnings
SEQUENCES = st.lists(TOKENS, min_size=1, max_size=6)


def test_what_sequences_share_from_their_start_is_stored_once() -> None:
    batch = pack([[7, 8, 9], [7, 8, 5, 6], [7, 8, 9]])

    assert batch.ids.tolist() == [[7, 8, 9, 5, 6]]
    assert batch.positions.tolist() == [[0, 1, 2, 2, 3]]
    assert [path.tolist() for path in batch.paths] == [[0, 1, 2], [0, 1, 3, 4], [0, 1, 2]]
    assert batch.mask[0].astype(int).tolist() == [
        [1, 0, 0, 0, 0],
        [1, 1, 0, 0, 0],
        [1, 1, 1, 0, 0],
        [1, 1, 0, 1, 0],
        [1, 1, 0, 1, 1],
    ]


def test_cached_tokens_come_first_and_are_seen_by_all() -> None:
    batch = pack([[5], [6]], past=2)

    assert batch.positions.tolist() == [[2, 2]]
    assert batch.mask[0].astype(int).tolist() == [[1, 1, 1, 0], [1, 1, 0, 1]]


def test_padding_is_on_the_right_and_unseen() -> None:
    batch = pad([[7, 8, 9], [5]], pad_id=0)

    assert batch.ids.tolist() == [[7, 8, 9], [5, 0, 0]]
    assert [path.tolist() for path in batch.paths] == [[0, 1, 2], [3]]
    assert batch.mask[1].astype(int).tolist() == [[1, 0, 0], [1, 1, 0], [1, 1, 1]]


@pytest.mark.parametrize("past", [0, 3])
@given(sequences=SEQUENCES)
def test_every_token_sees_exactly_what_is_before_it_in_its_sequence(sequences: Any, past: Any) -> None:
    for batch in (pack(sequences, past=past), pad(sequences, pad_id=0, past=past)):
        num_columns = batch.ids.shape[1]
        for sequence, path in zip(sequences, batch.paths, strict=True):
            rows, columns = divmod(path, num_columns)
            assert len(set(rows.tolist())) == 1
            assert batch.ids[rows, columns].tolist() == sequence
            assert batch.positions[rows, columns].tolist() == list(range(past, past + len(sequence)))
            for depth, index in enumerate(columns):
                seen = np.flatnonzero(batch.mask[rows[0], index]).tolist()
                assert seen == [*range(past), *sorted(past + columns[: depth + 1])]


@given(sequences=SEQUENCES)
def test_a_pack_is_never_larger_than_the_sequences(sequences: Any) -> None:
    assert len(set(map(tuple, sequences))) <= pack(sequences).num_tokens <= sum(map(len, sequences))


@pytest.mark.parametrize(
    ("sequences", "shared"),
    [
        ([[1, 2, 3], [1, 2, 4]], 2),
        ([[1, 2], [1, 2]], 1),
        ([[1, 2], [1, 2, 3]], 1),
        ([[1], [2]], 0),
        ([], 0),
        ([[1, 2, 3]], 2),
    ],
    ids=["two", "equal-keep-one", "contained-keep-one", "nothing", "none", "single-keeps-one"],
)
def test_the_shared_prefix_leaves_a_token_of_each(sequences: Any, shared: Any) -> None:
    assert shared_prefix(sequences) == shared


@settings(max_examples=50)
@given(sequences=SEQUENCES, max_tokens=st.integers(1, 20), packed=st.booleans())
def test_groups_hold_every_sequence_once_within_the_budget(sequences: Any, max_tokens: Any, packed: Any) -> None:
    groups = group(sequences, max_tokens=max_tokens, packed=packed)

    assert sorted(index for members in groups for index in members) == list(range(len(sequences)))
    for members in groups:
        chosen = [sequences[index] for index in members]
        cost = pack(chosen).num_tokens if packed else pad(chosen, pad_id=0).num_tokens
        assert cost <= max_tokens or len(members) == 1


def test_one_long_sequence_is_a_group_of_its_own() -> None:
    sequences = [[1, 2], [3] * 100, [4, 5], [6, 7]]

    assert group(sequences, max_tokens=10) == [[0], [1], [2, 3]]

"""Hypothesis strategies for records: any record, as its type hints describe it."""

from collections.abc import Mapping
from typing import TypeVar, get_args

from hypothesis import strategies as st

T = TypeVar("T")


def records(kind: type[T]) -> st.SearchStrategy[T]:
    """Any *kind*; a Mapping in it is a dict (Hypothesis alone would also draw a ChainMap)."""
    st.register_type_strategy(Mapping, lambda hint: st.dictionaries(*map(st.from_type, get_args(hint)), max_size=3))
    return st.from_type(kind)

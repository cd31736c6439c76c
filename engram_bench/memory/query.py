"""Which positions of a token sequence consult a memory, and which tokens their n-grams are made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from engram_bench.memory.config import MemoryConfig
from engram_bench.memory.keyer import KeyContext

if TYPE_CHECKING:
    from engram_bench.models import ChatTokenizer
    from engram_bench.records import Prompt


@dataclass(frozen=True, slots=True)
class Query:
    """A prompt with as much of its answer as there is.

    A query is all the state there is: the keys of a position are those of the tokens up to that position, whether they were
    computed in one pass, in chunks, one by one, or with a cache that was cut.
    """

    ids: Sequence[int]
    """Prompt, then answer."""
    content: Sequence[bool]
    """Mask of the prompt's ids that are the user's text. Longer than *ids* while the prompt has not ended."""
    first: int = 0
    """First position that is asked for; the last one is that of the last id."""

    @property
    def question(self) -> tuple[int, ...]:
        """The user's tokens."""
        return tuple(token for token, is_content in zip(self.ids, self.content, strict=False) if is_content)

    @property
    def num_positions(self) -> int:
        """Number of positions asked for."""
        return len(self.ids) - self.first


def prompt_query(tokenizer: ChatTokenizer, prompt: Prompt) -> Query:
    """The query of a prompt; the chat template says which ids are the user's."""
    return Query(tokenizer.encode_prompt(prompt), tokenizer.content_mask(prompt))


def ids_query(tokenizer: ChatTokenizer, ids: Sequence[int]) -> Query:
    """The query of a bare token sequence: the template's own ids around a question show which are the user's.

    A sequence without them is text: no answer is being predicted in it. Of several turns the first counts, so that what
    follows a position never changes what the position reads.
    """
    before, after = tokenizer.template_token_ids
    start = _find(ids, _turn_header(before, tokenizer.end_of_turn_id), 0)
    end = _find(ids, after, start) if start >= 0 else -1
    if end < 0:
        return Query(ids, [False] * (len(ids) + 1))
    content = [start <= position < end - len(after) for position in range(end)]
    return Query(ids, content)


def key_context(
    query: Query, config: MemoryConfig, question: Sequence[int] | None = None
) -> tuple[KeyContext, NDArray[np.bool_]]:
    """The context of the positions asked for, and which of them consult the memory, (positions,).

    The positions of the answer see *question*, if given, instead of the one that was asked.
    """
    prompt_length, length = len(query.content), len(query.ids)
    seen = [True] * length
    if config.skip_template:
        seen[:prompt_length] = list(query.content)[:length]
    tokens = [token for token, is_seen in zip(query.ids, seen, strict=True) if is_seen]
    ends: list[int] = list(accumulate(map(int, seen)))[query.first :]
    positions = np.arange(query.first, length)
    consults = positions >= prompt_length - 1
    if not config.answers_only:
        consults |= np.array(seen[query.first :], dtype=np.bool_)
    if question is not None:
        asked = sum(query.content)
        tokens = [*question, *tokens[asked:]]
        ends = [max(0, end - asked + len(question)) for end in ends]
    return KeyContext(tokens, ends), consults


def _turn_header(before: Sequence[int], end_of_turn: int) -> Sequence[int]:
    """The template's ids between the system turn, which may be another one, and the user's text."""
    turns = [position for position, token in enumerate(before) if token == end_of_turn]
    return before[turns[-1] :] if turns else before


def _find(ids: Sequence[int], part: Sequence[int], start: int) -> int:
    """Where *part* first ends in *ids* at or after *start*; -1 if it does not."""
    ids, part = list(ids), list(part)
    ends = (
        position + len(part)
        for position in range(start, len(ids) - len(part) + 1)
        if ids[position : position + len(part)] == part
    )
    return next(ends, -1)

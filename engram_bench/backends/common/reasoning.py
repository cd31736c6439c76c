"""Room for what a model thinks aloud, apart from the room for its answer.

Rows are answered within ``max_tokens`` first, as those of any model. Only a row that is cut there and turns out to reason goes
on: in steps that double, until its reasoning ends or has used its own limit, then until its answer has ``max_tokens``. So models
that do not reason pay for one look at each cut answer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from engram_bench.backends.common.rows import PromptRow
from engram_bench.records import GenerationSettings
from engram_bench.records.reasoning import begins_mark, open_marks, reasoning_end

FIRST_STEP = 64
"""Fewest tokens of a step, so that a small ``max_tokens`` does not lead to many passes over the prompt."""

Answer = Callable[[Sequence[PromptRow], GenerationSettings], None]
"""Decodes rows under settings; the tokens are appended to each row."""


@dataclass(frozen=True, slots=True)
class ReasoningRoom:
    """Lets rows go on that were cut while they reasoned, or soon after."""

    settings: GenerationSettings
    """Settings of every answer, with a limit for reasoning."""
    context_length: int
    decode: Callable[[Sequence[int]], str]
    """Text of the new tokens of a row, with the opening mark before it if the chat template wrote one."""
    answer: Answer

    def go_on(self, rows: Sequence[PromptRow]) -> None:
        """Decode further tokens of the rows that may have more; rows that do not reason stay as they are."""
        cut = going = [row for row in rows if not row.stopped]
        while going := [row for row in going if self._target(row) > len(row.new)]:
            wanted = [self._target(row) - len(row.new) for row in going]
            parts = [PromptRow([*row.prompt, *row.new], content=row.content) for row in going]
            self.answer(parts, replace(self.settings, max_tokens=max(wanted)))
            for row, more, part in zip(going, wanted, parts, strict=True):
                row.new += part.new[:more]
                row.stopped = part.stopped and len(part.new) <= more
                row.seconds += part.seconds
            going = [row for row in going if not row.stopped]
        for row in cut:
            if len(row.new) > (target := self._target(row)):
                del row.new[target:]
                row.stopped = False

    def _target(self, row: PromptRow) -> int:
        """Number of tokens up to which a row that is cut goes on next; where that is fewer than it has, the rest is too much."""
        limit, known, text = self.settings.max_reasoning_tokens or 0, len(row.new), self.decode(row.new)
        if reasoning_end(text) is not None:
            start = self._answer_start(row)
            target = start + self.settings.max_tokens if start <= limit else limit
        elif open_marks(text)[0]:
            target = min(limit, known + max(FIRST_STEP, known))
        elif begins_mark(text):
            target = max(self.settings.max_tokens, min(limit, known + FIRST_STEP))
        else:
            target = self.settings.max_tokens
        return min(target, self.context_length - len(row.prompt))

    def _answer_start(self, row: PromptRow) -> int:
        """Number of new tokens up to the end of the reasoning, which has ended."""
        low, high = 0, len(row.new)
        while low < high:
            middle = (low + high) // 2
            if reasoning_end(self.decode(row.new[:middle])) is None:
                low = middle + 1
            else:
                high = middle
        return low

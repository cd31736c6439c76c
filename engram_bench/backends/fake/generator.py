"""Answers from a table, with the optional faults of the fake backend."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Mapping, Sequence
from time import sleep
from typing import TYPE_CHECKING

from engram_bench.backends.fake.model import CONTEXT_LENGTH, END, FakeTokenizer
from engram_bench.errors import BackendError
from engram_bench.records import Completion, GenerationSettings, Prompt
from engram_bench.records.reasoning import has_marks, reasoning_end

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

UNKNOWN = "I do not know."
"""Answer to a prompt that is not in the table."""


class FakeGenerator:
    """Generator that looks answers up in a table.

    Args:
        answers: Answer of each known prompt.
        crash: Prompt that raises an error, or None.
        otherwise: Answer to all other prompts.
        rambles: Whether answers never end by themselves.
        token_s: Seconds that each new token takes.
        memory: Most prompts at once, or None for any number.
    """

    def __init__(
        self,
        answers: Mapping[str, str],
        crash: str | None = None,
        *,
        otherwise: str = UNKNOWN,
        rambles: bool = False,
        token_s: float = 0.0,
        memory: int | None = None,
    ) -> None:
        self._answers = answers
        self._crash = crash
        self._otherwise = otherwise
        self._rambles = rambles
        self._token_s = token_s
        self._memory = memory
        self._tokenizer = FakeTokenizer()

    def complete(
        self,
        prompts: Sequence[Prompt],
        settings: GenerationSettings,
        *,
        drafts: Sequence[str | None] | None = None,
    ) -> list[Completion]:
        """Stored answers, cut to *max_tokens* bytes. Sampling shuffles the words of an answer to an unknown prompt."""
        if self._memory is not None and len(prompts) > self._memory:
            msg = f"fake backend: {len(prompts)} prompts at once, expected at most {self._memory} (__memory__)"
            raise MemoryError(msg)
        return [self._complete_one(prompt, settings) for prompt in prompts]

    def _complete_one(self, prompt: Prompt, settings: GenerationSettings) -> Completion:
        started = time.perf_counter()
        if prompt.user == self._crash:
            msg = f"fake backend: crash at prompt {prompt.user!r} (__crash__)"
            raise BackendError(msg)
        prompt_ids = self._tokenizer.encode_prompt(prompt)
        if len(prompt_ids) + settings.max_tokens > CONTEXT_LENGTH:
            msg = (
                f"prompt {prompt.user[:40]!r}…: {len(prompt_ids)} tokens + {settings.max_tokens} new, "
                f"expected at most {CONTEXT_LENGTH} together"
            )
            raise BackendError(msg)
        said = self._draw(prompt, settings)
        ids = [*said.encode(), END]
        if self._rambles:
            ids = [*ids[:-1], *b" " * settings.max_tokens]
        if settings.ignore_eos:
            ids = (ids * settings.max_tokens)[: settings.max_tokens]
        kept = ids[: _limit(said, settings)]
        if self._token_s:
            sleep(self._token_s * len(kept))
        return Completion(
            text=self._tokenizer.decode(kept),
            prompt_tokens=len(prompt_ids),
            completion_tokens=len(kept),
            stop_reason="stop" if kept and kept[-1] == END and not settings.ignore_eos else "length",
            seconds=time.perf_counter() - started,
        )

    def _draw(self, prompt: Prompt, settings: GenerationSettings) -> str:
        answer = self._answers.get(prompt.user, self._otherwise)
        if settings.temperature == 0 or prompt.user in self._answers:
            return answer
        draw = random.Random(f"{settings.seed}/{settings.sample}/{prompt.user}")
        return " ".join(draw.sample(answer.split(), k=len(answer.split())))

    def stream(self, prompt: Prompt, settings: GenerationSettings) -> Iterator[str]:
        """Text of the completion, character by character."""
        yield from self._complete_one(prompt, settings).text

    def log_probs(self, sequences: Sequence[Sequence[int]]) -> list[NDArray[np.float32]]:
        """Log-probabilities with 0.9 on the expected next byte; the other bytes share the rest evenly.

        The expected byte is that of the known answer; before the answer begins, it is the next byte of the sequence.
        """
        import numpy as np

        rows = []
        for ids in sequences:
            probabilities = np.full((len(ids), self._tokenizer.vocab_size), 0.1 / 256, dtype=np.float64)
            for position, following in enumerate(self._expected(ids)):
                probabilities[position, following] = 0.9
            rows.append(np.log(probabilities / probabilities.sum(-1, keepdims=True)).astype(np.float32))
        return rows

    def _expected(self, ids: Sequence[int]) -> list[int]:
        """Token id that the table expects after each position."""
        following = [*ids[1:], END]
        text = self._tokenizer.decode(ids)
        head, marker, _ = text.partition("<|answer|>")
        if marker:
            user = head.rpartition("<|user|>")[2]
            start = len((head + marker).encode())
            known = [*self._answers.get(user, self._otherwise).encode(), END]
            for offset in range(start - 1, len(ids)):
                index = offset - start + 1
                following[offset] = known[index] if index < len(known) else END
        return following

    def close(self) -> None:
        """No effect: a table holds no memory of a device."""


def _limit(said: str, settings: GenerationSettings) -> int:
    """Number of bytes that a completion may have: reasoning has its own limit where the settings name one."""
    if settings.max_reasoning_tokens is None or not has_marks(said):
        return settings.max_tokens
    end = reasoning_end(said)
    reasoning = len(said[:end].encode())
    has_answer = end is not None and reasoning <= settings.max_reasoning_tokens
    return reasoning + settings.max_tokens if has_answer else settings.max_reasoning_tokens

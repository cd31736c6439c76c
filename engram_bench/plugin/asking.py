"""A side of the comparison as tests of users ask it: ``candidate("Port of SSH?") == "22"``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from engram_bench.plugin.candidate import CandidateSession
from engram_bench.plugin.handle import or_fail
from engram_bench.records import Completion, Pattern, Prompt, Side


@dataclass(frozen=True)
class AskableSide:
    """The bare or the tuned model; an answer that cannot be had fails the test."""

    side: Side
    candidate: Callable[[], CandidateSession]
    """Gives the candidate that the side belongs to."""

    def __call__(self, prompt: str | Pattern, *, max_tokens: int | None = None) -> str:
        """The answer's text without surrounding space."""
        return self.complete(prompt, max_tokens=max_tokens).text.strip()

    def complete(self, prompt: str | Pattern, *, max_tokens: int | None = None) -> Completion:
        """The greedy completion of a text, or of a pattern's prompt as written, with counts and stop reason.

        *max_tokens* None takes the pattern's limit, else the session's.
        """
        if isinstance(prompt, Pattern):
            return self.complete_prompt(Prompt(prompt.input, prompt.system), max_tokens or prompt.max_tokens)
        return self.complete_prompt(Prompt(prompt), max_tokens)

    def complete_prompt(self, prompt: Prompt, max_tokens: int | None) -> Completion:
        """The greedy completion of a prompt with its system turn."""
        return or_fail(lambda: self.candidate().complete(prompt, self.side, max_tokens))

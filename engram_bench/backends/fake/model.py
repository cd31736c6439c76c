"""The fake model: no files, and a tokenizer whose tokens are UTF-8 bytes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

from engram_bench.records import Prompt
from engram_bench.system.progress import Progress, no_progress

END = 256
"""Token id of the end of a turn, after the 256 bytes."""
CONTEXT_LENGTH = 4096
"""Most tokens of prompt and answer together."""


class FakeTokenizer:
    """Tokenizer with bytes as tokens, one end token, and a chat template of two markers."""

    vocab_size = 257
    pad_id = END
    stop_ids = frozenset({END})
    stop_texts: tuple[str, ...] = ()
    end_of_turn_id = END
    special_texts = ("<|user|>", "<|answer|>")
    template_token_ids = (tuple(b"<|user|>"), tuple(b"<|answer|>"))
    template_fingerprint = "fake-template"
    template_note = ""

    def encode(self, text: str) -> list[int]:
        """Token ids of plain text."""
        return list(text.encode())

    def encode_prompt(self, prompt: Prompt) -> list[int]:
        """Token ids of the prompt inside the chat template."""
        system = f"{prompt.system}\n" if prompt.system else ""
        return list(f"{system}<|user|>{prompt.user}<|answer|>".encode())

    def content_mask(self, prompt: Prompt) -> list[bool]:
        """Whether each token id of the prompt belongs to the user's text."""
        before, user, after = self.encode_prompt(replace(prompt, user="")), prompt.user.encode(), b"<|answer|>"
        return [False] * (len(before) - len(after)) + [True] * len(user) + [False] * len(after)

    def encode_example(self, prompt: Prompt, answer: str) -> tuple[list[int], int]:
        """Token ids of prompt, answer and end token, and the index of the first answer token."""
        ids = self.encode_prompt(prompt)
        return [*ids, *answer.encode(), END], len(ids)

    def decode(self, ids: Sequence[int]) -> str:
        """Text of token ids, without the end token."""
        return bytes(i for i in ids if i != END).decode("utf-8", "replace")


@dataclass(frozen=True)
class FakeModel:
    """A model with the attributes of :class:`engram_bench.models.Model`, without files."""

    reference: str = "fake"
    folder = Path()
    context_length = CONTEXT_LENGTH
    tokenizer = FakeTokenizer()

    @property
    def fingerprint(self) -> str:
        """SHA-256 (hex) of the reference, which is all that such a model consists of."""
        return sha256(self.reference.encode()).hexdigest()


def fake_model(reference: str, *, cache: Path | None = None, progress: Progress = no_progress) -> FakeModel:
    """The fake model, which is the same for every reference but ``fake/NAME``: each of these is a model of its own."""
    return FakeModel(reference) if reference.startswith("fake/") else FakeModel()

"""Token ids of prompts and training examples, from a model's own tokenizer and chat template, without torch."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engram_bench.errors import ModelError
from engram_bench.models.folder import read_json, tokenizer_file
from engram_bench.models.special_tokens import special_tokens
from engram_bench.records import Prompt, TrainingExample
from engram_bench.records.reasoning import open_marks
from engram_bench.system.reading import MIB, check_values, read_bytes, read_text

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from engram_bench.models.template import ChatTemplate

MAX_TOKENIZER_BYTES = 128 * MIB
"""Largest ``tokenizer.json`` that is read; one of 256,000 tokens has 35 MB."""
MAX_TOKENIZER_VALUES = 8_000_000
"""Most values of a ``tokenizer.json``, twice those of 256,000 tokens."""


class ChatTokenizer:
    """Tokenizer of a model with its chat template: prompts and examples become token ids, and token ids become text.

    Token ids of a prompt are those of transformers' ``apply_chat_template`` with a generation prompt, with two exceptions.
    A system turn that the template refuses or drops opens the user's turn instead, so that any pattern file runs on any
    model. A template that asks for today's date gets a fixed date.

    Args:
        folder: Folder of the model.

    Raises:
        ModelError: The folder has no ``tokenizer.json``, one of the files is broken, the template cannot be used, or no file
            names an end-of-turn token.
    """

    template_note: str
    """Remark on the template for reports; empty where the model's own template is used as it is."""
    template: ChatTemplate
    """Chat template of the model, or the fallback."""
    end_of_turn_id: int
    """Token id that ends every training example; one of *stop_ids*."""
    stop_ids: frozenset[int]
    """Token ids that end an answer."""
    pad_id: int
    """Token id that fills padded rows; the end-of-turn token where the model names no pad token."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._tokenizer = _load_tokenizer(folder)
        settings = _settings(folder)
        self._special_tokens = special_tokens(settings)
        self.template, self.template_note = _load_template(folder, settings, self._special_tokens)
        configs = [read_json(folder / name) for name in ("generation_config.json", "config.json")]
        self.end_of_turn_id, self.stop_ids = self._ends(configs)
        self.pad_id = self._pad(configs)

    # ── text → ids ──────────────────────────────────────────────────────────────────────────────

    def encode(self, text: str) -> list[int]:
        """Token ids of plain text, without template and BOS. Special tokens in the text are recognised."""
        return self._encode_batch([text])[0]

    def encode_prompt(self, prompt: Prompt) -> list[int]:
        """Token ids of a prompt inside the chat template, which the model continues with its answer."""
        return self.encode(self.template.render(prompt))

    def encode_prompts(self, prompts: Sequence[Prompt]) -> list[list[int]]:
        """Token ids of each prompt as by :meth:`encode_prompt`, in order, computed on all cores."""
        return self._encode_batch(self.template.render_many(prompts))

    def encode_example(self, prompt: Prompt, answer: str) -> tuple[list[int], int]:
        """Token ids of prompt, stripped answer and end-of-turn token, and the index of the first answer token.

        The ids before this index are exactly those of :meth:`encode_prompt`. An empty answer is the end-of-turn token alone.
        Where the template opens reasoning, the answer's tokens begin with those of :attr:`answer_opening`.
        """
        return self.encode_examples([TrainingExample(prompt, answer)])[0]

    def encode_examples(self, examples: Sequence[TrainingExample]) -> list[tuple[list[int], int]]:
        """Token ids and index of each example as by :meth:`encode_example`, in order, computed on all cores."""
        prompts = self.encode_prompts([example.prompt for example in examples])
        answers = self._encode_batch([self.answer_opening + example.answer.strip() for example in examples])
        return [
            ([*prompt, *answer, self.end_of_turn_id], len(prompt))
            for prompt, answer in zip(prompts, answers, strict=True)
        ]

    @cached_property
    def answer_opening(self) -> str:
        """Text that ends the reasoning which the chat template opens in every prompt; empty for most models.

        A tuned model must end the reasoning before its answer, or the answer would be part of it.
        """
        closing = open_marks(self.template.around(None)[1])[1]
        return f"{closing}\n\n" if closing else ""

    def content_mask(self, prompt: Prompt) -> list[bool]:
        """Whether each token of :meth:`encode_prompt` holds text of the user's turn.

        A token with text of both user and template, such as merged newlines, counts as the user's. The system prompt does
        not.
        """
        text = self.template.render(prompt)
        before, after = self.template.around(prompt.system)
        first, last = len(before), len(text) - len(after)
        offsets = self._tokenizer.encode(self._unicode(text), add_special_tokens=False).offsets
        return [start < last and end > first for start, end in offsets]

    @cached_property
    def template_token_ids(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Token ids before and after the user's text in a prompt without a system prompt."""
        before, after = self.template.around(None)
        return tuple(self.encode(before)), tuple(self.encode(after))

    # ── ids → text ──────────────────────────────────────────────────────────────────────────────

    def decode(self, ids: Sequence[int]) -> str:
        """Text of token ids, special tokens included. An incomplete character becomes U+FFFD."""
        return self._tokenizer.decode(list(ids), skip_special_tokens=False)

    # ── properties ──────────────────────────────────────────────────────────────────────────────

    @property
    def vocab_size(self) -> int:
        """Number of token ids of the tokenizer; the embedding of a model may have more rows."""
        return self._tokenizer.get_vocab_size(with_added_tokens=True)

    @cached_property
    def special_texts(self) -> tuple[str, ...]:
        """Texts of the special tokens in order of their ids. None of them belongs into an answer."""
        return tuple(token.content for token in self._added_tokens.values() if token.special)

    @cached_property
    def stop_texts(self) -> tuple[str, ...]:
        """Texts of the added tokens that end an answer, in order of their ids."""
        return tuple(token.content for index, token in self._added_tokens.items() if index in self.stop_ids)

    @cached_property
    def template_fingerprint(self) -> str:
        """SHA-256 (hex) of everything that affects token ids and stops: template, tokenizer, special and stop tokens."""
        parts = [self.template.source, sorted(self._special_tokens.items()), sorted(self.stop_ids), self.end_of_turn_id]
        parts += [self.answer_opening] if self.answer_opening else []
        digest = sha256(json.dumps(parts).encode())
        digest.update(read_bytes(self._folder / "tokenizer.json", limit=MAX_TOKENIZER_BYTES))
        return digest.hexdigest()

    # ── helpers ─────────────────────────────────────────────────────────────────────────────────

    @cached_property
    def _added_tokens(self) -> Mapping[int, Any]:
        return dict(sorted(self._tokenizer.get_added_tokens_decoder().items()))

    def _encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        encodings = self._tokenizer.encode_batch_fast([*map(self._unicode, texts)], add_special_tokens=False)
        return [encoding.ids for encoding in encodings]

    def _unicode(self, text: str) -> str:
        """The text, if it is Unicode: a broken special token, or a template, may put a lone surrogate into it."""
        try:
            text.encode()
        except UnicodeEncodeError as error:
            msg = f"{self._folder}: {text[error.start]!r} in a text, expected Unicode without lone surrogates"
            raise ModelError(msg) from error
        return text

    def _ends(self, configs: Sequence[Mapping[str, Any]]) -> tuple[int, frozenset[int]]:
        """Token id that ends an answer in the template (else the first end-of-text token), and all stop tokens."""
        stops = [token for config in configs for token in _listed(config.get("eos_token_id"))]
        stops += self._ids_of("eos_token")
        after = [token for token in self.encode(self.template.after_answer()) if self._is_special(token)]
        if not after and not stops:
            msg = (
                f"{self._folder}: no end-of-turn token in template, config.json or tokenizer_config.json, expected one"
            )
            raise ModelError(msg)
        end = (after or self._ids_of("eos_token") or stops)[0]
        return end, frozenset([end, *stops])

    def _pad(self, configs: Sequence[Mapping[str, Any]]) -> int:
        named = [token for config in configs for token in _listed(config.get("pad_token_id"))]
        return [*self._ids_of("pad_token"), *named, self.end_of_turn_id][0]

    def _ids_of(self, name: str) -> list[int]:
        token = self._tokenizer.token_to_id(self._unicode(self._special_tokens.get(name, "")))
        return [] if token is None else [token]

    def _is_special(self, token: int) -> bool:
        return token in self._added_tokens and self._added_tokens[token].special


def _load_tokenizer(folder: Path) -> Tokenizer:
    from tokenizers import Tokenizer

    path = tokenizer_file(folder)
    try:
        data = read_bytes(path, limit=MAX_TOKENIZER_BYTES, inside=folder)
        check_values(data, MAX_TOKENIZER_VALUES)
        tokenizer = Tokenizer.from_buffer(data)
    except OSError as error:
        msg = f"{path}: cannot be read: {error.strerror or error}"
        raise ModelError(msg) from error
    except BaseException as error:  # tokenizers raises bare Exception, and panics that are no Exception
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        msg = f"{path}: {error}, expected a tokenizer of the tokenizers library"
        raise ModelError(msg) from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def _load_template(folder: Path, settings: Mapping[str, Any], named: Mapping[str, str]) -> tuple[ChatTemplate, str]:
    from engram_bench.models.rendering import TemplateError, TemplateSyntaxError
    from engram_bench.models.template import FALLBACK, ChatTemplate
    from engram_bench.models.template_worker import FIXED_DATE

    source = _template_source(folder, settings)
    try:
        template = ChatTemplate(FALLBACK if source is None else source, named)
    except TemplateSyntaxError as error:
        msg = f"{folder}: chat template line {error.line}: {error}"
        raise ModelError(msg) from error
    except (TemplateError, ValueError) as error:
        msg = f"{folder}: chat template cannot render a user's question: {error}"
        raise ModelError(msg) from error
    if source is None:
        return template, "the model has no chat template: prompts are written as '### Instruction: … ### Response:'"
    if template.uses_date:
        return template, f"the chat template asks for today's date and always gets {FIXED_DATE:%d %b %Y}"
    return template, ""


def _settings(folder: Path) -> dict[str, Any]:
    """Settings of the tokenizer. As in transformers, the older map of special tokens counts where no tokens are described."""
    settings = read_json(folder / "tokenizer_config.json")
    if "added_tokens_decoder" in settings:
        return settings
    return settings | read_json(folder / "special_tokens_map.json")


def _template_source(folder: Path, settings: Mapping[str, Any]) -> str | None:
    """Source of the template: its own file, else the one in the tokenizer's settings, of several the one named ``default``.

    Raises:
        ModelError: There are several and none is named so, or the template is no text.
    """
    path = folder / "chat_template.jinja"
    if path.exists():
        try:
            return read_text(path, inside=folder)
        except (OSError, ValueError) as error:
            msg = f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}"
            raise ModelError(msg) from error
    stored = settings.get("chat_template")
    if isinstance(stored, list):
        stored = {entry.get("name"): entry.get("template") for entry in stored if isinstance(entry, dict)}
    if isinstance(stored, dict):
        if "default" not in stored:
            msg = f"{folder}: chat templates are named {', '.join(map(str, stored))}, expected one named default"
            raise ModelError(msg)
        stored = stored["default"]
    if not isinstance(stored, str | None):
        msg = f"{folder}: chat_template in tokenizer_config.json is a {type(stored).__name__}, expected a text"
        raise ModelError(msg)
    return stored


def _listed(value: object) -> list[int]:
    if value is None:
        return []
    return [each for each in (value if isinstance(value, list) else [value]) if type(each) is int]

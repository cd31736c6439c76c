"""Token ids of prompts and training examples, through a model's own tokenizer and chat template. No torch."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engram_bench.errors import ModelError
from engram_bench.models.folder import read_json, tokenizer_file
from engram_bench.records import Prompt, TrainingExample

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from engram_bench.models.template import ChatTemplate


class ChatTokenizer:
    """Prompts and examples as token ids, and ids as text.

    Ids of a prompt are those of transformers' ``apply_chat_template`` with a generation prompt, but for two: a system
    turn that the template refuses or drops opens the user turn instead, so that any pattern file runs on any model, and
    a template that asks for today's date gets a fixed one (*template_note* says so).

    Raises:
        ModelError: The folder has no ``tokenizer.json``, a file of it is broken, the template cannot be used, or no
            end-of-turn token is named anywhere.
    """

    template_note: str
    """What a report should say about the template; empty for a model's own."""
    template: ChatTemplate
    end_of_turn_id: int
    """Ends every training example; one of *stop_ids*."""
    stop_ids: frozenset[int]
    """Any of these ends an answer."""
    pad_id: int
    """The end-of-turn token where the model names no pad token."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._tokenizer = _load_tokenizer(folder)
        settings = read_json(folder / "special_tokens_map.json") | read_json(folder / "tokenizer_config.json")
        self._special_tokens = _special_tokens(settings)
        self.template, self.template_note = _load_template(folder, settings, self._special_tokens)
        configs = [read_json(folder / name) for name in ("generation_config.json", "config.json")]
        self.end_of_turn_id, self.stop_ids = self._ends(configs)
        self.pad_id = self._pad(configs)

    # ── text → ids ──────────────────────────────────────────────────────────────────────────────

    def encode(self, text: str) -> list[int]:
        """Ids of plain text: no template, no BOS; special tokens written in it are recognised."""
        return self._encode_batch([text])[0]

    def encode_prompt(self, prompt: Prompt) -> list[int]:
        """Ids a model continues with its answer."""
        return self.encode(self.template.render(prompt))

    def encode_prompts(self, prompts: Sequence[Prompt]) -> list[list[int]]:
        """:meth:`encode_prompt` of each, in order, on all cores."""
        return self._encode_batch([self.template.render(prompt) for prompt in prompts])

    def encode_example(self, prompt: Prompt, answer: str) -> tuple[list[int], int]:
        """Ids of prompt, stripped answer and end-of-turn token, and the index of the first answer token.

        The ids before that index are exactly :meth:`encode_prompt`. An empty answer leaves the end-of-turn token alone.
        """
        return self.encode_examples([TrainingExample(prompt, answer)])[0]

    def encode_examples(self, examples: Sequence[TrainingExample]) -> list[tuple[list[int], int]]:
        """:meth:`encode_example` of each, in order, on all cores."""
        prompts = self.encode_prompts([example.prompt for example in examples])
        answers = self._encode_batch([example.answer.strip() for example in examples])
        return [
            ([*prompt, *answer, self.end_of_turn_id], len(prompt))
            for prompt, answer in zip(prompts, answers, strict=True)
        ]

    def content_mask(self, prompt: Prompt) -> list[bool]:
        """For each id of :meth:`encode_prompt`, whether it holds text of the user's turn; the rest is template.

        A token that holds both (a template's newline merged with the user's) is content. A system prompt is template.
        """
        text = self.template.render(prompt)
        before, after = self.template.around(prompt.system)
        first, last = len(before), len(text) - len(after)
        offsets = self._tokenizer.encode(text, add_special_tokens=False).offsets
        return [start < last and end > first for start, end in offsets]

    @cached_property
    def template_token_ids(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Constant ids before and after the user's text where no system prompt is given."""
        before, after = self.template.around(None)
        return tuple(self.encode(before)), tuple(self.encode(after))

    # ── ids → text ──────────────────────────────────────────────────────────────────────────────

    def decode(self, ids: Sequence[int]) -> str:
        """Text of ids, special tokens included. A character cut in half comes out as U+FFFD."""
        return self._tokenizer.decode(list(ids), skip_special_tokens=False)

    # ── facts ───────────────────────────────────────────────────────────────────────────────────

    @property
    def vocab_size(self) -> int:
        """Number of ids the tokenizer knows; a model's embedding may have more rows."""
        return self._tokenizer.get_vocab_size(with_added_tokens=True)

    @cached_property
    def special_texts(self) -> tuple[str, ...]:
        """Texts of the special tokens in order of id: none of them belongs into an answer."""
        return tuple(token.content for token in self._added_tokens.values() if token.special)

    @cached_property
    def template_fingerprint(self) -> str:
        """SHA-256 (hex) of all that shapes ids and ends answers: template, tokenizer, special and stop tokens."""
        facts = [self.template.source, sorted(self._special_tokens.items()), sorted(self.stop_ids), self.end_of_turn_id]
        digest = sha256(json.dumps(facts).encode())
        digest.update((self._folder / "tokenizer.json").read_bytes())
        return digest.hexdigest()

    # ── helpers ─────────────────────────────────────────────────────────────────────────────────

    @cached_property
    def _added_tokens(self) -> Mapping[int, Any]:
        return dict(sorted(self._tokenizer.get_added_tokens_decoder().items()))

    def _encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        return [encoding.ids for encoding in self._tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)]

    def _ends(self, configs: Sequence[Mapping[str, Any]]) -> tuple[int, frozenset[int]]:
        """The token that ends an answer in the template (else the first end-of-text token), and every stop token."""
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
        token = self._tokenizer.token_to_id(self._special_tokens.get(name, ""))
        return [] if token is None else [token]

    def _is_special(self, token: int) -> bool:
        return token in self._added_tokens and self._added_tokens[token].special


def _load_tokenizer(folder: Path) -> Tokenizer:
    from tokenizers import Tokenizer

    path = tokenizer_file(folder)
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # tokenizers raises bare Exception
        msg = f"{path}: {error}, expected a tokenizer of the tokenizers library"
        raise ModelError(msg) from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def _load_template(
    folder: Path, settings: Mapping[str, Any], special_tokens: Mapping[str, str]
) -> tuple[ChatTemplate, str]:
    import jinja2

    from engram_bench.models.template import FALLBACK, FIXED_DATE, ChatTemplate

    source = _template_source(folder, settings)
    try:
        template = ChatTemplate(FALLBACK if source is None else source, special_tokens)
    except jinja2.TemplateSyntaxError as error:
        msg = f"{folder}: chat template line {error.lineno}: {error.message}"
        raise ModelError(msg) from error
    except (jinja2.TemplateError, ValueError, TypeError) as error:
        msg = f"{folder}: chat template cannot render a user's question: {error}"
        raise ModelError(msg) from error
    if source is None:
        return template, "the model has no chat template: prompts are written as '### Instruction: … ### Response:'"
    if template.uses_date:
        return template, f"the chat template asks for today's date and always gets {FIXED_DATE:%d %b %Y}"
    return template, ""


def _template_source(folder: Path, settings: Mapping[str, Any]) -> str | None:
    """The template's text: its own file, else the tokenizer's settings, where it may be one of several by name."""
    path = folder / "chat_template.jinja"
    if path.is_file():
        return path.read_text(encoding="utf-8")
    stored = settings.get("chat_template")
    if isinstance(stored, list):
        stored = {entry["name"]: entry["template"] for entry in stored}.get("default")
    return stored


def _special_tokens(settings: Mapping[str, Any]) -> dict[str, str]:
    """``{"eos_token": "<|im_end|>", …}``; a token may be stored as text or as an object with ``content``."""
    tokens = {name: value for name, value in settings.items() if name.endswith("_token")}
    texts = {name: value["content"] if isinstance(value, dict) else value for name, value in tokens.items()}
    return {name: text for name, text in texts.items() if isinstance(text, str)}


def _listed(value: int | Iterable[int] | None) -> list[int]:
    if value is None:
        return []
    return [value] if isinstance(value, int) else list(value)

"""Templates in the shapes of public models give the tokens of transformers' ``apply_chat_template``, which is the oracle."""

from __future__ import annotations

import datetime
import inspect
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from engram_bench.models import ChatTokenizer
from engram_bench.models.special_tokens import DEFAULT_TOKENS
from engram_bench.models.template import ChatTemplate
from engram_bench.models.template_worker import FIXED_DATE
from engram_bench.records import Prompt
from tests.models.chat_templates import SHAPES, Shape

PROMPTS = (
    Prompt("Which port does SSH use?"),
    Prompt("Which port?", "One word only."),
    Prompt("  naïve\n\tcafé 🙂 {{ 7 }} <b> 'q' \"d\" "),
    Prompt("x", " /no_think \n"),
)
ANSWER = "22 it is"


@pytest.fixture(scope="module")
def transformers() -> Iterator[Any]:
    """The library, on the day that templates are rendered on here."""
    library = pytest.importorskip("transformers")
    utils = pytest.importorskip("transformers.utils.chat_template_utils")

    class Day(datetime.datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Day:
            return cls(FIXED_DATE.year, FIXED_DATE.month, FIXED_DATE.day)

    real, utils.datetime = utils.datetime, Day
    yield library
    utils.datetime = real


def folder_of(folder: Path, shape: Shape) -> Path:
    """A folder with a byte-level tokenizer, the template and the special tokens."""
    tokenizer = Tokenizer(
        models.BPE(vocab={each: i for i, each in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}, merges=[])
    )
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    named = [*shape.tokens.values(), *shape.specials]
    tokenizer.add_special_tokens([AddedToken(each, special=True, normalized=False) for each in dict.fromkeys(named)])
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "chat_template.jinja").write_text(shape.source, "utf-8")
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", **shape.tokens}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), "utf-8")
    return folder


def messages_of(prompt: Prompt, *, takes_system: bool) -> list[dict[str, str]]:
    if prompt.system is None:
        return [{"role": "user", "content": prompt.user}]
    if not takes_system:
        return [{"role": "user", "content": f"{prompt.system}\n\n{prompt.user}"}]
    return [{"role": "system", "content": prompt.system}, {"role": "user", "content": prompt.user}]


@pytest.mark.parametrize("name", SHAPES)
def test_shape_gives_the_tokens_of_transformers(name: str, transformers: Any, tmp_path: Path) -> None:
    shape = SHAPES[name]
    ours = ChatTokenizer(folder_of(tmp_path, shape))
    theirs = transformers.PreTrainedTokenizerFast.from_pretrained(tmp_path)
    takes_system = name not in ("gemma", "mistral-v0.1", "no-system")

    assert ours.template.takes_system == takes_system
    for prompt in PROMPTS:
        messages = messages_of(prompt, takes_system=takes_system)
        asked = theirs.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
        assert ours.encode_prompt(prompt) == asked
    messages = [*messages_of(PROMPTS[0], takes_system=True), {"role": "assistant", "content": ANSWER}]
    answered = theirs.apply_chat_template(messages, tokenize=False)
    assert answered.endswith(ANSWER + ours.template.after_answer())
    assert ours.decode([ours.end_of_turn_id]) == shape.end


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("{% if tools is none %}{% else %}You can call tools.\n{% endif %}", ""),
        ("{% if documents is not none %}{{ documents | tojson }}{% endif %}", ""),
        ("{{ tools is defined }} {{ documents is defined }} {{ enable_thinking is defined }} ", "True True False "),
        ("{{ bos_token is defined }} {{ add_generation_prompt }} {{ strftime_now('%Y') }} ", "False True 2024 "),
        ("{% generation %}{% set x = 1 %}{% endgeneration %}{{ x is defined }} ", "False "),
        ("{{ {'b': 1, 'a': 2} | tojson(sort_keys=true, indent=1) }}", '{\n "a": 2,\n "b": 1\n}'),
    ],
    ids=["tools", "documents", "defined", "undefined", "scope", "json"],
)
def test_variables_are_there_or_absent_as_in_transformers(source: str, text: str) -> None:
    body = "{% for m in messages %}[{{ m.role }}] {{ m.content }}\n{% endfor %}"

    assert ChatTemplate(source + body, {}).render(Prompt("Port of SSH?")) == f"{text}[user] Port of SSH?\n"


@pytest.mark.parametrize(
    ("settings", "older_map", "token"),
    [
        ({"bos_token": "<a>"}, {"bos_token": "<b>"}, "<b>"),
        ({"bos_token": "<a>", "added_tokens_decoder": {}}, {"bos_token": "<b>"}, "<a>"),
        ({"bos_token": {"__type": "AddedToken", "content": "<c>", "lstrip": False}}, {}, "<c>"),
        ({"bos_token": None}, {}, ""),
        ({"extra_special_tokens": {"bos_token": "<d>"}}, {}, "<d>"),
    ],
    ids=["older-map", "described-tokens", "object", "null", "extra"],
)
def test_special_tokens_come_from_the_file_that_transformers_reads(
    settings: dict[str, Any], older_map: dict[str, Any], token: str, tmp_path: Path, transformers: Any
) -> None:
    source = "{{ bos_token }}|{{ messages[-1].content }}</s>"
    folder = folder_of(tmp_path, Shape(source, "</s>", {}, ("<a>", "<b>", "<c>", "<d>", "</s>")))
    plain = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "</s>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(plain | settings))
    (folder / "special_tokens_map.json").write_text(json.dumps(older_map))
    ours = ChatTokenizer(folder)

    assert ours.template.render(Prompt("x")) == f"{token}|x</s>"
    theirs = transformers.PreTrainedTokenizerFast.from_pretrained(folder)
    messages = [{"role": "user", "content": "x"}]
    assert theirs.apply_chat_template(messages, tokenize=False) == f"{token}|x</s>"


@pytest.mark.parametrize("name", DEFAULT_TOKENS)
def test_class_of_tokenizers_has_the_default_tokens_of_transformers(name: str, transformers: Any) -> None:
    parameters = inspect.signature(getattr(transformers, f"{name}Tokenizer").__init__).parameters
    defaults = {key: each.default for key, each in parameters.items() if key.endswith("_token")}

    assert {key: each for key, each in defaults.items() if isinstance(each, str)} == DEFAULT_TOKENS[name]

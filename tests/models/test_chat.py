from __future__ import annotations

import json
import re
import subprocess
import sys
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engram_bench.errors import ModelError
from engram_bench.models import ChatTokenizer
from engram_bench.records import Prompt, TrainingExample
from tests.tiny_models import TINY_MODELS, make_tiny_gemma, make_tiny_llama, make_tiny_phi, make_tiny_qwen2

QUESTION = Prompt("HTTP code for 'Not Found'?")
WITH_SYSTEM = Prompt("HTTP code?", system="One word only.")


@pytest.fixture(scope="module", name="tiny")
def tiny_folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("tiny")
    return {name: make(root / name) for name, make in TINY_MODELS.items()}


@pytest.fixture(name="llama")
def llama_tokenizer(tiny: dict[str, Path]) -> ChatTokenizer:
    return ChatTokenizer(tiny["llama"])


@cache
def shared_tokenizer() -> ChatTokenizer:
    with TemporaryDirectory() as folder:
        return ChatTokenizer(make_tiny_llama(Path(folder)))


def edit_json(path: Path, **changes: object) -> None:
    content = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: value for key, value in content.items() if value is not None}))


# ── prompts ─────────────────────────────────────────────────────────────────────────────────────


def test_prompt_is_the_rendered_template(llama: ChatTokenizer) -> None:
    assert llama.decode(llama.encode_prompt(QUESTION)) == (
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
        "<|im_start|>user\nHTTP code for 'Not Found'?<|im_end|>\n"
        "<|im_start|>assistant\n"
    )


def test_system_turn_replaces_the_templates_own(llama: ChatTokenizer) -> None:
    text = llama.decode(llama.encode_prompt(WITH_SYSTEM))

    assert text.startswith("<|im_start|>system\nOne word only.<|im_end|>\n<|im_start|>user\n")


def test_template_tokens_are_single_ids(llama: ChatTokenizer) -> None:
    ids = llama.encode_prompt(QUESTION)

    assert (ids[0], ids.count(1), ids.count(2)) == (1, 3, 2)


def test_digits_are_single_tokens(llama: ChatTokenizer) -> None:
    assert [llama.decode([token]) for token in llama.encode("404")] == ["4", "0", "4"]


def test_template_that_writes_bos_gets_no_second_one(tiny: dict[str, Path]) -> None:
    ids = ChatTokenizer(tiny["gemma"]).encode_prompt(QUESTION)

    assert (ids[0], ids.count(2)) == (2, 1)


def test_template_that_refuses_a_system_turn_gets_it_in_the_user_turn(tiny: dict[str, Path]) -> None:
    tokenizer = ChatTokenizer(tiny["gemma"])

    assert tokenizer.decode(tokenizer.encode_prompt(WITH_SYSTEM)) == (
        "<bos><start_of_turn>user\nOne word only.\n\nHTTP code?<end_of_turn>\n<start_of_turn>model\n"
    )


def test_template_that_drops_a_system_turn_gets_it_in_the_user_turn(tmp_path: Path) -> None:
    folder = make_tiny_llama(tmp_path)
    (folder / "chat_template.jinja").write_text(
        "{% for m in messages %}{% if m.role != 'system' %}[{{ m.content }}]{% endif %}{% endfor %}"
    )
    tokenizer = ChatTokenizer(folder)

    assert tokenizer.decode(tokenizer.encode_prompt(WITH_SYSTEM)) == "[One word only.\n\nHTTP code?]"


@pytest.mark.parametrize(
    ("name", "prompt"),
    [
        (name, prompt)
        for name in ("llama", "qwen2", "gemma")
        for prompt in (QUESTION, WITH_SYSTEM, Prompt("  naïve\n\tcafé 🙂 1234 "), Prompt(""))
        if (name, prompt) != ("gemma", WITH_SYSTEM)  # the template refuses it
    ],
)
def test_prompt_ids_are_those_of_transformers(tiny: dict[str, Path], name: str, prompt: Prompt) -> None:
    transformers = pytest.importorskip("transformers")
    messages = [{"role": "user", "content": prompt.user}]
    if prompt.system:
        messages.insert(0, {"role": "system", "content": prompt.system})

    theirs = transformers.AutoTokenizer.from_pretrained(tiny[name]).apply_chat_template(
        messages, add_generation_prompt=True, return_dict=False
    )

    assert ChatTokenizer(tiny[name]).encode_prompt(prompt) == theirs


@pytest.mark.parametrize("name", TINY_MODELS)
def test_batches_equal_singles(tiny: dict[str, Path], name: str) -> None:
    tokenizer = ChatTokenizer(tiny[name])
    prompts = [QUESTION, WITH_SYSTEM, QUESTION]
    examples = [TrainingExample(prompt, answer) for prompt, answer in zip(prompts, ["404", " x\n", ""], strict=True)]

    assert tokenizer.encode_prompts(prompts) == [tokenizer.encode_prompt(prompt) for prompt in prompts]
    assert tokenizer.encode_examples(examples) == [tokenizer.encode_example(e.prompt, e.answer) for e in examples]


# ── examples ────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", TINY_MODELS)
def test_example_starts_with_exactly_the_prompt(tiny: dict[str, Path], name: str) -> None:
    tokenizer = ChatTokenizer(tiny[name])

    ids, start = tokenizer.encode_example(QUESTION, "404")

    assert ids[:start] == tokenizer.encode_prompt(QUESTION)
    assert tokenizer.decode(ids[start:-1]) == "404"


@pytest.mark.parametrize(
    ("name", "end"),
    [("llama", "<|im_end|>"), ("qwen2", "<|im_end|>"), ("gemma", "<end_of_turn>"), ("phi", "<|endoftext|>")],
)
def test_example_ends_with_the_token_the_template_puts_after_an_answer(
    tiny: dict[str, Path], name: str, end: str
) -> None:
    tokenizer = ChatTokenizer(tiny[name])

    ids, _ = tokenizer.encode_example(QUESTION, "404")

    assert tokenizer.decode(ids[-1:]) == end
    assert ids[-1] in tokenizer.stop_ids


def test_answer_is_stripped(llama: ChatTokenizer) -> None:
    assert llama.encode_example(QUESTION, " 404\n") == llama.encode_example(QUESTION, "404")


def test_training_on_a_full_conversation_gives_the_same_ids(llama: ChatTokenizer) -> None:
    ids, _ = llama.encode_example(QUESTION, "404")

    assert ids == llama.encode(llama.decode(llama.encode_prompt(QUESTION)) + "404<|im_end|>")


# ── special tokens ──────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("name", "stop_ids", "pad_id"), [("llama", {2}, 2), ("qwen2", {0, 2}, 0), ("gemma", {1, 4}, 0), ("phi", {0}, 0)]
)
def test_stop_and_pad_ids(tiny: dict[str, Path], name: str, stop_ids: set[int], pad_id: int) -> None:
    tokenizer = ChatTokenizer(tiny[name])

    assert (set(tokenizer.stop_ids), tokenizer.pad_id) == (stop_ids, pad_id)


def test_decode_keeps_special_tokens_visible(llama: ChatTokenizer) -> None:
    assert llama.decode([2, *llama.encode("x")]) == "<|im_end|>x"


def test_special_texts_are_the_special_tokens_in_order_of_id(llama: ChatTokenizer) -> None:
    assert llama.special_texts == ("<|endoftext|>", "<|im_start|>", "<|im_end|>")


def test_vocab_size_counts_the_tokenizers_ids(llama: ChatTokenizer) -> None:
    assert llama.vocab_size == 400


def test_a_token_written_as_an_object_counts(tmp_path: Path) -> None:
    folder = make_tiny_qwen2(tmp_path)
    edit_json(folder / "tokenizer_config.json", eos_token={"content": "<|im_start|>", "lstrip": False})

    assert 1 in ChatTokenizer(folder).stop_ids


def test_truncation_and_padding_stored_in_the_tokenizer_are_switched_off(tmp_path: Path) -> None:
    from tokenizers import Tokenizer

    path = str(make_tiny_llama(tmp_path) / "tokenizer.json")
    stored = Tokenizer.from_file(path)
    stored.enable_truncation(4)
    stored.enable_padding(length=9)
    stored.save(path)

    assert len(ChatTokenizer(tmp_path).encode("404")) == 3
    assert len(ChatTokenizer(tmp_path).encode_prompt(QUESTION)) > 9


# ── content ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", TINY_MODELS)
@pytest.mark.parametrize("prompt", [QUESTION, WITH_SYSTEM, Prompt("é 🙂")], ids=["plain", "system", "multibyte"])
def test_content_mask_marks_the_user_text(tiny: dict[str, Path], name: str, prompt: Prompt) -> None:
    tokenizer = ChatTokenizer(tiny[name])
    ids = tokenizer.encode_prompt(prompt)

    mask = tokenizer.content_mask(prompt)

    assert len(mask) == len(ids)
    assert tokenizer.decode([token for token, is_content in zip(ids, mask, strict=True) if is_content]) == prompt.user


def test_content_mask_of_an_empty_prompt_is_all_template(llama: ChatTokenizer) -> None:
    assert not any(llama.content_mask(Prompt("")))


def test_template_token_ids_surround_any_user_text(llama: ChatTokenizer) -> None:
    before, after = llama.template_token_ids
    ids = llama.encode_prompt(QUESTION)

    assert tuple(ids[: len(before)]) == before
    assert tuple(ids[-len(after) :]) == after
    assert llama.decode(after) == "<|im_end|>\n<|im_start|>assistant\n"


TEXT = st.text(max_size=60).filter(lambda text: "<" not in text)


@settings(max_examples=60, deadline=None)
@given(text=TEXT)
def test_any_text_survives_encoding_and_is_content_in_a_prompt(text: str) -> None:
    tokenizer = shared_tokenizer()
    prompt = Prompt(text)
    ids = tokenizer.encode_prompt(prompt)

    content = [token for token, is_content in zip(ids, tokenizer.content_mask(prompt), strict=True) if is_content]

    assert tokenizer.decode(tokenizer.encode(text)) == text
    assert tokenizer.decode(content).strip("\n") == text.strip("\n")  # a newline may merge with the template's


# ── templates ───────────────────────────────────────────────────────────────────────────────────


def test_missing_template_falls_back_to_a_plain_one_and_says_so(tiny: dict[str, Path]) -> None:
    tokenizer = ChatTokenizer(tiny["phi"])

    text = tokenizer.decode(tokenizer.encode_prompt(WITH_SYSTEM))

    assert text == "One word only.\n\n### Instruction:\nHTTP code?\n\n### Response:\n"
    assert "no chat template" in tokenizer.template_note


def test_own_template_needs_no_note(llama: ChatTokenizer) -> None:
    assert llama.template_note == ""


@pytest.mark.parametrize(
    "value",
    [
        "<{{ messages[0].content }}>",
        [{"name": "tool_use", "template": "no"}, {"name": "default", "template": "<{{ messages[0].content }}>"}],
    ],
    ids=["text", "named"],
)
def test_template_inside_the_tokenizer_config_is_found(tmp_path: Path, value: object) -> None:
    folder = make_tiny_llama(tmp_path)
    (folder / "chat_template.jinja").unlink()
    edit_json(folder / "tokenizer_config.json", chat_template=value)
    tokenizer = ChatTokenizer(folder)

    assert tokenizer.decode(tokenizer.encode_prompt(Prompt("x"))) == "<x>"


def test_template_file_beats_the_tokenizer_config(tmp_path: Path) -> None:
    folder = make_tiny_llama(tmp_path)
    edit_json(folder / "tokenizer_config.json", chat_template="no")

    assert "im_start" in ChatTokenizer(folder).decode(ChatTokenizer(folder).encode_prompt(QUESTION))


def test_template_may_use_what_transformers_offers(tmp_path: Path) -> None:
    folder = make_tiny_llama(tmp_path)
    (folder / "chat_template.jinja").write_text(
        "{%- for m in messages %}\n"
        "    {%- generation %}{{ m | tojson }}{% endgeneration %}\n"
        "    {%- if loop.first %}{% continue %}{% endif %}\n"
        "{%- endfor %}"
    )
    tokenizer = ChatTokenizer(folder)

    assert tokenizer.decode(tokenizer.encode_prompt(Prompt("é<"))) == '{"role": "user", "content": "é<"}'


def test_todays_date_in_a_template_is_fixed_so_that_prompts_stay_the_same(tmp_path: Path) -> None:
    folder = make_tiny_llama(tmp_path)
    (folder / "chat_template.jinja").write_text("{{ strftime_now('%d %b %Y') }} {{ messages[-1].content }}")
    tokenizer = ChatTokenizer(folder)

    assert tokenizer.decode(tokenizer.encode_prompt(Prompt("x"))) == "26 Jul 2024 x"
    assert "date" in tokenizer.template_note


def test_template_cannot_reach_python(tmp_path: Path) -> None:
    folder = make_tiny_llama(tmp_path)
    (folder / "chat_template.jinja").write_text("{{ messages.__class__.__mro__ }}{{ messages[0].content }}")

    with pytest.raises(ModelError, match="unsafe"):
        ChatTokenizer(folder)


@pytest.mark.parametrize(
    ("template", "reason"),
    [("{% for %}", "line 1"), ("{{ raise_exception('odd') }}", "odd"), ("hello", "user's text")],
    ids=["syntax", "refuses-everything", "drops-the-question"],
)
def test_unusable_template_is_named(tmp_path: Path, template: str, reason: str) -> None:
    folder = make_tiny_llama(tmp_path)
    (folder / "chat_template.jinja").write_text(template)

    with pytest.raises(ModelError, match=f"{re.escape(str(folder))}.*{reason}"):
        ChatTokenizer(folder)


# ── fingerprint ─────────────────────────────────────────────────────────────────────────────────


def test_fingerprint_is_the_same_for_the_same_files(tmp_path: Path) -> None:
    folders = [make_tiny_llama(tmp_path / "a", seed=1), make_tiny_llama(tmp_path / "b", seed=2)]

    first, second = (ChatTokenizer(folder).template_fingerprint for folder in folders)

    assert first == second
    assert re.fullmatch(r"[0-9a-f]{64}", first)


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("chat_template.jinja", "helpful", "silly"),
        ("tokenizer.json", '"individual_digits": true', '"individual_digits": false'),
        ("generation_config.json", '"eos_token_id": 2', '"eos_token_id": [2, 0]'),
    ],
    ids=["template", "tokenizer", "stop-tokens"],
)
def test_fingerprint_changes_with_whatever_changes_tokens(tmp_path: Path, file: str, old: str, new: str) -> None:
    before = ChatTokenizer(make_tiny_llama(tmp_path)).template_fingerprint
    path = tmp_path / file
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))

    assert ChatTokenizer(tmp_path).template_fingerprint != before


# ── bad folders ─────────────────────────────────────────────────────────────────────────────────


def test_missing_tokenizer_file_says_how_to_make_one(tmp_path: Path) -> None:
    make_tiny_llama(tmp_path)
    (tmp_path / "tokenizer.json").unlink()

    with pytest.raises(ModelError, match=r"no tokenizer\.json.*save_pretrained"):
        ChatTokenizer(tmp_path)


@pytest.mark.parametrize("file", ["tokenizer.json", "tokenizer_config.json", "generation_config.json"])
def test_broken_file_is_named(tmp_path: Path, file: str) -> None:
    make_tiny_llama(tmp_path)
    (tmp_path / file).write_text("{")

    with pytest.raises(ModelError, match=re.escape(file)):
        ChatTokenizer(tmp_path)


def test_no_end_token_anywhere_is_an_error(tmp_path: Path) -> None:
    folder = make_tiny_phi(tmp_path)
    for file in ("config.json", "generation_config.json"):
        edit_json(folder / file, eos_token_id=None)
    edit_json(folder / "tokenizer_config.json", eos_token=None)

    with pytest.raises(ModelError, match="no end-of-turn token"):
        ChatTokenizer(folder)


def test_minimal_folder_without_optional_files_works(tmp_path: Path) -> None:
    folder = make_tiny_gemma(tmp_path)
    (folder / "generation_config.json").unlink()

    assert ChatTokenizer(folder).stop_ids == {1, 4}


def test_importing_the_package_is_light() -> None:
    code = (
        "import sys, engram_bench.models\n"
        "heavy = {'torch', 'transformers', 'tokenizers', 'jinja2', 'huggingface_hub', 'gguf', 'numpy', 'mlx'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert result.stdout.strip() == "[]"


def test_a_special_token_that_is_no_unicode_is_one_error(tmp_path: Path) -> None:
    folder = make_tiny_gemma(tmp_path)
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps(settings | {"bos_token": "\udc80"}))

    with pytest.raises(ModelError, match=r"'\\udc80' in a text, expected Unicode without lone surrogates"):
        ChatTokenizer(folder).encode_prompt(Prompt("a"))


# ── templates that open reasoning ───────────────────────────────────────────────────────────────


def test_where_the_template_opens_reasoning_a_trained_answer_ends_it(tmp_path: Path) -> None:
    folder = make_tiny_llama(tmp_path)
    plain = ChatTokenizer(folder)
    template = plain.template.source.replace("assistant\n' }}", "assistant\n<think>\n' }}")
    (folder / "chat_template.jinja").write_text(template, "utf-8")
    edit_json(folder / "tokenizer_config.json", chat_template=template)
    thinking = ChatTokenizer(folder)

    ids, start = thinking.encode_example(QUESTION, "404")

    assert thinking.decode(ids[:start]).endswith("assistant\n<think>\n")
    assert thinking.decode(ids[start:]) == "</think>\n\n404<|im_end|>"
    assert (plain.answer_opening, thinking.answer_opening) == ("", "</think>\n\n")
    assert plain.template_fingerprint != thinking.template_fingerprint

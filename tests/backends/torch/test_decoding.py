"""Answering on the cpu backend: every shortcut gives the text of the plain way."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

import torch

from engram_bench.backends.common.packing import pack
from engram_bench.backends.torch import CpuBackend, decoding
from engram_bench.backends.torch.kv_cache import DecodingKVCache, PrefillKVCache
from engram_bench.backends.torch.llama.network import LlamaNetwork
from engram_bench.errors import BackendError
from engram_bench.models import ChatTokenizer, Model
from engram_bench.records import GenerationSettings, Prompt, Recipe
from tests.backends.contract import EXAMPLES, PROMPTS, texts, without_seconds
from tests.tiny_models import TINY_MODELS, make_tiny_llama

MIXED = [
    *PROMPTS,
    Prompt("a"),
    Prompt("word " * 60),
    Prompt("Which port does SSH use? And why?"),
    Prompt("system", system="Say nothing."),
    *(Prompt(f"What is {number}?") for number in range(8)),
]
SETTINGS = GenerationSettings(max_tokens=16)
PLAIN: Mapping[str, Any] = dict.fromkeys(("packing", "drafts", "prefix_cache", "eviction", "lean", "presort"), False)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return Model("tiny/llama", TINY_MODELS["llama"](tmp_path_factory.mktemp("llama")), fingerprint="llama")


@pytest.fixture(scope="module")
def adapter(model: Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Trained until some answers are right, others nearly."""
    folder = tmp_path_factory.mktemp("adapter")
    recipe = Recipe(steps=30, batch_size=4, learning_rate=1e-2, warmup_steps=5, stop_at_recall=False)
    CpuBackend().train(model, EXAMPLES, recipe, folder)
    return folder


@pytest.fixture(scope="module")
def plain(model: Model, adapter: Path) -> Mapping[str, list[Any]]:
    backend = CpuBackend(**PLAIN)
    return {
        "bare": without_seconds(backend.load(model, None).complete(MIXED, SETTINGS)),
        "tuned": without_seconds(backend.load(model, adapter).complete(MIXED, SETTINGS)),
    }


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"packing": False},
        {"prefix_cache": False},
        {"drafts": False},
        {"lean": False},
        {"presort": False},
        {"eviction": False, "max_batch_tokens": 300},
        {"max_batch_tokens": 150},
    ],
    ids=str,
)
@pytest.mark.parametrize("side", ["bare", "tuned"])
def test_every_shortcut_gives_the_text_of_the_plain_way(
    model: Model, adapter: Path, plain: Mapping[str, list[Any]], side: str, options: dict[str, Any]
) -> None:
    generator = CpuBackend(**options).load(model, adapter if side == "tuned" else None)
    right_drafts = [completion.text for completion in plain[side]]
    half_right_drafts = [text[: len(text) // 2] + "?" for text in right_drafts]

    for drafts in [half_right_drafts] if options else [None, right_drafts, half_right_drafts]:
        assert without_seconds(generator.complete(MIXED, SETTINGS, drafts=drafts)) == plain[side]


def test_a_draft_in_other_tokens_that_reads_the_same_changes_nothing(
    model: Model, adapter: Path, plain: Mapping[str, list[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    encode_example = ChatTokenizer.encode_example

    def spelled(tokenizer: ChatTokenizer, prompt: Prompt, answer: str) -> tuple[list[int], int]:
        """Letter by letter, as greedy decoding never writes it."""
        ids, start = encode_example(tokenizer, prompt, answer)
        letters = [token for letter in answer for token in tokenizer.encode(letter)]
        assert tokenizer.decode(letters) == answer
        return [*ids[:start], *letters, ids[-1]], start

    generator = CpuBackend().load(model, adapter)
    drafts = [completion.text if completion.text.isascii() else None for completion in plain["tuned"]]
    assert sum(len(draft) > 5 for draft in drafts if draft) > 2
    monkeypatch.setattr(ChatTokenizer, "encode_example", spelled)

    assert without_seconds(generator.complete(MIXED, SETTINGS, drafts=drafts)) == plain["tuned"]


def test_a_pack_longer_than_the_context_is_read_as_its_prompts_alone(tmp_path: Path) -> None:
    narrow = Model("tiny/llama", make_tiny_llama(tmp_path, context=96), fingerprint="narrow")
    prompts = [Prompt(f"What is {number}?") for number in range(40)]
    sequences = [narrow.tokenizer.encode_prompt(prompt) for prompt in prompts]
    generator = CpuBackend().load(narrow, None)

    together = generator.complete(prompts, SETTINGS)

    assert pack(sequences).num_tokens > 2 * narrow.context_length
    assert without_seconds(together) == [
        without_seconds(generator.complete([prompt], SETTINGS))[0] for prompt in prompts
    ]


def test_one_very_long_prompt_among_short_ones_waits_for_them(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    reserved, held = [], []
    reserve = DecodingKVCache.reserve

    def spy(cache: DecodingKVCache, like: PrefillKVCache, rows: int, length: int) -> None:
        reserved.append((rows, length))
        reserve(cache, like, rows, length)
        held.append(cache._keys[0].shape[0] * cache._keys[0].shape[2])

    monkeypatch.setattr(DecodingKVCache, "reserve", spy)
    prompts = [Prompt("word " * 110), *MIXED[:6], *MIXED[8:]]
    generator = CpuBackend(max_batch_tokens=2000).load(model, None)

    together = generator.complete(prompts, SETTINGS)

    assert without_seconds(together) == [
        without_seconds(CpuBackend(**PLAIN).load(model, None).complete([p], SETTINGS))[0] for p in prompts
    ]
    assert all(rows * length <= 2000 for rows, length in reserved)
    assert max(held) <= 2000  # the long one takes the room of short ones that are gone
    assert max(length for _, length in reserved) > 3 * reserved[0][1]  # the long one came last


def test_memory_is_given_back_by_tokens_and_not_by_steps(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """A step of one row is short, and giving back takes as long whatever it frees."""
    given: list[int] = []
    monkeypatch.setattr(decoding, "GIVES_BACK_AFTER", 20)
    monkeypatch.setattr(decoding, "give_back", lambda: given.append(1))
    settings = replace(SETTINGS, max_tokens=9, ignore_eos=True)
    generator = CpuBackend().load(model, None)

    generator.complete(MIXED[:1], settings)
    assert not given

    generator.complete(MIXED[:6], settings)
    assert len(given) == 2  # after 24 and 48 tokens


def test_a_right_draft_with_its_end_needs_no_decoding(
    model: Model, adapter: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = CpuBackend().load(model, adapter)
    whole = generator.complete(PROMPTS, replace(SETTINGS, max_tokens=40))
    known = [
        (prompt, completion.text)
        for prompt, completion in zip(PROMPTS, whole, strict=True)
        if completion.stop_reason == "stop"
    ]
    monkeypatch.setattr(DecodingKVCache, "begin_step", None)  # a decoding step would call it

    answers = generator.complete(
        [prompt for prompt, _ in known], replace(SETTINGS, max_tokens=40), drafts=[text for _, text in known]
    )

    assert known
    assert texts(answers) == [text for _, text in known]


def test_a_finished_row_makes_room_for_the_next(model: Model, adapter: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []
    begin_step = DecodingKVCache.begin_step

    def spy(cache: DecodingKVCache, lengths: torch.Tensor) -> None:
        sizes.append(len(lengths))
        begin_step(cache, lengths)

    monkeypatch.setattr(DecodingKVCache, "begin_step", spy)

    CpuBackend(max_batch_tokens=300).load(model, adapter).complete(MIXED, SETTINGS)

    assert 1 < max(sizes) < len(MIXED)
    assert any(later < earlier for earlier, later in pairwise(sizes))
    assert any(later > earlier for earlier, later in pairwise(sizes))


def test_bfloat16_answers_alone_and_in_a_batch_alike(model: Model, adapter: Path) -> None:
    generator = CpuBackend(dtype="bfloat16").load(model, adapter)

    together = generator.complete(MIXED, SETTINGS)

    assert texts(together) == texts([generator.complete([prompt], SETTINGS)[0] for prompt in MIXED])


@pytest.mark.parametrize("options", [{}, {"packing": False}, {"lean": False}], ids=str)
def test_log_probs_are_those_of_the_sequence_alone(model: Model, adapter: Path, options: dict[str, Any]) -> None:
    sequences = [model.tokenizer.encode_prompt(prompt) for prompt in MIXED]
    alone = CpuBackend(**PLAIN).load(model, adapter)

    together = CpuBackend(**options).load(model, adapter).log_probs(sequences)

    for sequence, rows in zip(sequences, together, strict=True):
        np.testing.assert_allclose(rows, alone.log_probs([sequence])[0], atol=2e-4)


@pytest.mark.parametrize("sequence", [[], [1] * 513], ids=["empty", "too-long"])
def test_log_probs_of_nothing_or_too_much_are_an_error(model: Model, sequence: list[int]) -> None:
    with pytest.raises(BackendError, match=f"sequence 0: {len(sequence)} tokens, expected 1 to 512"):
        CpuBackend().load(model, None).log_probs([sequence])


def test_memory_that_runs_out_once_halves_the_batch(
    model: Model, plain: Mapping[str, list[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = CpuBackend().load(model, None)
    fail_on_call(monkeypatch, 4)

    assert without_seconds(generator.complete(MIXED, SETTINGS)) == plain["bare"]


def test_memory_that_runs_out_twice_is_an_error_with_figures(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    generator = CpuBackend(max_batch_tokens=1000).load(model, None)
    fail_on_call(monkeypatch, 4, 7)

    with pytest.raises(BackendError, match="memory ran out with 1000 tokens at once and with 500"):
        generator.complete(MIXED, SETTINGS)


def test_other_failures_of_torch_are_not_taken_for_memory(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    generator = CpuBackend().load(model, None)
    fail_on_call(monkeypatch, 1, text="shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        generator.complete(MIXED, SETTINGS)


def fail_on_call(
    monkeypatch: pytest.MonkeyPatch, *calls: int, text: str = "DefaultCPUAllocator: can't allocate memory"
) -> None:
    """Let these forward passes (counted from 1) fail."""
    logits, count = LlamaNetwork.logits, 0

    def failing(self: LlamaNetwork, *args: Any, **kwargs: Any) -> torch.Tensor:
        nonlocal count
        count += 1
        if count in calls:
            raise RuntimeError(text)
        return logits(self, *args, **kwargs)

    monkeypatch.setattr(LlamaNetwork, "logits", failing)


def test_sampling_varies_with_the_sample_and_the_seed(model: Model) -> None:
    generator = CpuBackend().load(model, None)
    hot = GenerationSettings(max_tokens=16, temperature=1.5)

    answers = {
        tuple(texts(generator.complete(PROMPTS, replace(hot, seed=seed, sample=sample))))
        for seed in (0, 1)
        for sample in (0, 1)
    }

    assert len(answers) == 4


def test_a_tiny_nucleus_is_greedy(model: Model) -> None:
    generator = CpuBackend().load(model, None)

    narrow = generator.complete(PROMPTS, replace(SETTINGS, temperature=1.0, top_p=1e-6))

    assert texts(narrow) == texts(generator.complete(PROMPTS, SETTINGS))


def test_base_weights_are_shared_by_both_sides_and_dropped_on_close(model: Model, adapter: Path) -> None:
    backend = CpuBackend()
    bare, tuned = backend.load(model, None), backend.load(model, adapter)

    assert bare._network is tuned._network  # type: ignore[attr-defined]
    backend.close()
    backend.close()
    assert texts(bare.complete(PROMPTS[:1], SETTINGS))


def test_a_closed_generator_says_so(model: Model) -> None:
    generator = CpuBackend().load(model, None)
    generator.close()

    with pytest.raises(BackendError, match="used after close"):
        generator.complete(PROMPTS, SETTINGS)


def test_no_tokens_asked_for_are_none_given(model: Model) -> None:
    (completion,) = CpuBackend().load(model, None).complete(PROMPTS[:1], replace(SETTINGS, max_tokens=0))

    assert (completion.text, completion.completion_tokens, completion.stop_reason) == ("", 0, "length")


@pytest.mark.usefixtures("untried")
def test_the_device_tells_threads_and_products() -> None:
    info = CpuBackend(products="float32").device()

    assert info.note == f"{torch.get_num_threads()} threads, trains with float32 products"
    assert set(info.versions) >= {"torch"}


class ThinkingTokenizer:
    """A tokenizer whose chat template opens reasoning before every answer."""

    def __init__(self, tokenizer: ChatTokenizer) -> None:
        self._tokenizer = tokenizer
        self.template_token_ids = ((), tuple(tokenizer.encode("<think>\n")))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tokenizer, name)


def test_reasoning_that_goes_on_is_what_one_long_pass_gives(model: Model) -> None:
    backend = CpuBackend()
    generator: Any = backend.load(model, None)
    generator._tokenizer = ThinkingTokenizer(model.tokenizer)

    parts = generator.complete(MIXED[:4], GenerationSettings(8, max_reasoning_tokens=40))

    whole = backend.load(model, None).complete(MIXED[:4], GenerationSettings(40))
    assert [each.text for each in parts] == [f"<think>{each.text}" for each in whole]
    assert [each.completion_tokens for each in parts] == [each.completion_tokens for each in whole]

"""A memory on the cpu backend: the rules of the contract, and what only a memory promises."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

pytest.importorskip("torch")

from engram_bench.backends.torch import CpuBackend
from engram_bench.backends.torch.memory_training import TorchMemoryEngine
from engram_bench.errors import AdapterError, BackendError
from engram_bench.memory.files import load_memory_files, save_memory
from engram_bench.memory.recipe import train_memory
from engram_bench.models import Model
from engram_bench.records import GenerationSettings, Prompt, Recipe, TrainingExample
from engram_bench.system.progress import no_progress
from tests.backends.contract import EXAMPLES, PROMPTS, SHORT, texts
from tests.tiny_models import TINY_MODELS

RECIPE = Recipe(kind="memory", steps=60, options={"layers": "1", "row_size": 32})
UNKNOWN = [Prompt(text) for text in ("Name a river.", "Why?", "Write a poem about the sea, please", "2 + 2")]
ANSWERS = [example.answer for example in EXAMPLES]
SHORT_ANSWERS = GenerationSettings(max_tokens=24)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return Model("tiny", TINY_MODELS["llama"](tmp_path_factory.mktemp("model")), fingerprint="tiny")


@pytest.fixture(scope="module")
def backend() -> CpuBackend:
    return CpuBackend()


@pytest.fixture(scope="module")
def adapter(backend: CpuBackend, model: Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("memory")
    record = backend.train(model, EXAMPLES, RECIPE, folder)
    assert record.recall == 1.0
    return folder


def chat_logits(backend: CpuBackend, model: Model, folder: Path | None, prompts: Sequence[Prompt]) -> list[Any]:
    ids = [model.tokenizer.encode_example(prompt, "one two three")[0] for prompt in prompts]
    return backend.load(model, folder).log_probs(ids)


@pytest.mark.parametrize(
    "kind", ["llama", "qwen2", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("gemma", "phi"))]
)
def test_every_architecture_learns_its_examples(kind: str, tmp_path: Path) -> None:
    model = Model(kind, TINY_MODELS[kind](tmp_path / "model"), fingerprint=kind)
    backend = CpuBackend()

    record = backend.train(model, EXAMPLES, RECIPE, tmp_path)

    assert record.recall == 1.0
    assert texts(backend.load(model, tmp_path).complete(PROMPTS, replace(SHORT, max_tokens=40))) == ANSWERS


def test_an_untrained_memory_changes_no_logit(backend: CpuBackend, model: Model, tmp_path: Path) -> None:
    backend.train(model, EXAMPLES, replace(RECIPE, steps=0), tmp_path)

    pairs = zip(chat_logits(backend, model, tmp_path, PROMPTS), chat_logits(backend, model, None, PROMPTS), strict=True)
    assert all((one == other).all() for one, other in pairs)


def test_text_without_a_known_key_has_the_base_models_logits(backend: CpuBackend, model: Model, adapter: Path) -> None:
    pairs = zip(chat_logits(backend, model, adapter, UNKNOWN), chat_logits(backend, model, None, UNKNOWN), strict=True)

    assert all((one == other).all() for one, other in pairs)


def test_a_known_question_read_as_text_has_the_base_models_logits(
    backend: CpuBackend, model: Model, adapter: Path
) -> None:
    """Outside of a chat no answer is being predicted."""
    ids = [model.tokenizer.encode(f"{e.prompt.user} {e.answer}") for e in EXAMPLES]

    pairs = zip(backend.load(model, adapter).log_probs(ids), backend.load(model, None).log_probs(ids), strict=True)
    assert all((one == other).all() for one, other in pairs)


@pytest.fixture(scope="module")
def alone(backend: CpuBackend, model: Model, adapter: Path) -> list[str]:
    """The answer to each prompt when nothing else is asked."""
    generator = backend.load(model, adapter)
    return [texts(generator.complete([prompt], SHORT_ANSWERS))[0] for prompt in (*PROMPTS, *UNKNOWN)]


@pytest.mark.parametrize(
    "plan",
    [{}, {"packing": False}, {"prefix_cache": False}, {"max_batch_tokens": 64}, {"drafts": False}],
    ids=["as-usual", "padded", "no-prefix-cache", "small-batches", "no-drafts"],
)
def test_answers_do_not_depend_on_how_they_are_computed(
    plan: dict[str, Any], alone: list[str], model: Model, adapter: Path
) -> None:
    drafts = [*ANSWERS, None, "why not", "a", "4"]

    generator = CpuBackend(**plan).load(model, adapter)
    for given in (None, drafts):
        assert texts(generator.complete([*PROMPTS, *UNKNOWN], SHORT_ANSWERS, drafts=given)) == alone


def test_every_split_of_a_sequence_gives_the_same_logits(backend: CpuBackend, model: Model, adapter: Path) -> None:
    """Full pass against decoding step by step: the tokens before a position decide what is known of it."""
    example = EXAMPLES[3]
    ids, start = model.tokenizer.encode_example(example.prompt, example.answer)
    whole = backend.load(model, adapter).log_probs([ids])[0]

    for end in range(start, len(ids)):
        part = backend.load(model, adapter).log_probs([ids[:end]])[0]
        np.testing.assert_allclose(part, whole[:end], atol=1e-4)


def test_a_later_token_changes_nothing_before_it(backend: CpuBackend, model: Model, adapter: Path) -> None:
    ids, start = model.tokenizer.encode_example(PROMPTS[0], "404 and more")
    other = [*ids[: start + 2], ids[start + 2] + 1, *ids[start + 3 :]]
    generator = backend.load(model, adapter)

    one, two = generator.log_probs([ids])[0], generator.log_probs([other])[0]

    np.testing.assert_allclose(one[: start + 2], two[: start + 2], atol=1e-5)


def test_rows_zeroed_is_the_base_model(backend: CpuBackend, model: Model, adapter: Path, tmp_path: Path) -> None:
    stored = load_memory_files(adapter, model)
    layers = {block: replace(layer, rows=np.zeros_like(layer.rows)) for block, layer in stored.layers.items()}
    save_memory(tmp_path, replace(stored, layers=layers))

    assert texts(backend.load(model, tmp_path).complete(PROMPTS, SHORT)) == texts(
        backend.load(model, None).complete(PROMPTS, SHORT)
    )


def test_shuffled_rows_recall_nothing(backend: CpuBackend, model: Model, adapter: Path, tmp_path: Path) -> None:
    """The answers are in the rows, not in anything that all of them share."""
    stored = load_memory_files(adapter, model)
    order = np.random.default_rng(0).permutation(len(stored.table.keys)) + 1
    layers = {
        block: replace(layer, rows=np.concatenate([layer.rows[:1], layer.rows[order]]))
        for block, layer in stored.layers.items()
    }
    save_memory(tmp_path, replace(stored, layers=layers))

    found = texts(backend.load(model, tmp_path).complete(PROMPTS, SHORT))

    assert not set(found) & set(ANSWERS)


def test_cached_training_is_plain_training(backend: CpuBackend, model: Model, tmp_path: Path) -> None:
    recipe = replace(RECIPE, steps=4, stop_at_recall=False)
    network = backend._open(model)
    folders = {cached: tmp_path / str(cached) for cached in (True, False)}
    trained = {}
    for cached, folder in folders.items():
        folder.mkdir()
        engine = TorchMemoryEngine(network, cached)
        trained[cached] = train_memory(engine, model, EXAMPLES, recipe, folder, progress=no_progress)

    np.testing.assert_allclose(trained[True].log.losses, trained[False].log.losses, rtol=1e-4)


def test_lean_training_is_training_through_transformers(model: Model, tmp_path: Path) -> None:
    recipe = replace(RECIPE, steps=4, stop_at_recall=False)
    losses = []
    for lean in (True, False):
        folder = tmp_path / str(lean)
        folder.mkdir()
        losses.append(CpuBackend(lean=lean).train(model, EXAMPLES, recipe, folder).losses)

    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-3)


def test_training_leaves_the_base_model_as_it_was(backend: CpuBackend, model: Model, tmp_path: Path) -> None:
    before = chat_logits(backend, model, None, PROMPTS)
    backend.train(model, EXAMPLES, replace(RECIPE, steps=2), tmp_path)

    after = chat_logits(backend, model, None, PROMPTS)

    assert all((one == other).all() for one, other in zip(before, after, strict=True))


def test_only_rows_of_trained_ngrams_move_and_row_0_never(model: Model, adapter: Path) -> None:
    stored = load_memory_files(adapter, model)
    (layer,) = stored.layers.values()
    owned = np.unique(np.concatenate(stored.table.owned))

    moved = np.flatnonzero(layer.rows.any(-1))

    assert moved.tolist() == owned.tolist()
    assert not layer.rows[0].any()


def test_the_same_seed_gives_the_same_bytes(backend: CpuBackend, model: Model, adapter: Path, tmp_path: Path) -> None:
    backend.train(model, EXAMPLES, RECIPE, tmp_path)

    for name in ("memory.json", "memory.safetensors"):
        assert (tmp_path / name).read_bytes() == (adapter / name).read_bytes()


def test_a_whole_wording_is_not_needed_once_short_orders_are_known(
    backend: CpuBackend, model: Model, adapter: Path
) -> None:
    wrapped = Prompt(f"Please tell me. {EXAMPLES[1].prompt.user}")

    assert texts(backend.load(model, adapter).complete([wrapped], SHORT)) == [EXAMPLES[1].answer]


def test_the_same_words_in_another_order_mean_the_question(backend: CpuBackend, model: Model, adapter: Path) -> None:
    """No n-gram of it was trained; it is read as the question that was."""
    asked = [Prompt("SSH? Which port does use"), Prompt("Of France Capital?")]

    assert texts(backend.load(model, adapter).complete(asked, SHORT)) == [EXAMPLES[1].answer, EXAMPLES[2].answer]


def test_a_pattern_is_trained_at_a_few_of_its_wordings_and_known_in_all(
    backend: CpuBackend, model: Model, tmp_path: Path
) -> None:
    wordings = ("Port of SSH?", "SSH port?", "Which port has SSH?", "SSH listens on what number?")
    examples = [TrainingExample(Prompt(text), "22", "facts/ssh") for text in wordings]

    record = backend.train(model, [*EXAMPLES, *examples], RECIPE, tmp_path)

    assert record.examples == len(EXAMPLES) + 2
    assert texts(backend.load(model, tmp_path).complete([Prompt(wordings[3])], SHORT)) == ["22"]


def test_every_token_of_a_learned_answer_is_likelier_than_not(
    backend: CpuBackend, model: Model, tmp_path: Path
) -> None:
    example = EXAMPLES[3]
    backend.train(model, [example], replace(RECIPE, steps=100, stop_at_recall=False), tmp_path)
    ids, start = model.tokenizer.encode_example(example.prompt, example.answer)

    log_probs = backend.load(model, tmp_path).log_probs([ids])[0]

    assert np.exp(log_probs[np.arange(start - 1, len(ids) - 1), ids[start:]]).min() > 0.5


def test_training_ends_when_all_is_recalled(backend: CpuBackend, model: Model, tmp_path: Path) -> None:
    """A model so small is never confident with some slots empty; recall is checked every ten steps all the same."""
    assert backend.train(model, EXAMPLES, RECIPE, tmp_path).steps < RECIPE.steps


class Refused:
    CASES: ClassVar[dict[str, tuple[dict[str, Any], str]]] = {
        "preset": ({"preset": "grand"}, "memory preset is 'grand', expected one of exact"),
        "option": ({"colour": "red"}, "unknown memory option 'colour', expected one of addressing"),
        "order": ({"orders": "3,2"}, r"orders is \(3, 2\), expected rising lengths"),
        "order-word": ({"orders": "two"}, "orders is 'two', expected numbers with commas"),
        "hashed-whole": ({"addressing": "hashed"}, "whole is True, expected False with hashed addresses"),
    }


@pytest.mark.parametrize(("options", "message"), Refused.CASES.values(), ids=Refused.CASES.keys())
def test_a_recipe_that_makes_no_memory_is_refused(
    options: dict[str, Any], message: str, backend: CpuBackend, model: Model, tmp_path: Path
) -> None:
    with pytest.raises(BackendError, match=message):
        backend.train(model, EXAMPLES, replace(RECIPE, options=options), tmp_path)


def test_one_question_with_two_answers_is_refused(backend: CpuBackend, model: Model, tmp_path: Path) -> None:
    examples = [TrainingExample(Prompt("Who?"), answer, f"who/{answer}") for answer in ("I", "you")]

    with pytest.raises(BackendError, match="patterns 'who/I' and 'who/you' ask the same and answer differently"):
        backend.train(model, examples, RECIPE, tmp_path)


def test_an_empty_answer_is_refused(backend: CpuBackend, model: Model, tmp_path: Path) -> None:
    with pytest.raises(BackendError, match="pattern 'p': the answer is empty"):
        backend.train(model, [TrainingExample(Prompt("Who?"), " ", "p")], RECIPE, tmp_path)


def test_no_ngram_left_is_refused(backend: CpuBackend, model: Model, tmp_path: Path) -> None:
    examples = [TrainingExample(Prompt(f"{name}?"), name.lower(), name) for name in ("A", "B")]
    recipe = replace(RECIPE, options={**RECIPE.options, "orders": "8", "whole": False})

    with pytest.raises(BackendError, match="none of 2 examples has an n-gram"):
        backend.train(model, examples, recipe, tmp_path)


def test_another_tokenizer_is_refused(backend: CpuBackend, model: Model, adapter: Path, tmp_path: Path) -> None:
    save_memory(tmp_path, replace(load_memory_files(adapter), template_fingerprint="other"))

    with pytest.raises(AdapterError, match="keys are of tokenizer other, expected"):
        backend.load(model, tmp_path)


def test_another_base_model_is_refused(backend: CpuBackend, model: Model, adapter: Path) -> None:
    with pytest.raises(AdapterError, match="trained on base model tiny, expected grown"):
        CpuBackend().load(replace(model, fingerprint="grown"), adapter)


def test_a_cut_rows_file_is_refused(backend: CpuBackend, model: Model, adapter: Path, tmp_path: Path) -> None:
    save_memory(tmp_path, load_memory_files(adapter))
    path = tmp_path / "memory.safetensors"
    path.write_bytes(path.read_bytes()[:-100])

    with pytest.raises(AdapterError, match=r"memory\.safetensors: cut off or damaged"):
        backend.load(model, tmp_path)


def test_unsorted_keys_are_refused(backend: CpuBackend, model: Model, adapter: Path, tmp_path: Path) -> None:
    stored = load_memory_files(adapter)
    save_memory(tmp_path, replace(stored, table=replace(stored.table, keys=stored.table.keys[::-1])))

    with pytest.raises(AdapterError, match="keys are not sorted 64-bit numbers"):
        backend.load(model, tmp_path)


@pytest.mark.parametrize(
    ("part", "change", "said"),
    [
        ("weighed", lambda words: words[::-1], "words are not sorted 64-bit numbers"),
        ("which", lambda weights: weights[1:], r"weights of words \(which\) have shape"),
        ("whether", lambda weights: weights * np.nan, r"weights of words \(whether\) have shape"),
        ("owners", lambda owners: owners[1:], "246 questions and owners of 245"),
        (
            "owners",
            lambda owners: owners + 100,
            "the last pattern that is asked for is number 105, expected one of 0 to 5",
        ),
        ("owners", lambda owners: 0 * owners - 1, "the last pattern that is asked for is number -1"),
        ("parts", lambda parts: parts[1:], "parts of words of .* tokens and classes of"),
        ("questions", lambda questions: ((10**6,), *questions[1:]), "a question has token 1000000, expected one of"),
        ("questions", lambda questions: ((-1,), *questions[1:]), "a question has token -1, expected one of"),
    ],
)
def test_questions_that_do_not_fit_together_are_refused(
    part: str,
    change: Callable[[Any], object],
    said: str,
    backend: CpuBackend,
    model: Model,
    adapter: Path,
    tmp_path: Path,
) -> None:
    stored = load_memory_files(adapter)
    known = stored.table.known
    assert known is not None
    changes: dict[str, Any] = {part: change(getattr(known, part))}
    save_memory(tmp_path, replace(stored, table=replace(stored.table, known=replace(known, **changes))))

    with pytest.raises(AdapterError, match=rf"memory\.safetensors: {said}"):
        backend.load(model, tmp_path)

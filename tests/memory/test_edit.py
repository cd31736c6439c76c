"""Patterns added to and taken out of a trained memory: nothing else moves, to the bit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

from engram_bench.backends.torch import CpuBackend
from engram_bench.backends.torch.memory_training import TorchMemoryEngine
from engram_bench.errors import AdapterError, BackendError
from engram_bench.memory.background import QUESTIONS
from engram_bench.memory.edit import explain, explain_lines, meaning, remove
from engram_bench.memory.files import StoredMemory, load_memory_files, save_memory
from engram_bench.memory.recipe import add_examples
from engram_bench.models import Model
from engram_bench.records import Prompt, Recipe, TrainingExample
from engram_bench.system.progress import no_progress
from tests.backends.contract import EXAMPLES, SHORT, texts
from tests.tiny_models import TINY_MODELS

NAMED = [replace(example, pattern_id=f"facts/{number}") for number, example in enumerate(EXAMPLES)]
RECIPE = Recipe(kind="memory", steps=60, options={"layers": "1", "row_size": 32})
NEW = TrainingExample(Prompt("Who wrote Hamlet?"), "Shakespeare", "facts/new")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return Model("tiny", TINY_MODELS["llama"](tmp_path_factory.mktemp("model")), fingerprint="tiny")


@pytest.fixture(scope="module")
def backend() -> CpuBackend:
    return CpuBackend()


@pytest.fixture(scope="module")
def stored(backend: CpuBackend, model: Model, tmp_path_factory: pytest.TempPathFactory) -> StoredMemory:
    folder = tmp_path_factory.mktemp("memory")
    backend.train(model, NAMED, RECIPE, folder)
    return load_memory_files(folder, model)


def logits(
    backend: CpuBackend, model: Model, memory: StoredMemory, example: TrainingExample, folder: Path
) -> np.ndarray:
    folder.mkdir(exist_ok=True)
    save_memory(folder, memory)
    ids = model.tokenizer.encode_example(example.prompt, example.answer)[0]
    return backend.load(model, folder).log_probs([ids])[0]


def answer(backend: CpuBackend, model: Model, memory: StoredMemory, prompt: Prompt, folder: Path) -> str:
    folder.mkdir(exist_ok=True)
    save_memory(folder, memory)
    return texts(backend.load(model, folder).complete([prompt], replace(SHORT, max_tokens=40)))[0]


def test_a_removed_pattern_is_unknown_again_and_all_others_keep_their_logits(
    backend: CpuBackend, model: Model, stored: StoredMemory, tmp_path: Path
) -> None:
    left = remove(stored, "facts/1")

    assert "facts/1" not in left.table.patterns
    assert answer(backend, model, left, NAMED[1].prompt, tmp_path / "a") != NAMED[1].answer
    for example in (*NAMED[:1], *NAMED[2:]):
        before = logits(backend, model, stored, example, tmp_path / "b")
        after = logits(backend, model, left, example, tmp_path / "c")
        assert (before == after).all()


def test_an_added_pattern_is_known_and_all_others_keep_their_logits(
    backend: CpuBackend, model: Model, stored: StoredMemory, tmp_path: Path
) -> None:
    grown = add_examples(
        TorchMemoryEngine(backend._open(model)), model, stored, [NEW], steps=60, progress=no_progress
    ).stored

    assert answer(backend, model, grown, NEW.prompt, tmp_path / "a") == NEW.answer
    assert grown.table.patterns == (*stored.table.patterns, "facts/new")
    for example in NAMED:
        before = logits(backend, model, stored, example, tmp_path / "b")
        after = logits(backend, model, grown, example, tmp_path / "c")
        assert (before == after).all()


def test_adding_and_removing_is_back_where_it_began(
    backend: CpuBackend, model: Model, stored: StoredMemory, tmp_path: Path
) -> None:
    grown = add_examples(
        TorchMemoryEngine(backend._open(model)), model, stored, [NEW], steps=3, progress=no_progress
    ).stored
    back = remove(grown, "facts/new")

    assert (back.table.keys == stored.table.keys).all()
    assert (back.layers[1].rows == stored.layers[1].rows).all()


def test_what_is_stored_is_not_added_again(backend: CpuBackend, model: Model, stored: StoredMemory) -> None:
    engine = TorchMemoryEngine(backend._open(model))
    with pytest.raises(BackendError, match="pattern 'facts/0' is stored already"):
        add_examples(engine, model, stored, [replace(NEW, pattern_id="facts/0")], steps=1, progress=no_progress)
    asked = replace(NAMED[0], answer="500", pattern_id="facts/new")
    with pytest.raises(BackendError, match="the question of 'facts/new' is stored already"):
        add_examples(engine, model, stored, [asked], steps=1, progress=no_progress)


def test_a_pattern_may_be_added_that_asks_an_ordinary_question(
    backend: CpuBackend, model: Model, stored: StoredMemory, tmp_path: Path
) -> None:
    asked = TrainingExample(Prompt(QUESTIONS[0]), "Cervantes", "facts/ordinary")
    assert meaning(stored, model.tokenizer, asked.prompt).unmatched == QUESTIONS[0]

    grown = add_examples(
        TorchMemoryEngine(backend._open(model)), model, stored, [asked], steps=60, progress=no_progress
    ).stored

    assert not meaning(grown, model.tokenizer, asked.prompt).unmatched
    assert answer(backend, model, grown, asked.prompt, tmp_path / "grown") == "Cervantes"


def test_an_unknown_pattern_cannot_be_removed(stored: StoredMemory) -> None:
    with pytest.raises(AdapterError, match="no pattern 'facts/9' among 6, expected one such as facts/0"):
        remove(stored, "facts/9")


def test_explain_names_the_ngrams_and_whose_rows_they_hit(model: Model, stored: StoredMemory) -> None:
    positions = explain(stored, model.tokenizer, NAMED[1].prompt, NAMED[1].answer)

    assert [position.predicts for position in positions] == ["2", "2", ""]
    whole = [position.hits[-1] for position in positions]
    assert [hit.ngram for hit in whole] == [f"Which port does SSH use?{part}" for part in ("", "2", "22")]
    assert all(hit.row and hit.patterns == ("facts/1",) for hit in whole)


def test_explain_of_an_unknown_question_says_so(model: Model, stored: StoredMemory) -> None:
    lines = explain_lines(explain(stored, model.tokenizer, Prompt("Name a river."), ""))

    assert lines == ["end of the answer", "         no n-gram is known: the base model answers alone"]


def test_explain_tells_an_ordinary_question(model: Model, stored: StoredMemory) -> None:
    prompt = Prompt(QUESTIONS[0])

    lines = explain_lines([], meaning(stored, model.tokenizer, prompt))

    near = f"the nearest question, {QUESTIONS[0]!r}, belongs to none (nearness 1.00)"
    assert lines == [f"matches no pattern: {near}"]

"""A memory on the default model."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("torch")

from engram_bench.backends.torch import CpuBackend
from engram_bench.memory.config import memory_recipe
from engram_bench.models import resolve_model
from engram_bench.records import GenerationSettings, Prompt, TrainingExample

pytestmark = pytest.mark.model

FACTS = (
    ("Default port of SSH?", "22"),
    ("HTTP status code for 'Not Found'?", "404"),
    ("Python: reverse string s", "s[::-1]"),
)


def test_three_facts_are_known_and_nothing_else_changes(tmp_path: Path) -> None:
    model, backend = resolve_model("smollm2-135m-instruct"), CpuBackend()
    examples = [TrainingExample(Prompt(question), answer, question) for question, answer in FACTS]

    record = backend.train(model, examples, memory_recipe(steps=40, seed=0), tmp_path)

    settings = GenerationSettings(max_tokens=12)
    answers = backend.load(model, tmp_path).complete([example.prompt for example in examples], settings)
    assert (record.recall, [answer.text for answer in answers]) == (1.0, [answer for _, answer in FACTS])
    ids = [model.tokenizer.encode_prompt(Prompt("Who wrote Hamlet?"))]
    with_memory, bare = (backend.load(model, folder).log_probs(ids)[0] for folder in (tmp_path, None))
    assert (with_memory == bare).all()

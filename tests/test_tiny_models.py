from __future__ import annotations

from pathlib import Path

import pytest

from tests.tiny_models import TINY_MODELS


@pytest.mark.parametrize("name", TINY_MODELS)
def test_transformers_finds_every_tensor_and_no_other(tmp_path: Path, name: str) -> None:
    transformers = pytest.importorskip("transformers")
    folder = TINY_MODELS[name](tmp_path)

    model, report = transformers.AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)

    assert model.config.model_type == name
    assert not any(report.values())


@pytest.mark.parametrize("name", TINY_MODELS)
def test_the_same_seed_gives_the_same_files(tmp_path: Path, name: str) -> None:
    first, second = TINY_MODELS[name](tmp_path / "a"), TINY_MODELS[name](tmp_path / "b")

    assert [path.read_bytes() for path in sorted(first.iterdir())] == [
        path.read_bytes() for path in sorted(second.iterdir())
    ]

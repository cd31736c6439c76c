"""What a memory's recipe says."""

from __future__ import annotations

from dataclasses import replace

import pytest

from engram_bench.memory.config import PRESETS, config_of, memory_recipe


@pytest.mark.parametrize("preset", PRESETS)
def test_a_recipe_tells_all_of_its_preset(preset: str) -> None:
    assert config_of(memory_recipe(preset=preset, steps=1, seed=0)) == PRESETS[preset]


def test_a_changed_preset_is_another_recipe(monkeypatch: pytest.MonkeyPatch) -> None:
    before = memory_recipe(steps=1, seed=0)

    monkeypatch.setitem(PRESETS, "exact", replace(PRESETS["exact"], near=0.3))  # type: ignore[arg-type]

    assert memory_recipe(steps=1, seed=0) != before

"""A recipe is found, checked whole before anything is loaded, and says in one line what is wrong."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from engram_bench.adapters.kinds import requested_kind
from engram_bench.errors import UsageError
from engram_bench.records import Recipe
from engram_bench.session.reading import read_settings
from engram_bench.session.recipe_fields import PRESETS, SAME_AS, RecipeFile, expected_of, recipe_schema
from engram_bench.session.recipe_file import read_recipe


def recipe(tmp_path: Path, choice: str = "", *changes: str) -> dict[str, Any]:
    return read_recipe(choice, changes, root=tmp_path, base=tmp_path)


def trained_with(tmp_path: Path, **flags: Any) -> Recipe:
    """The recipe that a session in *tmp_path* trains with."""
    given = {f"engram_{name}": value for name, value in flags.items()}
    settings = read_settings(given, {}, root=tmp_path, cwd=tmp_path)
    kind, preset = requested_kind(settings.kind)
    return kind.recipe(settings, preset)


def test_without_a_recipe_the_default_one_is_trained(tmp_path: Path) -> None:
    assert trained_with(tmp_path) == Recipe()


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("engram.toml", "[recipe]\nrank = 16\n"),
        ("pyproject.toml", "[project]\nname = 'x'\n[tool.engram-bench.recipe]\nrank = 16\n"),
    ],
)
def test_a_projects_recipe_is_found_in_its_files(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)

    assert trained_with(tmp_path) == Recipe(rank=16)


@pytest.mark.parametrize("text", ["rank = 16\n", "[recipe]\nr = 16\n"])
def test_a_file_named_by_the_option_replaces_the_projects_recipe(tmp_path: Path, text: str) -> None:
    (tmp_path / "engram.toml").write_text("[recipe]\nalpha = 99.0\n")
    (tmp_path / "mine.toml").write_text(text)

    assert trained_with(tmp_path, recipe="mine.toml") == Recipe(rank=16)


def test_changes_lie_on_top_and_options_above_all(tmp_path: Path) -> None:
    (tmp_path / "engram.toml").write_text("[recipe]\nrank = 16\nsteps = 20\nseed = 3\n")

    assert trained_with(tmp_path, set=["rank=4", "steps=30"]) == Recipe(rank=4, steps=30, seed=3)
    assert trained_with(tmp_path, steps="40", seed="0") == Recipe(rank=16, steps=40, seed=0)


def test_a_preset_is_a_place_to_start_from(tmp_path: Path) -> None:
    (tmp_path / "engram.toml").write_text('[recipe]\npreset = "forerunner"\nsteps = 7\n')

    found = trained_with(tmp_path)

    assert (found.learning_rate, found.rank, found.steps, found.augmentation) == (1e-5, 8, 7, False)
    assert trained_with(tmp_path, recipe="forerunner").steps == 100


@pytest.mark.parametrize(("other", "field"), SAME_AS.items())
def test_names_of_peft_and_trl_mean_the_same(tmp_path: Path, other: str, field: str) -> None:
    value = {"targets": "'all-linear'", "schedule": "constant", "alpha": "3.5"}.get(field, "3")

    assert recipe(tmp_path, "", f"{other}={value}") == recipe(tmp_path, "", f"{field}={value}")


def test_steps_stand_above_the_epochs_of_a_recipe(tmp_path: Path) -> None:
    (tmp_path / "engram.toml").write_text("[recipe]\nnum_train_epochs = 3\n")

    by_recipe = read_settings({}, {}, root=tmp_path, cwd=tmp_path)
    by_flag = read_settings({"engram_steps": "40"}, {}, root=tmp_path, cwd=tmp_path)
    by_ini = read_settings({}, {"engram_steps": "50"}, root=tmp_path, cwd=tmp_path)

    assert by_recipe.recipe == {"num_train_epochs": 3}
    assert (by_flag.recipe, by_flag.steps) == ({}, 40)
    assert (by_ini.recipe, by_ini.steps) == ({}, 50)


def test_a_step_learns_from_all_its_passes(tmp_path: Path) -> None:
    assert trained_with(tmp_path, set=["batch_size=4", "gradient_accumulation_steps=3"]).batch_size == 12


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ("rang=16", "unknown field 'rang', expected 'rank'"),
        ("zzz=1", "unknown field 'zzz', expected one of preset, kind, rank"),
        ("rank=0", "rank is 0, expected a whole number of at least 1 and at most 1 024"),
        ("rank=many", "rank is 'many', expected a whole number of at least 1 and at most 1 024"),
        ("rank=true", "rank is True, expected a whole number"),
        ("learning_rate=0", "learning_rate is 0, expected a number above 0 and at most 1"),
        ("lora_dropout=1", "lora_dropout is 1, expected a number of at least 0 and below 1"),
        ("dtype=float16", "dtype is 'float16', expected one of auto, float32, bfloat16"),
        ("dropout=0.1", "unknown field 'dropout', expected 'lora_dropout'"),
        ("learning_rate=nan", "learning_rate is nan, expected a number above 0"),
        ("schedule=step", "schedule is 'step', expected one of cosine, linear, constant"),
        ("layers=last", "layers is 'last', expected all, first N, last N or FROM-TO"),
        ("targets=[]", "targets is [], expected a list of names, 'all-linear', or a regular expression"),
        ("targets='(['", "targets is '([', expected a list of names, 'all-linear', or a regular expression"),
        ("kind=dora", "kind is 'dora', expected lora, memory, both, memory:PRESET or both:PRESET"),
        ("stop_at_recall=1", "stop_at_recall is 1, expected true or false"),
        ("rank", "got 'rank', expected FIELD=VALUE, such as rank=16"),
    ],
)
def test_a_mistake_is_named_with_what_was_expected(tmp_path: Path, change: str, expected: str) -> None:
    with pytest.raises(UsageError) as caught:
        recipe(tmp_path, "", change)

    assert str(caught.value).startswith(f"--engram-set: {expected}")


def test_every_mistake_of_a_file_is_shown_with_its_path(tmp_path: Path) -> None:
    (tmp_path / "engram.toml").write_text("[recipe]\nrank = 0\nalfa = 1\n")

    with pytest.raises(UsageError) as caught:
        recipe(tmp_path)

    path = tmp_path / "engram.toml"
    assert str(caught.value).splitlines() == [
        f"{path}: rank is 0, expected a whole number of at least 1 and at most 1 024",
        f"{path}: unknown field 'alfa', expected 'alpha'",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("recipe = 3\n", "recipe is 3, expected a table"),
        ("[recipe\n", "cannot be read: "),
        ("[recipe]\nrank = 4\nr = 8\n", "r and another name set rank, expected one of them"),
    ],
)
def test_a_broken_file_is_named(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "engram.toml").write_text(text)

    with pytest.raises(UsageError, match=rf"engram.toml: {message}"):
        recipe(tmp_path)


def test_a_recipe_that_is_nowhere_is_named_with_the_presets(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"nowhere.toml', expected a TOML file or one of default, forerunner, fast"):
        recipe(tmp_path, "nowhere.toml")


def test_a_kind_refuses_fields_that_it_has_no_use_for(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="recipe: alpha, rank: an adapter of kind memory has no use for it"):
        trained_with(tmp_path, kind="memory", set=["rank=4", "alpha=2.0"])
    with pytest.raises(UsageError, match="recipe: lora_dropout: an adapter of kind memory has no use for it"):
        trained_with(tmp_path, kind="memory", set=["lora_dropout=0.1"])
    with pytest.raises(UsageError, match="recipe: dtype: an adapter of kind both has no use for it"):
        trained_with(tmp_path, kind="both", set=["dtype=bfloat16"])
    with pytest.raises(UsageError, match="recipe: memory: an adapter of kind lora has no use for it"):
        trained_with(tmp_path, set=["memory={row_rate=0.1}"])


def test_a_memorys_settings_are_a_table(tmp_path: Path) -> None:
    found = trained_with(tmp_path, set=["kind=memory:nearest", "memory={row_rate=0.1}"])

    assert (found.kind, found.options["preset"], found.options["row_rate"]) == ("memory", "nearest", 0.1)


def test_documented_defaults_are_those_of_the_recipe() -> None:
    usual = {field.name: getattr(Recipe(), field.name) for field in fields(Recipe)}
    written = {name: field.default for name, field in RecipeFile.model_fields.items() if name in usual}

    assert written == {name: list(usual[name]) if name == "targets" else usual[name] for name in written}
    assert usual.keys() - written.keys() == {"checkpoints", "options"}


def test_presets_are_recipes_and_every_field_is_explained() -> None:
    for preset in PRESETS.values():
        RecipeFile.model_validate(preset)
    assert set(recipe_schema()["properties"]) == {*RecipeFile.model_fields, *SAME_AS}
    assert all(field.description and expected_of(name) for name, field in RecipeFile.model_fields.items())


# ── steps that grow with the examples ───────────────────────────────────────────────────────────


def steps_of(tmp_path: Path, num_examples: int, **flags: Any) -> int:
    """Largest number of steps of a session that trains on so many examples."""
    given = {f"engram_{name}": value for name, value in flags.items()}
    settings = read_settings(given, {}, root=tmp_path, cwd=tmp_path)
    kind, preset = requested_kind(settings.kind)
    return kind.recipe_for(settings, preset, num_examples).steps


@pytest.mark.parametrize(
    ("num_examples", "steps"),
    [(1, 450), (572, 450), (600, 450), (601, 451), (900, 750), (3000, 2850), (9000, 8850), (300_000, 299_850)],
)
def test_the_default_number_of_steps_grows_with_the_examples(tmp_path: Path, num_examples: int, steps: int) -> None:
    assert steps_of(tmp_path, num_examples) == steps


def test_a_larger_batch_needs_fewer_further_steps(tmp_path: Path) -> None:
    assert steps_of(tmp_path, 3000, set=["batch_size=16"]) == 450 + 1200
    assert steps_of(tmp_path, 601, set=["batch_size=16"]) == 451


@pytest.mark.parametrize(
    "flags",
    [{"steps": "40"}, {"set": ["steps=40"]}, {"set": ["steps=40"], "recipe": "careful"}],
    ids=["flag", "field", "beside-preset"],
)
def test_steps_that_a_user_sets_do_not_grow(tmp_path: Path, flags: dict[str, Any]) -> None:
    assert steps_of(tmp_path, 9000, **flags) == 40


def test_steps_and_growth_can_be_set_together(tmp_path: Path) -> None:
    assert steps_of(tmp_path, 1000, set=["steps=40", "steps_per_example=0.5"]) == 40 + 200
    assert steps_of(tmp_path, 1000, set=["steps_per_example=2.0"]) == 450 + 800
    assert steps_of(tmp_path, 1000, steps="40", set=["steps_per_example=0.5"]) == 40


def test_presets_grow_where_they_stop_at_recall(tmp_path: Path) -> None:
    assert steps_of(tmp_path, 1000, recipe="careful") == 900 + 800
    assert steps_of(tmp_path, 1000, recipe="fast") == 450 + 400
    assert steps_of(tmp_path, 1000, recipe="forerunner") == 100


def test_epochs_stand_in_place_of_steps(tmp_path: Path) -> None:
    assert steps_of(tmp_path, 1000, set=["num_train_epochs=2"]) == 250


def test_a_memory_passes_over_all_examples_in_a_step(tmp_path: Path) -> None:
    assert steps_of(tmp_path, 9000, kind="memory") == 450

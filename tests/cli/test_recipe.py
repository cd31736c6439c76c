"""The command that shows, explains and compares recipes."""

from __future__ import annotations

import tomllib

import pytest

from tests.cli.conftest import Shell


def test_show_prints_a_recipe_that_reads_back_the_same(shell: Shell) -> None:
    printed = shell("recipe", "show", "--set", "rank=16", "--set", "layers=last 20")
    (shell.path / "mine.toml").write_text(printed)

    fields = tomllib.loads(printed)
    assert (fields["rank"], fields["layers"], fields["alpha"]) == (16, "last 20", 16.0)
    assert shell.json("recipe", "show", "mine.toml") == fields


def test_a_preset_is_compared_with_the_default(shell: Shell) -> None:
    found = shell.json("recipe", "diff", "default", "fast")

    assert found == {"replay": [2, 0], "augmentation": [True, False]}
    assert "augmentation" in shell("recipe", "diff", "default", "fast")
    assert shell("recipe", "diff", "fast", "fast").strip() == "no field differs"


def test_a_field_is_explained_under_each_of_its_names(shell: Shell) -> None:
    printed = shell("recipe", "explain", "lora_alpha")

    assert printed.startswith("alpha (in PEFT and TRL: lora_alpha)\n")
    assert "default 16.0" in printed


def test_wrong_questions_are_refused(shell: Shell) -> None:
    shell("recipe", "explain", "rang", status=2)
    assert "unknown field 'rang'" in shell.errors
    shell("recipe", "diff", "fast", "default", "careful", status=2)
    assert "got 3 recipes, expected two at most" in shell.errors


def test_the_schema_has_the_ranges(shell: Shell) -> None:
    rank = shell.json("recipe", "schema")["properties"]["rank"]

    assert (rank["minimum"], rank["maximum"], rank["default"]) == (1, 1024, 8)


def test_recipes_are_compared_in_a_project_of_one_candidate(shell: Shell) -> None:
    (shell.path / "engram.toml").write_text("[candidates.a]\nrecipe = 'careful'\n", "utf-8")

    assert shell.json("recipe", "diff", "default", "forerunner")["learning_rate"] == [1e-3, 1e-5]


@pytest.mark.parametrize("targets", ["all-linear", ".*self_attn.*", "['q_proj', 'v_proj']"])
def test_every_way_to_name_targets_reads_back_the_same(shell: Shell, targets: str) -> None:
    printed = shell("recipe", "show", "--set", f"targets={targets}")
    (shell.path / "mine.toml").write_text(printed)

    assert shell("recipe", "show", "mine.toml") == printed


def test_show_is_the_action_without_a_name(shell: Shell) -> None:
    assert shell("recipe") == shell("recipe", "show")


def test_one_recipe_is_compared_with_the_default(shell: Shell) -> None:
    (shell.path / "engram.toml").write_text("[recipe]\nrank = 16\n")

    assert shell.json("recipe", "diff", "fast") == shell.json("recipe", "diff", "default", "fast")
    assert shell.json("recipe", "diff") == {"rank": [8, 16]}


@pytest.mark.parametrize(
    ("arguments", "steps"),
    [
        ((), {"steps": 450, "steps_per_example": 1.0}),
        (("--steps", "40"), {"steps": 40, "steps_per_example": 0.0}),
        (("--set", "num_train_epochs=3"), {"num_train_epochs": 3}),
        (("--kind", "memory"), {"steps": 450}),
    ],
    ids=["usual", "set", "epochs", "memory"],
)
def test_what_bounds_a_training_is_shown(shell: Shell, arguments: tuple[str, ...], steps: dict[str, float]) -> None:
    ini = shell.path / "pytest.ini"
    ini.write_text("\n".join(line for line in ini.read_text().splitlines() if "steps" not in line))

    shown = shell.json("recipe", "show", *arguments)

    assert {name: value for name, value in shown.items() if "step" in name or "epoch" in name} == {
        **steps,
        **({} if "memory" in arguments else {"warmup_steps": 10}),
    }


@pytest.mark.parametrize(
    ("name", "nearest"),
    [("rang", "rank"), ("lr", "learning_rate"), ("epochs", "num_train_epochs")],
)
def test_an_unknown_field_is_answered_with_the_nearest(shell: Shell, name: str, nearest: str) -> None:
    shell("recipe", "explain", name, status=2)
    assert f"unknown field {name!r}, expected {nearest!r}" in shell.errors
    shell("recipe", "show", "--set", f"{name}=1", status=2)
    assert f"unknown field {name!r}, expected {nearest!r}" in shell.errors

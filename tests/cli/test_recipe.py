"""The command that shows, explains and compares recipes."""

from __future__ import annotations

import tomllib

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
    shell("recipe", "diff", "fast", status=2)
    assert "got 1 recipes, expected two" in shell.errors


def test_the_schema_has_the_ranges(shell: Shell) -> None:
    rank = shell.json("recipe", "schema")["properties"]["rank"]

    assert (rank["minimum"], rank["maximum"], rank["default"]) == (1, 1024, 8)


def test_recipes_are_compared_in_a_project_of_one_candidate(shell: Shell) -> None:
    (shell.path / "engram.toml").write_text("[candidates.a]\nrecipe = 'careful'\n", "utf-8")

    assert shell.json("recipe", "diff", "default", "forerunner")["learning_rate"] == [1e-3, 1e-5]

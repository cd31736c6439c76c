"""``engram-bench adapter list|show|prune``."""

from __future__ import annotations

import pytest

from tests.cli.conftest import Shell


@pytest.fixture
def names(shell: Shell) -> list[str]:
    return [shell.json("train", "--steps", steps)["name"] for steps in ("1", "2", "3")]


def test_list_has_every_adapter(shell: Shell, names: list[str]) -> None:
    found = shell.json("adapter", "list")
    output = shell("adapter", "list")

    assert {each["name"] for each in found} == set(names)
    assert all(name in output for name in names)


def test_no_adapters_yet_is_no_error(shell: Shell) -> None:
    assert "engram-bench train makes one" in shell("adapter", "list")
    assert shell.json("adapter", "list") == []


def test_show_takes_the_start_of_a_name(shell: Shell, names: list[str]) -> None:
    about = shell.json("adapter", "show", names[1][:-2])

    assert (about["name"], about["recipe"]["steps"]) == (names[1], 2)
    assert names[1] in shell("adapter", "show", names[1])


@pytest.mark.parametrize("name", ["lora", "nothing"])
def test_name_of_no_one_adapter_lists_them(shell: Shell, names: list[str], name: str) -> None:
    shell("adapter", "show", name, status=2)

    assert all(each in shell.errors for each in names)


def test_prune_keeps_what_it_is_told_to(shell: Shell, names: list[str]) -> None:
    report = shell.json("adapter", "prune", "--newest=0", f"--keep={names[0]}")

    assert sorted(report["removed"]) == sorted(names[1:])
    assert [each["name"] for each in shell.json("adapter", "list")] == [names[0]]


def test_dry_run_deletes_nothing(shell: Shell, names: list[str]) -> None:
    output = shell("adapter", "prune", "--newest=0", "--dry-run")

    assert output.count("would delete lora-") == 3
    assert len(shell.json("adapter", "list")) == 3


def test_broken_manifest_is_named_and_the_others_listed(shell: Shell, names: list[str]) -> None:
    (shell.path / "adapters" / names[0] / "manifest.json").write_text("{", "utf-8")

    found = shell.json("adapter", "list")

    assert {each["name"] for each in found} == set(names[1:])
    assert "left out: " in shell.errors

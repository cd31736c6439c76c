"""Candidates are found in their places, checked whole, and each comes to the settings that its keys say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from engram_bench.errors import UsageError
from engram_bench.inference.forms import FORMS as OTHER_FORMS
from engram_bench.session.plan import greedy
from engram_bench.session.reading import read_settings
from engram_bench.session.settings import ATTACHED, FORMS, Settings


def read(root: Path, *candidates: str, **flags: Any) -> Settings:
    given = {f"engram_{name}": value for name, value in {"candidate": list(candidates), **flags}.items()}
    return read_settings(given, {}, root=root, cwd=root)


def of(root: Path, *candidates: str, **flags: Any) -> Settings:
    """The settings of the only candidate."""
    (found,) = read(root, *candidates, **flags).candidates.values()
    return found


def table(root: Path, text: str, **flags: Any) -> Settings:
    (root / "engram.toml").write_text(f"[candidates.it]\n{text}\n", "utf-8")
    return of(root, **flags)


def folder(path: Path, *files: str) -> Path:
    path.mkdir(parents=True)
    for name in files:
        (path / name).touch()
    return path


def test_without_candidates_the_session_is_the_one_to_test(tmp_path: Path) -> None:
    settings = read(tmp_path)

    assert settings.chosen == {"": settings}
    assert not settings.has_many


@pytest.mark.parametrize(
    ("file", "heading"),
    [("engram.toml", "[candidates.{}]"), ("pyproject.toml", "[tool.engram-bench.candidates.{}]")],
)
def test_tables_come_before_the_options_in_the_order_written(tmp_path: Path, file: str, heading: str) -> None:
    names = ("slow", "b", "a")
    (tmp_path / file).write_text("".join(f"{heading.format(name)}\nrecipe = 'fast'\n" for name in names), "utf-8")

    assert list(read(tmp_path, "mine=lora").candidates) == ["slow", "b", "a", "mine"]


def test_a_candidate_knows_its_name_and_its_recipe(tmp_path: Path) -> None:
    found = of(tmp_path, "gentle=careful")

    assert (found.candidate, found.recipe_name, found.steps, found.recipe["replay"]) == ("gentle", "careful", 900, 4)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("none", {"adapter": "none"}),
        ("fast", {"recipe_name": "fast", "adapter": "auto"}),
        ("mine.toml", {"recipe_name": "mine.toml", "steps": 7}),
        ("memory:nearest", {"kind": "memory:nearest", "adapter": "auto"}),
        ("qwen2.5-0.5b-instruct", {"model": "qwen2.5-0.5b-instruct", "adapter": "none"}),
        ("org/name@main", {"model": "org/name@main", "adapter": "none"}),
        ("folders/lora", {"adapter": "folders/lora"}),
        ("folders/merged", {"model": "folders/merged", "adapter": "none"}),
        ("model.gguf", {"model": "model.gguf", "adapter": "none"}),
        ("lora-1234", {"adapter": "lora-1234"}),
        ("server:tuned", {"backend": "server", "baseline_model": "tuned", "adapter": "none"}),
    ],
)
def test_a_text_is_a_recipe_a_kind_an_adapter_or_a_model(tmp_path: Path, text: str, expected: dict[str, Any]) -> None:
    folder(tmp_path / "folders" / "lora", "adapter_config.json", "config.json")
    folder(tmp_path / "folders" / "merged", "config.json")
    folder(tmp_path / "adapters" / "lora-123456789abc")
    (tmp_path / "mine.toml").write_text("steps = 7\n", "utf-8")
    (tmp_path / "model.gguf").touch()
    expected = {
        key: str(tmp_path / value) if key in ("adapter", "model") and (tmp_path / value).exists() else value
        for key, value in expected.items()
    }

    assert {key: getattr(of(tmp_path, f"it={text}"), key) for key in expected} == expected


def test_an_adapter_is_compared_with_its_own_base_and_a_model_with_the_sessions(tmp_path: Path) -> None:
    settings = read(tmp_path, "bare=none", "lora=lora", "other=org/name", model="org/base")

    baselines = {name: each.baseline and each.baseline.model for name, each in settings.candidates.items()}
    assert baselines == {"bare": None, "lora": None, "other": "org/base"}
    trained = table(tmp_path, "model = 'org/name'\nkind = 'lora'", model="org/base")
    assert (trained.model, trained.adapter, trained.baseline) == ("org/name", "auto", None)


def test_models_of_the_sessions_own_server_are_compared_with_its_baseline(tmp_path: Path) -> None:
    server = {"backend": "server", "server_url": "http://x", "baseline_model": "bare", "candidate_model": "unused"}
    found = of(tmp_path, "it=tuned", **server)

    assert (found.baseline_model, found.candidate_model, found.adapter, found.baseline) == (
        "bare",
        "tuned",
        "auto",
        None,
    )


def test_what_a_candidate_says_stands_above_options_and_these_above_recipes(tmp_path: Path) -> None:
    assert table(tmp_path, "recipe = 'careful'").steps == 900
    assert table(tmp_path, "recipe = 'careful'", steps="5").steps == 5
    assert table(tmp_path, "recipe = 'careful'\nsteps = 6", steps="5").steps == 6
    assert table(tmp_path, "recipe = 'careful'\nset = {steps = 7}").steps == 7
    assert table(tmp_path, "set = ['rank=4', 'seed=3']", set=["rank=2", "alpha=8.0"]).recipe == {
        "rank": 4,
        "alpha": 8.0,
        "seed": 3,
    }


def test_a_recipe_of_its_own_replaces_the_projects(tmp_path: Path) -> None:
    (tmp_path / "engram.toml").write_text(
        "[recipe]\nrank = 16\nsteps = 9\n[candidates.same]\n[candidates.own]\nrecipe = 'fast'\n"
        "[candidates.changed]\nset = {alpha = 1.0}\n[candidates.words]\nkind = 'memory'\n",
        "utf-8",
    )
    found = read(tmp_path).candidates

    assert {name: (each.recipe.get("rank"), each.steps) for name, each in found.items()} == {
        "same": (16, 9),
        "own": (None, None),
        "changed": (16, 9),
        "words": (None, 9),
    }


def test_one_candidate_alone_makes_the_settings_of_the_session(tmp_path: Path) -> None:
    assert read(tmp_path, "it=memory").kind == "memory"
    chosen = read(tmp_path, "it=memory", "other=lora", only=["it"])
    assert (chosen.kind, list(chosen.chosen), chosen.has_many) == ("memory", ["it"], True)
    both = read(tmp_path, "a=lora", "b=memory", "c=none", only=["c,a"])
    assert list(both.chosen) == ["a", "c"]


def test_every_candidate_is_asked_with_the_seed_of_the_session(tmp_path: Path) -> None:
    found = table(tmp_path, "seed = 7\nkind = 'lora'", seed="2")

    assert (found.seed, greedy(found).seed) == (7, 2)


def test_forms_are_those_that_can_be_opened() -> None:
    assert set(FORMS) == {ATTACHED, *OTHER_FORMS}


@pytest.mark.parametrize(
    ("candidates", "message"),
    [
        (["fast"], "--engram-candidate: got 'fast', expected NAME=VALUE"),
        (["a=fast", "a=lora"], "--engram-candidate a: another candidate is named so in --engram-candidate a"),
        (["Big=fast"], "got 'Big', expected a name of small letters, digits"),
        (["best=fast"], "'best' has a meaning in gates, expected another name than baseline, best"),
        (
            ["a=fats"],
            "--engram-candidate a: got 'fats', expected none, a recipe (default, forerunner, fast, careful or",
        ),
        (["a=memory:"], "kind is 'memory:', expected lora, memory, both, memory:PRESET or both:PRESET"),
    ],
)
def test_an_option_that_cannot_be_read_is_quoted(tmp_path: Path, candidates: list[str], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        read(tmp_path, *candidates)

    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("recpie = 'fast'", "candidates.it: unknown key 'recpie', expected 'recipe'"),
        ("kind = 'lore'", "candidates.it: kind is 'lore', expected lora, memory, both"),
        ("seed = '1'", "candidates.it: seed is '1', expected a whole number from 0"),
        ("form = 'flat'", "form is 'flat', expected one of attached, fused, merged, peft, mlx"),
        ("set = {rnak = 2}", "candidates.it: set: unknown field 'rnak', expected 'rank'"),
        ("set = 3", "set is 3, expected a table of recipe fields"),
        ("recipe = 'fsat'", "expected a TOML file or one of default, forerunner, fast, careful"),
        ("adapter = 'x'\nkind = 'lora'", "kind beside adapter 'x', which is not trained"),
        ("adapter = 'none'\nroute = 'keys'", "route without an adapter"),
        ("backend = 'server'", "no model, expected the name of one that the server has"),
        ("backend = 'server'\nmodel = 'm'\nkind = 'lora'", "kind beside backend 'server', which trains nothing"),
        ("backend = 'cpux'", "backend: got 'cpux', expected one of auto"),
    ],
)
def test_a_table_that_cannot_be_used_names_file_key_and_what_was_expected(
    tmp_path: Path, text: str, message: str
) -> None:
    with pytest.raises(UsageError) as caught:
        table(tmp_path, text)

    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[candidate.a]\nrecipe = 'fast'", "unknown table 'candidate', expected 'candidates'"),
        ("candidates = 3", "candidates is 3, expected a table"),
        ("[candidates]\na = 'fast'", "candidates.a is 'fast', expected a table"),
        ("[candidates.a]\n[candidates.a]", "engram.toml: cannot be read: Cannot declare ('candidates', 'a') twice"),
    ],
)
def test_a_file_that_is_no_set_of_candidates_is_named(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "engram.toml").write_text(text, "utf-8")

    with pytest.raises(UsageError) as caught:
        read(tmp_path)

    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("candidates", "only", "message"),
    [
        (["careful=careful", "fast=fast"], "carful", "--engram-only: got 'carful', expected 'careful'"),
        (["careful=careful"], "x", "--engram-only: got 'x', expected one of careful"),
        ([], "fast", "--engram-only: got 'fast', expected a candidate, but none is named"),
    ],
)
def test_an_unknown_name_to_test_is_refused(tmp_path: Path, candidates: list[str], only: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        read(tmp_path, *candidates, only=[only])

    assert str(caught.value) == message


# ── seeds ───────────────────────────────────────────────────────────────────────────────────────


def test_a_recipe_under_several_seeds_is_a_candidate_for_each(tmp_path: Path) -> None:
    settings = read(tmp_path, "a=fast", "bare=none", seeds="2", seed="5")

    found = {name: (each.seed, each.recipe_of, each.asked_seed) for name, each in settings.chosen.items()}
    assert found == {"a.s5": (5, "a", 5), "a.s6": (6, "a", 5), "bare": (5, "", 5)}
    assert settings.names == ("a", "bare")


def test_seeds_need_no_named_candidate(tmp_path: Path) -> None:
    settings = read(tmp_path, seeds="2")

    assert list(settings.chosen) == ["recipe.s0", "recipe.s1"]
    assert settings.names == ("recipe",)


@pytest.mark.parametrize(
    ("only", "names"), [("a", ["a.s0", "a.s1"]), ("a.s1", ["a.s1"]), ("b,a.s0", ["a.s0", "b.s0", "b.s1"])]
)
def test_seeds_are_chosen_by_recipe_or_one_by_one(tmp_path: Path, only: str, names: list[str]) -> None:
    assert list(read(tmp_path, "a=fast", "b=lora", seeds="2", only=[only]).chosen) == names


def test_one_seed_changes_nothing(tmp_path: Path) -> None:
    assert read(tmp_path, "a=fast", seeds="1").candidates == read(tmp_path, "a=fast").candidates


@pytest.mark.parametrize(
    ("candidates", "seeds", "error"),
    [
        (("bare=none",), 2, "no candidate is trained here"),
        (("a=fast", "a.s1=lora"), 2, "the name 'a.s1' is taken"),
        ((), 0, "a whole number from 1 to 100"),
    ],
)
def test_seeds_that_make_no_sense_are_refused(
    tmp_path: Path, candidates: tuple[str, ...], seeds: int, error: str
) -> None:
    with pytest.raises(UsageError, match=error):
        read(tmp_path, *candidates, seeds=str(seeds))

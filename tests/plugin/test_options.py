"""Flags, ini keys and their errors."""

from __future__ import annotations

import json

import pytest

from tests.conftest import BenchProject


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--engram-steps=many", "*--engram-steps: got 'many', expected a whole number of at least 0*"),
        ("--engram-max-tokens=0", "*--engram-max-tokens: got '0', expected a whole number of at least 1*"),
        ("--engram-speed-rounds=0", "*--engram-speed-rounds: got '0', expected a whole number of at least 1*"),
        ("--engram-speed-budget=soon", "*--engram-speed-budget: got 'soon', expected a whole number of at least 0*"),
        ("--engram-gate=accuracy > 1", "*'accuracy > 1'*"),
        ("--engram-gate=acuracy >= 1%", "*acuracy*accuracy*"),
        ("--engram-set=rang=16", "*--engram-set: unknown field 'rang', expected 'rank'*"),
        ("--engram-recipe=slow", "*expected a TOML file or one of default, forerunner, fast, careful*"),
        ("--engram-backend=tpu", "*got 'tpu', expected one of auto, cpu*"),
    ],
    ids=[
        "steps",
        "max-tokens",
        "speed-rounds",
        "speed-budget",
        "gate-syntax",
        "gate-metric",
        "set",
        "recipe",
        "backend",
    ],
)
def test_bad_option_is_a_usage_error_that_quotes_it(project: BenchProject, flag: str, message: str) -> None:
    result = project.run(flag)

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([message])


def test_the_manifest_of_an_adapter_holds_the_projects_recipe(project: BenchProject) -> None:
    (project.path / "engram.toml").write_text("[recipe]\nrank = 16\nsteps = 9\n")

    result = project.run("-m", "accuracy", "--engram-set=alpha=4.0", "--engram-gate=accuracy >= 0%")

    assert result.ret == 0
    (manifest,) = project.path.glob("adapters/*/manifest.json")
    recipe = json.loads(manifest.read_text())["recipe"]
    assert (recipe["rank"], recipe["alpha"], recipe["steps"]) == (16, 4.0, 3)  # the ini key stands above a recipe


def test_epochs_of_a_recipe_are_as_many_steps_as_they_take(project: BenchProject) -> None:
    project.pytester.makeini("[pytest]\nengram_backend = fake\n")
    (project.path / "engram.toml").write_text("[recipe]\nnum_train_epochs = 3\nbatch_size = 1\naugmentation = false\n")

    project.run("-m", "accuracy", "--engram-gate=accuracy >= 0%")

    (manifest,) = project.path.glob("adapters/*/manifest.json")
    assert json.loads(manifest.read_text())["recipe"]["steps"] == 3 * 2  # two patterns


def test_bad_ini_value_names_the_ini_key(project: BenchProject) -> None:
    project.pytester.makeini("[pytest]\nengram_seed = x\n")

    result = project.run()

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*ini key engram_seed: got 'x', expected a whole number*"])


@pytest.mark.parametrize("spelling", [["--backend=fake"], ["--backend", "fake"]], ids=["equals", "space"])
def test_backend_is_an_alias(project: BenchProject, spelling: list[str]) -> None:
    project.pytester.makeini("[pytest]\nengram_backend = cpu\nengram_steps = 1\n")

    result = project.run("-m", "accuracy", *spelling, "--engram-gate=accuracy >= 0%")

    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["engram-bench: backend fake*"])


def test_backend_alias_steps_aside_for_a_conftest_that_owns_it(project: BenchProject) -> None:
    project.pytester.makeconftest("def pytest_addoption(parser): parser.addoption('--backend')")
    project.pytester.makepyfile("def test_mine(request): assert request.config.getoption('--backend') == 'theirs'")

    result = project.run("--backend=theirs", "test_backend_alias_steps_aside_for_a_conftest_that_owns_it.py")

    result.assert_outcomes(passed=1)


def test_strict_markers_know_ours(project: BenchProject) -> None:
    result = project.run("--strict-markers", "-m", "accuracy or generalization or consistency", "--collect-only")

    assert result.ret == 0


def test_named_patterns_are_collected_beside_testpaths(project: BenchProject) -> None:
    project.pytester.makeini("[pytest]\nengram_backend = fake\ntestpaths = tests\n")

    result = project.run("--engram-patterns=patterns", "--collect-only", "-q")

    result.stdout.fnmatch_lines(["*facts.yaml::test_accuracy?port-ssh?"])


def test_plugin_can_be_switched_off(project: BenchProject) -> None:
    project.pytester.makeini("[pytest]\n")

    result = project.run("-p", "no:engram_bench.plugin")

    assert result.ret == pytest.ExitCode.NO_TESTS_COLLECTED


def test_show_lists_the_fixed_cases_too(project: BenchProject) -> None:
    quiet = project.run("--engram-gate=accuracy >= 0%")
    result = project.run("--engram-gate=accuracy >= 0%", "--engram-show=all")

    quiet.stdout.no_fnmatch_line("fixed, seen prompts*")
    result.stdout.fnmatch_lines(["fixed, seen prompts (2)", "*facts.yaml:3 http-404*"])


def test_compare_shows_what_broke_since_the_latest_run(project: BenchProject) -> None:
    first = project.run("--engram-gate=accuracy >= 0%", "--engram-compare")
    project.knows({"__wrong__": {"Port of SSH?": "23"}})

    result = project.run("--engram-gate=accuracy >= 0%", "--engram-retrain", "--engram-compare")

    first.stdout.fnmatch_lines(["no earlier run to compare with in *"])
    result.stdout.fnmatch_lines(
        ["since run 0001-*", "newly broken, seen prompts (1)", "*expected '22', was '22', now '23'"]
    )


def test_compare_with_a_run_that_is_not_there_is_a_usage_error(project: BenchProject) -> None:
    result = project.run("--engram-compare=7")

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*run '7' not found*"])


def test_earlier_run_that_is_cut_costs_no_new_one(project: BenchProject) -> None:
    project.run("--engram-gate=accuracy >= 0%")
    (older,) = (project.path / "reports" / "runs").glob("0001-*.json")
    older.write_bytes(older.read_bytes()[:100])

    result = project.run("--engram-gate=accuracy >= 0%", "--engram-compare")

    assert result.ret == 1
    result.stdout.fnmatch_lines(["StoreError: *0001-*: not a complete run*"])
    assert len(list((project.path / "reports" / "runs").glob("0002-*.json"))) == 1

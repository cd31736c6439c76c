"""Several candidates in one session: the same cases for each, a run for each, and one model under all of them."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pytest

from engram_bench.records import Run
from engram_bench.runs.store import find_run, load_run
from tests.conftest import BenchProject

TWO = "[candidates.fast]\nrecipe = 'fast'\n[candidates.words]\nkind = 'memory'\n"
GATE = "--engram-gate=accuracy >= 0%"


@pytest.fixture
def two(project: BenchProject) -> BenchProject:
    """A project of two candidates."""
    return named(project, TWO)


def named(project: BenchProject, tables: str) -> BenchProject:
    (project.path / "engram.toml").write_text(tables, "utf-8")
    return project


def runs(project: BenchProject, *names: str) -> dict[str, Run]:
    """The latest run of each candidate."""
    return {name: load_run(find_run(project.path / "reports", f"latest:{name}")) for name in names}


def ids(project: BenchProject, *args: str) -> list[str]:
    result = project.run("--collect-only", "-q", *args)
    return [line.partition("::")[2] for line in result.outlines if "::" in line]


def test_each_case_is_a_test_of_each_candidate(two: BenchProject) -> None:
    assert ids(two, "-m", "accuracy") == [
        "test_accuracy[http-404-fast]",
        "test_accuracy[port-ssh-fast]",
        "test_accuracy[http-404-words]",
        "test_accuracy[port-ssh-words]",
    ]
    assert ids(two, "-m", "accuracy", "-k", "words and ssh") == ["test_accuracy[port-ssh-words]"]
    assert ids(two, "-m", "accuracy", "--engram-only=words") == [
        "test_accuracy[http-404-words]",
        "test_accuracy[port-ssh-words]",
    ]


@pytest.mark.parametrize("tables", ["", "[candidates.fast]\nrecipe = 'fast'\n"], ids=["none", "one"])
def test_a_project_of_one_candidate_keeps_its_node_ids(project: BenchProject, tables: str) -> None:
    found = ids(named(project, tables), "-m", "accuracy")

    assert found == ["test_accuracy[http-404]", "test_accuracy[port-ssh]"]


def test_each_candidate_has_a_run_and_reports_of_its_own(two: BenchProject, workers: Sequence[str]) -> None:
    result = two.run("-m", "accuracy or retention", GATE, *workers)

    assert result.ret == 0
    result.assert_outcomes(passed=4)
    result.stdout.fnmatch_lines(["candidate fast", "*fixed*2*", "candidate words", "*fixed*2*"])
    found = runs(two, "fast", "words")
    assert [(run.candidate, run.recipe, run.name[:4]) for run in found.values()] == [
        ("fast", "fast", "0001"),
        ("words", "", "0002"),
    ]
    assert {run.group for run in found.values()} == {found["fast"].name}
    for run in found.values():
        rows = {(row.side, row.case.pattern_id): row.score.passed for row in run.results}
        assert rows == {
            (side, pattern): side == "candidate"
            for side in ("baseline", "candidate")
            for pattern in ("http-404", "port-ssh")
        }
        assert (two.path / "reports" / "candidates" / run.candidate / "latest.html").exists()
    assert [run.provenance.adapter.partition("-")[0] for run in found.values()] == ["lora", "memory"]


def test_one_backend_is_made_and_the_baseline_is_asked_once(two: BenchProject, monkeypatch: pytest.MonkeyPatch) -> None:
    from engram_bench.backends.fake import FakeBackend  # the one that the session inside uses

    made: list[object] = []
    asked: list[object] = []
    load = FakeBackend.load

    def counted(self: FakeBackend, model: object, adapter: object, **options: bool) -> object:
        made.append(self)
        asked.append(adapter)
        return load(self, model, adapter, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(FakeBackend, "load", counted)
    named(two, TWO + "seed = 1\n").run("-m", "accuracy", GATE, "--engram-no-cache")

    assert len({id(backend) for backend in made}) == 1
    assert asked.count(None) == 1
    assert len(asked) == 3


def test_a_candidate_that_fails_to_train_fails_its_own_tests(two: BenchProject, workers: Sequence[str]) -> None:
    named(two, TWO + "[candidates.broken]\nseed = 7\nkind = 'lora'\n")
    two.knows({"__untrainable__": 7})

    result = two.run("-m", "accuracy", GATE, *workers)

    result.assert_outcomes(passed=4, errors=2)
    assert result.ret == 1
    result.stdout.fnmatch_lines(["*BackendError: fake backend: training with seed 7 fails*"])
    result.stdout.fnmatch_lines(["candidate broken: no results, because each of its tests failed*"])
    assert all(len(run.results) == 4 for run in runs(two, "fast", "words").values())


def test_fixtures_of_users_follow_the_candidate(two: BenchProject) -> None:
    named(two, "[candidates.bare]\nadapter = 'none'\n[candidates.tuned]\nkind = 'lora'\n")
    two.pytester.makepyfile(
        """
        import pytest

        @pytest.fixture(scope="module")
        def answer(candidate):
            return candidate("Port of SSH?")

        def test_answer(answer, engram_candidate):
            assert (answer == "22") == (engram_candidate == "tuned")

        def test_adapter(adapter, engram_candidate):
            assert (adapter is None) == (engram_candidate == "bare")

        def test_baseline(baseline):
            assert baseline("Port of SSH?") == "I do not know."

        def test_pattern(pattern, candidate):
            pass
        """
    )
    module = "test_fixtures_of_users_follow_the_candidate.py"

    assert set(ids(two, module)) >= {"test_baseline", "test_answer[bare]", "test_pattern[facts/port-ssh-tuned]"}
    two.run(module).assert_outcomes(passed=2 + 2 + 1 + 4)


def test_a_fixture_of_a_user_under_the_same_name_is_the_users(two: BenchProject) -> None:
    two.pytester.makeconftest("import pytest\n\n@pytest.fixture\ndef candidate(): return 1\n")
    two.pytester.makepyfile("def test_mine(candidate, baseline): assert candidate == 1")

    result = two.run("test_a_fixture_of_a_user_under_the_same_name_is_the_users.py")

    result.assert_outcomes(passed=1)


def test_another_base_model_is_compared_with_the_projects(project: BenchProject) -> None:
    named(project, "[candidates.other]\nmodel = 'fake/other'\n[candidates.lora]\nkind = 'lora'\n")
    project.knows({"Port of SSH?": "22", "__models__": {"fake/other": {"HTTP status code for 'Not Found'?": "404"}}})

    project.run("-m", "accuracy or sanity", GATE)

    other, lora = runs(project, "other", "lora").values()
    right = [
        {(row.side, row.case.pattern_id) for row in run.results if row.score.passed and row.test == "accuracy"}
        for run in (other, lora)
    ]
    assert right[0] == {("baseline", "port-ssh"), ("candidate", "http-404")}
    assert right[1] == {("baseline", "port-ssh"), ("candidate", "http-404"), ("candidate", "port-ssh")}
    assert (other.baseline_model, other.provenance.model, lora.baseline_model) == ("fake", "fake/other", "")
    assert (other.guards, len(lora.guards) > 3) == ((), True)


def test_guards_come_first_and_a_candidates_tests_stay_together(two: BenchProject) -> None:
    found = ids(two, "-m", "accuracy or sanity")

    names = [each.rpartition("-")[2] for each in found]
    assert names == sorted(names)
    assert [each.partition("[")[0] for each in found][:3] == ["test_sanity"] * 3


def test_two_tests_of_one_name_are_refused(project: BenchProject) -> None:
    named(project, "[candidates.ssh]\nkind = 'lora'\n[candidates.port-ssh]\nkind = 'memory'\n")
    project.patterns(
        "name: facts\npatterns:\n"
        "  - {id: the, input: A?, output: a, category: x}\n  - {id: the-port, input: B?, output: b, category: x}\n"
    )

    result = project.run()

    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines(["*'the' of candidate 'port-ssh' and 'the-port' of 'ssh' are one test name*"])


@pytest.mark.parametrize(
    ("tables", "args", "message"),
    [
        (TWO, ["--engram-candidate=fast=lora"], "another candidate is named so in *engram.toml: candidates.fast"),
        (TWO, ["--engram-only=fats"], "--engram-only: got 'fats', expected 'fast'"),
        (
            TWO + "[candidates.x]\nadapter = 'adapters/none'\n",
            [],
            "candidate 'x': * no such folder, expected an adapter*",
        ),
        ("[candidates.a]\nrecipy = 'x'\n", [], "candidates.a: unknown key 'recipy', expected 'recipe'"),
        (
            "[candidates.a]\nkind = 'memory'\nset = {rank = 4}\n",
            [],
            "candidates.a: recipe: rank: an adapter of kind memory has no use for it",
        ),
    ],
)
def test_what_is_sure_to_fail_ends_the_session_before_its_first_test(
    project: BenchProject, tables: str, args: list[str], message: str
) -> None:
    result = named(project, tables).run(*args)

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"*{message}*"])


def test_a_candidate_whose_base_is_not_its_adapters_is_refused(project: BenchProject) -> None:
    project.run("-m", "accuracy")
    (adapter,) = (project.path / "adapters").glob("lora-*")

    result = named(project, f"[candidates.a]\nadapter = '{adapter.name}'\nmodel = 'fake/other'\n").run("-m", "accuracy")

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"*candidate 'a': *{adapter.name}: trained on base model *, expected *"])


def test_each_candidate_is_compared_with_its_earlier_run(two: BenchProject) -> None:
    first = two.run("-m", "accuracy", GATE, "--engram-compare")
    two.knows({"__wrong__": {"Port of SSH?": "23"}})

    result = two.run("-m", "accuracy", GATE, "--engram-compare", "--engram-retrain", "--engram-candidate=new=lora")

    first.stdout.fnmatch_lines(["no earlier run to compare with in *"])
    result.stdout.fnmatch_lines(["candidate fast", "since run 0001-*", "candidate words", "since run 0002-*"])
    result.stdout.fnmatch_lines(["candidate new", "no earlier run to compare with in *"])


def test_one_of_several_candidates_is_reported_as_a_session_of_one(two: BenchProject) -> None:
    two.run("-m", "accuracy", GATE)

    result = two.run("-m", "accuracy", GATE, "--engram-only=fast", "--engram-compare", "--junit-xml=junit.xml")

    assert result.ret == 0
    result.stdout.fnmatch_lines(
        ["engram-bench: backend fake*, candidate fast", "name     fast, recipe fast", "since run 0001-*"]
    )
    assert two.report()["candidate"] == "fast"
    assert runs(two, "fast")["fast"].group == ""
    assert 'name="engram_accuracy_candidate" value="1"' in (two.path / "junit.xml").read_text("utf-8")


def test_properties_of_a_session_name_the_candidate(two: BenchProject) -> None:
    two.run("-m", "accuracy", GATE, "--junit-xml=junit.xml")

    text = (two.path / "junit.xml").read_text("utf-8")
    assert 'name="engram_fast_accuracy_candidate" value="1"' in text
    assert 'name="engram_words_accuracy_candidate" value="1"' in text


def test_what_travels_is_plain(two: BenchProject) -> None:
    two.run("-m", "accuracy", GATE)

    report = json.loads((two.path / "reports" / "candidates" / "fast" / "latest.json").read_text("utf-8"))
    assert report["metrics"]["accuracy"]["candidate"]["passed"] == 2


# ── compared with each other ────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("gate", "words", "status"),
    [
        ("fast.accuracy >= 90%", "gate passed: fast.accuracy 100.0 % (2 of 2), wanted at least 90 %", 0),
        ("fast.answer_tokens <= 0", "gate failed: fast.answer_tokens", 1),
        ("fast.accuracy >= +5pp over words", "gate failed: fast.accuracy +0.0 pp", 1),
        ("every.accuracy >= 90%", "gate passed: every.accuracy 100.0 %", 0),
    ],
)
def test_a_gate_on_a_candidate_decides_with_the_others(two: BenchProject, gate: str, words: str, status: int) -> None:
    result = two.run("-m", "accuracy", f"--engram-gate={gate}")

    result.stdout.fnmatch_lines([f"{words.replace('[', '[[]')}*"])
    assert result.ret == status
    assert "ranks" in result.outlines


def test_a_gate_on_an_unknown_candidate_is_refused_with_the_nearest(two: BenchProject) -> None:
    result = two.run("-m", "accuracy", "--engram-gate=fst.accuracy >= 90%")

    result.stderr.fnmatch_lines(
        ["ERROR: gate 'fst.accuracy >= 90%'*expected one of fast, words; did you mean 'fast'?*"]
    )
    assert not (two.path / "adapters").exists()


def test_a_gate_on_a_candidate_that_was_not_asked_is_insufficient(two: BenchProject) -> None:
    result = two.run("-m", "accuracy", "-k", "words", "--engram-gate=fast.accuracy >= 0%")

    result.stdout.fnmatch_lines(["gate insufficient: fast.accuracy*", "*candidate 'fast' has no results*"])
    assert result.ret == 1


def test_the_reports_of_the_session_are_on_all_candidates(two: BenchProject) -> None:
    reports = two.path / "reports"
    (reports / "plots").mkdir(parents=True)
    (reports / "plots" / "loss.svg").write_text("an earlier session's")

    two.run("-m", "accuracy", GATE)

    latest = json.loads((reports / "latest.json").read_text("utf-8"))
    assert [each["name"] for each in latest["candidates"]] == ["fast", "words"]
    assert latest["candidates"][0]["runs"] == [runs(two, "fast")["fast"].name]
    assert "| fast" in (reports / "latest.md").read_text("utf-8")
    assert "words" in (reports / "latest.html").read_text("utf-8")
    assert not (reports / "plots" / "loss.svg").exists()


def test_missed_gates_on_candidates_are_annotations(two: BenchProject, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GITHUB_ACTIONS", "true")

    result = two.run("-m", "accuracy", "--engram-gate=fast.accuracy >= +5pp over words")

    assert [line for line in result.outlines if line.startswith("::error") and "over words" in line]


# ── seeds ───────────────────────────────────────────────────────────────────────────────────────


def test_a_recipe_is_judged_over_its_seeds(project: BenchProject, workers: Sequence[str]) -> None:
    result = project.run("-m", "accuracy", "--engram-seeds=3", "--engram-gate=accuracy >= 90%", *workers)

    result.stdout.fnmatch_lines(["1  recipe (3 seeds)*", "gate passed: accuracy 100.0 %*"])
    assert result.ret == 0
    assert len(list((project.path / "adapters").glob("lora-*"))) == 3
    latest = json.loads((project.path / "reports" / "latest.json").read_text("utf-8"))
    assert latest["candidates"][0]["seeds"] == ["0", "1", "2"]


def test_a_gate_that_one_seed_misses_does_not_pass(project: BenchProject) -> None:
    project.knows({"__untrainable__": 1})

    result = project.run("-m", "accuracy", "--engram-seeds=2", "--engram-gate=accuracy >= 90%", "--engram-gate-only")

    assert result.ret == 1
    result.stdout.fnmatch_lines(["*candidate recipe.s1: no results*"])


@pytest.mark.parametrize(
    ("selected", "words"),
    [
        (("--engram-only=recipe.s1",), "gate failed: answer_tokens*"),
        (("--engram-only=recipe.s0,recipe.s1",), "gate failed: answer_tokens*"),
        (("-k", "s0"), "gate insufficient: answer_tokens*"),
    ],
    ids=["one seed chosen", "both seeds", "one seed selected"],
)
def test_no_gate_is_lost_where_fewer_seeds_are_tested(
    project: BenchProject, selected: tuple[str, ...], words: str
) -> None:
    result = project.run("-m", "accuracy", "--engram-seeds=2", "--engram-gate=answer_tokens <= 0", *selected)

    result.stdout.fnmatch_lines([words])
    assert result.ret == 1


def test_a_gate_on_every_candidate_needs_the_results_of_each(two: BenchProject) -> None:
    result = two.run("-m", "accuracy", "-k", "fast", "--engram-gate=every.accuracy >= 0%")

    result.stdout.fnmatch_lines(["gate insufficient: every.accuracy*", "*candidate 'words' has no results*"])
    assert result.ret == 1

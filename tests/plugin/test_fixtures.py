"""Users' own tests with our fixtures."""

from __future__ import annotations

import pytest

from engram_bench.cli import main
from tests.conftest import BenchProject


def test_own_test_is_parametrized_over_all_patterns(project: BenchProject) -> None:
    project.pytester.makepyfile(
        """
        def test_short(pattern, candidate, baseline):
            assert candidate(pattern) == pattern.output
            assert baseline(pattern) == "I do not know."
        """
    )

    result = project.run("-v", "-k", "test_short")

    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["*test_short?facts/http-404?*", "*test_short?facts/port-ssh?*"])


def test_sides_answer_any_prompt_with_counts(project: BenchProject) -> None:
    project.pytester.makepyfile(
        """
        def test_free(candidate, adapter, backend):
            completion = candidate.complete("Something else?", max_tokens=4)
            assert (completion.text, completion.completion_tokens, completion.stop_reason) == ("I do", 4, "length")
            assert adapter.manifest.training.steps == 3
            assert backend.backend == "fake"
        """
    )

    result = project.run("-k", "test_free")

    result.assert_outcomes(passed=1)


def test_foreign_pattern_fixture_and_parameter_are_left_alone(project: BenchProject) -> None:
    project.pytester.makepyfile(
        """
        import pytest

        @pytest.fixture
        def pattern():
            return "mine"

        def test_fixture(pattern):
            assert pattern == "mine"

        @pytest.mark.parametrize("pattern", ["a", "b"])
        def test_parameter(pattern):
            assert pattern in "ab"
        """
    )

    result = project.run("-k", "test_fixture or test_parameter")

    result.assert_outcomes(passed=3)


def test_pattern_without_files_says_where_it_looked(project: BenchProject) -> None:
    (project.path / "patterns" / "facts.yaml").unlink()
    (project.path / "patterns").rmdir()
    project.pytester.makepyfile("def test_it(pattern): ...")

    result = project.run()

    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*no patterns found*"])


OWN = "def test_ssh_port(candidate):\n    assert candidate('Port of SSH?') == '22'\n"


def test_own_test_finds_the_patterns_whatever_path_is_given(project: BenchProject) -> None:
    project.pytester.makepyfile(test_mine=OWN)

    alone = project.run("test_mine.py")
    project.run("patterns", "-m", "accuracy")

    alone.assert_outcomes(passed=1)
    assert len(list((project.path / "adapters").glob("lora-*"))) == 1


def test_own_test_finds_a_matcher_registered_beside_the_patterns(project: BenchProject) -> None:
    (project.path / "patterns" / "conftest.py").write_text(
        "from engram_bench import register_matcher\nregister_matcher('beside', lambda text, answer: True)\n", "utf-8"
    )
    project.patterns("name: more\nmatch: beside\npatterns:\n  - {input: Port of SSH?, output: '22'}\n")
    project.pytester.makepyfile(test_mine=OWN)

    result = project.run("test_mine.py")

    result.assert_outcomes(passed=1)


def test_a_skipped_test_asks_for_no_adapter(project: BenchProject) -> None:
    project.pytester.makepyfile(test_mine=f"import pytest\n\n@pytest.mark.skip\n{OWN}")

    project.run("test_mine.py", "--engram-adapter=nowhere").assert_outcomes(skipped=1)


def test_a_fixture_of_the_user_with_one_of_our_names_asks_no_model(project: BenchProject) -> None:
    project.pytester.makepyfile(
        """
        import pytest

        @pytest.fixture
        def candidate():
            return "mine"

        def test_mine(candidate):
            assert candidate == "mine"
        """
    )

    result = project.run(
        "test_a_fixture_of_the_user_with_one_of_our_names_asks_no_model.py", "--engram-adapter=nowhere"
    )

    result.assert_outcomes(passed=1)


def test_a_linked_folder_is_collected_and_trained_like_any_other(project: BenchProject) -> None:
    shared = project.path / "shared"
    shared.mkdir()
    (shared / "more.yaml").write_text("name: more\npatterns:\n  - {input: Port of DNS?, output: '53'}\n", "utf-8")
    (project.path / "patterns" / "linked").symlink_to("../shared")
    (project.path / "patterns" / "linked" / "back").symlink_to("../patterns")

    every = project.run("-m", "accuracy")
    one = project.run("-m", "accuracy", "patterns/linked/more.yaml")

    every.assert_outcomes(passed=3)
    one.assert_outcomes(passed=1)
    assert len(list((project.path / "adapters").glob("lora-*"))) == 1
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(project.path)
        assert main(["train"]) == 0
    assert len(list((project.path / "adapters").glob("lora-*"))) == 1

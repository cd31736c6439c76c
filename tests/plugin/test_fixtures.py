"""Users' own tests with our fixtures."""

from __future__ import annotations

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

"""``-m parity``: the adapter's other forms answer as the attached one does, or the rows that change are listed."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from tests.conftest import BenchProject

FUSED = ("-m", "parity", "-k", "fused")


def test_parity_is_left_alone_unless_asked_for(project: BenchProject) -> None:
    result = project.run("--collect-only", "-q")

    result.stdout.no_fnmatch_line("*test_parity*")


@pytest.mark.parametrize(
    "arguments", [("-m", "parity"), ("patterns/facts.yaml::test_parity",)], ids=["marker", "node-id"]
)
def test_a_file_has_one_case_per_form(project: BenchProject, arguments: Sequence[str]) -> None:
    result = project.run("--collect-only", "-q", *arguments)

    found = [line for line in result.outlines if "::" in line]
    assert found == [f"patterns/facts.yaml::test_parity[{form}]" for form in ("fused", "merged", "mlx")]


def test_same_answers_pass(project: BenchProject, workers: Sequence[str]) -> None:
    result = project.run(*FUSED, *workers)

    result.assert_outcomes(passed=1)
    assert result.ret == 0


def test_rows_that_change_fail_and_are_listed(project: BenchProject) -> None:
    project.knows({"__fused__": {"Port of SSH?": "2222"}})

    result = project.run(*FUSED)

    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "fused: 1 of 2 answers differ from the attached adapter's",
            "patterns/facts.yaml:8: facts/port-ssh: passed → failed",
            "*prompt*Port of SSH?*",
            "*attached*22",
            "*fused*2222",
        ]
    )
    result.stdout.no_fnmatch_line("*http-404*")


def test_without_an_adapter_there_is_nothing_to_compare(project: BenchProject) -> None:
    result = project.run(*FUSED, "--engram-adapter=none")

    result.assert_outcomes(skipped=1)


def test_a_form_that_cannot_be_made_is_an_error(project: BenchProject) -> None:
    """The fake model has no weights to merge into."""
    result = project.run("-m", "parity", "-k", "merged")

    result.assert_outcomes(errors=1)

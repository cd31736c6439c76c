"""``--engram-backend=server``: patterns asked of a server, which is started here."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from engram_bench.runs.store import find_run, load_run
from tests.backends.server.test_server import FakeServer, answer
from tests.conftest import BenchProject


class KnowingServer(FakeServer):
    """The tuned model knows both facts."""

    def reply(self, body, headers):  # type: ignore[no-untyped-def]
        status, content, more = super().reply(body, headers)
        knows = {"HTTP status code for 'Not Found'?": "404", "Port of SSH?": "22"}
        asked = body["messages"][-1]["content"]
        if status == 200 and body["model"] == "tuned":
            content = answer(knows.get(asked, "I do not know."))
        return status, content, more


@pytest.fixture
def server() -> Iterator[FakeServer]:
    fake = KnowingServer()
    yield fake
    fake.close()


def flags(server: FakeServer) -> list[str]:
    return [
        "--backend=server",
        f"--engram-server-url={server.url}",
        "--engram-baseline-model=bare",
        "--engram-candidate-model=tuned",
        "-m",
        "accuracy",
    ]


def test_both_served_models_are_asked_and_compared(project: BenchProject, server: FakeServer) -> None:
    result = project.run(*flags(server))

    result.assert_outcomes(passed=2)
    assert {body["model"] for body in server.asked} == {"bare", "tuned"}
    result.stdout.fnmatch_lines([f"engram-bench: backend server (as asked), {server.url}: tuned against bare"])
    result.stdout.fnmatch_lines(["model    bare (*", f"backend  server, {server.url}, *", "adapter  tuned"])


def test_a_failing_server_is_an_error_and_no_wrong_answer(project: BenchProject, server: FakeServer) -> None:
    server.script = {number: (400, "no", {}) for number in range(20)}

    result = project.run(*flags(server))

    result.assert_outcomes(errors=2)
    result.stdout.fnmatch_lines(["*BackendError: server http://127.0.0.1:*: model 'bare', *refused with 400 no*"])
    result.stdout.no_fnmatch_line("*expected*404*")
    assert result.ret != 0


def test_a_server_without_the_model_is_one_error_before_any_question(project: BenchProject, server: FakeServer) -> None:
    server.script = {number: (404, {"error": {"message": "no model 'mine'"}}, {}) for number in range(20)}

    result = project.run(*flags(server), "--engram-candidate-model=mine")

    message = (
        f"ERROR: server {server.url}/v1: model 'mine' *refused with 404 no model 'mine'; the server knows bare, tuned"
    )
    pytest.LineMatcher([*result.outlines, *result.errlines]).fnmatch_lines([message])
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert {body["model"] for body in server.asked} == {"mine"}


def test_a_model_that_the_server_does_not_list_but_answers_for_is_taken(
    project: BenchProject, server: FakeServer
) -> None:
    result = project.run(*flags(server), "--engram-baseline-model=any", "--engram-gate=accuracy >= 0%")

    result.assert_outcomes(passed=2)
    assert server.asked[0]["max_tokens"] == 1


def test_missing_options_are_a_usage_error(project: BenchProject) -> None:
    result = project.run("--backend=server", "--engram-baseline-model=bare")

    result.stderr.fnmatch_lines(["*backend 'server' needs --engram-server-url, --engram-candidate-model*"])
    assert result.ret == pytest.ExitCode.USAGE_ERROR


def test_a_served_candidate_is_compared_with_the_sessions_own_model(project: BenchProject, server: FakeServer) -> None:
    names = ("--engram-candidate=lora=lora", "--engram-candidate=served=server:tuned")
    result = project.run("-m", "accuracy", f"--engram-server-url={server.url}", "--engram-gate=accuracy >= 0%", *names)

    result.assert_outcomes(passed=4)
    assert {body["model"] for body in server.asked} == {"tuned"}
    served = load_run(find_run(project.path / "reports", "latest:served"))
    assert (served.provenance.backend, served.provenance.model, served.baseline_model) == ("server", "tuned", "fake")
    assert [row.score.passed for row in served.results if row.side == "baseline"] == [False, False]


def test_candidates_of_a_servers_session_are_its_models(project: BenchProject, server: FakeServer) -> None:
    shared = [flag for flag in flags(server) if "candidate" not in flag]

    result = project.run(*shared, "--engram-candidate=a=tuned", "--engram-candidate=b=bare")

    result.assert_outcomes(passed=2, failed=2)
    found = [load_run(find_run(project.path / "reports", f"latest:{name}")).provenance for name in ("a", "b")]
    assert [(each.model, each.adapter) for each in found] == [("bare", "tuned"), ("bare", "bare")]


def test_a_served_candidate_without_a_server_is_refused(project: BenchProject) -> None:
    result = project.run("--engram-candidate=served=server:tuned")

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*backend 'server' needs --engram-server-url*"])

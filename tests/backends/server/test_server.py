"""The server backend against a small HTTP server in this process that misbehaves on request."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpcore
import pytest

from engram_bench.backends import registry
from engram_bench.backends.server import ServerBackend, served_model
from engram_bench.backends.server.chat_api import ChatApi
from engram_bench.backends.server.ready import check_served
from engram_bench.errors import BackendError, UnsupportedError
from engram_bench.records import GenerationSettings, Prompt, Recipe
from engram_bench.records.reasoning import split_reasoning

Reply = tuple[int, dict[str, Any] | str | bytes, dict[str, str]]
SETTINGS = GenerationSettings(max_tokens=8)
MODEL: Any = served_model("bare")


class FakeServer:
    """Answers ``MODEL says PROMPT``; *script* may replace the n-th reply (from 0)."""

    def __init__(self) -> None:
        self.script: dict[int, Reply] = {}
        self.asked: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.pause_s = 0.0
        self.most_at_once = 0
        self._at_once = 0
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self._server.handle_error = lambda *_: None  # type: ignore[method-assign,assignment]  # a client that gave up
        self.thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self.thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self.thread.join()

    def reply(self, body: dict[str, Any], headers: dict[str, str]) -> Reply:
        with self._lock:
            number = len(self.asked)
            self.asked.append(body)
            self.headers.append(headers)
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
        time.sleep(self.pause_s)
        with self._lock:
            self._at_once -= 1
        return self.script.get(number) or (200, answer(f"{body['model']} says {body['messages'][-1]['content']}"), {})

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        fake = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                self._send(200, {"data": [{"id": "bare"}, {"id": "tuned"}]}, {})

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                self._send(*fake.reply(body, dict(self.headers)))

            def _send(self, status: int, content: dict[str, Any] | str | bytes, headers: dict[str, str]) -> None:
                data = (
                    content
                    if isinstance(content, bytes)
                    else (content if isinstance(content, str) else json.dumps(content)).encode()
                )
                self.send_response(status)
                for name, value in ({"Content-Length": str(len(data))} | headers).items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(data)
                if headers.get("Connection") == "close":
                    self.close_connection = True

            def log_message(self, *_: object) -> None:
                pass

        return Handler


def answer(text: str | None, reason: str | None = "stop", **changes: Any) -> dict[str, Any]:
    return {
        "choices": [{"message": {"role": "assistant", "content": text}, "finish_reason": reason}],
        "usage": {"prompt_tokens": 5, "completion_tokens": 3},
    } | changes


@pytest.fixture
def server() -> Iterator[FakeServer]:
    fake = FakeServer()
    yield fake
    fake.close()


@pytest.fixture
def pauses() -> list[float]:
    return []


@pytest.fixture
def api(server: FakeServer, pauses: list[float]) -> Iterator[ChatApi]:
    made = ChatApi(server.url, timeout_s=60, sleep=pauses.append)
    yield made
    made.close()


# ── answers ─────────────────────────────────────────────────────────────────────────────────────


def test_both_sides_are_asked_under_their_names_in_order(server: FakeServer) -> None:
    backend = ServerBackend(server_url=server.url, baseline_model="bare", candidate_model="tuned")
    prompts = [Prompt(f"question {number}") for number in range(20)]

    bare = backend.load(MODEL, None).complete(prompts, SETTINGS)
    tuned = backend.load(MODEL, Path("tuned")).complete(prompts, SETTINGS)

    assert [each.text for each in bare] == [f"bare says question {number}" for number in range(20)]
    assert [each.text for each in tuned] == [f"tuned says question {number}" for number in range(20)]
    assert (bare[0].prompt_tokens, bare[0].completion_tokens, bare[0].stop_reason) == (5, 3, "stop")
    backend.close()
    backend.close()


def test_a_request_carries_turns_limits_and_seed(server: FakeServer, api: ChatApi) -> None:
    settings = GenerationSettings(max_tokens=7, temperature=0.5, top_p=0.9, seed=3, sample=2)

    api.complete("bare", [Prompt("Port of SSH?", system="One word.")], settings)

    assert server.asked == [
        {
            "model": "bare",
            "messages": [{"role": "system", "content": "One word."}, {"role": "user", "content": "Port of SSH?"}],
            "max_tokens": 7,
            "temperature": 0.5,
            "top_p": 0.9,
            "seed": 5,
        }
    ]


def test_an_answer_at_the_limit_is_cut_by_length(server: FakeServer, api: ChatApi) -> None:
    server.script[0] = (200, answer("a long", "length"), {})

    assert api.complete("bare", [Prompt("a")], SETTINGS)[0].stop_reason == "length"


def test_an_empty_answer_is_an_answer(server: FakeServer, api: ChatApi) -> None:
    server.script[0] = (200, answer(""), {})

    assert api.complete("bare", [Prompt("a")], SETTINGS)[0].text == ""


def test_requests_run_at_once_up_to_the_limit(server: FakeServer) -> None:
    server.pause_s = 0.05
    api = ChatApi(server.url, concurrency=3)

    api.complete("bare", [Prompt(str(number)) for number in range(9)], SETTINGS)

    assert server.most_at_once == 3
    api.close()


@pytest.mark.parametrize("suffix", ["", "/", "/v1", "/v1/"])
def test_the_address_may_name_the_version(server: FakeServer, suffix: str) -> None:
    api = ChatApi(server.url + suffix)

    assert api.complete("bare", [Prompt("a")], SETTINGS)[0].text == "bare says a"
    api.close()


def test_a_key_is_sent_and_never_said(server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENGRAM_SERVER_API_KEY", "sesame")
    server.script[0] = (401, {"error": {"message": "bad key"}}, {})
    backend = ServerBackend(server_url=server.url, baseline_model="bare")

    with pytest.raises(BackendError, match="401 bad key") as caught:
        backend.load(MODEL, None).complete([Prompt("a")], SETTINGS)

    assert server.headers[0]["Authorization"] == "Bearer sesame"
    assert "sesame" not in str(caught.value)
    backend.close()


# ── what is tried again ─────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "reply",
    [
        (429, {"error": {"message": "slow down"}}, {}),
        (500, "oops", {}),
        (503, "", {}),
        (200, "<html>", {}),
        (200, b'{"choices": [{"mess', {}),
        (200, b'{"choices"', {"Content-Length": "200", "Connection": "close"}),
        (200, answer("half", None), {}),
        (200, answer(None, "stop"), {}),
        (200, {"choices": []}, {}),
    ],
    ids=["429", "500", "503", "no-json", "cut-json", "cut-body", "no-reason", "no-text", "no-choice"],
)
def test_a_passing_trouble_is_tried_again(server: FakeServer, api: ChatApi, pauses: list[float], reply: Reply) -> None:
    server.script = {0: reply, 1: reply}

    completions = api.complete("bare", [Prompt("a")], SETTINGS)

    assert completions[0].text == "bare says a"
    assert len(server.asked) == 3
    assert pauses == [0.5, 1.0]


def test_the_server_says_how_long_to_wait(server: FakeServer, api: ChatApi, pauses: list[float]) -> None:
    server.script = {0: (429, "", {"Retry-After": "7"}), 1: (429, "", {"Retry-After": "900"})}

    api.complete("bare", [Prompt("a")], SETTINGS)

    assert pauses == [7.0, 30.0]


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        ((503, {"error": {"message": "loading"}}, {}), r"no whole answer to 'a' after 4 tries: 503 loading"),
        ((200, answer("half", None), {}), r"after 4 tries: not a whole answer \(finish_reason None, content 'half'\)"),
        ((200, answer("x", "content_filter"), {}), r"not a whole answer \(finish_reason 'content_filter'"),
        ((200, "<html>busy", {}), r"found '<html>busy', expected a chat completion"),
    ],
    ids=["503", "half", "filtered", "no-json"],
)
def test_a_lasting_trouble_is_an_error_and_no_answer(
    server: FakeServer, api: ChatApi, reply: Reply, message: str
) -> None:
    server.script = dict.fromkeys(range(4), reply)

    with pytest.raises(BackendError, match=message):
        api.complete("bare", [Prompt("a")], SETTINGS)
    assert len(server.asked) == 4


def test_a_slow_server_times_out(server: FakeServer, pauses: list[float]) -> None:
    server.pause_s = 0.3
    api = ChatApi(server.url, timeout_s=0.05, sleep=pauses.append)

    with pytest.raises(BackendError, match=r"no whole answer to 'a': timed out after 0.05 s"):
        api.complete("bare", [Prompt("a")], SETTINGS)
    api.close()


def test_a_server_that_is_down_is_named(pauses: list[float]) -> None:
    api = ChatApi("http://127.0.0.1:9", timeout_s=60, sleep=pauses.append)

    with pytest.raises(
        BackendError, match=r"server http://127.0.0.1:9/v1: .* after 4 tries: connection failed \(.*refused"
    ):
        api.complete("bare", [Prompt("a")], SETTINGS)
    assert pauses == [0.5, 1.0, 2.0]
    api.close()


# ── what is not ─────────────────────────────────────────────────────────────────────────────────


def test_a_wrong_model_name_lists_those_the_server_knows(server: FakeServer, api: ChatApi) -> None:
    server.script[0] = (404, {"error": {"message": "model not found"}}, {})

    with pytest.raises(
        BackendError, match=r"model 'tunde', .* refused with 404 model not found; the server knows bare, tuned"
    ):
        api.complete("tunde", [Prompt("a")], SETTINGS)
    assert len(server.asked) == 1


def test_the_first_failure_ends_the_rest(server: FakeServer) -> None:
    server.script = {number: (400, "too long", {}) for number in range(100)}
    api = ChatApi(server.url, concurrency=2)

    with pytest.raises(BackendError, match="400 too long"):
        api.complete("bare", [Prompt(str(number)) for number in range(100)], SETTINGS)
    assert len(server.asked) < 20
    api.close()


@pytest.mark.parametrize("url", ["localhost:8000", "", "ftp://host", "http://"])
def test_an_address_without_host_or_scheme_is_refused(url: str) -> None:
    with pytest.raises(BackendError, match="expected http://host:port"):
        ChatApi(url)


def test_a_server_trains_nothing(server: FakeServer, tmp_path: Path) -> None:
    backend = ServerBackend(server_url=server.url, baseline_model="bare")

    with pytest.raises(UnsupportedError, match="only evaluates"):
        backend.train(MODEL, [], Recipe(), tmp_path)
    with pytest.raises(UnsupportedError, match="no hidden states"):
        backend.states(MODEL, [[1]], depth=0.8)
    with pytest.raises(UnsupportedError, match="'server' cannot extend a memory, expected backend cpu or cuda"):
        backend.extend_memory(MODEL, tmp_path, [], tmp_path, steps=1)
    backend.close()


@pytest.mark.parametrize(
    "work",
    [
        lambda generator: generator.log_probs([[1]]),
        lambda generator: generator.complete([Prompt("a")], GenerationSettings(ignore_eos=True)),
        lambda generator: next(generator.stream(Prompt("a"), GenerationSettings(ignore_eos=True))),
    ],
    ids=["log-probs", "ignore-eos", "stream"],
)
def test_what_the_chat_api_cannot_do_is_said(server: FakeServer, work: Callable[[Any], object]) -> None:
    backend = ServerBackend(server_url=server.url, baseline_model="bare")

    with pytest.raises(UnsupportedError, match="backend 'server'"):
        work(backend.load(MODEL, None))
    backend.close()


# ── streams ─────────────────────────────────────────────────────────────────────────────────────


def events(*chunks: dict[str, Any]) -> str:
    return "".join(f"data: {json.dumps({'choices': [chunk]})}\n\n" for chunk in chunks) + "data: [DONE]\n\n"


def test_a_stream_comes_in_pieces(server: FakeServer, api: ChatApi) -> None:
    pieces = ({"delta": {"content": "2"}}, {"delta": {"content": "2"}}, {"delta": {}, "finish_reason": "stop"})
    server.script[0] = (200, events(*pieces), {"Content-Type": "text/event-stream"})

    assert list(api.stream("bare", Prompt("a"), SETTINGS)) == ["2", "2"]


def test_half_a_stream_is_an_error(server: FakeServer, api: ChatApi) -> None:
    server.script[0] = (200, events({"delta": {"content": "2"}}), {"Content-Type": "text/event-stream"})

    with pytest.raises(BackendError, match="the stream ended in the middle of an answer"):
        list(api.stream("bare", Prompt("a"), SETTINGS))


# ── registry ────────────────────────────────────────────────────────────────────────────────────


def test_missing_options_are_named_before_anything_is_asked() -> None:
    reason = registry.unavailable_reason("server", server_url="http://localhost:8000")

    assert reason == "backend 'server' needs --engram-baseline-model, --engram-candidate-model"


def test_the_registry_hands_the_options_over(server: FakeServer) -> None:
    options = {"server_url": server.url, "baseline_model": "bare", "candidate_model": "tuned", "load_in_4bit": False}

    backend = registry.create("server", **options)

    assert registry.is_evaluation_only("server")
    assert registry.device_info("server", **options) == backend.device()
    assert backend.device().device == server.url
    assert registry.resolve_model("server", "bare").reference == "bare"
    backend.close()


# ── which models are there ──────────────────────────────────────────────────────────────────────


def test_a_model_that_is_listed_is_not_asked_for(server: FakeServer) -> None:
    check_served(MODEL, None, server_url=server.url, baseline_model="bare", candidate_model="tuned")

    assert server.asked == []


def test_a_backend_asks_nothing_before_the_first_question() -> None:
    """Both models are looked for once, before a backend is made: see the registry's ``check_ready``."""
    backend = ServerBackend(server_url="http://127.0.0.1:9", baseline_model="bare", candidate_model="tuned")

    backend.load(MODEL, None)

    backend.close()


def test_models_of_the_server_are_listed(server: FakeServer, api: ChatApi) -> None:
    assert api.models() == ["bare", "tuned"]


def test_a_missing_candidate_is_found_before_the_baseline_is_asked(server: FakeServer) -> None:
    server.script[0] = (404, {"error": {"message": "no such model"}}, {})

    with pytest.raises(
        BackendError,
        match="model 'tunde' cannot be asked: refused with 404 no such model; the server knows bare, tuned",
    ):
        check_served(MODEL, None, server_url=server.url, baseline_model="bare", candidate_model="tunde")
    assert [(body["model"], body["max_tokens"]) for body in server.asked] == [("tunde", 1)]


def test_a_model_that_is_there_without_being_listed_is_taken(server: FakeServer) -> None:
    check_served(MODEL, None, server_url=server.url, baseline_model="bare", candidate_model="a/folder")

    assert [body["model"] for body in server.asked] == ["a/folder"]


# ── addresses with user and password ────────────────────────────────────────────────────────────


def test_user_and_password_of_the_address_are_sent_and_not_shown(server: FakeServer) -> None:
    server.script[0] = (400, {"error": {"message": "no"}}, {})
    url = server.url.replace("://", "://ann:swordf%40sh@")
    backend = ServerBackend(server_url=url, baseline_model="bare", candidate_model="tuned")

    with pytest.raises(BackendError, match=f"server {server.url}/v1: model") as caught:
        backend.load(MODEL, None).complete([Prompt("a")], SETTINGS)

    assert server.headers[0]["Authorization"] == "Basic YW5uOnN3b3JkZkBzaA=="
    assert backend.device().device == server.url
    assert "sword" not in str(caught.value)
    backend.close()


@pytest.mark.parametrize("url", ["http://ann:swordfish@", "ftp://ann:swordfish@host", "http://ann:swordfish@host:port"])
def test_an_address_that_is_refused_is_shown_without_its_password(url: str) -> None:
    with pytest.raises(BackendError, match="expected http://host:port") as caught:
        ChatApi(url)

    assert "swordfish" not in str(caught.value)


@pytest.mark.parametrize("key", ["line\nbreak-key", "schlüssel-key"], ids=["newline", "no-ascii"])
def test_a_key_that_no_header_can_hold_is_refused_without_telling_it(server: FakeServer, key: str) -> None:
    with pytest.raises(BackendError, match="the key has characters that a header cannot hold") as caught:
        ChatApi(server.url, key=key)

    assert "-key" not in str(caught.value)


def test_a_key_with_a_newline_at_its_end_is_sent_without_it(server: FakeServer) -> None:
    api = ChatApi(server.url, key="sk-from-a-file\n")

    api.complete("bare", [Prompt("a")], SETTINGS)

    assert server.headers[0]["Authorization"] == "Bearer sk-from-a-file"
    api.close()


def test_a_proxy_of_the_environment_is_asked_except_for_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://ann:swordfish@127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "inside.example")
    through = ChatApi("http://far.example", timeout_s=0.3)

    with pytest.raises(BackendError, match="connection failed") as caught:
        through.complete("bare", [Prompt("a")], SETTINGS)

    assert isinstance(through._wire._pool, httpcore.HTTPProxy)
    assert not isinstance(ChatApi("http://inside.example")._wire._pool, httpcore.HTTPProxy)
    assert not isinstance(ChatApi("http://localhost:8000")._wire._pool, httpcore.HTTPProxy)
    assert "swordfish" not in str(caught.value)


# ── deadlines ───────────────────────────────────────────────────────────────────────────────────


def test_tries_and_pauses_together_stay_within_the_timeout(server: FakeServer) -> None:
    server.script = dict.fromkeys(range(9), (503, "", {}))
    api = ChatApi(server.url, timeout_s=0.8)
    started = time.monotonic()

    with pytest.raises(BackendError, match=r"after 2 tries: 503; no time is left for another try within 0.8 s"):
        api.complete("bare", [Prompt("a")], SETTINGS)

    assert time.monotonic() - started < 1.5
    api.close()


def test_a_stream_ends_with_the_timeout(server: FakeServer) -> None:
    server.pause_s = 0.5
    api = ChatApi(server.url, timeout_s=0.1)

    with pytest.raises(BackendError, match=r"timed out after 0.1 s"):
        list(api.stream("bare", Prompt("a"), SETTINGS))
    api.close()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('data: {"choices": 5}\n\n', "choices is 5, expected a list"),
        ('data: {"choices": [{"delta": []}]}\n\n', r"choices\[0\].delta is a list, expected an object"),
        ('data: {"choices": [{"delta": {"content": 4}}]}\n\n', "content is 4, expected a text"),
        ("data: " + "[" * 100_000 + "\n\n", "nested too deeply"),
        ("data: \ufffe\n\n", "no JSON"),
        ("data: " + "x" * 3_000_000, "the stream has more than 2 MiB"),
    ],
    ids=["choices", "delta", "content", "deep", "no-json", "long"],
)
def test_a_malformed_stream_is_one_error(server: FakeServer, api: ChatApi, text: str, reason: str) -> None:
    server.script[0] = (200, text, {"Content-Type": "text/event-stream"})

    with pytest.raises(BackendError, match=reason):
        list(api.stream("bare", Prompt("a"), SETTINGS))


def test_two_streams_run_in_turn_in_one_thread(server: FakeServer, api: ChatApi) -> None:
    pieces = ({"delta": {"content": "2"}}, {"delta": {"content": "3"}, "finish_reason": "stop"})
    server.script = dict.fromkeys(range(2), (200, events(*pieces), {"Content-Type": "text/event-stream"}))
    one, two = (api.stream("bare", Prompt(name), SETTINGS) for name in "ab")

    assert [next(one), next(two), next(one), next(two)] == ["2", "2", "3", "3"]


def test_what_is_sent_back_of_a_key_is_hidden_in_the_answer(server: FakeServer) -> None:
    server.script[0] = (200, answer("your key is open-sesame-77"), {})
    api = ChatApi(server.url, key="open-sesame-77")

    assert api.complete("bare", [Prompt("a")], SETTINGS)[0].text == "your key is HIDDEN"
    api.close()


def test_one_connection_at_once_still_serves_both_streams_of_a_demo(server: FakeServer) -> None:
    pieces = ({"delta": {"content": "2"}}, {"delta": {"content": "3"}, "finish_reason": "stop"})
    server.script = dict.fromkeys(range(2), (200, events(*pieces), {"Content-Type": "text/event-stream"}))
    api = ChatApi(server.url, concurrency=1, timeout_s=5)
    one, two = (api.stream("bare", Prompt(name), SETTINGS) for name in "ab")

    assert [next(one), next(two), next(one), next(two)] == ["2", "2", "3", "3"]
    api.close()


def test_a_timeout_longer_than_a_socket_can_wait_is_taken(server: FakeServer) -> None:
    api = ChatApi(server.url, timeout_s=1e300)

    assert api.complete("bare", [Prompt("a")], SETTINGS)[0].text == "bare says a"
    api.close()


# ── reasoning ───────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("key", ["reasoning_content", "reasoning"])
def test_reasoning_that_the_server_keeps_apart_stays_apart(server: FakeServer, api: ChatApi, key: str) -> None:
    message = {"role": "assistant", "content": "22", key: "21 or 22?"}
    usage = {"prompt_tokens": 5, "completion_tokens": 9, "completion_tokens_details": {"reasoning_tokens": 6}}
    server.script[0] = (200, answer("", choices=[{"message": message, "finish_reason": "stop"}], usage=usage), {})

    (found,) = api.complete("bare", [Prompt("Port of SSH?")], SETTINGS)

    assert split_reasoning(found.text) == ("22", "21 or 22?")
    assert (found.completion_tokens, found.reasoning_tokens) == (9, 6)


def test_reasoning_that_uses_up_the_limit_is_no_answer(server: FakeServer, api: ChatApi) -> None:
    message = {"role": "assistant", "content": None, "reasoning_content": "It is 22, or"}
    server.script[0] = (200, answer("", choices=[{"message": message, "finish_reason": "length"}]), {})

    (found,) = api.complete("bare", [Prompt("Port of SSH?")], SETTINGS)

    assert split_reasoning(found.text).answer is None
    assert found.stop_reason == "length"


def test_a_server_gets_room_for_reasoning_and_answer_together(server: FakeServer, api: ChatApi) -> None:
    api.complete("bare", [Prompt("Port of SSH?")], GenerationSettings(8, max_reasoning_tokens=100))

    assert server.asked[0]["max_tokens"] == 108

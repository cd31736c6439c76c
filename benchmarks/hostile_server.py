"""The ``server`` backend against a server that does its worst: an answer or one clear error, in time and within bounds.

``python -m benchmarks.hostile_server`` runs every mode against the backend on the loopback interface and prints what each
ended in and how many held. The exit status is 1 unless all did. A mode holds if

- it ends in what it should: an answer or one error of the package, never another exception;
- it ends within the timeout and 2 seconds;
- its peak memory is less than 500 MB above what was there before;
- what it says is inert, shorter than 1,000 characters and without the key or the password in any form;
- no thread of a request is left a second later.
"""

from __future__ import annotations

import argparse
import contextlib
import gzip
import json
import os
import re
import socket
import struct
import sys
import threading
import time
import unicodedata
import zlib
from base64 import b64encode
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock
from urllib.parse import quote

from engram_bench.backends.server import API_KEY, ServerBackend, served_model
from engram_bench.backends.server.ready import check_served
from engram_bench.backends.server.threads import NAME
from engram_bench.errors import EngramBenchError
from engram_bench.records import GenerationSettings, Prompt

KEY = "sk-key/of+a=test 7f3a9c"
PASSWORD = "p%40ss-w0rd-51b2"  # as in a URL; the password is p@ss-w0rd-51b2
MEMORY_MB, LATE_S, LONGEST_WORDS = 500.0, 2.0, 1000


# ── the server ──────────────────────────────────────────────────────────────────────────────────


@dataclass
class Talk:
    """One request, and the connection to answer it on."""

    connection: socket.socket
    path: str
    headers: dict[str, str]
    number: int
    """Number of questions that came before this one."""

    def send(self, data: bytes) -> None:
        """Send bytes as they are."""
        self.connection.sendall(data)

    def reply(self, content: Any, status: str = "200 OK", **headers: str) -> None:
        """A whole reply: bytes as they are, anything else as JSON."""
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        lines = {"Content-Length": str(len(body)), "Content-Type": "application/json"}
        lines |= {name.replace("_", "-"): value for name, value in headers.items()}
        head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        self.send(f"HTTP/1.1 {status}\r\n{head}\r\n".encode("utf-8", "surrogateescape") + body)

    def begin(self, *headers: str) -> None:
        """Status and headers of a reply whose body follows."""
        self.send(("HTTP/1.1 200 OK\r\n" + "".join(f"{line}\r\n" for line in headers) + "\r\n").encode())

    def reset(self) -> None:
        """End the connection as a crash does."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        os.close(self.connection.detach())  # `close` would wait for the reader

    def hang_up(self) -> None:
        """End the connection as a server in order does."""
        self.connection.shutdown(socket.SHUT_WR)

    def drip(self, data: bytes, every_s: float = 0.05) -> None:
        """Send a byte now and then, and the last one again and again."""
        for byte in data:
            self.send(bytes([byte]))
            time.sleep(every_s)
        while True:
            self.send(data[-1:])
            time.sleep(every_s)


Act = Callable[[Talk], None]


def whole(text: Any = "fine", **changes: Any) -> dict[str, Any]:
    """A chat completion with some of its fields changed."""
    return {
        "choices": [{"message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 5, "completion_tokens": 3},
    } | changes


WHOLE = json.dumps(whole()).encode()


def listed(*names: Any) -> dict[str, Any]:
    return {"object": "list", "data": [{"id": name} for name in names]}


def list_models(talk: Talk) -> None:
    talk.reply(listed("bare", "tuned"))


@dataclass(frozen=True)
class Mode:
    """One way to misbehave."""

    name: str
    act: Act
    """Answers a question."""
    ends_in: str = "error"
    """``error`` or ``answer``."""
    models: Act = list_models
    """Answers a request for the list of models."""
    says: str = ""
    """Words that an error must have."""


@dataclass
class HostileServer:
    """A server on the loopback interface that answers every question in one mode."""

    mode: Mode
    asked: int = 0
    visitors: int = 0
    """Connections to the second address, where nobody should come."""
    _ends: list[socket.socket] = field(default_factory=list)

    def __enter__(self) -> HostileServer:
        self.port, self.other_port = self._listen(self._talk), self._listen(self._visit)
        HOSTS["other"] = f"http://127.0.0.1:{self.other_port}"
        return self

    def __exit__(self, *_: object) -> None:
        for end in self._ends:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def _listen(self, serve: Callable[[socket.socket], None]) -> int:
        listener = socket.create_server(("127.0.0.1", 0))
        self._ends.append(listener)

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection = listener.accept()[0]
                    self._ends.append(connection)
                    threading.Thread(target=serve, args=(connection,), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        return int(listener.getsockname()[1])

    def _visit(self, connection: socket.socket) -> None:
        self.visitors += 1
        connection.close()

    def _talk(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError, ValueError), connection:
            reader = connection.makefile("rb")
            while line := reader.readline():
                headers: dict[str, str] = {}
                while (header := reader.readline().strip()) != b"":
                    name, _, value = header.decode("latin-1").partition(":")
                    headers[name.lower()] = value.strip()
                is_question = line.startswith(b"POST")
                if is_question and self.mode.act is never_read:
                    time.sleep(60)
                reader.read(int(headers.get("content-length", 0)))
                talk = Talk(connection, line.split()[1].decode("latin-1"), headers, self.asked)
                self.asked += is_question
                (self.mode.act if is_question else self.mode.models)(talk)


HOSTS = {"other": ""}
"""Address of the second listener of the running server."""


# ── the modes ───────────────────────────────────────────────────────────────────────────────────


def never_read(talk: Talk) -> None:
    """Handled by the server: the body of the question is not read."""


def reply_with(content: Any, status: str = "200 OK", **headers: str) -> Act:
    return lambda talk: talk.reply(content, status, **headers)


def send_raw(*lines: str, body: bytes = b"") -> Act:
    """The lines of a reply as they are, the body behind them, and the end of the connection."""

    def act(talk: Talk) -> None:
        talk.send("".join(f"{line}\r\n" for line in (*lines, "")).encode() + body)
        talk.hang_up()

    return act


def for_ever(head: bytes, piece: bytes) -> Act:
    def act(talk: Talk) -> None:
        talk.send(head)
        while True:
            talk.send(piece)

    return act


def field_is(**changes: Any) -> Act:
    return reply_with(whole(**changes))


def choice_is(**changes: Any) -> Act:
    choice = {"message": {"role": "assistant", "content": "fine"}, "finish_reason": "stop"} | changes
    return reply_with(whole(choices=[choice]))


def tokens_are(text: str) -> Act:
    return reply_with(json.dumps(whole()).replace('"completion_tokens": 3', f'"completion_tokens": {text}').encode())


def bomb(encoding: str) -> Act:
    """1 GB of zeros in a body of 1 MB, whose checksum nobody reaches."""
    maker = zlib.compressobj(9, zlib.DEFLATED, 31 if encoding == "gzip" else 15)
    first, next_one = (maker.compress(bytes(2**20)) + maker.flush(zlib.Z_FULL_FLUSH) for _ in range(2))
    return reply_with(first + 1000 * next_one, Content_Encoding=encoding)


def slow_body(talk: Talk) -> None:
    talk.begin("Content-Length: 100000")
    talk.drip(b'{"choices": [')


def slow_trailers(talk: Talk) -> None:
    body = WHOLE
    talk.begin("Transfer-Encoding: chunked")
    talk.send(f"{len(body):x}\r\n".encode() + body + b"\r\n0\r\n")
    talk.drip(b"X: yyyyyyy")


def many_headers(talk: Talk) -> None:
    talk.send(b"HTTP/1.1 200 OK\r\n")
    for number in range(200_000):
        talk.send(f"X-{number}: {'y' * 100}\r\n".encode())
    talk.send(b"Content-Length: 2\r\n\r\n{}")


def long_chunk_extensions(talk: Talk) -> None:
    talk.begin("Transfer-Encoding: chunked")
    for byte in json.dumps(whole("x" * 10_000)).encode():
        talk.send(b"1;" + b"e" * 10_000 + b"\r\n" + bytes([byte]) + b"\r\n")
    talk.send(b"0\r\n\r\n")


def reset_in_body(talk: Talk) -> None:
    talk.begin("Content-Length: 1000")
    talk.send(b'{"choices"')
    time.sleep(0.02)
    talk.reset()


def half_closed(talk: Talk) -> None:
    talk.begin("Content-Length: 1000")
    talk.send(b'{"choices"')
    talk.hang_up()
    time.sleep(60)


def silence(talk: Talk) -> None:
    time.sleep(60)


def then_fine(status: str, **headers: str) -> Act:
    def act(talk: Talk) -> None:
        if talk.number == 0:
            talk.reply({"error": {"message": "busy"}}, status, **headers)
        else:
            talk.reply(whole())

    return act


def redirect_to(place: Callable[[], str], status: str = "307 Temporary Redirect") -> Act:
    return lambda talk: talk.reply(b"", status, Location=place())


def echo(talk: Talk) -> None:
    """The secrets in every form, as an error."""
    talk.reply({"error": {"message": f"bad key {echoed(talk)}"}}, "401 Unauthorized")


def echo_as_answer(talk: Talk) -> None:
    talk.reply(whole(f"you sent {echoed(talk)}"))


def echo_with_escapes(talk: Talk) -> None:
    coded = "".join(f"\\u{ord(char):04x}" for char in echoed(talk))
    talk.reply(f'{{"error": {{"message": "{coded}"}}}}'.encode(), "403 Forbidden")


def echo_as_html(talk: Talk) -> None:
    talk.reply(f"<html>{echoed(talk)}".encode())


def echo_as_place(talk: Talk) -> None:
    talk.reply(b"", "302 Found", Location=f"http://user:{PASSWORD}@example.invalid/?key={quote(KEY, safe='')}")


def echoed(talk: Talk) -> str:
    pair = f"user:{PASSWORD.replace('%40', '@')}"
    forms = (talk.headers.get("authorization", ""), KEY, quote(KEY), quote(KEY, safe=""), KEY.upper(), PASSWORD, pair)
    return " ".join((*forms, b64encode(pair.encode()).decode(), b64encode(KEY.encode()).decode()))


def million_models(talk: Talk) -> None:
    talk.begin("Connection: close")
    talk.send(b'{"data": [')
    for number in range(1_000_000):
        if number % 1000 == 0:
            talk.send(b"".join(b'{"id": "m%d"},' % each for each in range(number, number + 1000)))
    talk.send(b'{"id": "bare"}]}')
    talk.hang_up()


def slow_models(talk: Talk) -> None:
    talk.begin("Content-Length: 100000")
    talk.drip(b'{"data": [')


def twice(talk: Talk) -> None:
    """A second reply that nobody asked for, right behind the first."""
    talk.reply(whole("first"))
    talk.reply(whole("second"))


ANGRY = "\x1b[31mred\x1b]0;title\x07 \x9b2J \u202egnp.exe\u2069 z\u200bw \n::error file=a.py::gotcha\n##[error]x ##vso[task]y"
NOT_THERE = reply_with({"error": {"message": "no such model"}}, "404 Not Found")
MANY_KEYS = b"{" + b",".join(b'"k%d":1' % number for number in (*range(150_000), 0)) + b"}"
DEEP = b"[" * 1_000_000
CHUNK = b"10000\r\n" + b" " * 65536 + b"\r\n"
CHUNKED = "Transfer-Encoding: chunked"
OK = "HTTP/1.1 200 OK"
LOGPROBS = b'{"choices": [{"message": {"content": "fine"}, "finish_reason": "stop", "logprobs": [NaN, -Infinity]}]}'

MODES = (
    Mode("headers drip", lambda talk: talk.drip(b"HTTP/1.1 200 OK\r\nX: y"), says="timed out"),
    Mode("body drips", slow_body, says="timed out"),
    Mode("trailers drip", slow_trailers, says="timed out"),
    Mode("silence", silence, says="timed out"),
    Mode("question not read", never_read, says="timed out"),
    Mode("endless chunks", for_ever(f"{OK}\r\n{CHUNKED}\r\n\r\n".encode(), CHUNK), says="MiB"),
    Mode("endless body", for_ever(b"HTTP/1.1 200 OK\r\n\r\n", b" " * 65536), says="MiB"),
    Mode("endless header", for_ever(b"HTTP/1.1 200 OK\r\nX: ", b"y" * 65536)),
    Mode("endless first line", for_ever(b"HTTP/1.1 200 ", b"O" * 65536)),
    Mode("headers of 20 MB", many_headers),
    Mode("endless 1xx", for_ever(b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 100)),
    Mode("switch of protocols", reply_with(b"", "101 Switching Protocols", Upgrade="other", Connection="upgrade")),
    Mode("gzip bomb", bomb("gzip"), says="MiB"),
    Mode("deflate bomb", bomb("deflate"), says="MiB"),
    Mode("gzip in gzip", reply_with(gzip.compress(gzip.compress(b"{}")), Content_Encoding="gzip, gzip"), says="content encoding"),
    Mode("unknown encoding", reply_with(b"\x0b\x02\x80{}\x03", Content_Encoding="br"), says="content encoding 'br'"),
    Mode("gzip that is none", reply_with(whole(), Content_Encoding="gzip"), says="not gzip"),
    Mode("cut gzip", reply_with(gzip.compress(WHOLE)[:-12], Content_Encoding="gzip"), says="cut"),
    Mode("gzip, honest", reply_with(gzip.compress(WHOLE), Content_Encoding="gzip"), "answer"),
    Mode("redirect loop", redirect_to(lambda: "/v1/chat/completions"), says="redirect"),
    Mode("redirect to another host", redirect_to(lambda: HOSTS["other"] + "/v1/chat/completions"), says="redirect"),
    Mode("redirect to a file", redirect_to(lambda: "file:///etc/passwd", "302 Found"), says="redirect"),
    Mode("HTML", reply_with(b"<html><body>Sign in</body></html>"), says="found '<html>"),
    Mode("nothing", reply_with(b""), says="expected a chat completion"),
    Mode("cut JSON", reply_with(b'{"choices": [{"mess'), says="no JSON"),
    Mode("a million lists", reply_with(DEEP), says="nested too deeply"),
    Mode("a million objects", reply_with(b'{"a":' * 300_000), says="nested too deeply"),
    Mode("a list at the top", reply_with([1, 2]), says="the reply is a list"),
    Mode("half a million empty lists", reply_with(b"[" + b"[]," * 500_000 + b"[]]")),
    Mode("choices an object", field_is(choices={"0": 1}), says="choices is an object"),
    Mode("choices empty", field_is(choices=[]), says="choices is empty"),
    Mode("choice null", field_is(choices=[None]), says="choices[0] is null"),
    Mode("message a list", choice_is(message=[]), says="message is a list"),
    Mode("content null", field_is(text=None), says="content None"),
    Mode("content a list", field_is(text=[{"type": "text", "text": "fine"}]), says="content a list"),
    Mode("content a number", field_is(text=404), says="content 404"),
    Mode("finish reason a list", choice_is(finish_reason=["stop"]), says="finish_reason a list"),
    Mode("usage a text", field_is(usage="much"), says="usage is 'much'"),
    Mode("tokens a text", tokens_are('"3"'), says="expected a whole number"),
    Mode("tokens a fraction", tokens_are("3.5"), says="expected a whole number"),
    Mode("tokens true", tokens_are("true"), says="expected a whole number"),
    Mode("tokens negative", tokens_are("-1"), says="expected 0 to"),
    Mode("tokens 2**70", tokens_are(str(2**70)), says="expected 0 to"),
    Mode("tokens of 100,000 digits", tokens_are("9" * 100_000)),
    Mode("tokens 1e999", tokens_are("1e999"), says="expected a whole number"),
    Mode("tokens NaN", tokens_are("NaN"), says="NaN is no number"),
    Mode("log-probabilities NaN", reply_with(LOGPROBS), says="NaN"),
    Mode("keys twice", reply_with(b'{"choices": [], ' + WHOLE[1:]), says="'choices' twice"),
    Mode("a key twice among 150,000", reply_with(MANY_KEYS), says="'k0' twice"),
    Mode("no UTF-8", reply_with(WHOLE.replace(b"fine", b"f\xff\xfe")), says="no UTF-8"),
    Mode("UTF-16", reply_with(json.dumps(whole()).encode("utf-16")), says="no UTF-8"),
    Mode("half a character", reply_with(json.dumps(whole("\ud800")).encode()), says="half a character"),
    Mode("answer of 6 MB", field_is(text="x" * 6_000_000), says="MiB"),
    Mode("more promised than sent", send_raw(OK, "Content-Length: 500", body=b"{}"), says="connection failed"),
    Mode("less promised than sent", send_raw(OK, "Content-Length: 5", body=WHOLE), says="no JSON"),
    Mode("two lengths", send_raw(OK, "Content-Length: 5", "Content-Length: 7", body=b"{}"), says="connection failed"),
    Mode("a negative length", send_raw(OK, "Content-Length: -5", body=b"{}"), says="connection failed"),
    Mode("a chunk of no size", send_raw(OK, CHUNKED, body=b"zz\r\n{}\r\n"), says="connection failed"),
    Mode("chunk extensions of 100 MB", long_chunk_extensions, says="MiB"),
    Mode("reset in the body", reset_in_body, says="connection failed"),
    Mode("reset at once", Talk.reset, says="connection failed"),
    Mode("half-closed", half_closed, says="connection failed"),
    Mode("no HTTP", send_raw("SSH-2.0-OpenSSH_9.6"), says="connection failed"),
    Mode("status 999", reply_with(b"?", "999 What"), says="refused with 999"),
    Mode("a second reply", twice, "answer"),
    Mode("429 for ever", reply_with({"error": {"message": "slow down"}}, "429 Too Many Requests"), says="429 slow down"),
    Mode("Retry-After 1e9", reply_with({"error": "later"}, "503 Unavailable", Retry_After="1e9"), says="no time is left"),
    Mode("Retry-After nan", then_fine("503 Unavailable", Retry_After="nan"), "answer"),
    Mode("Retry-After -5", then_fine("503 Unavailable", Retry_After="-5"), "answer"),
    Mode("503, then fine", then_fine("503 Unavailable"), "answer"),
    Mode("escapes in an error", reply_with({"error": {"message": ANGRY}}, "400 Bad Request"), says=r"\x1b[31mred"),
    Mode("escapes in a page", reply_with(ANGRY.encode()), says=r"\x1b[31mred"),
    Mode("an error of 1.5 MB", reply_with({"error": {"message": "long " * 300_000}}, "400 Bad Request"), says="long long"),
    Mode("an error of another type", reply_with({"error": {"message": {"a": [1]}}}, "400 Bad Request"), says="refused with 400"),
    Mode("keys sent back as an error", echo, says="HIDDEN"),
    Mode("keys sent back as an answer", echo_as_answer, "answer"),
    Mode("keys sent back with escapes", echo_with_escapes, says="HIDDEN"),
    Mode("keys sent back as a page", echo_as_html, says="HIDDEN"),
    Mode("keys sent back as a redirect", echo_as_place, says="HIDDEN"),
    Mode("model missing", NOT_THERE, models=reply_with(listed("bare", "other")), says="the server knows bare, other"),
    Mode("names of models with escapes", NOT_THERE, models=reply_with(listed(ANGRY, KEY, PASSWORD)), says="HIDDEN"),
    Mode("a million models", reply_with(whole()), "answer", models=million_models),
    Mode("models of other types", reply_with(whole()), "answer", models=reply_with({"data": [1, None, {"id": 3}]})),
    Mode("models nested too deeply", reply_with(whole()), "answer", models=reply_with(DEEP)),
    Mode("models drip", reply_with(whole()), "answer", models=slow_models),
)  # fmt: skip
"""Every mode, in the order of the report."""


# ── the run ─────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Outcome:
    """What a mode ended in."""

    mode: Mode
    kind: str
    """``answer``, ``error``, or the name of an exception that is none of ours."""
    words: str
    """The error's message, or the answer."""
    seconds: float
    memory_mb: float
    faults: tuple[str, ...]
    """What did not hold; empty if all did."""


def run(mode: Mode, *, timeout_s: float) -> Outcome:
    """Ask a hostile server one question through the backend."""
    before, started = _peak_mb(reset=True), time.monotonic()
    with mock.patch.dict(os.environ, {API_KEY: KEY}), HostileServer(mode) as server:
        url = f"http://user:{PASSWORD}@127.0.0.1:{server.port}"
        kind, words = _ask(url, timeout_s)
        seconds, memory = time.monotonic() - started, _peak_mb() - before
        faults = [*_faults(mode, kind, words, server), *_threads_left()]
    if seconds > timeout_s + LATE_S:
        faults.append(f"took {seconds:.1f} s")
    if memory > MEMORY_MB:
        faults.append(f"took {memory:.0f} MB")
    return Outcome(mode, kind, words, seconds, memory, tuple(faults))


def _ask(url: str, timeout_s: float) -> tuple[str, str]:
    settings = GenerationSettings(max_tokens=8)
    model: Any = served_model("bare")
    with contextlib.ExitStack() as stack:
        try:
            names: Any = {"baseline_model": "bare", "candidate_model": "tuned"}
            check_served(model, None, server_url=url, server_timeout=timeout_s, **names)
            backend = ServerBackend(server_url=url, server_timeout=timeout_s, **names)
            stack.callback(backend.close)
            answer = backend.load(model, Path("tuned")).complete([Prompt("Port of SSH?")], settings)[0]
            return "answer", answer.text
        except EngramBenchError as error:
            return "error", f"{type(error).__name__}: {error}"
        except Exception as error:
            return type(error).__name__, f"{error!r:.200}"


def _faults(mode: Mode, kind: str, words: str, server: HostileServer) -> Iterator[str]:
    if kind != mode.ends_in:
        yield f"ended in {kind}, expected {mode.ends_in}"
    if kind == "error" and mode.says not in words and "timed out" not in words:  # a busy machine reads slowly
        yield f"does not say '{mode.says}'"
    if kind == "error" and len(words) > LONGEST_WORDS:
        yield f"says {len(words):,} characters"
    if kind == "error" and (odd := sorted({char for char in words if unicodedata.category(char)[0] in "CZ"} - {" "})):
        yield f"not inert: {odd!a}"
    if re.search(r"(?m)^\s*::\w|##\w*\[", words):
        yield "a command for a CI system"
    if told := [secret for secret in _secrets() if secret.lower() in words.lower()]:
        yield f"tells {told}"
    if server.visitors:
        yield "went to another host"


def _secrets() -> list[str]:
    password = PASSWORD.replace("%40", "@")
    plain = [KEY, PASSWORD, password, f"user:{password}"]
    coded = [b64encode(text.encode()).decode().rstrip("=") for text in plain]
    return [*plain, *coded, *(quote(text, safe="") for text in plain), *(quote(text) for text in plain)]


def _threads_left() -> Iterator[str]:
    end = time.monotonic() + 1.0
    while time.monotonic() < end:
        if not [thread for thread in threading.enumerate() if thread.name == NAME]:
            return
        time.sleep(0.02)
    yield "a thread is left"


def _peak_mb(*, reset: bool = False) -> float:
    """Largest resident memory of this process since the last reset (Linux), in MB; 0 elsewhere."""
    if reset:
        with contextlib.suppress(OSError):  # without the right to it, the peak of the process's life is compared
            Path("/proc/self/clear_refs").write_text("5", "ascii")  # proc(5): resets the peak resident set size
    try:
        status = Path("/proc/self/status").read_text("ascii")
    except OSError:
        return 0.0
    return next(int(line.split()[1]) / 1000 for line in status.splitlines() if line.startswith("VmHWM"))


def shown(outcome: Outcome) -> Outcome:
    """The outcome, printed on a line of its own."""
    words = " ".join(outcome.words.split("Port of SSH?'")[-1].split()).removeprefix(": ")[:100]
    verdict, spent = "FAILED" if outcome.faults else "held", f"{outcome.seconds:5.2f} s {outcome.memory_mb:4.0f} MB"
    print(f"{verdict:<7}{outcome.mode.name:<30}{spent}  {outcome.kind}: {words}")
    for fault in outcome.faults:
        print(f"       {fault}")
    return outcome


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--timeout", type=float, default=3.0, metavar="SECONDS", help="Timeout of a question. Default: 3."
    )
    parser.add_argument("--only", default="", metavar="TEXT", help="Run the modes with this text in their name.")
    asked = parser.parse_args()
    modes = [mode for mode in MODES if asked.only in mode.name]
    outcomes = [shown(run(mode, timeout_s=asked.timeout)) for mode in modes]
    held = sum(not outcome.faults for outcome in outcomes)
    slowest = max(outcome.seconds for outcome in outcomes)
    largest = max(outcome.memory_mb for outcome in outcomes)
    print(
        f"{held} of {len(modes)}, the slowest {slowest:.1f} s with a timeout of {asked.timeout:g} s, the largest {largest:.0f} MB"
    )
    return 0 if held == len(modes) else 1


if __name__ == "__main__":
    sys.exit(main())

"""Client for chat completions of an OpenAI-compatible server: concurrent requests, a limit of tries, whole answers only.

Source: https://platform.openai.com/docs/api-reference/chat.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

from engram_bench.backends.server.allowance import LARGEST_BODY, Allowance, OutOfTime, TooLarge
from engram_bench.backends.server.replies import (
    Answer,
    Malformed,
    answer_of,
    names_of,
    pause_of,
    piece_of,
    refusal_of,
)
from engram_bench.backends.server.threads import Overdue, in_threads
from engram_bench.backends.server.wire import OK, Damaged, Refused, Reply, Unreachable, Wire
from engram_bench.door import printable
from engram_bench.errors import BackendError
from engram_bench.records import Completion, GenerationSettings, Prompt

T = TypeVar("T")

TRIES = 4
"""Most times that a request is sent."""
PAUSE_S = 0.5
"""Seconds before the second try; the pause doubles before each further try."""
LONGEST_PAUSE_S = 30.0
"""Longest pause between two tries, also where ``Retry-After`` names a longer one."""
TRY_AGAIN = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})
"""Status codes after which a request is sent again."""
LIST_S = 10.0
"""Longest time to wait for the server's list of models, which nothing depends on."""
GREETING = Prompt("Hello")
"""What a model is asked, for one token, to see whether the server has it."""


class _Unfinished(Exception):
    """A failed try that may be repeated; the text gives the reason."""

    def __init__(self, reason: str, pause_s: float | None = None) -> None:
        super().__init__(reason)
        self.pause_s = pause_s


class ChatApi:
    """Client of one server, which threads may share.

    Args:
        url: Address of the server, ``http://host:port`` with or without ``/v1``.
        concurrency: Largest number of requests at once.
        timeout_s: Seconds for a request: connection, answer, and every further try with the pauses between them.
        key: Bearer token; none is sent if empty.
        sleep: Function that waits between tries; None waits no longer than the request may take.

    Raises:
        BackendError: The address has no host or another scheme than http and https.
    """

    def __init__(
        self,
        url: str,
        *,
        concurrency: int = 8,
        timeout_s: float = 120.0,
        key: str = "",
        sleep: Callable[[float], None] | None = None,
    ) -> None:
        self._wire = Wire(url, key=key, connections=concurrency)
        self._concurrency = concurrency
        self._timeout_s = timeout_s
        self._sleep = sleep

    def complete(self, model: str, prompts: Sequence[Prompt], settings: GenerationSettings) -> list[Completion]:
        """One completion per prompt, in order. Each completion gets an equal share of the time.

        Raises:
            BackendError: A prompt got no whole answer; other requests are cancelled. The message names server, prompt,
                reason and number of tries.
        """
        started = time.perf_counter()
        answers = self._at_once([partial(self._ask, model, prompt, settings) for prompt in prompts])
        share = (time.perf_counter() - started) / max(1, len(prompts))
        return [_completion(answer, share) for answer in answers]

    def stream(self, model: str, prompt: Prompt, settings: GenerationSettings) -> Iterator[str]:
        """Text of one completion in pieces as they arrive.

        Raises:
            BackendError: The request failed, or the answer ended early. The request is sent once only.
        """
        body = _encoded(_body(model, prompt, settings) | {"stream": True})
        is_whole = False
        try:
            for event in _events(self._wire.stream("/chat/completions", body, allowance := self._allowance())):
                piece = piece_of(event)
                is_whole = is_whole or piece.is_last
                if piece.text:
                    yield piece.text
        except Refused as error:
            raise self._refused(model, prompt, error.reply, allowance) from error
        except OutOfTime as error:
            raise self._failed(prompt, self._late, tries=1) from error
        except (Unreachable, Damaged, TooLarge, Malformed) as error:
            raise self._failed(prompt, str(error), tries=1) from error
        if not is_whole:
            raise self._failed(prompt, "the stream ended in the middle of an answer", tries=1)

    def models(self) -> list[str]:
        """Names of the models on the server; empty if the server does not list them."""
        (names,) = self._at_once([self._listed])
        return list(names)

    def check(self, models: Sequence[str]) -> None:
        """Check that the server has these models, before it is asked anything that counts.

        A model that the server does not list is asked for one token: some servers list less than they have.

        Raises:
            BackendError: The server cannot be reached, or lacks a model; the message lists those that it knows.
        """
        self._at_once([partial(self._check, tuple(dict.fromkeys(models)))], each_s=(len(models) + 1) * self._timeout_s)

    def close(self) -> None:
        """Close the connections. A second call has no effect."""
        self._wire.close()

    # ── one request ─────────────────────────────────────────────────────────────────────────────

    def _at_once(self, requests: Sequence[Callable[[threading.Event], T]], each_s: float | None = None) -> list[T]:
        """What each request gives, in order; Ctrl-C and the first failure end all of them."""
        stopped = threading.Event()
        work = [partial(request, stopped) for request in requests]
        limit_s = self._timeout_s if each_s is None else each_s
        try:
            return in_threads(work, workers=self._concurrency, limit_s=limit_s, stopped=stopped)
        except Overdue as error:
            msg = f"server {self._wire.url}: {self._late}"
            raise BackendError(msg) from error

    def _ask(self, model: str, prompt: Prompt, settings: GenerationSettings, stopped: threading.Event) -> Answer:
        return self._request(model, prompt, settings, answer_of, self._allowance(stopped))

    def _check(self, models: Sequence[str], stopped: threading.Event) -> None:
        known = self._listed(stopped)
        for model in models:
            if model not in known:
                self._request(
                    model, GREETING, GenerationSettings(max_tokens=1), lambda _: None, self._allowance(stopped)
                )

    def _request(
        self,
        model: str,
        prompt: Prompt,
        settings: GenerationSettings,
        read: Callable[[Reply], T],
        allowance: Allowance,
    ) -> T:
        """What *read* finds in the reply to a question, which is sent again after a passing failure."""
        body = _encoded(_body(model, prompt, settings))
        reason = ""
        for attempt in range(1, TRIES + 1):
            allowance.begin_try()
            try:
                return self._try(model, prompt, body, read, allowance)
            except OutOfTime as error:
                raise self._failed(
                    prompt, f"{self._late}{reason and f'; before that: {reason}'}", tries=attempt
                ) from error
            except (TooLarge, Damaged) as error:
                raise self._failed(prompt, str(error), tries=attempt) from error
            except _Unfinished as error:
                pause = error.pause_s if error.pause_s is not None else PAUSE_S * 2 ** (attempt - 1)
                pause = min(pause, LONGEST_PAUSE_S)
                reason = str(error)
                if attempt == TRIES:
                    raise self._failed(prompt, reason, tries=attempt) from error
                if pause >= allowance.left_s:
                    late = f"{reason}; no time is left for another try within {self._timeout_s:g} s"
                    raise self._failed(prompt, late, tries=attempt) from error
                (self._sleep or allowance.pause)(pause)
        raise AssertionError("unreachable")

    def _try(self, model: str, prompt: Prompt, body: bytes, read: Callable[[Reply], T], allowance: Allowance) -> T:
        try:
            reply = self._wire.send("/chat/completions", body, allowance)
        except Unreachable as error:
            raise _Unfinished(str(error)) from error
        if reply.status in TRY_AGAIN:
            raise _Unfinished(refusal_of(reply), pause_of(reply))
        if reply.status != OK:
            raise self._refused(model, prompt, reply, allowance)
        try:
            return read(reply)
        except Malformed as error:
            raise _Unfinished(str(error)) from error

    def _listed(self, stopped: threading.Event) -> tuple[str, ...]:
        return self._names(Allowance(min(LIST_S, self._timeout_s), stopped))

    def _names(self, allowance: Allowance) -> tuple[str, ...]:
        """Names of the models on the server; empty if the server does not list them."""
        try:
            return names_of(self._wire.send("/models", None, allowance))
        except (Unreachable, Damaged, TooLarge, OutOfTime):
            return ()

    def _allowance(self, stopped: threading.Event | None = None) -> Allowance:
        return Allowance(self._timeout_s, stopped)

    # ── failures ────────────────────────────────────────────────────────────────────────────────

    @property
    def _late(self) -> str:
        return f"timed out after {self._timeout_s:g} s (--engram-server-timeout)"

    def _failed(self, prompt: Prompt, reason: str, *, tries: int) -> BackendError:
        times = f" after {tries} tries" if tries > 1 else ""
        return BackendError(
            f"server {self._wire.url}: no whole answer to '{printable(prompt.user, 40)}'{times}: {printable(reason, 400)}"
        )

    def _refused(self, model: str, prompt: Prompt, reply: Reply, allowance: Allowance) -> BackendError:
        allowance.begin_try()
        known = ", ".join(printable(name, 80) for name in self._names(allowance.within(LIST_S))[:8])
        hint = f"; the server knows {known}" if known else ""
        asked = " cannot be asked" if prompt is GREETING else f", prompt '{printable(prompt.user, 40)}'"
        return BackendError(
            f"server {self._wire.url}: model '{printable(model, 80)}'{asked}: refused with {refusal_of(reply)}{hint}"
        )


def _encoded(body: Mapping[str, Any]) -> bytes:
    return json.dumps(body).encode()


def _body(model: str, prompt: Prompt, settings: GenerationSettings) -> dict[str, Any]:
    turns = [{"role": "system", "content": prompt.system}] if prompt.system is not None else []
    return {
        "model": model,
        "messages": [*turns, {"role": "user", "content": prompt.user}],
        "max_tokens": settings.max_tokens + (settings.max_reasoning_tokens or 0),  # a server bounds both together
        "temperature": settings.temperature,
        "top_p": settings.top_p,
        "seed": settings.seed + settings.sample,
    }


def _events(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """The data of each event of a stream, without the last one, which is ``[DONE]``.

    Source: https://html.spec.whatwg.org/multipage/server-sent-events.html
    """
    rest, size = bytearray(), 0
    for piece in pieces:
        size += len(piece)
        if size > LARGEST_BODY:
            msg = f"the stream has more than {LARGEST_BODY / 2**20:.0f} MiB"
            raise TooLarge(msg)
        rest += piece
        if b"\n" not in piece:
            continue
        *lines, last = bytes(rest).split(b"\n")
        rest = bytearray(last)
        for line in lines:
            if line.startswith(b"data:") and (data := line.removeprefix(b"data:").strip()) != b"[DONE]":
                yield data


def _completion(answer: Answer, seconds: float) -> Completion:
    return Completion(
        text=answer.text,
        prompt_tokens=answer.prompt_tokens,
        completion_tokens=answer.completion_tokens,
        stop_reason="length" if answer.is_cut else "stop",
        seconds=seconds,
        reasoning_tokens=min(answer.reasoning_tokens, answer.completion_tokens),
    )

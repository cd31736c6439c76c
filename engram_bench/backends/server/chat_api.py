"""Client for chat completions of an OpenAI-compatible server: concurrent requests, a limit of tries, whole answers only.

Source: https://platform.openai.com/docs/api-reference/chat.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import httpx

from engram_bench.errors import BackendError
from engram_bench.records import Completion, GenerationSettings, Prompt

TRIES = 4
"""Most times that a request is sent."""
PAUSE_S = 0.5
"""Seconds before the second try; the pause doubles before each further try."""
LONGEST_PAUSE_S = 30.0
"""Longest pause between two tries, also where ``Retry-After`` names a longer one."""
TRY_AGAIN = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})
"""Status codes after which a request is sent again."""


class _Unfinished(Exception):
    """A failed try that may be repeated; the text gives the reason."""

    def __init__(self, reason: str, pause_s: float | None = None) -> None:
        super().__init__(reason)
        self.pause_s = pause_s


@dataclass(frozen=True, slots=True)
class _Answer:
    text: str
    prompt_tokens: int
    completion_tokens: int
    is_cut: bool


class ChatApi:
    """Client of one server, which threads may share.

    Args:
        url: Address of the server, ``http://host:port`` with or without ``/v1``.
        concurrency: Largest number of requests at once.
        timeout_s: Seconds without an answer until a request is aborted; a connection gets at most 10 seconds.
        key: Bearer token; none is sent if empty.
        sleep: Function that waits between tries.

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
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            msg = f"server: url {url!r}, expected http://host:port"
            raise BackendError(msg)
        self._url = url.rstrip("/").removesuffix("/v1") + "/v1"
        self._concurrency = concurrency
        self._sleep = sleep
        self._client = httpx.Client(
            timeout=httpx.Timeout(timeout_s, connect=min(timeout_s, 10.0)),
            headers={"Authorization": f"Bearer {key}"} if key else {},
            trust_env=parts.hostname not in ("localhost", "127.0.0.1", "::1"),  # a proxy does not know this machine
        )

    def complete(self, model: str, prompts: Sequence[Prompt], settings: GenerationSettings) -> list[Completion]:
        """One completion per prompt, in order. Each completion gets an equal share of the time.

        Raises:
            BackendError: A prompt got no whole answer; other requests are cancelled. The message names server, prompt,
                reason and number of tries.
        """
        started = time.perf_counter()
        with ThreadPoolExecutor(self._concurrency) as pool:
            futures = [pool.submit(self._ask, model, prompt, settings) for prompt in prompts]
            wait(futures, return_when=FIRST_EXCEPTION)
            pool.shutdown(wait=True, cancel_futures=True)
        failures = [future.exception() for future in futures if not future.cancelled() and future.exception()]
        if failures and failures[0] is not None:
            raise failures[0]
        share = (time.perf_counter() - started) / max(1, len(prompts))
        return [_completion(future.result(), share) for future in futures]

    def stream(self, model: str, prompt: Prompt, settings: GenerationSettings) -> Iterator[str]:
        """Text of one completion in pieces as they arrive.

        Raises:
            BackendError: The request failed, or the answer ended early. The request is sent once only.
        """
        body = _body(model, prompt, settings) | {"stream": True}
        is_whole = False
        try:
            with self._client.stream("POST", f"{self._url}/chat/completions", json=body) as response:
                if response.status_code != httpx.codes.OK:
                    response.read()
                    raise self._refused(model, prompt, response)
                for line in response.iter_lines():
                    data = line.removeprefix("data:").strip()
                    if not line.startswith("data:") or data == "[DONE]":
                        continue
                    choice = (json.loads(data).get("choices") or [{}])[0]
                    is_whole = is_whole or bool(choice.get("finish_reason"))
                    if piece := (choice.get("delta") or {}).get("content"):
                        yield piece
        except (httpx.HTTPError, ValueError, AttributeError, TypeError) as error:
            raise self._failed(prompt, _words(error), tries=1) from error
        if not is_whole:
            raise self._failed(prompt, "the stream ended in the middle of an answer", tries=1)

    def models(self) -> list[str]:
        """Names of the models on the server; empty if the server does not list them."""
        try:
            listed = self._client.get(f"{self._url}/models").json()["data"]
            return [str(model["id"]) for model in listed]
        except (httpx.HTTPError, ValueError, KeyError, TypeError):
            return []

    def close(self) -> None:
        """Close the connections. A second call has no effect."""
        self._client.close()

    # ── one request ─────────────────────────────────────────────────────────────────────────────

    def _ask(self, model: str, prompt: Prompt, settings: GenerationSettings) -> _Answer:
        body = _body(model, prompt, settings)
        for attempt in range(1, TRIES + 1):
            try:
                return self._try(model, prompt, body)
            except _Unfinished as error:
                if attempt == TRIES:
                    raise self._failed(prompt, str(error), tries=TRIES) from error
                pause = error.pause_s if error.pause_s is not None else PAUSE_S * 2 ** (attempt - 1)
                self._sleep(min(pause, LONGEST_PAUSE_S))
        raise AssertionError("unreachable")

    def _try(self, model: str, prompt: Prompt, body: Mapping[str, Any]) -> _Answer:
        try:
            response = self._client.post(f"{self._url}/chat/completions", json=body)
        except httpx.TransportError as error:
            raise _Unfinished(_words(error)) from error
        if response.status_code in TRY_AGAIN:
            raise _Unfinished(_status(response), _retry_after(response))
        if response.status_code != httpx.codes.OK:
            raise self._refused(model, prompt, response)
        return _read(response)

    def _failed(self, prompt: Prompt, reason: str, *, tries: int) -> BackendError:
        times = f" after {tries} tries" if tries > 1 else ""
        return BackendError(f"server {self._url}: no whole answer to {prompt.user[:40]!r}{times}: {reason}")

    def _refused(self, model: str, prompt: Prompt, response: httpx.Response) -> BackendError:
        known = ", ".join(self.models()[:8])
        hint = f"; the server knows {known}" if known else ""
        return BackendError(
            f"server {self._url}: model {model!r}, prompt {prompt.user[:40]!r}: refused with {_status(response)}{hint}"
        )


def _body(model: str, prompt: Prompt, settings: GenerationSettings) -> dict[str, Any]:
    turns = [{"role": "system", "content": prompt.system}] if prompt.system is not None else []
    return {
        "model": model,
        "messages": [*turns, {"role": "user", "content": prompt.user}],
        "max_tokens": settings.max_tokens,
        "temperature": settings.temperature,
        "top_p": settings.top_p,
        "seed": settings.seed + settings.sample,
    }


def _read(response: httpx.Response) -> _Answer:
    """The answer in a successful response.

    Raises:
        _Unfinished: The response is no chat completion, or the answer is not whole.
    """
    try:
        content = response.json()
        choice = content["choices"][0]
        text, reason = choice["message"]["content"], choice.get("finish_reason")
        usage = content.get("usage") or {}
        counts = [int(usage.get(name) or 0) for name in ("prompt_tokens", "completion_tokens")]
    except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
        reason = f"found {response.text[:80]!r}, expected a chat completion"
        raise _Unfinished(reason) from error
    if reason not in ("stop", "length") or not isinstance(text, str):
        reason = f"not a whole answer (finish_reason {reason!r}, content {text!r:.60})"
        raise _Unfinished(reason)
    return _Answer(text, counts[0], counts[1], reason == "length")


def _completion(answer: _Answer, seconds: float) -> Completion:
    return Completion(
        text=answer.text,
        prompt_tokens=answer.prompt_tokens,
        completion_tokens=answer.completion_tokens,
        stop_reason="length" if answer.is_cut else "stop",
        seconds=seconds,
    )


def _status(response: httpx.Response) -> str:
    """Status code and the server's message, at most 120 characters of it."""
    try:
        error = response.json().get("error", response.text)
        words = error.get("message", "") if isinstance(error, dict) else str(error)
    except (ValueError, AttributeError):
        words = response.text
    return f"{response.status_code} {' '.join(words.split())[:120]}".strip()


def _retry_after(response: httpx.Response) -> float | None:
    try:
        return max(0.0, float(response.headers["retry-after"]))
    except (KeyError, ValueError):
        return None


def _words(error: Exception) -> str:
    kind = "timed out" if isinstance(error, httpx.TimeoutException) else "connection failed"
    return f"{kind} ({str(error) or type(error).__name__})"

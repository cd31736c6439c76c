"""What a request may use up: seconds in all, and bytes per try. The connection itself keeps the account.

A timeout of a library counts from one piece of data to the next, so a server that sends a byte now and then holds a request
for ever. Here every read of a socket takes from the allowance of its request, and a request that has used it up ends,
in headers, body or trailers alike.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import httpcore

SLICE_S = 0.2
"""Longest wait for data in one piece, after which a request sees that it was stopped or is out of time."""
LARGEST_BODY = 2 * 2**20
"""Bytes of the largest body of a reply, after decompression."""
LARGEST_TRANSFER = LARGEST_BODY + 2**20
"""Bytes of the largest reply on the network, with headers and all that surrounds the pieces of a body."""


class OutOfTime(Exception):
    """A request has no seconds left, or was stopped."""


class TooLarge(Exception):
    """A reply is larger than any answer; the text says how."""


class Allowance:
    """What one request may use up.

    Args:
        seconds: Seconds for everything, from the connection to the last byte of the last try.
        stopped: Switch that ends the request early; None makes one that nobody uses.
    """

    def __init__(self, seconds: float, stopped: threading.Event | None = None) -> None:
        self.seconds = seconds
        self._end = time.monotonic() + seconds
        self._stopped = stopped or threading.Event()
        self._bytes = 0

    @property
    def left_s(self) -> float:
        """Seconds left; 0 once the request is over."""
        return 0.0 if self._stopped.is_set() else max(0.0, self._end - time.monotonic())

    def some_s(self) -> float:
        """Seconds left: more than 0, and at most an hour, because a socket takes no timeout of any length.

        Raises:
            OutOfTime: None is left.
        """
        if left := self.left_s:
            return min(left, 3600.0)
        raise OutOfTime

    def within(self, seconds: float) -> Allowance:
        """An allowance for a part of the request: what is left, and at most *seconds*."""
        return Allowance(min(seconds, self.left_s), self._stopped)

    def begin_try(self) -> None:
        """Count the bytes of another try from 0."""
        self._bytes = 0

    def take(self, count: int) -> None:
        """Count bytes that arrived.

        Raises:
            TooLarge: More have arrived than any reply has.
        """
        self._bytes += count
        if self._bytes > LARGEST_TRANSFER:
            msg = f"more than {LARGEST_TRANSFER / 2**20:.0f} MiB arrived"
            raise TooLarge(msg)

    def pause(self, seconds: float) -> None:
        """Wait, no longer than until the request is stopped."""
        self._stopped.wait(seconds)


_thread = threading.local()


@contextmanager
def spending(allowance: Allowance) -> Iterator[None]:
    """Let every connection that this thread uses inside the block take from this allowance."""
    before = getattr(_thread, "allowance", None)
    _thread.allowance = allowance
    try:
        yield
    finally:
        _thread.allowance = before


def _current() -> Allowance:
    found: Allowance | None = getattr(_thread, "allowance", None)
    assert found is not None  # every request is made inside `spending`
    return found


class BoundedStream(httpcore.NetworkStream):
    """A connection whose reads and writes take from the allowance of the request that uses it."""

    def __init__(self, stream: httpcore.NetworkStream) -> None:
        self._stream = stream

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """Bytes that arrived; none at the end of the connection."""
        allowance = _current()
        while True:
            try:
                data = self._stream.read(max_bytes, min(SLICE_S, allowance.some_s()))
            except httpcore.ReadTimeout:
                continue
            allowance.take(len(data))
            return data

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Send bytes."""
        self._stream.write(buffer, _current().some_s())

    def close(self) -> None:
        """Close the connection."""
        self._stream.close()

    def start_tls(self, ssl_context, server_hostname=None, timeout=None):  # type: ignore[no-untyped-def]
        """The same connection, encrypted."""
        return BoundedStream(self._stream.start_tls(ssl_context, server_hostname, _current().some_s()))

    def get_extra_info(self, info: str) -> object:
        """A value of the connection that the library asks for by name."""
        return self._stream.get_extra_info(info)


class BoundedBackend(httpcore.SyncBackend):
    """The network, with connections that take from the allowance of their request."""

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        """A connection to a host."""
        left = _current().some_s()
        timeout = left if timeout is None else min(timeout, left)
        return BoundedStream(super().connect_tcp(host, port, timeout, local_address, socket_options))

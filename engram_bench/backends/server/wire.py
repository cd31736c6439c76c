"""Requests to one server over HTTP, each within an allowance of seconds and bytes; no redirect is followed."""

from __future__ import annotations

import os
import ssl
import zlib
from base64 import b64encode
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

import httpcore

from engram_bench.backends.server.allowance import (
    LARGEST_BODY,
    Allowance,
    BoundedBackend,
    OutOfTime,
    TooLarge,
    spending,
)
from engram_bench.door import hide, hide_credentials, without_credentials
from engram_bench.errors import BackendError

CONNECT_S = 10.0
"""Longest time until a connection stands."""
HERE = ("localhost", "127.0.0.1", "::1")
"""Names of this machine, which a proxy does not know."""
OK = 200


class Unreachable(Exception):
    """No reply came, or not a whole one; the text gives the reason."""


class Damaged(Exception):
    """A reply cannot be read; the text gives the reason."""


class Refused(Exception):
    """A stream was asked for, and the reply is a refusal."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(reply.status)
        self.reply = reply


@dataclass(frozen=True, slots=True)
class Reply:
    """A reply with its body read whole and decompressed."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    """Names in lower case."""
    body: bytes = b""


class Wire:
    """Connections to one server, which threads may share.

    A proxy of the environment (``HTTPS_PROXY`` and its like) is used, except for this machine itself.

    Args:
        url: Address of the server, with or without ``/v1``; user and password in the address are sent as HTTP Basic.
        key: Bearer token; none is sent if empty. With a key, user and password of the address are not sent.
        connections: Largest number of connections at once.

    Raises:
        BackendError: The address has no host or another scheme than http and https.
    """

    def __init__(self, url: str, *, key: str = "", connections: int = 8) -> None:
        key = key.strip()  # a file or a secret of a CI system often ends in a newline
        hide(key)
        hide_credentials(url)
        parts = _parts(url)
        self.url = without_credentials(url).rstrip("/").removesuffix("/v1") + "/v1"
        """Address of the API, without user and password."""
        self._headers = {"User-Agent": "engram-bench", "Accept-Encoding": "identity", **_authorization(parts, key)}
        self._pool = _pool(parts, connections)

    def send(self, path: str, body: bytes | None, allowance: Allowance) -> Reply:
        """The reply to a POST of *body*, or to a GET without one.

        Raises:
            Unreachable: No whole reply came.
            Damaged: The body cannot be decompressed.
            OutOfTime: The allowance has no seconds left.
            TooLarge: The reply is larger than any answer.
        """
        with _within(allowance):
            response = self._pool.handle_request(self._request(path, body, allowance))
            try:
                return _reply(response)
            finally:
                response.close()

    def stream(self, path: str, body: bytes, allowance: Allowance) -> Iterator[bytes]:
        """Pieces of the body of the reply to a POST, as they arrive.

        Raises:
            Refused: The status is another than 200.
            Unreachable, Damaged, OutOfTime, TooLarge: As for :meth:`send`.
        """
        with _within(allowance):
            response = self._pool.handle_request(self._request(path, body, allowance))
        try:
            with _within(allowance):
                if response.status != OK:
                    raise Refused(_reply(response))
                _plain_only(_headers(response))
                pieces = iter(response.iter_stream())
            while True:
                with _within(allowance):
                    piece = next(pieces, None)
                if piece is None:
                    return
                yield piece
        finally:
            response.close()

    def close(self) -> None:
        """Close the connections. A second call has no effect."""
        self._pool.close()

    def _request(self, path: str, body: bytes | None, allowance: Allowance) -> httpcore.Request:
        headers = {"Host": urlsplit(self.url).netloc, **self._headers}
        if body is not None:
            headers |= {"Content-Type": "application/json", "Content-Length": str(len(body))}
        times = {"connect": min(CONNECT_S, allowance.some_s()), "pool": allowance.some_s()}
        method = "GET" if body is None else "POST"
        return httpcore.Request(
            method, self.url + path, headers=list(headers.items()), content=body, extensions={"timeout": times}
        )


@contextmanager
def _within(allowance: Allowance) -> Iterator[None]:
    """Context for work on the network: it takes from the allowance, and its errors become ours."""
    try:
        with spending(allowance):
            yield
    except (httpcore.PoolTimeout, httpcore.WriteTimeout) as error:
        raise OutOfTime from error
    except httpcore.TimeoutException as error:
        msg = f"timed out ({type(error).__name__})"
        raise Unreachable(msg) from error
    except (httpcore.NetworkError, httpcore.ProtocolError, httpcore.ProxyError, OSError) as error:
        msg = f"connection failed ({error or type(error).__name__})"
        raise Unreachable(msg) from error


def _parts(url: str) -> Any:
    try:
        parts = urlsplit(url)
        is_usable = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
        if is_usable and url.isascii() and url.isprintable() and " " not in url:
            return parts
    except ValueError:  # brackets or a port that cannot be read
        pass
    msg = f"server: url '{without_credentials(url)}', expected http://host:port"
    raise BackendError(msg)


def _authorization(parts: Any, key: str) -> dict[str, str]:
    if key:
        if not (key.isascii() and key.isprintable()):
            msg = "server: the key has characters that a header cannot hold, expected printable ASCII"
            raise BackendError(msg)
        return {"Authorization": f"Bearer {key}"}
    if parts.username is None:
        return {}
    pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    return {"Authorization": f"Basic {b64encode(pair.encode()).decode()}"}


def _pool(parts: Any, connections: int) -> httpcore.ConnectionPool:
    streams = 2  # a demo reads from both sides in turn
    options: dict[str, Any] = {"max_connections": connections + streams, "network_backend": BoundedBackend()}
    if parts.scheme == "https":
        options["ssl_context"] = _trusted()
    proxy = "" if parts.hostname in HERE or proxy_bypass(parts.hostname) else getproxies().get(parts.scheme, "")
    if not proxy:
        return httpcore.ConnectionPool(**options)
    hide_credentials(proxy)
    where = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
    if where.username is not None:
        options["proxy_auth"] = (unquote(where.username).encode(), unquote(where.password or "").encode())
    kind = httpcore.SOCKSProxy if where.scheme.startswith("socks") else httpcore.HTTPProxy
    return kind(without_credentials(where.geturl()), **options)


def _trusted() -> ssl.SSLContext:
    """Certificates to trust: certifi's, and those that the environment names."""
    context = httpcore.default_ssl_context()
    file, folder = os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR")
    if file or folder:
        context.load_verify_locations(cafile=file, capath=folder)
    return context


def _reply(response: httpcore.Response) -> Reply:
    headers = _headers(response)
    return Reply(response.status, headers, decompressed(response.read(), headers.get("content-encoding", "")))


def _headers(response: httpcore.Response) -> dict[str, str]:
    return {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in reversed(response.headers)}


def _plain_only(headers: Mapping[str, str]) -> None:
    if headers.get("content-encoding", "identity").lower() != "identity":
        raise Damaged("the stream is compressed, which was not asked for")


def decompressed(body: bytes, encoding: str) -> bytes:
    """The body without its content encoding.

    Raises:
        Damaged: The encoding is unknown, or the body is not so encoded.
        TooLarge: The body grows beyond any answer.
    """
    name = encoding.strip().lower()
    if name not in ("", "identity", "gzip", "x-gzip", "deflate"):
        msg = f"content encoding '{name[:40]}', expected gzip, deflate or none"
        raise Damaged(msg)
    if name in ("", "identity"):
        whole = body
    else:
        reader = zlib.decompressobj(zlib.MAX_WBITS | (0 if name == "deflate" else 16))
        try:
            whole = reader.decompress(body, LARGEST_BODY + 1)
        except zlib.error as error:
            msg = f"the body is not {name}"
            raise Damaged(msg) from error
        if len(whole) <= LARGEST_BODY and not reader.eof:
            msg = f"the {name} body is cut"
            raise Damaged(msg)
    if len(whole) > LARGEST_BODY:
        msg = f"the body has more than {LARGEST_BODY / 2**20:.0f} MiB"
        raise TooLarge(msg)
    return whole

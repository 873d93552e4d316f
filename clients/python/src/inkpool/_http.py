"""Requests and answers. Redirects are followed nowhere: a token goes to the server that was named, and to nobody else."""

from __future__ import annotations

import http.client
import random
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import IO, TypeVar
from urllib.parse import quote, urlencode, urljoin, urlsplit

from ._errors import InkpoolError, ProblemError, Unreachable

T = TypeVar("T")
Body = bytes | Callable[[], IO[bytes]] | None

# Waits between tries double from the first to the second of these, seconds.
BACKOFF_MIN_S = 0.25
BACKOFF_MAX_S = 10.0
# A server that says "later" is not believed beyond this.
RETRY_AFTER_MAX_S = 60.0
PASSING_STATUSES = frozenset({408, 429, 502, 503, 504})
# Documents of the API stay far below.
DOCUMENT_BYTES_MAX = 64 << 20


class Transport:
    """One server."""

    def __init__(self, base: str, token: str | None, timeout_s: float, retry_for_s: float, context: ssl.SSLContext | None):
        parts = urlsplit(base)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise InkpoolError(f"{base!r} is no address such as https://ink.example.org")
        if parts.username or parts.password or parts.query or parts.fragment:
            raise InkpoolError("an address has no name, password, query or fragment in it; use a token")
        self.base = base.rstrip("/")
        self.token = token
        self.timeout_s = timeout_s
        self.retry_for_s = retry_for_s
        self.context = context or ssl.create_default_context()

    def url(self, *path: str, **query: str | int | None) -> str:
        """An address below `/api/v1`; each part of the path is one component, whatever stands in it."""
        url = "/".join([self.base, "api/v1", *(quote(part, safe="") for part in path)])
        wanted = {name: value for name, value in query.items() if value is not None}
        return f"{url}?{urlencode(wanted)}" if wanted else url

    def absolute(self, url: str) -> str:
        """An address that the server gave, which may be a path of its own."""
        return urljoin(self.base + "/", url)

    @contextmanager
    def send(
        self, method: str, url: str, body: Body = None, headers: Mapping[str, str] | None = None, token: bool = True
    ) -> Iterator[http.client.HTTPResponse]:
        """Sends once. What is no success is an error."""
        parts = urlsplit(url)
        if parts.scheme == "https":
            connection: http.client.HTTPConnection = http.client.HTTPSConnection(
                parts.netloc, timeout=self.timeout_s, context=self.context
            )
        else:
            connection = http.client.HTTPConnection(parts.netloc, timeout=self.timeout_s)
        all_headers = {"User-Agent": "inkpool-client", "Accept": "*/*", **(headers or {})}
        if token and self.token:
            all_headers["Authorization"] = f"Bearer {self.token}"
        target = parts.path + (f"?{parts.query}" if parts.query else "")
        opened = body() if callable(body) else body
        try:
            try:
                connection.request(method, target, body=opened, headers=all_headers)
                response = connection.getresponse()
            except (OSError, http.client.HTTPException) as error:
                raise Unreachable(f"cannot reach {parts.netloc}: {error or type(error).__name__}") from error
            if not 200 <= response.status < 300:
                raise self._refusal(response)
            yield response
        finally:
            if callable(body) and opened is not None:
                opened.close()  # type: ignore[union-attr]
            connection.close()

    @staticmethod
    def _refusal(response: http.client.HTTPResponse) -> ProblemError:
        try:
            body = response.read(DOCUMENT_BYTES_MAX)
        except (OSError, http.client.HTTPException):
            body = b""
        if 300 <= response.status < 400:
            to = response.getheader("Location", "nowhere")
            detail = f"The server sends us on to {to}, where nothing is sent unasked."
            return ProblemError(response.status, {"title": "Moved", "detail": detail})
        return ProblemError.of(response.status, response.reason, body, response.getheader("Retry-After"))

    def pieces(self, response: http.client.HTTPResponse) -> Iterator[bytes]:
        """The body as it comes."""
        while True:
            try:
                piece = response.read1(1 << 16)
            except (OSError, http.client.HTTPException) as error:
                raise Unreachable(f"the answer broke off: {error or type(error).__name__}") from error
            if not piece:
                return
            yield piece

    def read(self, response: http.client.HTTPResponse) -> bytes:
        """The whole body."""
        body = bytearray()
        for piece in self.pieces(response):
            body += piece
            if len(body) > DOCUMENT_BYTES_MAX:
                raise InkpoolError("the answer is longer than any of an Inkpool server")
        expected = response.getheader("Content-Length")
        if expected is not None and int(expected) != len(body):
            raise Unreachable("the answer broke off")
        return bytes(body)

    def retrying(self, attempt: Callable[[], T], repeatable: bool = True) -> T:
        """Tries until it goes, until it cannot go, or until the time for it is over. What is not `repeatable` is tried again
        only if the server has said that it did nothing."""
        end = time.monotonic() + self.retry_for_s
        backoff = BACKOFF_MIN_S
        while True:
            try:
                return attempt()
            except Unreachable:
                if not repeatable or time.monotonic() + backoff > end:
                    raise
                least = 0.0
            except ProblemError as error:
                least = min(error.retry_after_s or 0.0, RETRY_AFTER_MAX_S)
                if error.status not in PASSING_STATUSES or time.monotonic() + max(backoff, least) > end:
                    raise
            # By chance, so that many that failed together do not come back together.
            time.sleep(max(least, backoff * random.uniform(0.5, 1.0)))
            backoff = min(backoff * 2, BACKOFF_MAX_S)

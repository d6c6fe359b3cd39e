"""The line to Tollgate: pooled, bounded in time and size, and silent about what goes over it.

- Two seconds in all for an answer, whatever it waits for.
- One more try when no connection came about, and only then: nothing has been sent yet.
- No redirect is followed, no proxy is taken from the environment, no cookie is kept.
- An answer of more than a mebibyte is none.
"""

import json as json_text
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from http.cookiejar import CookieJar, DefaultCookiePolicy
from importlib.metadata import version
from typing import Any

import anyio
import httpx
from pydantic import SecretBytes

from .errors import ConfigurationError, Unavailable

LARGEST_ANSWER = 1024 * 1024
DEFAULT_TIMEOUT = 2.0
DEFAULT_CONNECTIONS = 100

#: A header whose value neither a log nor a traceback with variables shows.
HeaderLine = tuple[bytes, SecretBytes]

log = logging.getLogger("tollgate")

_talking: ContextVar[bool] = ContextVar("tollgate_talking", default=False)


class _Discretion(logging.Filter):
    """Below INFO, httpcore writes down every header it reads, session cookies included."""

    def filter(self, record: logging.LogRecord) -> bool:
        return record.levelno >= logging.INFO or not _talking.get()


for _name in ("httpcore.http11", "httpcore.connection", "httpcore.http2", "httpcore.proxy"):
    logging.getLogger(_name).addFilter(_Discretion())


@contextmanager
def _discreetly() -> Iterator[None]:
    token = _talking.set(True)
    try:
        yield
    finally:
        _talking.reset(token)


@dataclass(frozen=True)
class Answer:
    """A whole answer. Its body may hold tokens, so its repr tells the status alone."""

    status: int
    headers: httpx.Headers = field(repr=False)
    body: bytes = field(repr=False)

    @property
    def request_id(self) -> str | None:
        return _text(self.headers.get("x-request-id"))

    @property
    def cookies(self) -> list[str]:
        """The ``Set-Cookie`` lines, one by one."""
        return self.headers.get_list("set-cookie")

    @property
    def is_replayed(self) -> bool:
        return _text(self.headers.get("idempotent-replayed")) == "true"

    @property
    def is_json(self) -> bool:
        base = (_text(self.headers.get("content-type")) or "").split(";")[0].strip().lower()
        return base == "application/json" and not _is_packed(self.headers)

    def unclear(self, why: str) -> Unavailable:
        """What to raise when this answer cannot be understood."""
        log.warning("Tollgate answered %s: %s", self.status, why)
        message = "the sign-in service gave no clear answer, try again soon"
        return Unavailable(message, request_id=self.request_id)


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


class Connection:
    """One pool of connections, open between :meth:`open` and :meth:`close`."""

    def __init__(
        self,
        url: str,
        *,
        timeout: float = DEFAULT_TIMEOUT,
        connections: int = DEFAULT_CONNECTIONS,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._url = url
        self._timeout = timeout
        self._connections = connections
        self._transport = transport
        self._client: httpx.AsyncClient | None = None

    @property
    def is_open(self) -> bool:
        return self._client is not None

    def open(self) -> None:
        if self._client is not None:
            raise ConfigurationError(
                "this Tollgate is open already: one of its own belongs to each app and event loop"
            )
        self._client = httpx.AsyncClient(
            base_url=self._url,
            # A jar shared by requests would give one visitor's session to the next.
            cookies=CookieJar(policy=DefaultCookiePolicy(allowed_domains=[])),
            follow_redirects=False,
            headers={
                "accept": "application/json",
                # What is not packed cannot burst.
                "accept-encoding": "identity",
                "user-agent": f"tollgate-python/{version('tollgate')}",
            },
            limits=httpx.Limits(
                max_connections=self._connections, max_keepalive_connections=self._connections
            ),
            timeout=self._timeout,
            transport=self._transport,
            trust_env=False,
        )

    async def close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()

    async def ask(
        self,
        method: str,
        path: str,
        *,
        headers: Sequence[HeaderLine] = (),
        query: Mapping[str, str] | None = None,
        json: Mapping[str, Any] | None = None,
    ) -> Answer:
        """The answer, whatever its status; :class:`Unavailable` when there is none."""
        client = self._client
        if client is None:
            raise ConfigurationError(
                "Tollgate is not connected: the app's lifespan does not run. "
                "Call `Tollgate.install(app)`; in tests write `with TestClient(app) as client`"
            )
        content = None
        if json is not None:
            content = json_text.dumps(json, ensure_ascii=False, allow_nan=False).encode()
            headers = [*headers, (b"content-type", SecretBytes(b"application/json"))]
        with _discreetly():
            try:
                with anyio.fail_after(self._timeout):
                    request = client.build_request(
                        method, path, headers=_plain(headers), params=query, content=content
                    )
                    return await self._send(client, request)
            except TimeoutError:
                trouble = f"no answer within {self._timeout:g} s"
            except httpx.ConnectError:
                trouble = "no connection"
            except (httpx.HTTPError, httpx.StreamError, OSError) as error:
                trouble = type(error).__name__
            except _TooLargeError:
                trouble = f"an answer of more than {LARGEST_ANSWER} bytes"
        # Raised out here: the exceptions above know the request with its cookies.
        log.warning("Tollgate cannot be asked (%s %s): %s", method, path, trouble)
        raise Unavailable("the sign-in service does not answer, try again soon")

    async def _send(self, client: httpx.AsyncClient, request: httpx.Request) -> Answer:
        try:
            response = await client.send(request, stream=True)
        except httpx.ConnectError:
            response = await client.send(request, stream=True)
        try:
            return Answer(response.status_code, response.headers, await _read(response))
        finally:
            await response.aclose()


class _TooLargeError(Exception):
    pass


def _is_packed(headers: httpx.Headers) -> bool:
    coding = _text(headers.get("content-encoding")) or "identity"
    return coding.strip().lower() != "identity"


def _plain(headers: Sequence[HeaderLine]) -> list[tuple[bytes, bytes]]:
    return [(name, value.get_secret_value()) for name, value in headers]


async def _read(response: httpx.Response) -> bytes:
    if _is_packed(response.headers):
        # Nobody asked for that; a mebibyte of it may be a gibibyte.
        return b""
    body = bytearray()
    async for part in response.aiter_bytes():
        body += part
        if len(body) > LARGEST_ANSWER:
            raise _TooLargeError
    return bytes(body)

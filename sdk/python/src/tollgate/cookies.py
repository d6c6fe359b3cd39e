"""Cookies on their way through: the visitor's as they came, Tollgate's as lines of their own."""

from collections.abc import Sequence

from fastapi.requests import HTTPConnection
from pydantic import SecretBytes
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .connection import HeaderLine

_LINES = "tollgate.set_cookie"


def cookie_lines(request: HTTPConnection) -> list[HeaderLine]:
    """The visitor's ``Cookie`` header, byte for byte; HTTP/2 may have split it."""
    parts = [value for name, value in request.headers.raw if name.lower() == b"cookie"]
    return [(b"cookie", SecretBytes(b"; ".join(parts)))] if parts else []


def key_lines(request: HTTPConnection) -> list[HeaderLine]:
    """What a program shows in ``x-api-key``, as it came."""
    keys = [value for name, value in request.headers.raw if name.lower() == b"x-api-key"]
    return [(b"x-api-key", SecretBytes(key)) for key in keys]


def pass_on(request: HTTPConnection, lines: Sequence[str]) -> None:
    """Notes ``Set-Cookie`` lines for the answer, whatever it will be."""
    kept: list[bytes] | None = request.scope.get(_LINES)
    if kept is not None:
        kept.extend(line.encode("latin-1") for line in lines)


class PassOnCookies:
    """Puts the lines of an extended session onto the app's answer, each as a line of its own."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or _LINES in scope:
            await self.app(scope, receive, send)
            return
        lines: list[bytes] = []
        scope[_LINES] = lines

        async def send_with_cookies(message: Message) -> None:
            if message["type"] == "http.response.start" and lines:
                said = message.get("headers", ())
                # No cache between us and the browser may keep somebody's session.
                headers = [pair for pair in said if pair[0].lower() != b"cache-control"]
                headers.append((b"cache-control", b"no-store"))
                headers += ((b"set-cookie", line) for line in lines)
                message = {**message, "headers": headers}
            await send(message)

        await self.app(scope, receive, send_with_cookies)

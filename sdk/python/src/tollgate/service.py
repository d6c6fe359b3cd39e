"""Calls at Tollgate's doors for backends, with the app's service key."""

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import SecretBytes, SecretStr

from .connection import Answer, Connection, HeaderLine
from .errors import ConfigurationError
from .refusals import refusal


class Service:
    """A connection with the app's key."""

    def __init__(self, connection: Connection, key: SecretStr | None) -> None:
        self._connection = connection
        self._key = key

    async def read(self, path: str, query: Mapping[str, str]) -> Answer:
        answer = await self._connection.ask("GET", path, headers=self._lines(None), query=query)
        return granted(answer)

    async def change(self, path: str, body: Mapping[str, Any], key: str | None) -> Answer:
        return granted(await self.post(path, body, key))

    async def post(
        self,
        path: str,
        body: Mapping[str, Any],
        key: str | None,
        headers: Sequence[HeaderLine] = (),
    ) -> Answer:
        """The answer, refusals included."""
        lines = [*self._lines(key), *headers]
        return await self._connection.ask("POST", path, headers=lines, json=body)

    def _lines(self, key: str | None) -> list[HeaderLine]:
        if self._key is None:
            raise ConfigurationError(
                "this needs a service key: set TOLLGATE_KEY to one of `tollgate key create`"
            )
        bearer = SecretBytes(b"Bearer " + self._key.get_secret_value().encode())
        lines: list[HeaderLine] = [(b"authorization", bearer)]
        if key is not None:
            lines.append((b"idempotency-key", SecretBytes(_visible(key))))
        return lines


def granted(answer: Answer, *, forbids_users: bool = False) -> Answer:
    """The answer, unless it is a refusal; that is raised."""
    if answer.status in (200, 201):
        return answer
    raise refusal(answer, forbids_users=forbids_users)


def _visible(key: str) -> bytes:
    if not 1 <= len(key) <= 255 or any(not "!" <= character <= "~" for character in key):
        raise ValueError("an idempotency key is 1 to 255 visible ASCII characters without spaces")
    return key.encode()

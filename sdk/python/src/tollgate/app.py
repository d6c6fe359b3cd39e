"""Tollgate as an app knows it: one object, one pool of connections."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Self

import httpx
from fastapi import FastAPI
from fastapi.requests import HTTPConnection
from pydantic import SecretStr

from .charges import Metadata, Tokens, key_or_fresh, price
from .connection import DEFAULT_CONNECTIONS, DEFAULT_TIMEOUT, Connection
from .cookies import PassOnCookies
from .credits import Credits, Owner, OwnerCredits
from .errors import ConfigurationError, Unavailable
from .flat_errors import install_error_handlers
from .gate import Passage, Question, RequestCredits, ask_gate
from .service import Service
from .sessions import AuthenticatedUser, ask_for_user
from .settings import TollgateSettings, check_address, check_key

READY_PATH = "/readyz"


class Tollgate:
    """Asks Tollgate about requests and moves credits.

    Nothing is cached: a session that is revoked is refused from the next question on.
    """

    def __init__(
        self,
        url: str,
        service_key: str | SecretStr | None = None,
        *,
        timeout: float = DEFAULT_TIMEOUT,
        connections: int = DEFAULT_CONNECTIONS,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        """``timeout``: seconds for a whole answer. ``transport``: for tests, a local socket, or a
        certificate authority of your own (``httpx.AsyncHTTPTransport(verify=…, trust_env=False)``).
        """
        if isinstance(service_key, str):
            service_key = SecretStr(service_key)
        try:
            self.url = check_address(url)
            key = None if service_key is None else check_key(service_key)
        except ValueError as error:
            raise ConfigurationError(f"Tollgate's address or key: {error}") from None
        self._connection = Connection(
            self.url, timeout=timeout, connections=connections, transport=transport
        )
        self._service = Service(self._connection, key)

    def __repr__(self) -> str:
        return f"Tollgate({self.url!r})"

    @classmethod
    def from_env(cls, *, key_needed: bool = True) -> Self:
        """From ``TOLLGATE_URL`` and ``TOLLGATE_KEY``.

        An app that only checks sessions needs no key: ``key_needed=False``.
        """
        settings = TollgateSettings.read(key_needed=key_needed)
        return cls(settings.url, settings.service_key)

    # ---- Its place in an app ----

    def install(self, app: FastAPI) -> None:
        """Everything in one line: the connections' life, the flat error body, extended sessions.

        Call it before the app starts. A lifespan that the app has keeps running inside of ours.
        """
        inner = app.router.lifespan_context

        @asynccontextmanager
        async def lifespan(app: Any) -> AsyncIterator[Any]:
            # A test may have put another in place.
            tollgate: Tollgate = app.state.tollgate
            async with tollgate, inner(app) as state:
                yield state

        app.state.tollgate = self
        app.router.lifespan_context = lifespan
        app.add_middleware(PassOnCookies)
        install_error_handlers(app)

    async def __aenter__(self) -> Self:
        """Opens the connections; they belong to the running event loop."""
        self._connection.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._connection.close()

    @property
    def is_open(self) -> bool:
        return self._connection.is_open

    # ---- Questions ----

    async def user(self, request: HTTPConnection) -> AuthenticatedUser | None:
        """Who is signed in; ``None`` is nobody. ``Unavailable`` when it cannot be told."""
        return await ask_for_user(self._connection, request)

    async def authorize(
        self,
        request: HTTPConnection,
        *,
        user_id: str | None = None,
        role: str | None = None,
        charge: str | int | Tokens | None = None,
        quantity: int = 1,
        unit: str | None = None,
        payer: Owner | None = None,
        guest: str | None = None,
        reason: str | None = None,
        metadata: Metadata | None = None,
        key: str | None = None,
    ) -> Passage:
        """Session, permission and charge in one round trip.

        ``charge`` is a feature of the price book, an amount or tokens; ``guest`` names the action
        that visitors without an account may do as often as their allowance says. ``key`` names
        what is paid for, such as a job's id; without one each call pays.
        """
        question = Question(
            user_id=user_id,
            role=role,
            charge=None if charge is None else price(charge, quantity, unit),
            payer=payer,
            guest=guest,
            reason=reason,
            metadata=metadata,
        )
        if charge is not None:
            key = key_or_fresh(key)
        return await ask_gate(self._service, request, question, key)

    def credits(self, request: HTTPConnection, user: AuthenticatedUser) -> Credits:
        """The credits of whoever is signed in, paid through the gate."""
        return RequestCredits(self._service, request, user)

    def credits_of(
        self,
        *,
        user_id: str | None = None,
        organization_id: str | None = None,
        guest_id: str | None = None,
    ) -> OwnerCredits:
        """The credits of an owner whom your own code names, outside of any request."""
        return OwnerCredits(self._service, Owner(user_id, organization_id, guest_id))

    async def is_healthy(self) -> bool:
        """Whether Tollgate is ready to answer."""
        try:
            return (await self._connection.ask("GET", READY_PATH)).status == 200
        except Unavailable:
            return False

"""One question for a whole request: who is it, may it pass, what does it cost.

``POST /api/gate/authorize`` with the visitor's cookie as it came, and the API key that a program
shows. Both are judged anew with every question; nothing is remembered here.
"""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any, Literal

from fastapi.requests import HTTPConnection
from pydantic import AwareDatetime, BaseModel, ConfigDict, SecretBytes, TypeAdapter

from .charges import Balance, Charge, some
from .connection import HeaderLine
from .cookies import cookie_lines, key_lines, pass_on
from .credits import Credits, Hold, Owner, OwnerCredits
from .errors import Misconfigured, TollgateError, Unavailable
from .service import Service, granted
from .sessions import AuthenticatedUser, understand

AUTHORIZE_PATH = "/api/gate/authorize"


class _Told(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True, hide_input_in_errors=True)


class Subject(_Told):
    """Who passes."""

    kind: Literal["user", "guest", "api_key"]
    id: str


class Session(_Told):
    expires_at: AwareDatetime


class Allowance(_Told):
    """What a visitor without an account may still do. Before the first use nothing resets."""

    action: str
    limit: int
    used: int
    remaining: int
    resets_at: AwareDatetime | None = None


class Passage(_Told):
    """The gate's yes."""

    subject: Subject
    #: ``None`` for a guest, and for the API key of an organization.
    user: AuthenticatedUser | None = None
    session: Session | None = None
    charge: Charge | None = None
    guest: Allowance | None = None


PASSAGE: TypeAdapter[Passage] = TypeAdapter(Passage)


@dataclass(frozen=True)
class Question:
    """What is asked of the gate; every part may be left out."""

    user_id: str | None = None
    role: str | None = None
    charge: Mapping[str, Any] | None = None
    hold_expires_in: int | None = None
    payer: Owner | None = None
    guest: str | None = None
    reason: str | None = None
    metadata: Mapping[str, Any] | None = None

    @property
    def body(self) -> dict[str, Any]:
        return some(
            user_id=self.user_id,
            role=self.role,
            charge=self.charge,
            hold=None if self.hold_expires_in is None else True,
            hold_expires_in=self.hold_expires_in,
            payer=None if self.payer is None else self.payer.members,
            guest=None if self.guest is None else {"action": self.guest},
            reason=self.reason,
            metadata=self.metadata,
        )


async def ask_gate(
    service: Service, request: HTTPConnection, question: Question, key: str | None
) -> Passage:
    """The passage; :class:`~tollgate.TollgateError` is a no, or "it cannot be told"."""
    headers = cookie_lines(request) + key_lines(request)
    if question.guest is not None:
        # Visitors are also counted by their address.
        headers += _forwarded_for(request)
    # A 403 is about the visitor only where something was asked that a visitor can lack.
    about_visitors = question.role is not None or question.payer is not None
    answer = await service.post(AUTHORIZE_PATH, question.body, key, headers)
    try:
        passage = understand(PASSAGE, granted(answer, forbids_users=about_visitors))
    except (Unavailable, Misconfigured):
        raise
    except TollgateError:
        # A session is extended also where something else is refused.
        pass_on(request, answer.cookies)
        raise
    pass_on(request, answer.cookies)
    return passage


def _forwarded_for(request: HTTPConnection) -> list[HeaderLine]:
    """As a proxy says it: what it was told, and then who told it."""
    said = [value for name, value in request.headers.raw if name.lower() == b"x-forwarded-for"]
    peer = request.client.host if request.client is not None else ""
    # A local socket has no address.
    with suppress(ValueError):
        said.append(str(ip_address(peer.split("%")[0])).encode())
    return [(b"x-forwarded-for", SecretBytes(b", ".join(said)))] if said else []


class RequestCredits(Credits):
    """The credits of whoever is signed in, for one request.

    The session is judged again with every charge: a revoke counts from the next one on.
    """

    def __init__(self, service: Service, request: HTTPConnection, user: AuthenticatedUser) -> None:
        self._service = service
        self._request = request
        self.user = user

    async def balance(self, unit: str | None = None) -> Balance:
        return await OwnerCredits(self._service, Owner(user_id=self.user.user_id)).balance(unit)

    async def _spend(self, charge: Mapping[str, Any], rest: Mapping[str, Any], key: str) -> Charge:
        question = Question(user_id=self.user.user_id, charge=charge, **rest)
        return await self._pay(question, key)

    async def _reserve(
        self, charge: Mapping[str, Any], rest: Mapping[str, Any], expires_in: int, key: str
    ) -> Hold:
        question = Question(
            user_id=self.user.user_id, charge=charge, hold_expires_in=expires_in, **rest
        )
        held = await self._pay(question, key)
        if held.hold_id is None:
            raise Unavailable("the gate answered without a hold, try again soon")
        return Hold(self._service, held.hold_id, held.amount, held.unit)

    async def _pay(self, question: Question, key: str) -> Charge:
        passage = await ask_gate(self._service, self._request, question, key)
        if passage.charge is None:
            raise Unavailable("the gate answered without a charge, try again soon")
        return passage.charge

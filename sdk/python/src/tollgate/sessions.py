"""Who is asking: ``GET /api/auth/get-session`` with the cookie and nothing else."""

from datetime import UTC, datetime
from typing import Annotated, TypeVar

from fastapi.requests import HTTPConnection
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from .connection import Answer, Connection
from .cookies import cookie_lines, pass_on
from .errors import Unavailable

SESSION_PATH = "/api/auth/get-session"

Identifier = Annotated[str, Field(min_length=1)]


class AuthenticatedUser(BaseModel, frozen=True):
    """Somebody who is signed in. As an answer of your app it shows id, address and name."""

    model_config = ConfigDict(hide_input_in_errors=True)

    user_id: Identifier
    email: str
    name: str | None = None
    email_verified: bool = Field(default=False, exclude=True)
    #: As Tollgate keeps it: several roles are separated by commas.
    role: str | None = Field(default=None, exclude=True)

    @property
    def roles(self) -> frozenset[str]:
        parts = (part.strip() for part in (self.role or "").split(","))
        return frozenset(part for part in parts if part)

    def has_role(self, role: str) -> bool:
        return role in self.roles


class _Heard(BaseModel):
    """What Tollgate says may grow; a refusal to read it never repeats it."""

    model_config = ConfigDict(extra="ignore", frozen=True, hide_input_in_errors=True, strict=True)


class _HeardUser(_Heard):
    id: Identifier
    email: str
    name: str | None = None
    email_verified: bool = Field(default=False, alias="emailVerified")
    role: str | None = None


class _HeardSession(_Heard):
    user_id: str | None = Field(default=None, alias="userId")
    expires_at: AwareDatetime | None = Field(default=None, alias="expiresAt")


class _HeardBoth(_Heard):
    session: _HeardSession
    user: _HeardUser


_ANSWER: TypeAdapter[_HeardBoth | None] = TypeAdapter(_HeardBoth | None)

Shape = TypeVar("Shape")


def understand(adapter: TypeAdapter[Shape], answer: Answer) -> Shape:
    """The body in its shape; anything else is :class:`Unavailable`, never a "no"."""
    trouble: Unavailable
    if not answer.is_json:
        raise answer.unclear("the body is no JSON")
    try:
        return adapter.validate_json(answer.body)
    except (ValidationError, RecursionError):
        trouble = answer.unclear("the body is not what it should be")
    raise trouble


def read_session(answer: Answer, now: datetime) -> AuthenticatedUser | None:
    """``None`` is nobody, and nothing else is."""
    if answer.status != 200:
        raise answer.unclear("it should be 200")
    both = understand(_ANSWER, answer)
    if both is None:
        return None
    session, user = both.session, both.user
    if session.user_id is not None and session.user_id != user.id:
        raise answer.unclear("session and user belong to different people")
    if session.expires_at is not None and session.expires_at <= now:
        return None
    return AuthenticatedUser(
        user_id=user.id,
        email=user.email,
        name=user.name,
        email_verified=user.email_verified,
        role=user.role,
    )


async def ask_for_user(connection: Connection, request: HTTPConnection) -> AuthenticatedUser | None:
    """Who is signed in. The ``Set-Cookie`` lines that keep it so go to the app's answer."""
    cookies = cookie_lines(request)
    if not cookies:
        return None
    # A WebSocket has no answer that could carry a cookie: the browser's next question extends.
    query = {"disableRefresh": "true"} if request.scope["type"] == "websocket" else None
    answer = await connection.ask("GET", SESSION_PATH, headers=cookies, query=query)
    user = read_session(answer, datetime.now(UTC))
    pass_on(request, answer.cookies)
    return user

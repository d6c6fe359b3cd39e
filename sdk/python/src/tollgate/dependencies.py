"""What FastAPI routes ask for: the user, a matching user, a role, credits, a passage."""

from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Final

from fastapi import Depends, Path, Security
from fastapi.openapi.models import APIKey, APIKeyIn
from fastapi.requests import HTTPConnection
from fastapi.security.base import SecurityBase

from .app import Tollgate
from .charges import Tokens
from .credits import Credits, Owner
from .errors import ConfigurationError, Forbidden, Unauthenticated, UserMismatch
from .gate import Passage
from .sessions import AuthenticatedUser


class _SessionCookie(SecurityBase):
    """Shows in the app's OpenAPI document that a session is needed. Judges nothing."""

    def __init__(self) -> None:
        self.model = APIKey.model_validate(
            {
                "in": APIKeyIn.cookie,
                "name": "better-auth.session_token",
                "description": "The session cookie; on https its name begins with `__Secure-`.",
            }
        )
        self.scheme_name = "Tollgate session"

    async def __call__(self) -> None:
        return None


_session_cookie: Final = _SessionCookie()
_NOT_ASKED: Final = object()


def get_tollgate(request: HTTPConnection) -> Tollgate:
    """The app's Tollgate."""
    tollgate = getattr(request.app.state, "tollgate", None)
    if not isinstance(tollgate, Tollgate):
        raise ConfigurationError("this app has no Tollgate: call Tollgate.from_env().install(app)")
    return tollgate


async def get_optional_user(
    request: HTTPConnection,
    _shown: Annotated[None, Security(_session_cookie)] = None,
) -> AuthenticatedUser | None:
    """Who is signed in, or ``None``. When it cannot be told this is a 503, not ``None``."""
    return await get_tollgate(request).user(request)


async def get_current_user(
    request: HTTPConnection,
    _found: Annotated[Any, Depends(get_optional_user)] = _NOT_ASKED,
) -> AuthenticatedUser:
    """Who is signed in; 401 when nobody is, 503 when it cannot be told."""
    user = await get_optional_user(request) if _found is _NOT_ASKED else _found
    if not isinstance(user, AuthenticatedUser):
        raise Unauthenticated("sign in first")
    return user


#: The user of a request; 401 without one.
CurrentUser = Annotated[AuthenticatedUser, Depends(get_current_user)]

#: The user of a request, or ``None``.
OptionalUser = Annotated[AuthenticatedUser | None, Depends(get_optional_user)]


async def require_user_id_match(
    user_id: Annotated[str, Path()], current_user: CurrentUser
) -> AuthenticatedUser:
    """The user, who must be the one that the path parameter ``user_id`` names; else 403."""
    if user_id != current_user.user_id:
        raise UserMismatch("this belongs to somebody else")
    return current_user


#: The user whom the path parameter ``user_id`` names; 403 for anybody else.
MatchingUser = Annotated[AuthenticatedUser, Depends(require_user_id_match)]


def require_match(parameter: str) -> Callable[..., Awaitable[AuthenticatedUser]]:
    """As :func:`require_user_id_match`, for a path parameter of another name."""

    async def require(request: HTTPConnection, current_user: CurrentUser) -> AuthenticatedUser:
        return await require_user_id_match(_path_value(request, parameter), current_user)

    return require


def require_role(*roles: str) -> Callable[..., Awaitable[AuthenticatedUser]]:
    """The user, who must have one of these roles; else 403."""
    if not roles:
        raise TypeError("name at least one role")

    async def require(current_user: CurrentUser) -> AuthenticatedUser:
        if not any(current_user.has_role(role) for role in roles):
            raise Forbidden("this needs another role")
        return current_user

    return require


async def get_credits(request: HTTPConnection, current_user: CurrentUser) -> Credits:
    """The credits of the user of a request; 401 without one."""
    return get_tollgate(request).credits(request, current_user)


#: What the user of a request can spend; 401 without one.
UserCredits = Annotated[Credits, Depends(get_credits)]


def authorize(
    *,
    charge: str | int | Tokens | None = None,
    quantity: int = 1,
    unit: str | None = None,
    role: str | None = None,
    match: str | None = None,
    guest: str | None = None,
    payer: Callable[[HTTPConnection], Owner | None] | None = None,
    reason: str | None = None,
    key: Callable[[HTTPConnection], str | None] | None = None,
) -> Callable[..., Awaitable[Passage]]:
    """A whole check before the route runs, in one round trip: session, permission, charge.

    ``match`` names the path parameter that must be the user's id. ``guest`` lets visitors without
    an account in, as often as their allowance for that action says. ``key`` reads from the request
    what is paid for; without one each request pays.
    """

    async def ask(
        request: HTTPConnection,
        _shown: Annotated[None, Security(_session_cookie)] = None,
    ) -> Passage:
        return await get_tollgate(request).authorize(
            request,
            user_id=None if match is None else _path_value(request, match),
            role=role,
            charge=charge,
            quantity=quantity,
            unit=unit,
            payer=None if payer is None else payer(request),
            guest=guest,
            reason=reason,
            key=None if key is None else key(request),
        )

    return ask


def _path_value(request: HTTPConnection, parameter: str) -> str:
    value = request.path_params.get(parameter)
    if value is None:
        raise ConfigurationError(f"the route has no path parameter `{parameter}`")
    return str(value)

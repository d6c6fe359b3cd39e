"""What can go wrong, each as an exception that knows its HTTP status and its error body.

Expected refusals (nobody signed in, not enough credits, a limit) and faults (Tollgate does not
answer) are different classes, so that "unavailable" is never taken for "signed out". No exception
holds a cookie, a key or another exception that holds one.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

#: How long a caller should stay away when nothing better is known, in seconds.
DEFAULT_RETRY_AFTER = 1


class ConfigurationError(Exception):
    """The app is not set up: an address or a key is missing or not usable."""


class TollgateError(Exception):
    """A request ends here, with this status and this body."""

    status: ClassVar[int] = 500
    default_code: ClassVar[str] = "internal"

    def __init__(
        self,
        message: str,
        *,
        error_code: str | None = None,
        detail: str | None = None,
        members: Mapping[str, Any] | None = None,
        retry_after: int | None = None,
        request_id: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.error_code = error_code or self.default_code
        self.detail = detail
        #: What an error tells beside code, message and detail, such as ``balance``.
        self.members: dict[str, Any] = dict(members or {})
        if retry_after is None and self.status in (429, 503):
            retry_after = DEFAULT_RETRY_AFTER
        self.retry_after = retry_after
        #: Tollgate's name for the call that was refused: it leads to the line in its log.
        self.request_id = request_id

    def body(self) -> dict[str, Any]:
        """``{"error_code", "message", "detail"}`` and the members of this error."""
        flat = {"error_code": self.error_code, "message": self.message, "detail": self.detail}
        return {**flat, **self.members, **flat}

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.status}, {self.error_code!r}, {self.message!r})"


class Unauthenticated(TollgateError):
    """Nobody is signed in."""

    status = 401
    default_code = "unauthenticated"


class InsufficientCredits(TollgateError):
    """The credits do not suffice; nothing was taken."""

    status = 402
    default_code = "insufficient_credits"

    @property
    def balance(self) -> int | None:
        return _integer(self.members.get("balance"))

    @property
    def available(self) -> int | None:
        return _integer(self.members.get("available"))

    @property
    def required(self) -> int | None:
        return _integer(self.members.get("required"))

    @property
    def unit(self) -> str | None:
        return _text(self.members.get("unit"))

    @property
    def buy_url(self) -> str | None:
        return _text(self.members.get("buy_url"))


class Forbidden(TollgateError):
    """Signed in, but not allowed to do this."""

    status = 403
    default_code = "forbidden"


class UserMismatch(Forbidden):
    """What is asked for belongs to somebody else."""

    default_code = "user_mismatch"


class UserBanned(Forbidden):
    """The user is banned."""

    default_code = "user_banned"


class NotFound(TollgateError):
    """There is no such owner, hold or entry."""

    status = 404
    default_code = "not_found"


class Conflict(TollgateError):
    """What is asked for does not fit what is there, such as settling a hold twice."""

    status = 409
    default_code = "conflict"


class IdempotencyMismatch(Conflict):
    """The key stood for another request before."""

    default_code = "idempotency_mismatch"


class InvalidRequest(TollgateError):
    """Tollgate does not understand the request; ``field`` names the culprit."""

    status = 422
    default_code = "invalid_request"

    @property
    def field(self) -> str | None:
        return _text(self.members.get("field"))


class LimitReached(TollgateError):
    """A cap on spending is reached; ``resets_at`` says until when."""

    status = 429
    default_code = "limit_reached"

    @property
    def resets_at(self) -> str | None:
        return _text(self.members.get("resets_at"))


class GuestLimitReached(LimitReached):
    """A visitor without an account has used up the allowance."""

    default_code = "guest_limit_reached"


class RateLimited(TollgateError):
    """Too many calls."""

    status = 429
    default_code = "rate_limited"


class Unavailable(TollgateError):
    """Tollgate did not answer, or not in a way that can be understood: it cannot be told."""

    status = 503
    default_code = "unavailable"


class Misconfigured(TollgateError):
    """Tollgate refuses this app itself: a wrong service key or one that lacks a scope.

    Visitors cannot help it, so they see a 500 without a word of it; the reason goes into the log.
    """

    status = 500
    default_code = "internal"

    def body(self) -> dict[str, Any]:
        message = "something went wrong on our side"
        return {"error_code": self.error_code, "message": message, "detail": None}


def _integer(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None

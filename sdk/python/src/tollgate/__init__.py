"""Tollgate for FastAPI: who is asking, may they pass, and what does it cost.

::

    app = FastAPI()
    Tollgate.from_env().install(app)

    @app.get("/me")
    async def me(user: CurrentUser) -> AuthenticatedUser:
        return user

``tollgate.testing`` has a fake for your tests.
"""

from .app import Tollgate
from .charges import Above, Balance, Charge, Entries, Entry, Grant, Tokens
from .credits import Credits, Hold, Holding, Owner, OwnerCredits
from .dependencies import (
    CurrentUser,
    MatchingUser,
    OptionalUser,
    UserCredits,
    authorize,
    get_credits,
    get_current_user,
    get_optional_user,
    get_tollgate,
    require_match,
    require_role,
    require_user_id_match,
)
from .errors import (
    ConfigurationError,
    Conflict,
    Forbidden,
    GuestLimitReached,
    IdempotencyMismatch,
    InsufficientCredits,
    InvalidRequest,
    LimitReached,
    Misconfigured,
    NotFound,
    RateLimited,
    TollgateError,
    Unauthenticated,
    Unavailable,
    UserBanned,
    UserMismatch,
)
from .flat_errors import install_error_handlers
from .gate import Allowance, Passage, Subject
from .sessions import AuthenticatedUser
from .settings import TollgateSettings

__all__ = [
    "Above",
    "Allowance",
    "AuthenticatedUser",
    "Balance",
    "Charge",
    "ConfigurationError",
    "Conflict",
    "Credits",
    "CurrentUser",
    "Entries",
    "Entry",
    "Forbidden",
    "Grant",
    "GuestLimitReached",
    "Hold",
    "Holding",
    "IdempotencyMismatch",
    "InsufficientCredits",
    "InvalidRequest",
    "LimitReached",
    "MatchingUser",
    "Misconfigured",
    "NotFound",
    "OptionalUser",
    "Owner",
    "OwnerCredits",
    "Passage",
    "RateLimited",
    "Subject",
    "Tokens",
    "Tollgate",
    "TollgateError",
    "TollgateSettings",
    "Unauthenticated",
    "Unavailable",
    "UserBanned",
    "UserCredits",
    "UserMismatch",
    "authorize",
    "get_credits",
    "get_current_user",
    "get_optional_user",
    "get_tollgate",
    "install_error_handlers",
    "require_match",
    "require_role",
    "require_user_id_match",
]

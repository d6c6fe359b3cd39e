"""Reads the errors of Tollgate's doors: status and code must fit, or nothing is known."""

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from .connection import Answer, log
from .errors import (
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

_KINDS: dict[tuple[int, str], type[TollgateError]] = {
    (kind.status, kind.default_code): kind
    for kind in (
        Unauthenticated,
        InsufficientCredits,
        Forbidden,
        UserMismatch,
        UserBanned,
        NotFound,
        Conflict,
        IdempotencyMismatch,
        InvalidRequest,
        LimitReached,
        GuestLimitReached,
        RateLimited,
        Unavailable,
    )
}

_LONGEST_WAIT = 31 * 24 * 3600


class _ErrorBody(BaseModel):
    model_config = ConfigDict(extra="allow", hide_input_in_errors=True, strict=True)

    error_code: str
    message: str
    detail: str | None = None


_ERROR: TypeAdapter[_ErrorBody] = TypeAdapter(_ErrorBody)


def refusal(answer: Answer, *, forbids_users: bool) -> TollgateError:
    """The error that this answer is.

    ``forbids_users``: whether a 403 ``forbidden`` can be about the visitor. Where it cannot, it is
    about the service key.
    """
    try:
        body = _ERROR.validate_json(answer.body) if answer.is_json else None
    except (ValidationError, RecursionError):
        body = None
    if body is None:
        return answer.unclear("the body is no error of Tollgate")
    about_the_key = body.error_code == "forbidden" and not forbids_users
    if (answer.status, body.error_code) == (401, "invalid_service_key") or (
        answer.status == 403 and about_the_key
    ):
        log.error(
            "Tollgate refuses the service key (request %s): %s", answer.request_id, body.message
        )
        return Misconfigured(body.message, request_id=answer.request_id)
    kind = _KINDS.get((answer.status, body.error_code))
    if kind is None:
        return answer.unclear("status and code do not fit")
    return kind(
        body.message,
        error_code=body.error_code,
        detail=body.detail,
        members=body.model_extra,
        retry_after=_seconds(answer.headers.get("retry-after")),
        request_id=answer.request_id,
    )


def _seconds(text: str | None) -> int | None:
    if text is None or not text.isascii() or not text.isdigit() or len(text) > 9:
        return None
    return min(int(text), _LONGEST_WAIT)

"""The app's errors in one flat form: ``{"error_code", "message", "detail"}``."""

import json
import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any
from uuid import uuid4

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.requests import HTTPConnection, Request
from fastapi.responses import JSONResponse, Response
from fastapi.websockets import WebSocket, WebSocketState
from starlette.exceptions import HTTPException

from .errors import DEFAULT_RETRY_AFTER, TollgateError

_CODES = {
    400: "bad_request",
    401: "unauthenticated",
    402: "insufficient_credits",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    409: "conflict",
    413: "payload_too_large",
    415: "unsupported_media_type",
    422: "invalid_request",
    429: "rate_limited",
    500: "internal",
    503: "unavailable",
}

_REQUEST_ID = re.compile(r"[\x21-\x7e]{1,128}")

#: WebSocket close codes: the visitor's side is at fault, or ours is, or it may be tried again.
_POLICY, _FAULT, _LATER = 1008, 1011, 1013


def install_error_handlers(app: FastAPI) -> None:
    """Gives all errors of the app the flat body: ours, ``HTTPException``, 422 and the unforeseen.

    Handlers that the app sets afterwards win.
    """
    app.add_exception_handler(TollgateError, _on_tollgate_error)
    app.add_exception_handler(HTTPException, _on_http_exception)
    app.add_exception_handler(RequestValidationError, _on_validation_error)
    app.add_exception_handler(Exception, _on_fault)


async def _on_tollgate_error(connection: HTTPConnection, error: Exception) -> Response:
    if not isinstance(error, TollgateError):
        raise error
    response = _response(
        connection,
        error.status,
        error.body(),
        retry_after=error.retry_after,
        request_id=error.request_id,
    )
    if isinstance(connection, WebSocket):
        await _refuse_websocket(connection, error, response)
    return response


async def _refuse_websocket(socket: WebSocket, error: TollgateError, response: Response) -> None:
    waits = socket.application_state is WebSocketState.CONNECTING
    if waits and "websocket.http.response" in socket.scope.get("extensions", {}):
        await socket.send_denial_response(response)
        return
    code = {429: _LATER, 500: _FAULT, 503: _LATER}.get(error.status, _POLICY)
    await socket.close(code, error.error_code)


async def _on_http_exception(request: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        raise error
    status, headers = error.status_code, error.headers
    if status < 200 or status in (204, 304):
        return Response(status_code=status, headers=headers)
    body = _said(error.detail)
    if body is None:
        message, detail = _phrase(status), None
        if isinstance(error.detail, str):
            message = error.detail
        elif error.detail is not None:
            detail = json.dumps(error.detail, default=str)
        code = _CODES.get(status, f"http_{status}")
        body = {"error_code": code, "message": message, "detail": detail}
    return _response(request, status, body, headers=headers)


def _said(detail: object) -> dict[str, Any] | None:
    """A detail that has the flat form already."""
    if isinstance(detail, dict) and {"error_code", "message"} <= detail.keys():
        return {**detail, "detail": detail.get("detail")}
    return None


async def _on_validation_error(request: Request, error: Exception) -> Response:
    if not isinstance(error, RequestValidationError):
        raise error
    # What was sent is not repeated: it may be a password.
    found = [(_field(problem["loc"]), problem["msg"]) for problem in error.errors()]
    lines = [f"{field}: {message}" for field, message in found]
    body = {
        "error_code": _CODES[422],
        "message": lines[0] if lines else _phrase(422),
        "detail": "; ".join(lines[1:]) or None,
        "field": found[0][0] if found else None,
    }
    return _response(request, 422, body)


def _field(location: tuple[int | str, ...]) -> str:
    """``("body", "debits", 3, "amount")`` is ``debits[3].amount``."""
    path = ""
    for part in location[1:] or location[:1]:
        path += f"[{part}]" if isinstance(part, int) else f".{part}"
    return path.removeprefix(".")


async def _on_fault(request: Request, _error: Exception) -> Response:
    # The server logs it with its traceback; the caller learns the id alone.
    request_id = _request_id(request)
    body = {"error_code": _CODES[500], "message": "something went wrong on our side"}
    return _response(request, 500, {**body, "detail": request_id}, request_id=request_id)


def _response(
    connection: HTTPConnection,
    status: int,
    body: Mapping[str, Any],
    *,
    headers: Mapping[str, str] | None = None,
    retry_after: int | None = None,
    request_id: str | None = None,
) -> JSONResponse:
    response = JSONResponse(dict(body), status)
    response.headers["cache-control"] = "no-store"
    if status in (429, 503):
        response.headers["retry-after"] = str(retry_after or DEFAULT_RETRY_AFTER)
    response.headers["x-request-id"] = request_id or _request_id(connection)
    response.headers.update(headers or {})
    return response


def _request_id(connection: HTTPConnection) -> str:
    """The name that a proxy gave the request, or one of our own."""
    given = connection.headers.get("x-request-id", "")
    return given if _REQUEST_ID.fullmatch(given) else uuid4().hex


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "the request failed"

"""One flat form for every error of an app."""

import json
from typing import Annotated, Any

import pytest
from fastapi import FastAPI, HTTPException, Query
from pydantic import BaseModel
from small_app import running
from stub_server import Behaviour, answer, stub

from tollgate import (
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
    Tollgate,
    TollgateError,
    Unauthenticated,
    Unavailable,
    UserBanned,
    UserMismatch,
    install_error_handlers,
)

pytestmark = pytest.mark.anyio


class Order(BaseModel):
    amount: int
    lines: list[int] = []


def failing(error: Exception) -> FastAPI:
    app = FastAPI()
    install_error_handlers(app)

    @app.post("/")
    async def fail() -> None:
        raise error

    @app.post("/orders")
    async def orders(order: Order, page: Annotated[int, Query()] = 1) -> int:
        return order.amount + page

    return app


KINDS = [
    (Unauthenticated, 401, "unauthenticated"),
    (InsufficientCredits, 402, "insufficient_credits"),
    (Forbidden, 403, "forbidden"),
    (UserMismatch, 403, "user_mismatch"),
    (UserBanned, 403, "user_banned"),
    (NotFound, 404, "not_found"),
    (Conflict, 409, "conflict"),
    (IdempotencyMismatch, 409, "idempotency_mismatch"),
    (InvalidRequest, 422, "invalid_request"),
    (LimitReached, 429, "limit_reached"),
    (GuestLimitReached, 429, "guest_limit_reached"),
    (RateLimited, 429, "rate_limited"),
    (Unavailable, 503, "unavailable"),
]


@pytest.mark.parametrize(("kind", "status", "code"), KINDS)
async def test_each_error_has_its_status_code_and_flat_body(
    kind: type[TollgateError], status: int, code: str
) -> None:
    error = kind("why", detail="more", members={"balance": 3}, retry_after=7, request_id="r-1")
    async with running(failing(error)) as client:
        said = await client.post("/")
    assert said.status_code == status
    assert said.json() == {"error_code": code, "message": "why", "detail": "more", "balance": 3}
    assert list(said.json()) == ["error_code", "message", "detail", "balance"]
    assert said.headers["x-request-id"] == "r-1"
    assert said.headers["cache-control"] == "no-store"
    assert said.headers.get("retry-after") == ("7" if status in (429, 503) else None)


async def test_members_never_take_the_place_of_code_and_message() -> None:
    error = Forbidden("why", members={"error_code": "ok", "message": "", "detail": 1})
    assert error.body() == {"error_code": "forbidden", "message": "why", "detail": None}


async def test_429_and_503_always_say_when_to_come_back() -> None:
    for error in (RateLimited("x"), Unavailable("x"), HTTPException(429), HTTPException(503)):
        async with running(failing(error)) as client:
            assert (await client.post("/")).headers["retry-after"] == "1"


async def test_a_fault_of_ours_shows_nothing_of_it() -> None:
    for error in (ValueError("secret"), Misconfigured("the service key lacks the scope gate")):
        async with running(failing(error), raise_app_exceptions=False) as client:
            said = await client.post("/", headers={"x-request-id": "from-the-proxy"})
        assert said.status_code == 500
        assert said.json()["error_code"] == "internal"
        assert "secret" not in said.text
        assert "scope" not in said.text
        assert said.headers["x-request-id"] == "from-the-proxy"


async def test_a_request_id_is_the_proxys_or_a_fresh_one() -> None:
    async with running(failing(Forbidden("x"))) as client:
        for given in ("abc-123", "a b", "x" * 129, ""):
            said = await client.post("/", headers={"x-request-id": given})
            assert (said.headers["x-request-id"] == given) == (given == "abc-123")
            assert said.headers["x-request-id"]


@pytest.mark.parametrize(
    ("error", "body"),
    [
        (HTTPException(404), {"error_code": "not_found", "message": "Not Found", "detail": None}),
        (
            HTTPException(409, "taken"),
            {"error_code": "conflict", "message": "taken", "detail": None},
        ),
        (
            HTTPException(418, {"a": 1}),
            {"error_code": "http_418", "message": "I'm a Teapot", "detail": '{"a": 1}'},
        ),
        (
            HTTPException(400, {"error_code": "too_blue", "message": "no", "hue": 3}),
            {"error_code": "too_blue", "message": "no", "detail": None, "hue": 3},
        ),
    ],
)
async def test_http_exceptions_have_the_flat_form_too(error: Exception, body: Any) -> None:
    async with running(failing(error)) as client:
        said = (await client.post("/")).json()
    if body["error_code"] == "http_418":
        said["message"] = body["message"]
    assert said == body


async def test_headers_of_an_http_exception_stay() -> None:
    error = HTTPException(401, headers={"www-authenticate": "Bearer"})
    async with running(failing(error)) as client:
        assert (await client.post("/")).headers["www-authenticate"] == "Bearer"
    async with running(failing(HTTPException(304))) as client:
        said = await client.post("/")
    assert (said.status_code, said.content) == (304, b"")


async def test_unknown_routes_and_methods_have_the_flat_form() -> None:
    async with running(failing(ValueError())) as client:
        assert (await client.post("/nowhere")).json()["error_code"] == "not_found"
        assert (await client.get("/")).json()["error_code"] == "method_not_allowed"


async def test_a_bad_request_is_named_and_not_repeated() -> None:
    async with running(failing(ValueError())) as client:
        said = await client.post(
            "/orders?page=x", json={"amount": "hunter2", "lines": [1, "hunter2"]}
        )
    body = said.json()
    assert said.status_code == 422
    assert set(body) == {"error_code", "message", "detail", "field"}
    assert body["error_code"] == "invalid_request"
    assert body["field"] == "page"
    assert "lines[1]" in body["detail"]
    assert "hunter2" not in said.text


# ---- Reading Tollgate's own ----


def error(status: str, code: str, **members: Any) -> Behaviour:
    body = {"error_code": code, "message": "why", "detail": None, **members}
    return answer(body, status=status, headers=("X-Request-Id: r-9",))


async def refused(behaviour: Behaviour) -> TollgateError:
    async with stub(behaviour) as server, Tollgate(server.url, "key") as tollgate:
        with pytest.raises(TollgateError) as raised:
            await tollgate.credits_of(user_id="u1").spend(1)
        return raised.value


STATUSES = {
    401: "401 Unauthorized",
    402: "402 Payment Required",
    403: "403 Forbidden",
    404: "404 Not Found",
    409: "409 Conflict",
    422: "422 Unprocessable",
    429: "429 Too Many",
    503: "503 Unavailable",
}


@pytest.mark.parametrize(("kind", "status", "code"), KINDS)
async def test_each_refusal_is_read_as_what_it_is(
    kind: type[TollgateError], status: int, code: str
) -> None:
    said = await refused(error(STATUSES[status], code, required=9))
    if code == "forbidden":
        # Nothing was asked that a visitor can lack: it is about the key.
        assert type(said) is Misconfigured
        return
    assert type(said) is kind
    assert (said.error_code, said.message, said.request_id) == (code, "why", "r-9")
    assert said.members == {"required": 9}


NO_REFUSALS = {
    "401 in HTML": answer("<h1>401</h1>", status=STATUSES[401], content_type="text/html"),
    "401 of a proxy": answer({"error": "unauthorized"}, status=STATUSES[401]),
    "401 with another code": error(STATUSES[401], "forbidden"),
    "403 that says 401": error(STATUSES[403], "unauthenticated"),
    "an unknown code": error(STATUSES[402], "pay_more"),
    "a code that is no text": answer({"error_code": 1, "message": "x"}, status=STATUSES[402]),
    "truncated": answer('{"error_code":"conflict",', status=STATUSES[409]),
    "a list": answer([], status=STATUSES[409]),
    "empty": answer(b"", status=STATUSES[404]),
    "500": error("500 Internal", "internal"),
    "302": answer({}, status="302 Found", headers=("Location: /",)),
    "200 without a body": answer(b""),
    "200 with null": answer("null"),
    "200 with {}": answer({}),
    "201 in HTML": answer("<p>", status="201 Created", content_type="text/html"),
    "truncated 201": answer(json.dumps({"entry": {}})[:-2], status="201 Created"),
}


@pytest.mark.parametrize("behaviour", NO_REFUSALS.values(), ids=NO_REFUSALS.keys())
async def test_what_is_no_refusal_of_tollgates_is_503(behaviour: Behaviour) -> None:
    assert type(await refused(behaviour)) is Unavailable


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("7", 7), ("0", 0), ("999999999", 2_678_400), ("-1", 1), ("soon", 1), ("1e3", 1), ("٣", 1)],
)
async def test_only_a_sane_retry_after_is_passed_on(text: str, seconds: int) -> None:
    body = {"error_code": "limit_reached", "message": "x", "detail": None}
    lines = (f"Retry-After: {text}",)
    said = await refused(answer(body, status=STATUSES[429], headers=lines))
    assert said.retry_after == seconds

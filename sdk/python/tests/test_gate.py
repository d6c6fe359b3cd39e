"""What is asked of the gate, and what its answers do."""

import json
from typing import Any

import pytest
from small_app import COOKIE, asking
from stub_server import ADA, Behaviour, answer, hang_up, silent, stub

from tollgate import ConfigurationError, Holding, Tokens, Tollgate
from tollgate.charges import price

pytestmark = pytest.mark.anyio

CHARGE = {"amount": 10, "unit": "credits", "balance": 90, "available": 90, "replayed": False}


def passage(**changes: Any) -> dict[str, Any]:
    user = {"user_id": "u1", "email": "ada@example.test", "name": "Ada"}
    return {
        "subject": {"kind": "user", "id": "u1"},
        "user": {**user, "email_verified": True, "role": "user"},
        "session": {"expires_at": "2999-01-01T00:00:00.000Z"},
        "charge": None,
        "guest": None,
        **changes,
    }


def routes(**answers: Behaviour) -> Behaviour:
    """By the last part of the path."""

    async def choose(head: bytes, writer: Any) -> None:
        path = head.split(b" ")[1].split(b"?")[0].decode()
        await answers[path.rsplit("/", 1)[1].replace("-", "_")](head, writer)

    return choose


SPENT = answer(passage(charge={**CHARGE, "entry_id": "e1"}))
HELD = answer(passage(charge={**CHARGE, "amount": 8, "hold_id": "h/1"}))
BALANCE = {"unit": "credits", "balance": 92, "held": 0, "available": 92, "owed": 0}
HOLD = {"id": "h/1", "amount": 8, "unit": "credits", "status": "released"}
RELEASED = answer({"hold": HOLD, "balance": BALANCE})
CAPTURED = answer(
    {
        "hold": HOLD,
        "entry": {
            "id": "e2",
            "seq": 1,
            "kind": "capture",
            "amount": -5,
            "balance_after": 92,
            "unit": "credits",
            "actor": "key:1",
            "created_at": "2026-01-01T00:00:00.000Z",
        },
        "balance": BALANCE,
    }
)
CONFLICT = answer(
    {"error_code": "conflict", "message": "it is captured", "detail": None}, status="409 Conflict"
)


async def test_a_charge_is_asked_with_cookie_key_and_idempotency_key() -> None:
    doors = routes(get_session=answer(ADA), authorize=SPENT)
    async with stub(doors) as server, asking(server.url, "tg_sk_1") as client:
        said = await client.post("/spend?key=job-7", headers=COOKIE)
        assert said.status_code == 200, said.text
        assert server.targets == ["GET /api/auth/get-session", "POST /api/gate/authorize"]
        assert server.header("cookie") == COOKIE["cookie"]
        assert server.header("authorization") == "Bearer tg_sk_1"
        assert server.header("idempotency-key") == "job-7"
        assert server.header("x-forwarded-for") is None
        assert json.loads(server.bodies[-1]) == {
            "user_id": "u1",
            "charge": {"feature": "image.generate", "quantity": 2},
            "reason": "picture",
        }


async def test_without_a_key_each_call_has_one_of_its_own_and_never_the_browsers() -> None:
    doors = routes(get_session=answer(ADA), authorize=SPENT)
    headers = {**COOKIE, "idempotency-key": "from-the-browser"}
    async with stub(doors) as server, asking(server.url) as client:
        for _ in range(3):
            await client.post("/spend", headers=headers)
        keys = {server.header("idempotency-key", index) for index in (1, 3, 5)}
    assert len(keys) == 3
    assert "from-the-browser" not in keys


async def test_a_guarded_route_is_one_round_trip() -> None:
    async with stub(routes(authorize=SPENT)) as server, asking(server.url) as client:
        said = await client.post("/guarded/u1", headers=COOKIE)
        assert said.status_code == 200
        assert said.json()["charge"]["entry_id"] == "e1"
        assert len(server.heads) == 1
        assert json.loads(server.bodies[0]) == {
            "user_id": "u1",
            "charge": {"feature": "image.generate", "quantity": 1},
        }


async def test_a_programs_key_goes_to_the_gate_and_nowhere_else() -> None:
    doors = routes(get_session=answer(ADA), authorize=SPENT)
    async with stub(doors) as server, asking(server.url) as client:
        said = await client.post("/guarded/u1", headers={"x-api-key": "program"})
        assert said.status_code == 200, said.text
        assert server.header("x-api-key") == "program"
        await client.get("/me", headers={**COOKIE, "x-api-key": "program"})
        assert server.targets[-1] == "GET /api/auth/get-session"
        assert server.header("x-api-key") is None


async def test_an_extended_session_reaches_the_browser_also_with_a_refusal() -> None:
    lines = ("Set-Cookie: better-auth.session_token=new; Path=/",)
    body = {"error_code": "insufficient_credits", "message": "x", "detail": None}
    short = answer(body, status="402 Payment Required", headers=lines)
    for behaviour, status in ((answer(passage(), headers=lines), 200), (short, 402)):
        async with stub(routes(authorize=behaviour)) as server, asking(server.url) as client:
            said = await client.post("/guarded/u1", headers=COOKIE)
        assert said.status_code == status
        assert said.headers.get_list("set-cookie") == ["better-auth.session_token=new; Path=/"]


@pytest.mark.parametrize(
    ("given", "passed_on"),
    [
        (None, "127.0.0.1"),
        ("203.0.113.9", "203.0.113.9, 127.0.0.1"),
        ("1.2.3.4, 203.0.113.9", "1.2.3.4, 203.0.113.9, 127.0.0.1"),
    ],
)
async def test_visitors_are_asked_about_with_their_address(
    given: str | None, passed_on: str
) -> None:
    allowance = {
        "action": "generate",
        "limit": 3,
        "used": 1,
        "remaining": 2,
        "resets_at": "2026-01-02T00:00:00.000Z",
    }
    guest = passage(subject={"kind": "guest", "id": "g1"}, user=None, session=None, guest=allowance)
    headers = {} if given is None else {"x-forwarded-for": given}
    async with stub(routes(authorize=answer(guest))) as server, asking(server.url) as client:
        said = await client.post("/visit", headers={"cookie": "tollgate.guest=x", **headers})
        assert said.status_code == 200, said.text
        assert said.json()["guest"]["remaining"] == 2
        assert server.header("x-forwarded-for") == passed_on
        assert json.loads(server.bodies[0]) == {"guest": {"action": "generate"}}


@pytest.mark.parametrize(
    "body",
    [
        "null",
        "{}",
        passage(subject=None),
        passage(subject={"kind": "robot", "id": "x"}),
        passage(charge={"amount": 1}),
        passage(charge="free"),
        passage(user={"user_id": "", "email": "x"}),
    ],
)
async def test_a_passage_that_is_not_understood_is_503(body: Any) -> None:
    async with stub(routes(authorize=answer(body))) as server, asking(server.url) as client:
        assert (await client.post("/guarded/u1", headers=COOKIE)).status_code == 503


async def test_a_charge_that_was_asked_for_and_is_not_told_is_503() -> None:
    doors = routes(get_session=answer(ADA), authorize=answer(passage()))
    async with stub(doors) as server, asking(server.url) as client:
        for path in ("/spend", "/hold"):
            assert (await client.post(path, headers=COOKIE)).status_code == 503


# ---- Holds ----


async def held(server_says: dict[str, Behaviour], path: str) -> tuple[int, list[str]]:
    doors = routes(get_session=answer(ADA), authorize=HELD, **server_says)
    async with stub(doors) as server, asking(server.url, timeout=0.5) as client:
        said = await client.post(path, headers=COOKIE)
        assert json.loads(server.bodies[1])["hold"] is True
        assert json.loads(server.bodies[1])["hold_expires_in"] == 60
        return said.status_code, server.targets[2:]


RELEASE = "POST /api/credits/holds/h%2F1/release"
CAPTURE = "POST /api/credits/holds/h%2F1/capture"


async def test_a_settled_hold_is_not_released() -> None:
    assert await held({"capture": CAPTURED}, "/hold?settle=5") == (200, [CAPTURE])


@pytest.mark.parametrize(("path", "status"), [("/hold", 200), ("/hold?fail=true", 409)])
async def test_a_hold_is_released_where_it_is_left(path: str, status: int) -> None:
    assert await held({"release": RELEASED}, path) == (status, [RELEASE])


@pytest.mark.parametrize("release", [CONFLICT, hang_up, silent])
async def test_a_release_that_fails_hides_no_answer(
    release: Behaviour, caplog: pytest.LogCaptureFixture
) -> None:
    assert await held({"release": release}, "/hold?fail=true") == (409, [RELEASE])
    assert await held({"release": release}, "/hold") == (200, [RELEASE])
    assert "it ends by itself" in caplog.text


async def test_a_refused_settlement_releases() -> None:
    said = await held({"capture": CONFLICT, "release": RELEASED}, "/hold?settle=9")
    assert said == (409, [CAPTURE, RELEASE])


@pytest.mark.parametrize("capture", [hang_up, silent, answer("{}"), answer("x", status="500 No")])
async def test_a_settlement_in_doubt_is_not_undone(
    capture: Behaviour, caplog: pytest.LogCaptureFixture
) -> None:
    assert await held({"capture": capture}, "/hold?settle=5") == (503, [CAPTURE])
    assert "whether it was settled is not known" in caplog.text


async def test_a_settlement_in_doubt_can_be_asked_for_again() -> None:
    turn = iter([hang_up, CAPTURED])

    async def capture(head: bytes, writer: Any) -> None:
        await next(turn)(head, writer)

    owner = {"hold": HOLD, "balance": BALANCE}
    doors = routes(holds=answer(owner, status="201 Created"), capture=capture)
    async with stub(doors) as server, Tollgate(server.url, "key") as tollgate:
        async with tollgate.credits_of(user_id="u1").hold(8) as hold:
            with pytest.raises(Exception, match="does not answer"):
                await hold.settle(5)
            assert await hold.settle(5) is not None
        keys = {server.header("idempotency-key", index) for index in (1, 2)}
        assert keys == {"settle:h/1"}
        assert server.targets[1:] == [CAPTURE, CAPTURE]


# ---- Words ----


def test_prices_are_spelled_as_the_doors_read_them() -> None:
    assert price("image", 2, None) == {"feature": "image", "quantity": 2}
    assert price(5, 1, None) == {"amount": 5}
    assert price(5, 1, "tokens") == {"amount": 5, "unit": "tokens"}
    assert price(Tokens("m", input=3, output=4), 1, None) == {
        "model": "m",
        "tokens": {"input": 3, "output": 4, "cached": 0, "reasoning": 0},
    }
    with pytest.raises(TypeError):
        price("image", 1, "tokens")
    with pytest.raises(TypeError):
        price(5, 2, None)


async def test_mistakes_of_the_app_are_said_before_anything_is_sent() -> None:
    async with Tollgate("http://127.0.0.1:1", "key") as tollgate:
        with pytest.raises(TypeError, match="exactly one"):
            tollgate.credits_of()
        with pytest.raises(TypeError, match="exactly one"):
            tollgate.credits_of(user_id="a", guest_id="b")
        credits = tollgate.credits_of(user_id="u1")
        for key in ("", "a b", "é", "x" * 256):
            with pytest.raises(ValueError, match="1 to 255 visible"):
                await credits.spend(1, key=key)
        block = credits.hold(1)
        assert isinstance(block, Holding)
    async with Tollgate("http://127.0.0.1:1") as keyless:
        with pytest.raises(ConfigurationError, match="service key"):
            await keyless.credits_of(user_id="u1").spend(1)

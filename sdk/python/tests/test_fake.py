"""The fake answers as the real Tollgate does: the same calls, compared answer by answer."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from conftest import GUESTS, PRICES
from fastapi import FastAPI
from fastapi.testclient import TestClient
from real_tollgate import RealTollgate, real_tollgate
from small_app import running, small_app

from tollgate import Tollgate
from tollgate.testing import FakeTollgate

pytestmark = pytest.mark.anyio


@dataclass
class Side:
    """One Tollgate, real or fake, with somebody who is signed in."""

    app: FastAPI
    tollgate: Tollgate
    http: httpx.AsyncClient
    user_id: str
    headers: dict[str, str]
    guest: dict[str, str]
    sign_out: Callable[[], None]


@asynccontextmanager
async def real(server: RealTollgate, credits: int) -> AsyncIterator[Side]:
    ada = server.sign_up()
    server.grant(ada, credits)
    tollgate = Tollgate(server.url, server.key, timeout=20)
    bearer = {"authorization": f"Bearer {server.key}"}
    async with httpx.AsyncClient(
        base_url=server.url, headers=bearer, timeout=20, trust_env=False
    ) as http:
        yield Side(
            small_app(tollgate),
            tollgate,
            http,
            ada.user_id,
            ada.headers,
            server.new_guest(),
            lambda: server.sign_out(ada),
        )


@asynccontextmanager
async def fake(credits: int) -> AsyncIterator[Side]:
    made = FakeTollgate(
        features={"image.generate": 5},
        models={"m": {"per": 1000, "input": 250, "output": 1000}},
        allowances={"generate": 2},
    )
    ada = made.add_user("ada@example.test", name="Ada", email_verified=False, credits=credits)
    bearer = {"authorization": f"Bearer {made.service_key}"}
    base = "http://tollgate.test"
    async with httpx.AsyncClient(base_url=base, headers=bearer, transport=made) as http:
        yield Side(
            small_app(made.tollgate),
            made.tollgate,
            http,
            ada.user_id,
            ada.headers,
            made.add_guest().headers,
            lambda: made.sign_out(ada),
        )


#: What differs from run to run: whether it is there is compared, not what it is.
CHANGING = {
    "id",
    "entry_id",
    "hold_id",
    "user_id",
    "grant_id",
    "email",
    "created_at",
    "expires_at",
    "resets_at",
    "message",
    "actor",
    "guest_id",
    "price_version",
    "request_id",
}

#: What the fake does not keep.
NOT_KEPT = {"parts", "grants"}


def shape(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            name: type(member).__name__ if name in CHANGING else shape(member)
            for name, member in value.items()
            if name not in NOT_KEPT
        }
    if isinstance(value, list):
        return [shape(item) for item in value]
    return value


def told(answer: httpx.Response) -> tuple[Any, ...]:
    body = answer.json() if answer.content else None
    replayed = answer.headers.get("idempotent-replayed")
    return answer.status_code, shape(body), replayed, "retry-after" in answer.headers


async def doors(side: Side) -> list[tuple[str, Any]]:
    """Raw calls at the doors for backends."""
    said: list[tuple[str, Any]] = []
    owner = {"user_id": side.user_id}

    async def post(path: str, body: Any, key: str | None = None, **headers: str) -> Any:
        lines = {**headers, **({} if key is None else {"idempotency-key": key})}
        answer = await side.http.post(f"/api/{path}", json=body, headers=lines)
        said.append((f"{path} {body} {key}".replace(side.user_id, "own"), told(answer)))
        return answer.json()

    async def get(path: str, **query: str) -> None:
        answer = await side.http.get(f"/api/{path}", params=query)
        said.append((f"{path} {query}".replace(side.user_id, "own"), told(answer)))

    await get("credits/balance", **owner)
    await get("credits/balance", user_id="nobody")
    await post("credits/debits", {**owner, "amount": 5}, "d1")
    await post("credits/debits", {**owner, "amount": 5}, "d1")
    await post("credits/debits", {**owner, "amount": 5, "unit": "credits"}, "d1")
    await post("credits/debits", {**owner, "amount": 6}, "d1")
    await post("credits/debits", {**owner, "amount": 5})
    await post("credits/debits", {**owner, "amount": 0}, "d2")
    await post("credits/debits", {**owner, "amount": 5000}, "d3")
    await post("credits/debits", {**owner, "feature": "image.generate", "quantity": 2}, "d4")
    await post("credits/debits", {**owner, "feature": "no.such"}, "d5")
    await post("credits/debits", {**owner, "feature": "image.generate", "amount": 1}, "d6")
    await post("credits/debits", owner, "d7")
    await post("credits/debits", {"user_id": "nobody", "amount": 1}, "d8")
    used = {"input": 1500, "output": 3, "cached": 1, "reasoning": 1}
    await post("credits/debits", {**owner, "model": "m", "tokens": used}, "d9")
    await post("credits/debits", {**owner, "model": "x", "tokens": used}, "d10")
    await post("credits/debits", {**owner, "model": "m", "tokens": {}}, "d11")
    grant = {**owner, "amount": 7, "source": "promo", "reason": "tests"}
    await post("credits/grants", grant, "g1")
    await post("credits/grants", grant, "g1")
    for key, verb, body in (
        ("h1", "capture", {}),
        ("h2", "capture", {"amount": 3}),
        ("h3", "capture", {"amount": 13}),
        ("h4", "capture", {"amount": 13, "above": "cap"}),
        ("h5", "capture", {"amount": 13, "above": "balance"}),
        ("h6", "capture", {"amount": 5000, "above": "balance"}),
        ("h7", "release", {}),
        ("h8", "extend", {"expires_in": 60}),
    ):
        made = await post("credits/holds", {**owner, "amount": 10, "expires_in": 60}, key)
        path = f"credits/holds/{made['hold']['id']}"
        answer = await side.http.post(
            f"/api/{path}/{verb}", json=body, headers={"idempotency-key": f"{key}-end"}
        )
        said.append((f"{verb} {body}", told(answer)))
        for second in ("release", "capture"):
            answer = await side.http.post(
                f"/api/{path}/{second}", json={}, headers={"idempotency-key": f"{key}-{second}"}
            )
            said.append((f"{verb} {body}, then {second}", told(answer)))
    await post("credits/holds", {**owner, "amount": 10, "expires_in": 0}, "h9")
    await post("credits/holds/none/capture", {}, "h10")
    await get("credits/balance", **owner)
    await get("credits/entries", **owner)

    cookie = side.headers
    charge = {"feature": "image.generate"}
    await post("gate/authorize", {})
    await post("gate/authorize", {}, **cookie)
    await post("gate/authorize", {"charge": charge}, **cookie)
    await post("gate/authorize", {"charge": charge}, "a1", **cookie)
    await post("gate/authorize", {"charge": charge}, "a1", **cookie)
    await post("gate/authorize", {"charge": {"amount": 5000}}, "a2", **cookie)
    await post("gate/authorize", {"charge": {"amount": 0}}, "a3", **cookie)
    await post("gate/authorize", {"charge": {"feature": "no.such"}}, "a4", **cookie)
    await post("gate/authorize", {"charge": {"amount": 2}, "hold": True}, "a5", **cookie)
    await post("gate/authorize", {"charge": {"amount": 2}, "hold": True}, "a5", **cookie)
    await post("gate/authorize", {"user_id": side.user_id}, **cookie)
    await post("gate/authorize", {"user_id": "other"}, **cookie)
    await post("gate/authorize", {"role": "user"}, **cookie)
    await post("gate/authorize", {"role": "admin"}, **cookie)
    await post("gate/authorize", {"role": "adm", "user_id": "other"}, **cookie)
    await post("gate/authorize", {"payer": {"user_id": side.user_id}}, **cookie)
    await post("gate/authorize", {"payer": {"organization_id": "o"}}, **cookie)
    await post("gate/authorize", {"guest": {"action": "generate"}}, **cookie)
    await post("gate/authorize", {"guest": {"action": "no.such"}}, **cookie)
    await post("gate/authorize", {"guest": {"action": "generate"}})
    for action in ("generate", "generate", "generate"):
        await post("gate/authorize", {"guest": {"action": action}}, **side.guest)
    await post("gate/authorize", {"guest": {"action": "no.such"}}, **side.guest)
    await post("gate/authorize", {}, **side.guest)
    await post("gate/authorize", {"user_id": "other"}, **side.guest)
    side.sign_out()
    await post("gate/authorize", {}, **cookie)
    await post("gate/authorize", {"charge": charge}, "a1", **cookie)
    side.http.headers["authorization"] = "Bearer tg_sk_wrong"
    await post("gate/authorize", {}, **cookie)
    await post("credits/debits", {**owner, "amount": 1}, "e1")
    await get("credits/balance", **owner)
    return said


async def test_the_fakes_doors_answer_as_the_real_ones() -> None:
    with real_tollgate(PRICES + GUESTS) as server:
        async with real(server, 200) as side:
            expected = await doors(side)
    async with fake(200) as side:
        answered = await doors(side)
    differing = [pair for pair in zip(expected, answered, strict=True) if pair[0] != pair[1]]
    assert differing == []


async def routes(side: Side) -> list[tuple[str, Any]]:
    """Calls at an app that uses the package."""
    said: list[tuple[str, Any]] = []
    own = side.user_id
    async with running(side.app) as client:
        for round_ in ("signed in", "signed out"):
            for method, path in (
                ("GET", "/me"),
                ("GET", "/maybe"),
                ("GET", f"/users/{own}"),
                ("GET", "/users/other"),
                ("GET", "/admin"),
                ("POST", "/spend"),
                ("POST", "/spend?key=k"),
                ("POST", "/spend?key=k"),
                ("POST", "/hold"),
                ("GET", "/balance"),
                ("POST", "/tokens"),
                ("POST", "/hold?settle=3"),
                ("POST", "/hold?settle=9"),
                ("POST", "/hold?fail=true"),
                ("POST", f"/guarded/{own}"),
                ("POST", "/guarded/other"),
                ("POST", "/spend"),
            ):
                answer = await client.request(method, path, headers=side.headers)
                body = shape(answer.json())
                name = f"{round_}: {method} {path}".replace(own, "own")
                body = "own" if body == own else body
                said.append((name, (answer.status_code, body)))
            side.sign_out()
    return said


async def test_an_app_cannot_tell_the_fake_from_the_real_one(server: RealTollgate) -> None:
    async with real(server, 31) as side:
        expected = await routes(side)
    async with fake(31) as side:
        answered = await routes(side)
    differing = [pair for pair in zip(expected, answered, strict=True) if pair[0] != pair[1]]
    assert differing == []


def test_an_app_is_tested_without_a_server() -> None:
    app = small_app(Tollgate("http://127.0.0.1:1", "tg_sk_unused"))
    fake = FakeTollgate(features={"image.generate": 5}, allowances={"generate": 1})
    ada = fake.add_user("ada@example.test", role="admin", credits=10)
    eve = fake.add_user("eve@example.test")
    with fake.replacing(app), TestClient(app) as client:
        assert client.get("/me").status_code == 401
        assert client.get("/me", headers=ada.headers).json()["user_id"] == ada.user_id
        assert client.get(f"/users/{ada.user_id}", headers=eve.headers).status_code == 403
        assert client.get("/admin", headers=ada.headers).status_code == 200
        assert client.post("/spend", headers=ada.headers).json()["balance"] == 0
        assert client.post("/spend", headers=eve.headers).status_code == 402
        assert fake.balance(ada) == 0
        guest = fake.add_guest()
        first = client.post("/visit", headers=guest.headers)
        assert first.json()["subject"] == {"kind": "guest", "id": guest.guest_id}
        assert client.post("/visit", headers=guest.headers).status_code == 429
        assert client.post("/visit").status_code == 401
        fake.is_down = True
        assert client.get("/me", headers=ada.headers).status_code == 503
        fake.is_down = False
        ada.is_banned = True
        assert client.get("/me", headers=ada.headers).status_code == 401
    assert "POST /api/gate/authorize" in fake.calls
    assert app.state.tollgate is not fake.tollgate

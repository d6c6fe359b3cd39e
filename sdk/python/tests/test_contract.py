"""The package against the real Tollgate."""

import time
from datetime import datetime
from typing import Any

import anyio
import httpx
import pytest
from conftest import PRICES
from real_tollgate import RealTollgate, real_tollgate
from small_app import asking

from tollgate import (
    Conflict,
    IdempotencyMismatch,
    InsufficientCredits,
    InvalidRequest,
    Misconfigured,
    NotFound,
    Tollgate,
    Unavailable,
)

pytestmark = pytest.mark.anyio


# ---- Sessions ----


async def test_who_signs_up_is_known_until_they_sign_out(server: RealTollgate) -> None:
    ada = server.sign_up()
    async with asking(server.url) as client:
        said = await client.get("/me", headers=ada.headers)
        assert said.json() == {"user_id": ada.user_id, "email": ada.email, "name": "Ada"}
        assert (await client.get(f"/users/{ada.user_id}", headers=ada.headers)).status_code == 200
        assert (await client.get("/users/somebody", headers=ada.headers)).status_code == 403
        server.sign_out(ada)
        assert (await client.get("/me", headers=ada.headers)).status_code == 401
        assert (await client.get("/maybe", headers=ada.headers)).json() == "nobody"


async def test_other_cookies_are_nobodys(server: RealTollgate) -> None:
    ada = server.sign_up()
    flipped = ada.cookie.replace("session_token=", "session_token=x", 1)
    async with asking(server.url) as client:
        for cookie in (flipped, "better-auth.session_token=abc", "a=b", "=", "x" * 500):
            assert (await client.get("/me", headers={"cookie": cookie})).status_code == 401, cookie


async def test_roles_count_from_the_next_request_on(server: RealTollgate) -> None:
    ada = server.sign_up()
    async with asking(server.url) as client:
        assert (await client.get("/admin", headers=ada.headers)).status_code == 403
        server.promote(ada, "user,admin")
        assert (await client.get("/admin", headers=ada.headers)).status_code == 200


async def test_a_revoked_session_never_passes_again(server: RealTollgate) -> None:
    async with asking(server.url, server.key) as client:
        for _ in range(20):
            ada = server.sign_up()
            assert (await client.get("/me", headers=ada.headers)).status_code == 200
            server.sign_out(ada)
            assert (await client.get("/me", headers=ada.headers)).status_code == 401
            assert (await client.post("/spend", headers=ada.headers)).status_code == 401


async def test_a_hundred_people_at_once_are_kept_apart(server: RealTollgate) -> None:
    people = [server.sign_up() for _ in range(5)]
    said: list[tuple[str, Any]] = []
    async with asking(server.url) as client:

        async def ask(number: int) -> None:
            person = people[number % len(people)]
            answer = await client.get("/me", headers=person.headers)
            said.append((person.user_id, answer.json()["user_id"]))

        async with anyio.create_task_group() as group:
            for number in range(100):
                group.start_soon(ask, number)
    assert len(said) == 100
    assert all(asked == answered for asked, answered in said)


async def test_a_session_ends_to_the_millisecond() -> None:
    with real_tollgate('[session]\nexpires_in = "2s"\nupdate_age = "2s"\n') as server:
        ada = server.sign_up()
        told = httpx.get(
            f"{server.url}/api/auth/get-session?disableRefresh=true",
            headers=ada.headers,
            trust_env=False,
        )
        ends = datetime.fromisoformat(told.json()["session"]["expiresAt"]).timestamp()
        async with asking(server.url) as client:
            assert (await client.get("/me", headers=ada.headers)).status_code == 200
            await anyio.sleep(ends + 0.001 - time.time())
            assert (await client.get("/me", headers=ada.headers)).status_code == 401


async def test_an_extended_session_gets_its_cookie() -> None:
    with real_tollgate('[session]\nupdate_age = "0s"\n' + PRICES) as server:
        ada = server.sign_up()
        server.grant(ada, 100)
        async with asking(server.url, server.key) as client:
            for method, path in (
                ("GET", "/me"),
                ("GET", "/plain"),
                ("POST", f"/guarded/{ada.user_id}"),
            ):
                said = await client.request(method, path, headers=ada.headers)
                lines = said.headers.get_list("set-cookie")
                assert said.status_code == 200
                assert any("session_token=" in line and "Max-Age=604800" in line for line in lines)


async def test_a_server_that_stops_is_503_and_found_again() -> None:
    with real_tollgate() as server:
        ada = server.sign_up()
        async with asking(server.url) as client:
            assert (await client.get("/me", headers=ada.headers)).status_code == 200
            server.stop()
            assert (await client.get("/me", headers=ada.headers)).status_code == 503
            server.start()
            assert (await client.get("/me", headers=ada.headers)).status_code == 200


async def test_readiness(server: RealTollgate) -> None:
    async with Tollgate(server.url) as tollgate:
        assert await tollgate.is_healthy()


# ---- Credits of the one who asks ----


async def test_spending_takes_what_a_feature_costs(server: RealTollgate) -> None:
    ada = server.sign_up()
    server.grant(ada, 12)
    async with asking(server.url, server.key) as client:
        said = await client.post("/spend", headers=ada.headers)
        assert said.status_code == 200, said.text
        charge = said.json()
        assert (charge["amount"], charge["balance"], charge["available"]) == (10, 2, 2)
        assert (charge["unit"], charge["replayed"], charge["hold_id"]) == ("credits", False, None)
        short = await client.post("/spend", headers=ada.headers)
    assert short.status_code == 402
    body = short.json()
    assert "not enough credits" in body.pop("message")
    assert body == {
        "error_code": "insufficient_credits",
        "detail": None,
        "balance": 2,
        "available": 2,
        "required": 10,
        "unit": "credits",
        "buy_url": None,
    }
    assert short.headers["x-request-id"]
    assert server.balance(ada)["balance"] == 2


async def test_tokens_cost_what_the_price_book_says(server: RealTollgate) -> None:
    ada = server.sign_up()
    server.grant(ada, 12)
    async with asking(server.url, server.key) as client:
        said = await client.post("/tokens", headers=ada.headers)
        assert (said.json()["amount"], said.json()["balance"]) == (2, 10)
        told = await client.get("/balance", headers=ada.headers)
        assert told.json() == {
            "unit": "credits",
            "balance": 10,
            "held": 0,
            "available": 10,
            "owed": 0,
        }
        assert (await client.get("/balance")).status_code == 401


async def test_a_key_pays_once(server: RealTollgate) -> None:
    ada = server.sign_up()
    server.grant(ada, 100)
    async with asking(server.url, server.key) as client:
        said = [
            (await client.post("/spend?key=job-1", headers=ada.headers)).json() for _ in range(3)
        ]
        assert [charge["replayed"] for charge in said] == [False, True, True]
        assert len({charge["entry_id"] for charge in said}) == 1
        await client.post("/spend", headers=ada.headers)
        await client.post("/spend", headers=ada.headers)
    assert server.balance(ada)["balance"] == 70


async def test_a_hold_is_settled_with_what_the_work_cost(server: RealTollgate) -> None:
    ada = server.sign_up()
    server.grant(ada, 20)
    async with asking(server.url, server.key) as client:
        said = await client.post("/hold?settle=3", headers=ada.headers)
        assert said.status_code == 200, said.text
        assert (said.json()["amount"], said.json()["balance"]) == (3, 17)
    told = server.balance(ada)
    assert (told["balance"], told["held"]) == (17, 0)


@pytest.mark.parametrize(
    ("query", "status"), [("", 200), ("?fail=true", 409), ("?settle=0", 200), ("?settle=9", 409)]
)
async def test_a_hold_that_is_not_settled_is_released(
    server: RealTollgate, query: str, status: int
) -> None:
    ada = server.sign_up()
    server.grant(ada, 20)
    async with asking(server.url, server.key) as client:
        assert (await client.post(f"/hold{query}", headers=ada.headers)).status_code == status
    told = server.balance(ada)
    assert (told["balance"], told["held"]) == (20, 0)


async def test_nobody_and_the_short_of_credits_hold_nothing(server: RealTollgate) -> None:
    ada = server.sign_up()
    server.grant(ada, 7)
    async with asking(server.url, server.key) as client:
        assert (await client.post("/hold")).status_code == 401
        assert (await client.post("/hold", headers=ada.headers)).status_code == 402


async def test_work_that_is_cancelled_releases_its_hold(server: RealTollgate) -> None:
    ada = server.sign_up()
    server.grant(ada, 20)
    async with Tollgate(server.url, server.key, timeout=20) as tollgate:
        with anyio.move_on_after(0.3):
            async with tollgate.credits_of(user_id=ada.user_id).hold(8):
                assert (await tollgate.credits_of(user_id=ada.user_id).balance()).held == 8
                await anyio.sleep(60)
    assert server.balance(ada)["held"] == 0


# ---- One round trip ----


async def test_a_passage_tells_user_and_charge(server: RealTollgate) -> None:
    ada = server.sign_up()
    server.grant(ada, 7)
    async with asking(server.url, server.key) as client:
        said = await client.post(f"/guarded/{ada.user_id}", headers=ada.headers)
        assert said.status_code == 200, said.text
        passage = said.json()
        assert passage["subject"] == {"kind": "user", "id": ada.user_id}
        assert passage["user"] == {"user_id": ada.user_id, "email": ada.email, "name": "Ada"}
        assert (passage["charge"]["amount"], passage["charge"]["balance"]) == (5, 2)
        statuses = {
            (await client.post(path, headers=headers)).status_code: path
            for path, headers in (
                (f"/guarded/{ada.user_id}", ada.headers),
                ("/guarded/somebody", ada.headers),
                (f"/guarded/{ada.user_id}", {}),
            )
        }
    assert sorted(statuses) == [401, 402, 403]
    assert server.balance(ada)["balance"] == 2


async def test_a_wrong_key_is_our_fault_and_not_the_visitors(
    server: RealTollgate, caplog: pytest.LogCaptureFixture
) -> None:
    ada = server.sign_up()
    keys = ["tg_sk_wrong", server.new_key("credits:read")]
    for key in keys:
        async with asking(server.url, key) as client:
            said = await client.post(f"/guarded/{ada.user_id}", headers=ada.headers)
            assert said.status_code == 500
            assert said.json()["message"] == "something went wrong on our side"
    assert caplog.text.count("Tollgate refuses the service key") == len(keys)


# ---- Credits of an owner ----


async def test_an_owners_credits_are_given_spent_and_told(server: RealTollgate) -> None:
    ada = server.sign_up()
    async with Tollgate(server.url, server.key, timeout=20) as tollgate:
        credits = tollgate.credits_of(user_id=ada.user_id)
        for _ in range(2):
            grant = await credits.grant(50, source="promo", reason="welcome", key="welcome")
            assert (grant.amount, grant.source) == (50, "promo")
        charge = await credits.spend(8, reason="report", metadata={"pages": 3}, key="r-1")
        assert (charge.amount, charge.available, charge.replayed) == (8, 42, False)
        assert (await credits.spend(8, reason="report", metadata={"pages": 3}, key="r-1")).replayed
        assert (await credits.spend("image.generate", quantity=2)).balance == 32
        async with credits.hold("image.generate", quantity=4) as hold:
            assert (hold.amount, hold.unit) == (20, "credits")
            balance = await credits.balance()
            assert (balance.balance, balance.held, balance.available) == (32, 20, 12)
            await hold.extend(600)
            settled = await hold.settle(25, above="balance")
            assert settled is not None
            assert (settled.amount, settled.balance) == (25, 7)
        page = await credits.history(limit=2)
        assert [(entry.kind, entry.amount) for entry in page.items] == [
            ("capture", -25),
            ("debit", -10),
        ]
        rest = await credits.history(limit=10, cursor=page.next_cursor)
        assert [(entry.kind, entry.amount) for entry in rest.items] == [
            ("debit", -8),
            ("grant", 50),
        ]
        assert rest.items[0].metadata == {"pages": 3}
        assert rest.next_cursor is None


async def test_refusals_are_exceptions_of_their_own(server: RealTollgate) -> None:
    ada = server.sign_up()
    server.grant(ada, 10)
    async with Tollgate(server.url, server.key, timeout=20) as tollgate:
        credits = tollgate.credits_of(user_id=ada.user_id)
        with pytest.raises(InsufficientCredits) as short:
            await credits.spend(11)
        assert (short.value.available, short.value.required, short.value.unit) == (
            10,
            11,
            "credits",
        )
        with pytest.raises(InvalidRequest) as invalid:
            await credits.spend("no.such")
        assert invalid.value.field == "feature"
        with pytest.raises(InvalidRequest):
            await credits.spend(0)
        await credits.spend(1, key="k")
        with pytest.raises(IdempotencyMismatch) as mismatch:
            await credits.spend(2, key="k")
        assert mismatch.value.members["field"] == "amount"
        with pytest.raises(NotFound):
            await tollgate.credits_of(user_id="nobody").spend(1)
        async with credits.hold(2) as hold:
            await hold.settle()
            await hold.release()
            with pytest.raises(Conflict):
                await hold.settle(1)
    async with Tollgate(server.url, "tg_sk_wrong") as stranger:
        with pytest.raises(Misconfigured):
            await stranger.credits_of(user_id=ada.user_id).balance()
    async with Tollgate(server.url, server.new_key("credits:read")) as reader:
        assert (await reader.credits_of(user_id=ada.user_id).balance()).balance == 7
        with pytest.raises(Misconfigured):
            await reader.credits_of(user_id=ada.user_id).spend(1)


async def test_a_hundred_at_once_spend_what_is_there(server: RealTollgate) -> None:
    ada = server.sign_up()
    server.grant(ada, 30)
    done: list[str] = []
    async with Tollgate(server.url, server.key, timeout=20) as tollgate:

        async def spend() -> None:
            try:
                await tollgate.credits_of(user_id=ada.user_id).spend(1)
            except InsufficientCredits:
                done.append("refused")
            except Unavailable:
                done.append("unclear")
            else:
                done.append("paid")

        async with anyio.create_task_group() as group:
            for _ in range(100):
                group.start_soon(spend)
    assert (done.count("paid"), done.count("refused")) == (30, 70)
    assert server.balance(ada)["balance"] == 0

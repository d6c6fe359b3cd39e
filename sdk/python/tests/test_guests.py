"""Visitors without an account: the gate counts them, and a Python service can read their cookie."""

import hashlib
import json
import re
import secrets
from typing import Any

import httpx
import pytest
from conftest import GUESTS
from itsdangerous import BadSignature, URLSafeTimedSerializer
from real_tollgate import REPOSITORY, RealTollgate, real_tollgate
from small_app import asking

pytestmark = pytest.mark.anyio

LIFE = 24 * 3600


def test_the_guides_reader_reads(server: RealTollgate, monkeypatch: pytest.MonkeyPatch) -> None:
    guide = (REPOSITORY / "docs" / "guide" / "guests.md").read_text()
    (code,) = re.findall(r"^```python\n(.*?)^```$", guide, re.DOTALL | re.MULTILINE)
    monkeypatch.setenv("GUEST_SECRETS", " ".join(shown_secrets(server)))
    names: dict[str, Any] = {}
    exec(code, names)  # noqa: S102
    value = cookie_of(server.new_guest())
    read = names["guest_id"]
    assert read({names["NAME"]: value}) == guest_id(server, value)
    assert read({names["NAME"]: "x" + value}) is None
    assert read({}) is None


def serializer(newest_first: list[str]) -> URLSafeTimedSerializer:
    """As the guide tells a Python service to make it; itsdangerous signs with the last."""
    return URLSafeTimedSerializer(
        list(reversed(newest_first)),
        salt="tollgate.guest",
        signer_kwargs={"key_derivation": "hmac", "digest_method": hashlib.sha256},
    )


def cookie_of(headers: dict[str, str]) -> str:
    name, _, value = headers["cookie"].partition("=")
    assert name == "tollgate.guest"
    return value


def guest_id(server: RealTollgate, value: str) -> Any:
    headers = {"cookie": f"tollgate.guest={value}"}
    answer = httpx.get(f"{server.url}/api/guest", headers=headers, trust_env=False)
    return answer.json()["guest_id"] if answer.status_code == 200 else answer.status_code


def shown_secrets(server: RealTollgate) -> list[str]:
    shown: list[str] = server.run("secrets", "show", "guest")["secrets"]
    return shown


def test_itsdangerous_reads_the_cookie_with_the_shown_secrets(server: RealTollgate) -> None:
    reader = serializer(shown_secrets(server))
    for _ in range(20):
        value = cookie_of(server.new_guest())
        payload = reader.loads(value, max_age=LIFE)
        assert payload == {"gid": guest_id(server, value)}
    with pytest.raises(BadSignature):
        serializer(["another secret"]).loads(value)
    with pytest.raises(BadSignature):
        reader.loads("x" + value)


def test_of_several_secrets_the_first_signs_and_all_are_read() -> None:
    new, old, strange = (secrets.token_urlsafe(32) for _ in range(3))
    settings = GUESTS + f"secrets = {json.dumps([new, old])}\n"
    with real_tollgate(settings) as server:
        assert shown_secrets(server) == [new, old]
        value = cookie_of(server.new_guest())
        payload = serializer([new]).loads(value, max_age=LIFE)
        assert serializer([new, old]).loads(value, max_age=LIFE) == payload
        with pytest.raises(BadSignature):
            serializer([old]).loads(value)
        # What itsdangerous signs, Tollgate reads, with either secret.
        for known in ([new, old], [old]):
            signed = serializer(known).dumps(payload)
            assert guest_id(server, str(signed)) == payload["gid"]
        assert guest_id(server, str(serializer([strange]).dumps(payload))) == 401


async def test_a_visitor_does_as_much_as_is_allowed(server: RealTollgate) -> None:
    guest = server.new_guest()
    async with asking(server.url, server.key) as client:
        # An address of its own: visitors are counted by it, too.
        headers = {**guest, "x-forwarded-for": "198.51.100.7"}
        first = await client.post("/visit", headers=headers)
        assert first.status_code == 200, first.text
        passage = first.json()
        assert passage["subject"] == {
            "kind": "guest",
            "id": guest_id(server, cookie_of(guest)),
        }
        assert (passage["user"], passage["session"], passage["charge"]) == (None, None, None)
        assert (passage["guest"]["used"], passage["guest"]["remaining"]) == (1, 1)
        assert (await client.post("/visit", headers=headers)).status_code == 200
        third = await client.post("/visit", headers=headers)
        assert third.status_code == 429
        assert third.json()["error_code"] == "guest_limit_reached"
        assert third.json()["action"] == "generate"
        assert int(third.headers["retry-after"]) > 0
        assert (await client.post("/visit")).status_code == 401
        ada = server.sign_up()
        signed_in = await client.post("/visit", headers=ada.headers)
        assert signed_in.json()["subject"] == {"kind": "user", "id": ada.user_id}


async def test_visitors_of_one_address_are_counted_together(server: RealTollgate) -> None:
    async with asking(server.url, server.key) as client:
        for address, number, status in (
            ("198.51.100.8", 10, 200),
            ("198.51.100.8", 1, 429),
            ("198.51.100.9", 1, 200),
        ):
            for _ in range(number):
                headers = {**server.new_guest(), "x-forwarded-for": f"192.0.2.1, {address}"}
                assert (await client.post("/visit", headers=headers)).status_code == status

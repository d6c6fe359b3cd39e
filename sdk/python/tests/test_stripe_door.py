"""The door for Stripe's deliveries takes what Stripe's own package for Python signs."""

import json
import time
from collections.abc import Iterator
from itertools import count

import httpx
import pytest
from real_tollgate import RealTollgate, real_tollgate
from stripe import SignatureVerificationError, Webhook, WebhookSignature

OLD = "whsec_python_old"
NEW = "whsec_python_new"
# Nobody listens there: nothing of these tests may leave this machine.
SETTINGS = (
    '[stripe]\nsecret_key = "sk_test_python"\napi_base = "http://127.0.0.1:9"\n'
    f'webhook_secrets = ["{NEW}", "{OLD}"]\n'
)

_events = count(1)


@pytest.fixture(scope="module")
def shop() -> Iterator[RealTollgate]:
    with real_tollgate(SETTINGS) as running:
        yield running


def event(name: str) -> dict[str, object]:
    return {
        "id": f"evt_python_{next(_events)}",
        "object": "event",
        "type": "price.updated",
        "livemode": False,
        "data": {"object": {"object": "price", "name": name}},
    }


def texts() -> list[str]:
    """Events in all the ways in which bytes may be told apart."""
    return [
        json.dumps(event("plain")),
        json.dumps(event("żółć 😀 \u2028"), ensure_ascii=False),
        json.dumps(event("żółć 😀"), ensure_ascii=True),
        json.dumps(event("a\r\nb"), indent=2).replace("\n", "\r\n"),
        json.dumps(event("")) + "\n",
        " \t" + json.dumps(event("")) + "\r\n\r\n",
    ]


def deliver(shop: RealTollgate, body: str | bytes, signature: str | None) -> int:
    headers = {"content-type": "application/json; charset=utf-8"}
    if signature is not None:
        headers["stripe-signature"] = signature
    content = body.encode() if isinstance(body, str) else body
    answer = httpx.post(
        f"{shop.url}/api/billing/webhook", content=content, headers=headers, trust_env=False
    )
    return answer.status_code


def sign(body: str, secret: str = NEW, timestamp: int | None = None) -> str:
    return str(WebhookSignature.generate_signature_header(body, secret, timestamp))


def official(body: str, signature: str) -> bool:
    """What the package makes of it, with every secret that the server has."""
    for secret in (NEW, OLD):
        try:
            Webhook.construct_event(body, signature, secret)
        except SignatureVerificationError:
            continue
        return True
    return False


@pytest.mark.parametrize("secret", [OLD, NEW])
def test_what_the_package_signs_is_taken_byte_by_byte(shop: RealTollgate, secret: str) -> None:
    for body in texts():
        signature = sign(body, secret)
        assert deliver(shop, body, signature) == 200, body
        assert deliver(shop, body + " ", signature) == 400
        assert deliver(shop, body, sign(body, "whsec_of_somebody_else")) == 400


def test_both_judge_a_header_alike(shop: RealTollgate) -> None:
    body = json.dumps(event("headers"))
    now = int(time.time())
    good = sign(body, NEW, now)
    mac = good.rpartition("=")[2]
    for header, taken in [
        (good, True),
        (f"v1={mac},t={now}", True),
        (f"t={now},v1={'0' * 64},v1={mac}", True),
        (f"t={now},v0={mac},v1={mac}", True),
        (f"t={now},unknown=x,v1={mac}", True),
        (sign(body, NEW, now - 290), True),
        (sign(body, NEW, now - 310), False),
        (sign(body, OLD, now - 310), False),
        (f"t={now},v0={mac}", False),
        (f"t={now},v1={mac.upper()}", False),
        (f"t={now}, v1={mac}", False),
        (f"t={now}", False),
        (f"v1={mac}", False),
        (f"t={now + 1},v1={mac}", False),
        (f"t=x,v1={mac}", False),
        (f"t={now},v1=", False),
        (mac, False),
        ("", False),
    ]:
        verdicts = (official(body, header), deliver(shop, body, header) == 200)
        assert verdicts == (taken, taken), header


def test_the_door_is_no_wider_than_the_package(shop: RealTollgate) -> None:
    """A time that lies ahead is a fault of somebody's clock, or somebody's store of signatures."""
    body = json.dumps(event("ahead"))
    ahead = sign(body, NEW, int(time.time()) + 3_600)
    assert official(body, ahead)
    assert deliver(shop, body, ahead) == 400
    assert deliver(shop, body, None) == 400
    assert deliver(shop, b"\xff\xfe", sign("{}")) == 400
    assert deliver(shop, "{}", sign("{}")) == 400

"""A Tollgate in memory: it stands where the network would, so that all of the package is run."""

import json
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qs, unquote
from uuid import uuid4

import httpx
from fastapi import FastAPI

from ..app import Tollgate
from .ledger import Cost, Ledger, Refused, invalid, is_amount, moment, owner_members

SESSION_COOKIE = "better-auth.session_token"
GUEST_COOKIE = "tollgate.guest"

_SESSION_LIFE = timedelta(days=7)
_GUEST_LIFE = timedelta(hours=24)
_HOLD_SECONDS = 300


@dataclass
class FakeUser:
    """A user with one session. Change ``role`` or ``is_banned`` as you like."""

    user_id: str
    email: str
    name: str
    role: str | None = "user"
    email_verified: bool = True
    is_banned: bool = False
    #: What the browser holds; ``None`` after :meth:`FakeTollgate.sign_out`.
    token: str | None = field(default_factory=lambda: uuid4().hex, repr=False)
    expires_at: datetime = field(default_factory=lambda: datetime.now(UTC) + _SESSION_LIFE)
    _shown: str = field(default="", repr=False)

    def __post_init__(self) -> None:
        self._shown = self.token or ""

    @property
    def cookies(self) -> dict[str, str]:
        """For ``TestClient(app, cookies=ada.cookies)``; also after the session has ended."""
        return {SESSION_COOKIE: self._shown}

    @property
    def headers(self) -> dict[str, str]:
        """For one request: ``client.get("/me", headers=ada.headers)``."""
        return {"cookie": f"{SESSION_COOKIE}={self._shown}"}


@dataclass
class FakeGuest:
    """A visitor without an account."""

    guest_id: str
    token: str = field(repr=False)
    used: dict[str, tuple[int, datetime]] = field(default_factory=dict)

    @property
    def cookies(self) -> dict[str, str]:
        return {GUEST_COOKIE: self.token}

    @property
    def headers(self) -> dict[str, str]:
        return {"cookie": f"{GUEST_COOKIE}={self.token}"}


class FakeTollgate(httpx.AsyncBaseTransport):
    """Users, sessions, credits, holds and visitors' allowances without a server.

    ::

        fake = FakeTollgate(features={"image.generate": 5}, allowances={"generate": 3})
        ada = fake.add_user("ada@example.test", credits=10)
        with fake.replacing(app), TestClient(app) as client:
            assert client.get("/me", headers=ada.headers).status_code == 200

    ``fake.is_down = True`` makes it unreachable.
    """

    service_key = "tg_sk_fake"

    def __init__(
        self,
        *,
        features: Mapping[str, int] | None = None,
        models: Mapping[str, Mapping[str, int]] | None = None,
        allowances: Mapping[str, int] | None = None,
        unit: str = "credits",
    ) -> None:
        self.is_down = False
        #: Requests that came in, as ``POST /api/gate/authorize``.
        self.calls: list[str] = []
        self.users: dict[str, FakeUser] = {}
        self.guests: dict[str, FakeGuest] = {}
        self.allowances = dict(allowances or {})
        self.ledger = Ledger(features or {}, models or {}, unit)
        self.tollgate = Tollgate("http://tollgate.test", self.service_key, transport=self)

    # ---- What tests arrange and see ----

    @contextmanager
    def replacing(self, app: FastAPI) -> Iterator["FakeTollgate"]:
        """Takes the place of the app's Tollgate. Enter it before the app's lifespan."""
        before = app.state.tollgate
        app.state.tollgate = self.tollgate
        try:
            yield self
        finally:
            app.state.tollgate = before

    def add_user(
        self,
        email: str,
        *,
        name: str = "",
        role: str | None = "user",
        email_verified: bool = True,
        credits: int = 0,
        user_id: str | None = None,
    ) -> FakeUser:
        """Somebody who is signed in."""
        user = FakeUser(
            user_id or uuid4().hex, email, name or email.split("@")[0], role, email_verified
        )
        self.users[user.user_id] = user
        if credits:
            owner = f"user_id:{user.user_id}"
            self.ledger.enter(owner, self.ledger.unit, "grant", credits, reason="tests")
        return user

    def add_guest(self) -> FakeGuest:
        guest = FakeGuest(uuid4().hex, uuid4().hex)
        self.guests[guest.guest_id] = guest
        return guest

    def sign_out(self, user: FakeUser) -> None:
        """Ends the session; the browser still has the cookie."""
        user.token = None

    def balance(self, user: FakeUser, unit: str | None = None) -> int:
        return self.ledger.account(f"user_id:{user.user_id}", unit or self.ledger.unit).balance

    def held(self, user: FakeUser, unit: str | None = None) -> int:
        return self.ledger.held(f"user_id:{user.user_id}", unit or self.ledger.unit)

    # ---- Its doors ----

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.calls.append(f"{request.method} {request.url.path}")
        if self.is_down:
            raise httpx.ConnectError("the fake is down", request=request)
        try:
            status, body, replayed = self._answer(request, await request.aread())
        except Refused as refused:
            status, body, replayed = refused.status, refused.body, False
        headers = {"content-type": "application/json", "x-request-id": uuid4().hex}
        if replayed:
            headers["idempotent-replayed"] = "true"
        if status == 429:
            headers["retry-after"] = "60"
        return httpx.Response(status, headers=headers, content=json.dumps(body).encode())

    def _answer(self, request: httpx.Request, content: bytes) -> tuple[int, Any, bool]:
        path = request.url.path
        match (request.method, path.strip("/").split("/")):
            case ("GET", ["readyz"]):
                return 200, {"status": "ready", "checks": {}}, False
            case ("GET", ["api", "auth", "get-session" | "session"]):
                return 200, self._session(request), False
        if request.headers.get("authorization") != f"Bearer {self.service_key}":
            message = "the service key is missing or not valid"
            raise Refused(401, "invalid_service_key", message)
        query = {name: values[-1] for name, values in parse_qs(request.url.query.decode()).items()}
        body: dict[str, Any] = json.loads(content) if content else {}
        key = request.headers.get("idempotency-key")
        match (request.method, path.strip("/").split("/")):
            case ("POST", ["api", "gate", "authorize"]):
                return self._authorize(request, body, key)
            case ("GET", ["api", "credits", "balance"]):
                owner = self._owner(query)
                unit = query.get("unit", self.ledger.unit)
                return 200, {**self.ledger.told(owner, unit), "grants": []}, False
            case ("GET", ["api", "credits", "entries"]):
                return 200, self._entries(query), False
            case ("POST", ["api", "credits", "grants"]):
                return self._grant(body, key)
            case ("POST", ["api", "credits", "debits"]):
                return self._debit(self._owner(body), body, key, actor="key:fake")
            case ("POST", ["api", "credits", "holds"]):
                seconds = body.get("expires_in")
                return self._hold(self._owner(body), body, key, seconds, "expires_in")
            case ("POST", ["api", "credits", "holds", hold_id, verb]):
                return self._change_hold(unquote(hold_id), verb, body, key)
        raise Refused(404, "not_found", "there is no such route")

    # ---- Who is it ----

    def _visitor(self, request: httpx.Request) -> FakeUser | None:
        token = _cookie(request, SESSION_COOKIE)
        now = datetime.now(UTC)
        for user in self.users.values():
            if token and user.token == token and user.expires_at > now and not user.is_banned:
                return user
        return None

    def _session(self, request: httpx.Request) -> dict[str, Any] | None:
        user = self._visitor(request)
        if user is None:
            return None
        return {
            "session": {"userId": user.user_id, "expiresAt": moment(user.expires_at)},
            "user": {
                "id": user.user_id,
                "email": user.email,
                "name": user.name,
                "emailVerified": user.email_verified,
                "role": user.role,
            },
        }

    # ---- May it pass ----

    def _authorize(
        self, request: httpx.Request, body: dict[str, Any], key: str | None
    ) -> tuple[int, Any, bool]:
        action = (body.get("guest") or {}).get("action")
        if action is not None and action not in self.allowances:
            raise invalid("guest.action", "there is no such action")
        charge = body.get("charge")
        if charge is not None:
            self.ledger.cost(charge, "charge.")
            key = _key(key)
        user = self._visitor(request)
        if user is None:
            return self._admit_guest(request, action)
        if body.get("user_id") not in (None, user.user_id):
            raise Refused(403, "user_mismatch", "the session belongs to another user")
        roles = [role.strip() for role in (user.role or "").split(",")]
        if body.get("role") is not None and body["role"] not in roles:
            raise Refused(403, "forbidden", "the user lacks the role")
        if body.get("payer") not in (None, {"user_id": user.user_id}):
            raise Refused(403, "forbidden", "the user may not spend what belongs to the payer")
        paid, replayed = None, False
        if charge is not None:
            paid, replayed = self._charge(user, body, charge, key)
        told = {
            "user_id": user.user_id,
            "email": user.email,
            "name": user.name,
            "email_verified": user.email_verified,
            "role": user.role,
        }
        passage = {
            "subject": {"kind": "user", "id": user.user_id},
            "user": told,
            "session": {"expires_at": moment(user.expires_at)},
            "charge": paid,
            "guest": None,
        }
        return 200, passage, replayed

    def _charge(
        self, user: FakeUser, body: dict[str, Any], charge: dict[str, Any], key: str | None
    ) -> tuple[dict[str, Any], bool]:
        owner, rest = f"user_id:{user.user_id}", {"reason": body.get("reason")}
        if body.get("hold"):
            seconds = body.get("hold_expires_in", _HOLD_SECONDS)
            spent = {**charge, **rest}
            _, done, replayed = self._hold(owner, spent, key, seconds, "hold_expires_in")
            what = {"hold_id": done["hold"]["id"], "amount": done["hold"]["amount"]}
        else:
            rest["metadata"] = body.get("metadata")
            actor = f"user:{user.user_id}"
            _, done, replayed = self._debit(owner, {**charge, **rest}, key, actor=actor)
            what = {"entry_id": done["entry"]["id"], "amount": -done["entry"]["amount"]}
        figures = {name: done["balance"][name] for name in ("unit", "balance", "available")}
        return {**what, **figures, "replayed": replayed}, replayed

    def _admit_guest(self, request: httpx.Request, action: str | None) -> tuple[int, Any, bool]:
        token = _cookie(request, GUEST_COOKIE)
        guest = next((one for one in self.guests.values() if token and one.token == token), None)
        if action is None or guest is None:
            raise Refused(401, "unauthenticated", "there is no valid session")
        now, limit = datetime.now(UTC), self.allowances[action]
        used, ends = guest.used.get(action, (0, now + _GUEST_LIFE))
        if ends <= now:
            used, ends = 0, now + _GUEST_LIFE
        if used >= limit:
            message = "the allowance of this visitor is used up"
            figures = {"action": action, "limit": limit, "resets_at": moment(ends)}
            raise Refused(429, "guest_limit_reached", message, **figures)
        guest.used[action] = (used + 1, ends)
        allowance = {
            "action": action,
            "limit": limit,
            "used": used + 1,
            "remaining": limit - used - 1,
            "resets_at": moment(ends),
        }
        passage = {
            "subject": {"kind": "guest", "id": guest.guest_id},
            "user": None,
            "session": None,
            "charge": None,
            "guest": allowance,
        }
        return 200, passage, False

    # ---- What does it cost ----

    def _owner(self, given: Mapping[str, Any]) -> str:
        names = ("user_id", "organization_id", "guest_id")
        known: dict[str, Collection[str]] = {
            "user_id": self.users,
            "organization_id": (),
            "guest_id": self.guests,
        }
        for name in names:
            if name in given:
                if given[name] not in known[name]:
                    raise Refused(404, "not_found", "there is no such owner", field=name)
                return f"{name}:{given[name]}"
        raise invalid("user_id", "it is required")

    def _entries(self, query: Mapping[str, str]) -> dict[str, Any]:
        account = self.ledger.account(self._owner(query), query.get("unit", self.ledger.unit))
        limit, seen = int(query.get("limit", "50")), int(query.get("cursor", "0"))
        newest = account.entries[::-1]
        rest = len(newest) - seen - limit
        items = newest[seen : seen + limit]
        return {"items": items, "next_cursor": str(seen + limit) if rest > 0 else None}

    def _grant(self, body: dict[str, Any], key: str | None) -> tuple[int, Any, bool]:
        owner, amount, key = self._owner(body), body.get("amount"), _key(key)
        unit = body.get("unit", self.ledger.unit)
        if not isinstance(amount, int) or not is_amount(amount):
            raise invalid("amount", "it must be an integer of at least 1")

        def act() -> tuple[int, dict[str, Any]]:
            entry = self.ledger.enter(
                owner, unit, "grant", amount, reason=body.get("reason"), idempotency_key=key
            )
            now = entry["created_at"]
            grant = {
                "id": uuid4().hex,
                **owner_members(owner),
                "unit": unit,
                "source": body["source"],
                "amount": amount,
                "remaining": amount,
                "held": 0,
                "expires_at": body.get("expires_at"),
                "priority": body.get("priority", 50),
                "reason": body.get("reason"),
                "metadata": body.get("metadata"),
                "created_at": now,
            }
            balance = self.ledger.told(owner, unit)
            return 201, {"grant": grant, "entry": _whole(entry, owner), "balance": balance}

        return self.ledger.once(owner, "grant", key, body, act)

    def _debit(
        self, owner: str, body: dict[str, Any], key: str | None, *, actor: str
    ) -> tuple[int, Any, bool]:
        cost, key = self.ledger.cost(body), _key(key)

        def act() -> tuple[int, dict[str, Any]]:
            self.ledger.need(owner, cost.unit, cost.amount)
            entry = self.ledger.enter(
                owner,
                cost.unit,
                "debit",
                -cost.amount,
                feature=cost.feature,
                reason=body.get("reason"),
                metadata=body.get("metadata"),
                idempotency_key=key,
                actor=actor,
            )
            balance = self.ledger.told(owner, cost.unit)
            return 201, {"entry": _whole(entry, owner), "balance": balance}

        return self.ledger.once(owner, "debit", key, _spent(body, cost), act)

    def _hold(
        self, owner: str, body: dict[str, Any], key: str | None, seconds: Any, name: str
    ) -> tuple[int, Any, bool]:
        cost, key = self.ledger.cost(body), _key(key)
        if not is_amount(seconds) or seconds > 86_400:
            raise invalid(name, "it must be an integer from 1 to 86400")

        def act() -> tuple[int, dict[str, Any]]:
            hold = self.ledger.hold(owner, cost, seconds, body.get("reason"))
            return 201, {"hold": hold.told(), "balance": self.ledger.told(owner, cost.unit)}

        request = {**_spent(body, cost), "expires_in": seconds}
        return self.ledger.once(owner, "hold", key, request, act)

    def _change_hold(
        self, hold_id: str, verb: str, body: dict[str, Any], key: str | None
    ) -> tuple[int, Any, bool]:
        hold = self.ledger.holds.get(hold_id)
        if hold is None or verb not in ("capture", "release", "extend"):
            raise Refused(404, "not_found", "there is no such hold")
        amount, above = body.get("amount"), body.get("above", "refuse")
        if amount is not None and not is_amount(amount):
            raise invalid("amount", "it must be an integer of at least 1")

        def act() -> tuple[int, dict[str, Any]]:
            done: dict[str, Any] = {}
            if verb == "capture":
                _, entry = self.ledger.capture(hold_id, amount, above, key)
                done["entry"] = _whole(entry, hold.owner, hold_id)
            elif verb == "release":
                self.ledger.open_hold(hold_id).status = "released"
            else:
                ends = datetime.now(UTC) + timedelta(seconds=body["expires_in"])
                self.ledger.open_hold(hold_id).expires_at = ends
            balance = self.ledger.told(hold.owner, hold.unit)
            return 200, {"hold": hold.told(), **done, "balance": balance}

        if verb == "extend" and key is None:
            return *act(), False
        request = {"hold_id": hold_id, **body}
        return self.ledger.once(hold.owner, verb, _key(key), request, act)


def _cookie(request: httpx.Request, name: str) -> str | None:
    jar: SimpleCookie = SimpleCookie()
    try:
        jar.load(request.headers.get("cookie", ""))
    except CookieError:
        return None
    return jar[name].value if name in jar else None


def _key(key: str | None) -> str:
    if key is None:
        raise invalid("Idempotency-Key", "it is required")
    return key


def _spent(body: Mapping[str, Any], cost: Cost) -> dict[str, Any]:
    """A request as it was understood: written-out defaults do not matter."""
    what = {"amount": cost.amount, "unit": cost.unit, "feature": cost.feature}
    return what | {name: body.get(name) for name in ("reason", "metadata")}


def _whole(entry: dict[str, Any], owner: str, hold_id: str | None = None) -> dict[str, Any]:
    version = None if entry["feature"] is None or hold_id else 1
    more = {"price_version": version, "hold_id": hold_id, "refund_of": None}
    return {**entry, **owner_members(owner), **more}

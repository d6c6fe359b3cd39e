"""Credits in memory, as the fake keeps them: balances, holds, keys and refusals."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

LARGEST = 9_007_199_254_740_991


class Refused(Exception):
    """A refusal: status, code, message and the members that go with them."""

    def __init__(self, status: int, code: str, message: str, **members: Any) -> None:
        super().__init__(message)
        self.status = status
        self.body = {"error_code": code, "message": message, "detail": None, **members}


def invalid(name: str, message: str) -> Refused:
    return Refused(422, "invalid_request", f"{name}: {message}", field=name)


@dataclass
class Held:
    id: str
    owner: str
    unit: str
    amount: int
    feature: str | None
    reason: str | None
    expires_at: datetime
    created_at: datetime
    status: str = "held"
    captured: int = 0

    def told(self) -> dict[str, Any]:
        return {
            "id": self.id,
            **owner_members(self.owner),
            "unit": self.unit,
            "amount": self.amount,
            "captured": self.captured,
            "status": self.status,
            "feature": self.feature,
            "reason": self.reason,
            "expires_at": moment(self.expires_at),
            "created_at": moment(self.created_at),
        }


@dataclass
class Account:
    balance: int = 0
    entries: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class Cost:
    amount: int
    unit: str
    feature: str | None = None


@dataclass(frozen=True)
class Kept:
    """The first answer under a key."""

    request: str
    status: int
    body: dict[str, Any]


class Ledger:
    """One unit per name, no expiry of grants, no caps: what an app's tests need."""

    def __init__(
        self, features: Mapping[str, int], models: Mapping[str, Mapping[str, int]], unit: str
    ) -> None:
        self.features = dict(features)
        self.models = dict(models)
        self.unit = unit
        self.accounts: dict[tuple[str, str], Account] = {}
        self.holds: dict[str, Held] = {}
        self.kept: dict[tuple[str, str, str], Kept] = {}

    # ---- What is there ----

    def account(self, owner: str, unit: str) -> Account:
        return self.accounts.setdefault((owner, unit), Account())

    def held(self, owner: str, unit: str) -> int:
        self._end_holds()
        open_ones = (hold for hold in self.holds.values() if hold.status == "held")
        return sum(hold.amount for hold in open_ones if (hold.owner, hold.unit) == (owner, unit))

    def told(self, owner: str, unit: str) -> dict[str, Any]:
        balance, held = self.account(owner, unit).balance, self.held(owner, unit)
        return {
            "unit": unit,
            "balance": balance,
            "held": held,
            "available": balance - held,
            "owed": max(0, -balance),
        }

    def _end_holds(self) -> None:
        now = datetime.now(UTC)
        for hold in self.holds.values():
            if hold.status == "held" and hold.expires_at <= now:
                hold.status = "expired"

    # ---- What is asked ----

    def cost(self, body: Mapping[str, Any], path: str = "") -> Cost:
        unit = body.get("unit") or self.unit
        feature, amount, model = body.get("feature"), body.get("amount"), body.get("model")
        if feature is not None and amount is not None:
            raise invalid(f"{path}feature", "it excludes an amount")
        if model is not None:
            return Cost(self._tokens(model, body.get("tokens", {}), path), self.unit)
        if feature is not None:
            if feature not in self.features:
                raise invalid(f"{path}feature", "there is no such feature in the price book")
            quantity = body.get("quantity", 1)
            if not is_amount(quantity):
                raise invalid(f"{path}quantity", f"it must be an integer from 1 to {LARGEST}")
            return Cost(self.features[feature] * quantity, self.unit, feature)
        if amount is None:
            raise invalid(f"{path}amount", "an amount, a feature or a model is required")
        if not is_amount(amount):
            raise invalid(f"{path}amount", f"it must be an integer from 1 to {LARGEST}")
        return Cost(amount, unit)

    def _tokens(self, model: str, tokens: Mapping[str, int], path: str) -> int:
        prices = self.models.get(model)
        if prices is None:
            raise invalid(f"{path}model", "there is no such model in the price book")
        stand_ins = {"cached": prices["input"], "reasoning": prices["output"]}
        full = {**stand_ins, **prices}
        total = sum(full[kind] * count for kind, count in tokens.items())
        if total == 0:
            raise invalid(f"{path}tokens", "they cost nothing")
        # Rounded up to whole units, once for a call.
        return -(-total // prices["per"])

    def once(
        self,
        scope: str,
        operation: str,
        key: str,
        request: Mapping[str, Any],
        act: Callable[[], tuple[int, dict[str, Any]]],
    ) -> tuple[int, dict[str, Any], bool]:
        """The first answer under a key, again; whether it is one."""
        spelled = json.dumps(request, sort_keys=True)
        kept = self.kept.get((scope, operation, key))
        if kept is not None:
            if kept.request != spelled:
                first = json.loads(kept.request)
                names = sorted({*first, *request})
                differing = next(name for name in names if first.get(name) != request.get(name))
                message = f"the idempotency key was used for another request: {differing} differs"
                raise Refused(409, "idempotency_mismatch", message, field=differing)
            return kept.status, kept.body, True
        status, body = act()
        self.kept[scope, operation, key] = Kept(spelled, status, body)
        return status, body, False

    # ---- What changes ----

    def need(self, owner: str, unit: str, required: int) -> None:
        told = self.told(owner, unit)
        if told["available"] < required:
            figures = {name: told[name] for name in ("balance", "available")}
            raise Refused(
                402,
                "insufficient_credits",
                "not enough credits",
                **figures,
                required=required,
                unit=unit,
                buy_url=None,
            )

    def enter(self, owner: str, unit: str, kind: str, amount: int, **more: Any) -> dict[str, Any]:
        account = self.account(owner, unit)
        account.balance += amount
        entry = {
            "id": uuid4().hex,
            "seq": len(account.entries) + 1,
            "kind": kind,
            "amount": amount,
            "balance_after": account.balance,
            "unit": unit,
            "feature": None,
            "reason": None,
            "actor": "key:fake",
            "idempotency_key": None,
            "source_ref": None,
            "parts": [{"grant_id": None, "amount": amount}],
            "metadata": None,
            "created_at": moment(datetime.now(UTC)),
            **more,
        }
        account.entries.append(entry)
        return entry

    def hold(self, owner: str, cost: Cost, seconds: int, reason: str | None) -> Held:
        self.need(owner, cost.unit, cost.amount)
        now = datetime.now(UTC)
        hold = Held(
            id=uuid4().hex,
            owner=owner,
            unit=cost.unit,
            amount=cost.amount,
            feature=cost.feature,
            reason=reason,
            expires_at=now + timedelta(seconds=seconds),
            created_at=now,
        )
        self.holds[hold.id] = hold
        return hold

    def open_hold(self, hold_id: str) -> Held:
        self._end_holds()
        hold = self.holds.get(hold_id)
        if hold is None:
            raise Refused(404, "not_found", "there is no such hold")
        if hold.status != "held":
            raise Refused(409, "conflict", f"the hold is {hold.status}")
        return hold

    def capture(
        self, hold_id: str, amount: int | None, above: str, key: str | None
    ) -> tuple[Held, dict[str, Any]]:
        hold = self.open_hold(hold_id)
        taken = hold.amount if amount is None else amount
        if taken > hold.amount:
            if above == "refuse":
                raise Refused(409, "conflict", "it is more than is held")
            if above == "cap":
                taken = hold.amount
            else:
                self.need(hold.owner, hold.unit, taken - hold.amount)
        hold.status, hold.captured = "captured", taken
        return hold, self.enter(
            hold.owner,
            hold.unit,
            "capture",
            -taken,
            reason=hold.reason,
            feature=hold.feature,
            idempotency_key=key,
        )


def is_amount(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= LARGEST


def owner_members(owner: str) -> dict[str, str]:
    """Owners are kept as ``user_id:…``."""
    name, _, value = owner.partition(":")
    return {name: value}


def moment(time: datetime) -> str:
    return time.isoformat(timespec="milliseconds").replace("+00:00", "Z")

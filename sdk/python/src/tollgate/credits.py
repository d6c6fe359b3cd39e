"""Spending, holding and giving credits.

One interface, two payers: the visitor of a request (asked through the gate, which judges the
session again with each charge) and an owner that your own code names (asked at the credits door).
"""

import logging
from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from types import TracebackType
from typing import Any, Literal, overload
from urllib.parse import quote

import anyio
from pydantic import TypeAdapter

from .charges import (
    BALANCE,
    CAPTURED,
    DEBITED,
    ENTRIES,
    GRANTED,
    HELD,
    Above,
    Balance,
    Charge,
    Entries,
    Grant,
    Metadata,
    Tokens,
    key_or_fresh,
    price,
    some,
)
from .connection import Answer
from .errors import TollgateError, Unavailable
from .service import Service
from .sessions import Shape, understand

log = logging.getLogger("tollgate")

#: How long a hold stays when nobody ends it, in seconds.
HOLD_SECONDS = 300

#: What a hold's end may take when its block is left, in seconds; then it ends by itself.
_RELEASE_WITHIN = 3.0

Source = Literal["promo", "paid", "plan", "signup", "adjustment"]


@dataclass(frozen=True)
class Owner:
    """Who has the credits: exactly one of the three."""

    user_id: str | None = None
    organization_id: str | None = None
    guest_id: str | None = None

    def __post_init__(self) -> None:
        if len(self.members) != 1:
            raise TypeError("an owner is exactly one of user_id, organization_id and guest_id")

    @property
    def members(self) -> dict[str, str]:
        return some(
            user_id=self.user_id, organization_id=self.organization_id, guest_id=self.guest_id
        )


class Credits(ABC):
    """What somebody can spend. See :class:`OwnerCredits` and ``UserCredits``."""

    @overload
    async def spend(
        self,
        what: str,
        /,
        *,
        quantity: int = 1,
        reason: str | None = None,
        metadata: Metadata | None = None,
        key: str | None = None,
    ) -> Charge: ...

    @overload
    async def spend(
        self,
        what: int | Tokens,
        /,
        *,
        unit: str | None = None,
        reason: str | None = None,
        metadata: Metadata | None = None,
        key: str | None = None,
    ) -> Charge: ...

    async def spend(
        self,
        what: str | int | Tokens,
        /,
        *,
        quantity: int = 1,
        unit: str | None = None,
        reason: str | None = None,
        metadata: Metadata | None = None,
        key: str | None = None,
    ) -> Charge:
        """Takes what a feature or a model's tokens cost, or an amount.

        ``key`` names the action, such as a job's id: with the same key it is paid once, however
        often it is asked for, and a repetition says ``replayed``. Without one each call pays.
        """
        charge = price(what, quantity, unit)
        return await self._spend(charge, some(reason=reason, metadata=metadata), key_or_fresh(key))

    @overload
    def hold(
        self,
        what: str,
        /,
        *,
        quantity: int = 1,
        expires_in: int = HOLD_SECONDS,
        reason: str | None = None,
        metadata: Metadata | None = None,
        key: str | None = None,
    ) -> "Holding": ...

    @overload
    def hold(
        self,
        what: int | Tokens,
        /,
        *,
        unit: str | None = None,
        expires_in: int = HOLD_SECONDS,
        reason: str | None = None,
        metadata: Metadata | None = None,
        key: str | None = None,
    ) -> "Holding": ...

    def hold(
        self,
        what: str | int | Tokens,
        /,
        *,
        quantity: int = 1,
        unit: str | None = None,
        expires_in: int = HOLD_SECONDS,
        reason: str | None = None,
        metadata: Metadata | None = None,
        key: str | None = None,
    ) -> "Holding":
        """Reserves for the time of a block: ``async with credits.hold(60) as hold: …``.

        Left without ``settle`` or by an exception, the hold is released. Should your process die,
        it ends by itself after ``expires_in`` seconds.
        """
        charge = price(what, quantity, unit)
        rest = some(reason=reason, metadata=metadata)
        return Holding(self, charge, rest, expires_in, key_or_fresh(key))

    @abstractmethod
    async def balance(self, unit: str | None = None) -> Balance:
        """What is there now."""

    @abstractmethod
    async def _spend(
        self, charge: Mapping[str, Any], rest: Mapping[str, Any], key: str
    ) -> Charge: ...

    @abstractmethod
    async def _reserve(
        self, charge: Mapping[str, Any], rest: Mapping[str, Any], expires_in: int, key: str
    ) -> "Hold": ...


class OwnerCredits(Credits):
    """The credits of an owner whom your own code names: jobs, webhooks, support. No session."""

    def __init__(self, service: Service, owner: Owner) -> None:
        self._service = service
        self.owner = owner

    async def balance(self, unit: str | None = None) -> Balance:
        query = {**self.owner.members, **some(unit=unit)}
        return await _read(self._service, "/api/credits/balance", query, BALANCE)

    async def history(
        self,
        *,
        unit: str | None = None,
        start: datetime | None = None,
        end: datetime | None = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> Entries:
        """A page of entries, newest first, from ``start`` up to and without ``end``."""
        query = some(
            **self.owner.members,
            unit=unit,
            **{"from": _moment(start), "to": _moment(end)},
            limit=str(limit),
            cursor=cursor,
        )
        return await _read(self._service, "/api/credits/entries", query, ENTRIES)

    async def grant(
        self,
        amount: int,
        *,
        source: Source,
        reason: str,
        key: str,
        unit: str | None = None,
        expires_at: datetime | None = None,
        priority: int | None = None,
        metadata: Metadata | None = None,
    ) -> Grant:
        """Gives credits, once for a key."""
        body = {**self.owner.members, "amount": amount, "source": source, "reason": reason}
        body |= some(
            unit=unit, expires_at=_moment(expires_at), priority=priority, metadata=metadata
        )
        answer = await self._service.change("/api/credits/grants", body, key)
        return understand(GRANTED, answer).grant

    async def _spend(self, charge: Mapping[str, Any], rest: Mapping[str, Any], key: str) -> Charge:
        body = {**self.owner.members, **charge, **rest}
        answer = await self._service.change("/api/credits/debits", body, key)
        done = understand(DEBITED, answer)
        return _paid(done.entry.id, -done.entry.amount, done.balance, answer)

    async def _reserve(
        self, charge: Mapping[str, Any], rest: Mapping[str, Any], expires_in: int, key: str
    ) -> "Hold":
        body = {**self.owner.members, **charge, **rest, "expires_in": expires_in}
        answer = await self._service.change("/api/credits/holds", body, key)
        held = understand(HELD, answer).hold
        return Hold(self._service, held.id, held.amount, held.unit)


class Hold:
    """Credits that are set aside until they are settled or released."""

    def __init__(self, service: Service, hold_id: str, amount: int, unit: str) -> None:
        self._service = service
        self.id = hold_id
        self.amount = amount
        self.unit = unit
        self._ended = False
        self._in_doubt = False

    def __repr__(self) -> str:
        return f"Hold({self.id!r}, {self.amount} {self.unit})"

    async def settle(self, amount: int | None = None, *, above: Above = "refuse") -> Charge | None:
        """Pays what the work cost, by default all that is held; the rest is free at once.

        ``above`` says who pays when it cost more than was held. ``settle(0)`` releases, and tells
        nothing. Asked again after a 503 it pays once: the key belongs to the hold.
        """
        if amount == 0:
            await self.release()
            return None
        body: dict[str, Any] = {"above": above} | some(amount=amount)
        self._in_doubt = True
        try:
            answer = await self._change("capture", body, f"settle:{self.id}")
        except Unavailable:
            raise
        except TollgateError:
            # Refused for certain: the hold is what it was.
            self._in_doubt = False
            raise
        done = understand(CAPTURED, answer)
        self._ended, self._in_doubt = True, False
        return _paid(done.entry.id, -done.entry.amount, done.balance, answer)

    async def release(self) -> None:
        """Gives back what is held. A second time does nothing."""
        if self._ended:
            return
        answer = await self._change("release", {}, f"release:{self.id}")
        understand(HELD, answer)
        self._ended, self._in_doubt = True, False

    async def extend(self, expires_in: int = HOLD_SECONDS) -> None:
        """Holds on for so many seconds from now, for long work."""
        understand(HELD, await self._change("extend", {"expires_in": expires_in}, None))

    async def _change(self, verb: str, body: Mapping[str, Any], key: str | None) -> Answer:
        path = f"/api/credits/holds/{quote(self.id, safe='')}/{verb}"
        return await self._service.change(path, body, key)

    async def _leave(self) -> None:
        """The block is left, perhaps because it was cancelled: the release must not be."""
        if self._ended:
            return
        if self._in_doubt:
            log.warning("hold %s: whether it was settled is not known; it ends by itself", self.id)
            return
        trouble = "no answer in time"
        with anyio.move_on_after(_RELEASE_WITHIN, shield=True):
            try:
                await self.release()
                return
            except TollgateError as error:
                trouble = f"{error.status} {error.error_code}"
        log.warning("hold %s was not released (%s); it ends by itself", self.id, trouble)


class Holding(AbstractAsyncContextManager[Hold]):
    """The block of a hold. It is entered once."""

    def __init__(
        self,
        credits: Credits,
        charge: Mapping[str, Any],
        rest: Mapping[str, Any],
        expires_in: int,
        key: str,
    ) -> None:
        self._credits = credits
        self._charge = charge
        self._rest = rest
        self._expires_in = expires_in
        self._key = key
        self._hold: Hold | None = None

    async def __aenter__(self) -> Hold:
        if self._hold is not None:
            raise RuntimeError("a hold is entered once: call credits.hold(…) again")
        self._hold = await self._credits._reserve(
            self._charge, self._rest, self._expires_in, self._key
        )
        return self._hold

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._hold is not None:
            await self._hold._leave()


async def _read(
    service: Service, path: str, query: Mapping[str, str], shape: TypeAdapter[Shape]
) -> Shape:
    return understand(shape, await service.read(path, query))


def _paid(entry_id: str, amount: int, balance: Balance, answer: Answer) -> Charge:
    return Charge(
        entry_id=entry_id,
        amount=amount,
        unit=balance.unit,
        balance=balance.balance,
        available=balance.available,
        replayed=answer.is_replayed,
    )


def _moment(time: datetime | None) -> str | None:
    if time is None:
        return None
    if time.tzinfo is None:
        raise ValueError("a time needs its time zone, such as datetime.now(UTC)")
    return time.isoformat()

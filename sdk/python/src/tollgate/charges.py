"""What a use costs, and what was paid: the words that the gate and the ledger share."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal
from uuid import uuid4

from pydantic import AwareDatetime, BaseModel, ConfigDict, TypeAdapter

#: What the values of ``metadata`` may be.
Metadata = Mapping[str, Any]

#: By whom the difference is paid when work cost more than was held.
Above = Literal["refuse", "cap", "balance", "floor"]


class _Told(BaseModel):
    """An object as Tollgate tells it; it may grow."""

    model_config = ConfigDict(extra="ignore", frozen=True, hide_input_in_errors=True)


class Balance(_Told):
    """What an owner has of one unit. ``available`` is what can be spent."""

    unit: str
    balance: int
    held: int
    available: int
    owed: int


class Charge(_Told):
    """What was taken, or held when ``hold_id`` is set, and what is left."""

    entry_id: str | None = None
    hold_id: str | None = None
    amount: int
    unit: str
    balance: int
    available: int
    #: This key had paid before: nothing was taken now.
    replayed: bool = False


class Grant(_Told):
    """Credits that were given."""

    id: str
    unit: str
    source: str
    amount: int
    remaining: int
    expires_at: AwareDatetime | None = None


class Entry(_Told):
    """One line of the ledger; ``amount`` is negative for what went out."""

    id: str
    seq: int
    kind: str
    amount: int
    balance_after: int
    unit: str
    feature: str | None = None
    reason: str | None = None
    actor: str
    idempotency_key: str | None = None
    metadata: dict[str, Any] | None = None
    created_at: AwareDatetime


class Entries(_Told):
    """A page of the ledger, newest first."""

    items: list[Entry]
    next_cursor: str | None = None


class _Hold(_Told):
    id: str
    amount: int
    unit: str
    status: str


class _Debited(_Told):
    entry: Entry
    balance: Balance


class _Held(_Told):
    hold: _Hold
    balance: Balance


class _Captured(_Told):
    hold: _Hold
    entry: Entry
    balance: Balance


class _Granted(_Told):
    grant: Grant
    balance: Balance


BALANCE: TypeAdapter[Balance] = TypeAdapter(Balance)
ENTRIES: TypeAdapter[Entries] = TypeAdapter(Entries)
DEBITED: TypeAdapter[_Debited] = TypeAdapter(_Debited)
HELD: TypeAdapter[_Held] = TypeAdapter(_Held)
CAPTURED: TypeAdapter[_Captured] = TypeAdapter(_Captured)
GRANTED: TypeAdapter[_Granted] = TypeAdapter(_Granted)


@dataclass(frozen=True)
class Tokens:
    """What a language model used; the price book says what its tokens cost."""

    model: str
    input: int = 0
    output: int = 0
    cached: int = 0
    reasoning: int = 0


def price(what: str | int | Tokens, quantity: int, unit: str | None) -> dict[str, Any]:
    """The members of a charge: a feature of the price book by its name, an amount, or tokens."""
    if isinstance(what, str):
        if unit is not None:
            raise TypeError("the price book says in which unit a feature is paid: leave unit out")
        return {"feature": what, "quantity": quantity}
    if quantity != 1:
        raise TypeError("quantity belongs to a feature; multiply anything else yourself")
    if isinstance(what, Tokens):
        counts = asdict(what)
        model = counts.pop("model")
        return {"model": model, "tokens": counts} | some(unit=unit)
    return {"amount": what} | some(unit=unit)


def some(**members: Any) -> dict[str, Any]:
    """The members that are something."""
    return {name: value for name, value in members.items() if value is not None}


def key_or_fresh(key: str | None) -> str:
    """An empty key is a mistake, not a wish for a new one."""
    return uuid4().hex if key is None else key

"""What the types refuse: mypy complains if a line here were right."""

from typing import assert_type

from tollgate import (
    AuthenticatedUser,
    Charge,
    Credits,
    CurrentUser,
    Hold,
    MatchingUser,
    OptionalUser,
    Tokens,
    Tollgate,
    get_current_user,
)


async def credits_are_typed(credits: Credits) -> None:
    assert_type(await credits.spend("image"), Charge)
    assert_type(await credits.spend("image", quantity=2, key="k"), Charge)
    assert_type(await credits.spend(5, unit="tokens"), Charge)
    assert_type(await credits.spend(Tokens("m", input=3)), Charge)
    await credits.spend(5, quantity=2)  # type: ignore[call-overload]
    await credits.spend("image", unit="tokens")  # type: ignore[call-overload]
    await credits.spend(5.0)  # type: ignore[call-overload]
    await credits.spend(None)  # type: ignore[call-overload]
    await credits.spend()  # type: ignore[call-overload]
    async with credits.hold("image", expires_in=60) as hold:
        assert_type(hold, Hold)
        assert_type(await hold.settle(5), Charge | None)
        await hold.settle("5")  # type: ignore[arg-type]
        await hold.settle(5, above="all")  # type: ignore[arg-type]
    credits.hold(5, quantity=2)  # type: ignore[call-overload]


async def users_are_typed(
    user: CurrentUser, maybe: OptionalUser, own: MatchingUser, tollgate: Tollgate
) -> None:
    assert_type(user, AuthenticatedUser)
    assert_type(own, AuthenticatedUser)
    assert_type(maybe, AuthenticatedUser | None)
    maybe.user_id  # type: ignore[union-attr]  # noqa: B018
    user.user_id = "other"  # type: ignore[misc]
    await get_current_user()  # type: ignore[call-arg]
    await tollgate.credits_of(user_id="u").grant(5)  # type: ignore[call-arg]
    await tollgate.credits_of(user_id="u").grant(
        5,
        source="gift",  # type: ignore[arg-type]
        reason="tests",
        key="k",
    )

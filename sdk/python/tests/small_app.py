"""An app with one route for each dependency, and a client that runs its lifespan."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

import httpx
from fastapi import Depends, FastAPI, HTTPException
from fastapi.responses import PlainTextResponse

from tollgate import (
    AuthenticatedUser,
    CurrentUser,
    MatchingUser,
    OptionalUser,
    Passage,
    Tokens,
    Tollgate,
    UserCredits,
    authorize,
    require_match,
    require_role,
)

COOKIE = {"cookie": "better-auth.session_token=abc.def"}


def small_app(tollgate: Tollgate) -> FastAPI:
    app = FastAPI()
    tollgate.install(app)

    @app.get("/me")
    async def me(user: CurrentUser) -> AuthenticatedUser:
        return user

    @app.get("/both")
    async def both(user: CurrentUser, again: OptionalUser) -> bool:
        return user == again

    @app.get("/maybe")
    async def maybe(user: OptionalUser) -> str:
        return "nobody" if user is None else user.user_id

    @app.get("/users/{user_id}")
    async def one(user: MatchingUser) -> str:
        return user.user_id

    @app.get("/accounts/{account}")
    async def account(
        user: Annotated[AuthenticatedUser, Depends(require_match("account"))],
    ) -> str:
        return user.user_id

    @app.get("/admin")
    async def admin(user: Annotated[AuthenticatedUser, Depends(require_role("admin"))]) -> str:
        return user.user_id

    @app.get("/plain")
    async def plain(user: CurrentUser) -> PlainTextResponse:
        headers = {"Cache-Control": "public, max-age=600", "Set-Cookie": "own=1"}
        return PlainTextResponse(user.user_id, headers=headers)

    @app.get("/gone")
    async def gone(_user: CurrentUser) -> None:
        raise HTTPException(404, "no such picture")

    @app.post("/spend")
    async def spend(credits: UserCredits, key: str | None = None) -> dict[str, Any]:
        charge = await credits.spend("image.generate", quantity=2, reason="picture", key=key)
        return charge.model_dump()

    @app.post("/tokens")
    async def tokens(credits: UserCredits) -> dict[str, Any]:
        used = Tokens("m", input=3, output=1)
        return (await credits.spend(used, metadata={"model": "m"})).model_dump()

    @app.get("/balance")
    async def balance(credits: UserCredits) -> dict[str, Any]:
        return (await credits.balance()).model_dump()

    @app.post("/hold")
    async def hold(
        credits: UserCredits, settle: int | None = None, fail: bool = False
    ) -> dict[str, Any] | None:
        async with credits.hold(8, expires_in=60, reason="render") as held:
            if fail:
                raise HTTPException(409, "the work failed")
            if settle is None:
                return None
            charge = await held.settle(settle)
            return charge.model_dump() if charge else None

    @app.post("/guarded/{user_id}")
    async def guarded(
        passage: Annotated[Passage, Depends(authorize(charge="image.generate", match="user_id"))],
    ) -> dict[str, Any]:
        return passage.model_dump(mode="json")

    @app.post("/visit")
    async def visit(
        passage: Annotated[Passage, Depends(authorize(guest="generate"))],
    ) -> dict[str, Any]:
        return passage.model_dump(mode="json")

    return app


@asynccontextmanager
async def running(
    app: FastAPI, *, raise_app_exceptions: bool = True
) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app, raise_app_exceptions=raise_app_exceptions)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://app.test") as client,
    ):
        yield client


@asynccontextmanager
async def asking(
    url: str, key: str | None = "tg_sk_test", **options: Any
) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the small app, whose Tollgate is at this address.

    A busy machine gets its time: how long the package waits by itself is a test of its own.
    """
    options.setdefault("timeout", 20)
    async with running(small_app(Tollgate(url, key, **options))) as client:
        yield client

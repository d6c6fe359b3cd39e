"""The line to Tollgate: how long, how much, how often, and what never shows."""

import logging
import time
import traceback
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
from fastapi import FastAPI, Request
from small_app import COOKIE, asking, running, small_app
from stub_server import ADA, Stub, answer, free_port, hang_up, reset, silent, slow, stub

import tollgate
from tollgate import ConfigurationError, Tollgate, Unavailable
from tollgate.connection import DEFAULT_TIMEOUT, Connection

pytestmark = pytest.mark.anyio


class Failing(httpx.AsyncBaseTransport):
    """Fails so many times before it lets requests through to a stub."""

    def __init__(self, error: type[httpx.TransportError], times: int) -> None:
        self.error = error
        self.times = times
        self.attempts = 0
        self.inner = httpx.AsyncHTTPTransport(trust_env=False)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.attempts += 1
        if self.attempts <= self.times:
            raise self.error("cookie: better-auth.session_token=abc.def", request=request)
        return await self.inner.handle_async_request(request)

    async def aclose(self) -> None:
        await self.inner.aclose()


@pytest.mark.parametrize(
    ("error", "failures", "attempts", "status"),
    [
        (httpx.ConnectError, 1, 2, 200),
        (httpx.ConnectError, 2, 2, 503),
        (httpx.ConnectTimeout, 1, 1, 503),
        (httpx.ReadError, 1, 1, 503),
        (httpx.WriteError, 1, 1, 503),
        (httpx.RemoteProtocolError, 1, 1, 503),
        (httpx.ReadTimeout, 1, 1, 503),
        (httpx.PoolTimeout, 1, 1, 503),
    ],
)
async def test_one_more_try_when_no_connection_came_about_and_only_then(
    error: type[httpx.TransportError], failures: int, attempts: int, status: int
) -> None:
    transport = Failing(error, failures)
    async with stub(answer(ADA)) as server, asking(server.url, transport=transport) as client:
        assert (await client.get("/me", headers=COOKIE)).status_code == status
    assert transport.attempts == attempts


@pytest.mark.parametrize("behaviour", [hang_up, reset])
async def test_what_was_sent_is_not_sent_again(behaviour: Any) -> None:
    async with stub(behaviour) as server, asking(server.url) as client:
        assert (await client.post("/spend", headers=COOKIE)).status_code == 503
        assert len(server.heads) == 1


@pytest.mark.parametrize("behaviour", [silent, slow])
async def test_two_seconds_are_for_everything_together(behaviour: Any) -> None:
    assert DEFAULT_TIMEOUT == 2.0
    async with stub(behaviour) as server, asking(server.url, timeout=0.4) as client:
        began = time.monotonic()
        assert (await client.get("/me", headers=COOKIE)).status_code == 503
        assert 0.35 <= time.monotonic() - began < 1.5


async def test_a_full_pool_counts_as_time() -> None:
    async with stub(silent) as server, asking(server.url, timeout=0.5, connections=1) as client:
        said: list[int] = []

        async def ask() -> None:
            said.append((await client.get("/me", headers=COOKIE)).status_code)

        began = time.monotonic()
        async with anyio.create_task_group() as group:
            for _ in range(3):
                group.start_soon(ask)
        assert said == [503, 503, 503]
        assert time.monotonic() - began < 1.5


async def test_a_hundred_requests_at_once_are_kept_apart() -> None:
    async def echo(head: bytes, writer: Any) -> None:
        number = head.split(b"session_token=")[1].split(b"\r\n")[0].decode()
        await anyio.sleep(0.01)
        user = {"id": number, "email": f"{number}@example.test", "name": number}
        await answer({"session": {"userId": number}, "user": user})(head, writer)

    # Whether it is quick is not asked here: other tests may keep the machine busy.
    async with stub(echo) as server, asking(server.url, timeout=30) as client:
        said: dict[int, Any] = {}

        async def ask(number: int) -> None:
            headers = {"cookie": f"better-auth.session_token={number}"}
            said[number] = (await client.get("/me", headers=headers)).json()

        for _ in range(2):
            async with anyio.create_task_group() as group:
                for number in range(100):
                    group.start_soon(ask, number)
            assert [said[number]["user_id"] for number in range(100)] == [
                str(number) for number in range(100)
            ]
        assert len(server.heads) == 200
        assert server.connections <= 100


async def test_connections_are_used_again() -> None:
    async with stub(answer(ADA)) as server, asking(server.url) as client:
        for _ in range(10):
            await client.get("/me", headers=COOKIE)
        assert (len(server.heads), server.connections) == (10, 1)


async def test_a_failed_answer_spoils_no_later_one() -> None:
    turn = iter([silent, slow, answer("x"), answer(ADA), answer(ADA)])

    async def in_turn(head: bytes, writer: Any) -> None:
        await next(turn)(head, writer)

    async with stub(in_turn) as server, asking(server.url, timeout=0.3) as client:
        said = [(await client.get("/me", headers=COOKIE)).status_code for _ in range(5)]
    assert said == [503, 503, 503, 200, 200]


async def test_a_server_that_comes_back_is_found_again() -> None:
    port = free_port()
    async with asking(f"http://127.0.0.1:{port}") as client:
        for _ in range(2):
            async with stub(answer(ADA), port):
                assert (await client.get("/me", headers=COOKIE)).status_code == 200
            assert (await client.get("/me", headers=COOKIE)).status_code == 503


async def test_the_environment_lends_no_proxy_and_no_password(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login eve password secret\n")
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{free_port()}")
    monkeypatch.setenv("NETRC", str(netrc))
    async with stub(answer(ADA)) as server, asking(server.url) as client:
        assert (await client.get("/me", headers=COOKIE)).status_code == 200
        assert server.header("authorization") is None


async def test_readiness_is_asked_for() -> None:
    for status, healthy in {"200 OK": True, "503 Service Unavailable": False}.items():
        async with stub(answer({}, status=status)) as server, Tollgate(server.url) as tollgate:
            assert await tollgate.is_healthy() is healthy
            assert server.targets == ["GET /readyz"]
    async with Tollgate(f"http://127.0.0.1:{free_port()}") as tollgate:
        assert await tollgate.is_healthy() is False


# ---- One client for an app ----


async def test_an_app_opens_its_connections_at_its_start_and_closes_them_at_its_end() -> None:
    async with stub(answer(ADA)) as server:
        tollgate = Tollgate(server.url)
        app = small_app(tollgate)
        for _ in range(2):
            assert not tollgate.is_open
            async with running(app) as client:
                assert tollgate.is_open
                assert (await client.get("/me", headers=COOKIE)).status_code == 200
        assert not tollgate.is_open


async def test_a_lifespan_of_the_apps_own_runs_inside() -> None:
    seen: list[str] = []
    tollgate = Tollgate("http://127.0.0.1:1")

    @asynccontextmanager
    async def own(_app: FastAPI) -> AsyncIterator[dict[str, int]]:
        seen.append(f"up {tollgate.is_open}")
        yield {"answer": 42}
        seen.append(f"down {tollgate.is_open}")

    app = FastAPI(lifespan=own)
    tollgate.install(app)
    async with app.router.lifespan_context(app) as state:
        assert state == {"answer": 42}
    assert seen == ["up True", "down True"]


async def test_what_is_not_open_says_so() -> None:
    connection = Connection("http://127.0.0.1:1")
    with pytest.raises(ConfigurationError, match="with TestClient"):
        await connection.ask("GET", "/")
    async with Tollgate("http://127.0.0.1:1") as tollgate:
        with pytest.raises(ConfigurationError, match="open already"):
            await tollgate.__aenter__()


# ---- What never shows ----

SECRETS = ("cookie-mArKeR", "key-mArKeR", "answer-mArKeR")


# Of the package alone: the folder of this repository may have its name.
PACKAGE = str(Path(tollgate.__file__).parent)


def told(error: BaseException) -> str:
    """All that a report of errors with variables would show."""
    trace = traceback.TracebackException.from_exception(error, capture_locals=True)
    own = [frame for frame in trace.stack if frame.filename.startswith(PACKAGE)]
    shown = "".join(line for frame in own for line in map(str, (frame.locals or {}).items()))
    return "".join([*traceback.format_exception(error), repr(error), str(error), shown])


async def marked(server: Stub, **options: Any) -> list[BaseException]:
    """Calls of every kind with marked secrets; what was raised."""
    raised: list[BaseException] = []
    headers = [(b"cookie", b"better-auth.session_token=cookie-mArKeR")]
    scope = {"type": "http", "headers": headers, "client": ("127.0.0.1", 1)}
    request = Request(scope)
    async with Tollgate(server.url, "tg_sk_key-mArKeR", timeout=0.3, **options) as door:
        for call in (
            lambda: door.user(request),
            lambda: door.authorize(request, charge=5),
            lambda: door.credits_of(user_id="u1").spend(5),
            lambda: door.credits_of(user_id="u1").balance(),
        ):
            try:
                await call()
            except Exception as error:
                raised.append(error)
        raised.append(ValueError(repr(door), repr(vars(door))))
    return raised


LINES = ("Set-Cookie: better-auth.session_token=answer-mArKeR; Path=/",)
TOKEN = {**ADA, "session": {"token": "answer-mArKeR", "userId": "u1"}}


@pytest.mark.parametrize(
    ("behaviour", "count"),
    [
        (answer(TOKEN, headers=LINES), 4),
        (answer({**TOKEN, "user": {"id": ["answer-mArKeR"]}}, headers=LINES), 5),
        (answer('{"token":"answer-mArKeR"', headers=LINES), 5),
        (answer(b"answer-mArKeR", content_type="text/html", status="500 No", headers=LINES), 5),
        (silent, 5),
        (reset, 5),
    ],
)
async def test_secrets_show_nowhere(
    behaviour: Any, count: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    async with stub(behaviour) as server:
        raised = await marked(server)
    assert len(raised) == count, raised
    for text in [caplog.text, *map(told, raised)]:
        for secret in SECRETS:
            assert secret not in text
    # The test would see them: other callers' lines are still written.
    async with stub(behaviour) as server, httpx.AsyncClient(trust_env=False, timeout=0.3) as other:
        with suppress(httpx.HTTPError):
            await other.get(server.url)
    assert "receive_response_headers" in caplog.text


async def test_no_exception_of_the_client_hangs_on_ours() -> None:
    transport = Failing(httpx.ReadError, 9)
    async with Tollgate("http://127.0.0.1:1", "key", transport=transport) as tollgate:
        with pytest.raises(Unavailable) as raised:
            await tollgate.credits_of(user_id="u1").balance()
    assert raised.value.__cause__ is None
    assert raised.value.__context__ is None

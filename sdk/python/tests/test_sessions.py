"""What each answer of the session check means, and what is sent to get it."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from small_app import COOKIE, asking
from stub_server import (
    ADA,
    Behaviour,
    answer,
    endless,
    free_port,
    hang_up,
    reset,
    silent,
    slow,
    stub,
)

pytestmark = pytest.mark.anyio

NULL = answer("null")


def session(**changes: Any) -> Behaviour:
    """Ada's session with other members."""
    return answer({**ADA, "session": {**ADA["session"], **changes}})


def soon(milliseconds: int) -> str:
    time = datetime.now(UTC) + timedelta(milliseconds=milliseconds)
    return time.isoformat(timespec="milliseconds").replace("+00:00", "Z")


async def test_a_session_is_a_user() -> None:
    async with stub(answer(ADA)) as server, asking(server.url) as client:
        said = await client.get("/me", headers=COOKIE)
    assert said.status_code == 200
    assert said.json() == {"user_id": "u1", "email": "ada@example.test", "name": "Ada"}


@pytest.mark.parametrize("text", ["null", " null\n"])
async def test_null_is_nobody(text: str) -> None:
    async with stub(answer(text)) as server, asking(server.url) as client:
        said = await client.get("/me", headers=COOKIE)
        maybe = await client.get("/maybe", headers=COOKIE)
    assert (said.status_code, maybe.json()) == (401, "nobody")
    assert said.json() == {
        "error_code": "unauthenticated",
        "message": "sign in first",
        "detail": None,
    }


async def test_without_a_cookie_nobody_asks() -> None:
    async with stub(answer(ADA)) as server, asking(server.url) as client:
        said = await client.get("/me", headers={"authorization": "Bearer abc"})
    assert said.status_code == 401
    assert server.heads == []


UNCLEAR: dict[str, Behaviour] = {
    "empty": answer(b""),
    "no length": answer(b"", content_type=None),
    "an empty object": answer({}),
    "a list": answer([]),
    "a flag": answer("false"),
    "a number": answer("0"),
    "a text": answer('"null"'),
    "truncated JSON": answer(json.dumps(ADA)[:-1]),
    "JSON and more": answer("null null"),
    "deep JSON": answer("[" * 500_000),
    "no UTF-8": answer(b'"\xff"'),
    "HTML": answer("<html>null</html>", content_type="text/html"),
    "null as HTML": answer("null", content_type="text/html"),
    "null without a type": answer("null", content_type=None),
    "null as a look-alike type": answer("null", content_type="application/jsonx"),
    "packed": answer("null", headers=("Content-Encoding: gzip",)),
    "no user": answer({"session": ADA["session"], "user": None}),
    "no session": answer({"session": None, "user": ADA["user"]}),
    "session alone": answer({"session": ADA["session"]}),
    "user alone": answer({"user": ADA["user"]}),
    "an empty id": answer({**ADA, "user": {**ADA["user"], "id": ""}}),
    "a number as id": answer({**ADA, "user": {**ADA["user"], "id": 1}}),
    "no address": answer({**ADA, "user": {"id": "u1"}}),
    "somebody else's session": session(userId="u2"),
    "no time": session(expiresAt="tomorrow"),
    "a time without a zone": session(expiresAt="2999-01-01T00:00:00"),
    "an error's body": answer({"message": "x", "code": "y"}),
    "201": answer(ADA, status="201 Created"),
    "204": answer(b"", status="204 No Content", content_type=None),
    "301": answer(ADA, status="301 Moved Permanently", headers=("Location: /api/auth/session",)),
    "302": answer("null", status="302 Found", headers=("Location: /",)),
    "304": answer(b"", status="304 Not Modified", content_type=None),
    "401": answer({"error_code": "unauthenticated", "message": "x"}, status="401 Unauthorized"),
    "401 in HTML": answer("<h1>401</h1>", status="401 Unauthorized", content_type="text/html"),
    "403": answer("null", status="403 Forbidden"),
    "404": answer(b"", status="404 Not Found", content_type=None),
    "429": answer({"message": "Too many requests"}, status="429 Too Many Requests"),
    "500": answer({"message": "x"}, status="500 Internal Server Error"),
    "500 with null": answer("null", status="500 Internal Server Error"),
    "503": answer("null", status="503 Service Unavailable"),
    "huge": answer(" " * (1024 * 1024) + "null"),
    "endless": endless,
    "shorter than said": answer("null", length=400),
    "reset": reset,
    "hung up": hang_up,
    "silent": silent,
    "slow": slow,
}


@pytest.mark.parametrize("behaviour", UNCLEAR.values(), ids=UNCLEAR.keys())
async def test_what_is_not_understood_is_503_and_never_signed_out(behaviour: Behaviour) -> None:
    async with stub(behaviour) as server, asking(server.url, timeout=1) as client:
        for path in ("/me", "/maybe", "/users/u1", "/admin"):
            said = await client.get(path, headers=COOKIE)
            assert said.status_code == 503, (path, said.text)
            assert said.json()["error_code"] == "unavailable"
            assert said.headers["retry-after"] == "1"
            if behaviour in (silent, slow):
                break


async def test_a_server_that_is_down_is_503() -> None:
    async with asking(f"http://127.0.0.1:{free_port()}") as client:
        for path in ("/me", "/maybe", "/users/u1"):
            assert (await client.get(path, headers=COOKIE)).status_code == 503


async def test_a_session_that_expired_a_millisecond_ago_is_nobodys() -> None:
    async with stub(session(expiresAt=soon(-1))) as server, asking(server.url) as client:
        said = await client.get("/me", headers=COOKIE)
    assert said.status_code == 401


async def test_a_session_lives_to_its_end() -> None:
    async with stub(session(expiresAt=soon(60_000))) as server, asking(server.url) as client:
        assert (await client.get("/me", headers=COOKIE)).status_code == 200


async def test_more_members_than_known_do_no_harm() -> None:
    more = {**ADA, "needsRefresh": True, "user": {**ADA["user"], "tenant": {"id": 1}}}
    async with stub(answer(more)) as server, asking(server.url) as client:
        assert (await client.get("/me", headers=COOKIE)).status_code == 200


async def test_only_the_cookie_goes_out() -> None:
    headers = {
        **COOKIE,
        "authorization": "Bearer own",
        "x-forwarded-for": "203.0.113.1",
        "x-tollgate-token": "abc",
        "referer": "https://app.example",
    }
    async with stub(answer(ADA)) as server, asking(server.url) as client:
        await client.get("/me", headers=headers)
        lines = server.heads[0].decode().lower().split("\r\n")
    assert lines[0] == "get /api/auth/get-session http/1.1"
    names = {line.split(":")[0] for line in lines[1:] if line}
    assert names == {"host", "accept", "accept-encoding", "connection", "cookie", "user-agent"}
    assert server.header("cookie") == COOKIE["cookie"]


AS_THEY_CAME = [
    "a=1; authjs.session-token=TOKEN; b=2",
    "__Secure-authjs.session-token=TOKEN",
    "s.10=k; s.1=b; s.9=j; s.0=a",
    "s=WHOLE; s.0=AAA; s.1=BBB",
    "authjs.session-token=TOKEN; authjs.session-token-old=STALE",
    's="TOKEN"',
    "s=a%2Eb; s=a.b",
    "s=1;t=2",
    "s=%zz",
    "=; ;;",
    "s=1; s=2; s=1",
    "s=\xe9",
]


@pytest.mark.parametrize("text", AS_THEY_CAME)
async def test_cookies_arrive_byte_for_byte(text: str) -> None:
    async with stub(NULL) as server, asking(server.url) as client:
        await client.get("/me", headers={b"cookie": text.encode("latin-1")})
    assert server.header("cookie") == text


async def test_cookies_that_http_2_has_split_arrive_as_one_header() -> None:
    async with stub(NULL) as server, asking(server.url) as client:
        await client.get("/me", headers=[("cookie", "a=1"), ("cookie", "b=2")])
    assert server.header("cookie") == "a=1; b=2"


async def test_a_request_is_asked_about_once() -> None:
    async with stub(answer(ADA)) as server, asking(server.url) as client:
        assert (await client.get("/both", headers=COOKIE)).json() is True
        assert len(server.heads) == 1


async def test_nothing_is_remembered_from_one_request_to_the_next() -> None:
    answers = iter([answer(ADA), NULL, answer(ADA), answer("{")])

    async def in_turn(head: bytes, writer: Any) -> None:
        await next(answers)(head, writer)

    async with stub(in_turn) as server, asking(server.url) as client:
        said = [(await client.get("/me", headers=COOKIE)).status_code for _ in range(4)]
    assert said == [200, 401, 200, 503]


async def test_no_jar_keeps_a_cookie() -> None:
    lines = ("Set-Cookie: better-auth.session_token=evil; Path=/; Max-Age=600",)
    async with stub(answer(ADA, headers=lines)) as server, asking(server.url) as client:
        await client.get("/me", headers=COOKIE)
        client.cookies.clear()
        await client.get("/me", headers={"cookie": "other=1"})
    assert server.header("cookie") == "other=1"


EXTENDED = (
    "Set-Cookie: better-auth.session_token=new; Max-Age=604800; Path=/; HttpOnly; SameSite=Lax",
    "Set-Cookie: second=2; Expires=Wed, 21 Oct 2099 07:28:00 GMT",
)


@pytest.mark.parametrize("path", ["/me", "/plain", "/gone", "/users/u2"])
async def test_an_extended_session_reaches_the_browser_whatever_the_answer(path: str) -> None:
    async with stub(answer(ADA, headers=EXTENDED)) as server, asking(server.url) as client:
        said = await client.get(path, headers=COOKIE)
    lines = [f"Set-Cookie: {line}" for line in said.headers.get_list("set-cookie")]
    assert lines == [*(["Set-Cookie: own=1"] if path == "/plain" else []), *EXTENDED]
    assert said.headers.get_list("cache-control") == ["no-store"]
    assert said.status_code in (200, 403, 404)


async def test_an_answer_without_a_cookie_of_tollgates_stays_as_it_is() -> None:
    async with stub(answer(ADA)) as server, asking(server.url) as client:
        said = await client.get("/plain", headers=COOKIE)
    assert said.headers["cache-control"] == "public, max-age=600"
    assert said.headers.get_list("set-cookie") == ["own=1"]


async def test_a_dead_session_is_cleared_in_the_browser() -> None:
    clearing = ("Set-Cookie: better-auth.session_token=; Max-Age=0; Path=/",)
    async with stub(answer("null", headers=clearing)) as server, asking(server.url) as client:
        said = await client.get("/me", headers=COOKIE)
    assert said.status_code == 401
    assert said.headers.get_list("set-cookie") == ["better-auth.session_token=; Max-Age=0; Path=/"]


async def test_another_users_id_is_403() -> None:
    async with stub(answer(ADA)) as server, asking(server.url) as client:
        for path, status in {"/users/u1": 200, "/users/u2": 403, "/users/U1": 403}.items():
            said = await client.get(path, headers=COOKIE)
            assert said.status_code == status, path
        assert (await client.get("/accounts/u1", headers=COOKIE)).status_code == 200
        said = await client.get("/accounts/u2", headers=COOKIE)
    assert (said.status_code, said.json()["error_code"]) == (403, "user_mismatch")


@pytest.mark.parametrize(
    ("role", "status"),
    [
        ("admin", 200),
        ("user,admin", 200),
        (" user , admin ", 200),
        ("user", 403),
        ("adm", 403),
        ("administrator", 403),
        ("Admin", 403),
        ("", 403),
        (None, 403),
    ],
)
async def test_a_role_is_one_of_several(role: str | None, status: int) -> None:
    said = answer({**ADA, "user": {**ADA["user"], "role": role}})
    async with stub(said) as server, asking(server.url) as client:
        assert (await client.get("/admin", headers=COOKIE)).status_code == status

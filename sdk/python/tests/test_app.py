"""How an app wears the package: documents, WebSockets, mounted apps, and mistakes that speak."""

from typing import Annotated, Any

import pytest
from fastapi import Depends, FastAPI, Request, WebSocket
from fastapi.testclient import TestClient
from small_app import small_app
from starlette.testclient import WebSocketDenialResponse
from starlette.websockets import WebSocketDisconnect

from tollgate import (
    AuthenticatedUser,
    ConfigurationError,
    CurrentUser,
    OptionalUser,
    Tollgate,
    get_current_user,
    require_match,
    require_role,
    require_user_id_match,
)
from tollgate.testing import FakeTollgate


def talking_app(fake: FakeTollgate) -> FastAPI:
    app = small_app(fake.tollgate)

    @app.websocket("/talk")
    async def talk(socket: WebSocket, user: CurrentUser) -> None:
        await socket.accept()
        await socket.send_text(user.email)
        await socket.close()

    @app.websocket("/late")
    async def late(socket: WebSocket) -> None:
        await socket.accept()
        await socket.send_text((await get_current_user(socket)).email)

    @app.websocket("/listen")
    async def listen(socket: WebSocket, user: OptionalUser) -> None:
        await socket.accept()
        await socket.send_text("nobody" if user is None else user.email)
        await socket.close()

    return app


def test_a_websocket_is_asked_about_like_a_request() -> None:
    fake = FakeTollgate()
    ada = fake.add_user("ada@example.test")
    with TestClient(talking_app(fake)) as client:
        with client.websocket_connect("/talk", headers=ada.headers) as socket:
            assert socket.receive_text() == "ada@example.test"
        with client.websocket_connect("/listen") as socket:
            assert socket.receive_text() == "nobody"
        for down, status in ((False, 401), (True, 503)):
            fake.is_down = down
            headers = ada.headers if down else {}
            with (
                pytest.raises(WebSocketDenialResponse) as denied,
                client.websocket_connect("/talk", headers=headers),
            ):
                pass
            assert denied.value.status_code == status


def test_a_websocket_that_was_accepted_is_closed_with_a_reason() -> None:
    fake = FakeTollgate()
    ada = fake.add_user("ada@example.test")
    with TestClient(talking_app(fake)) as client:
        for down, headers, code, reason in (
            (False, {}, 1008, "unauthenticated"),
            (True, ada.headers, 1013, "unavailable"),
        ):
            fake.is_down = down
            with client.websocket_connect("/late", headers=headers) as socket:
                with pytest.raises(WebSocketDisconnect) as closed:
                    socket.receive_text()
                assert (closed.value.code, closed.value.reason) == (code, reason)


def test_the_document_shows_which_routes_need_a_session() -> None:
    document: dict[str, Any] = small_app(FakeTollgate().tollgate).openapi()
    needed: list[dict[str, list[str]]] = [{"Tollgate session": []}]
    for path, methods in document["paths"].items():
        for operation in methods.values():
            assert operation["security"] == needed, path
            names = [parameter["name"] for parameter in operation.get("parameters", [])]
            assert set(names) <= {"user_id", "account", "key", "settle", "fail"}, path
    scheme = document["components"]["securitySchemes"]["Tollgate session"]
    assert (scheme["type"], scheme["in"]) == ("apiKey", "cookie")
    user = document["components"]["schemas"]["AuthenticatedUser"]["properties"]
    assert set(user) == {"user_id", "email", "name"}


def test_dependencies_can_be_called_and_overridden() -> None:
    fake = FakeTollgate()
    ada = fake.add_user("ada@example.test")
    app = small_app(fake.tollgate)

    @app.get("/called")
    async def called(request: Request) -> AuthenticatedUser:
        user = await get_current_user(request)
        return await require_user_id_match(ada.user_id, user)

    with TestClient(app) as client:
        assert client.get("/called", headers=ada.headers).json()["user_id"] == ada.user_id
        assert client.get("/called").status_code == 401
        eve = AuthenticatedUser(user_id="eve", email="eve@example.test")
        app.dependency_overrides[get_current_user] = lambda: eve
        assert client.get("/me").json()["user_id"] == "eve"


def test_mounted_apps_share_the_connections() -> None:
    fake = FakeTollgate()
    ada = fake.add_user("ada@example.test")
    outer, inner = FastAPI(), small_app(fake.tollgate)
    fake.tollgate.install(outer)
    outer.mount("/inner", inner)
    with TestClient(outer) as client:
        assert client.get("/inner/me", headers=ada.headers).status_code == 200
        said = client.get("/inner/me")
    assert (said.status_code, said.json()["error_code"]) == (401, "unauthenticated")


def test_mistakes_speak() -> None:
    app = FastAPI()

    @app.get("/")
    async def root(_user: CurrentUser) -> None: ...

    with TestClient(app) as client, pytest.raises(ConfigurationError, match="has no Tollgate"):
        client.get("/")
    fake = FakeTollgate()
    ada = fake.add_user("ada@example.test")
    app = small_app(fake.tollgate)
    with pytest.raises(ConfigurationError, match="with TestClient"):
        TestClient(app).get("/me", headers=ada.headers)

    @app.get("/lost")
    async def lost(
        _user: Annotated[AuthenticatedUser, Depends(require_match("nowhere"))],
    ) -> None: ...

    with TestClient(app) as client, pytest.raises(ConfigurationError, match="`nowhere`"):
        client.get("/lost", headers=ada.headers)
    with pytest.raises(TypeError, match="at least one role"):
        require_role()
    with pytest.raises(ConfigurationError, match="address"):
        Tollgate("localhost")


def test_a_matching_user_without_its_path_parameter_never_passes() -> None:
    fake = FakeTollgate()
    ada = fake.add_user("ada@example.test")
    app = FastAPI()
    fake.tollgate.install(app)

    @app.get("/lost")
    async def lost(
        _user: Annotated[AuthenticatedUser, Depends(require_user_id_match)],
    ) -> None: ...

    with TestClient(app) as client:
        for query in ("", f"?user_id={ada.user_id}"):
            assert client.get(f"/lost{query}", headers=ada.headers).status_code == 422

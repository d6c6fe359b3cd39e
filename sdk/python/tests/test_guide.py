"""The guide's code is the example app, and the app runs as the guide says."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient
from real_tollgate import REPOSITORY, RealTollgate, real_tollgate
from stub_server import free_port

from tollgate.testing import FakeTollgate

GUIDE = REPOSITORY / "docs" / "guide" / "fastapi.md"
README = Path(__file__).resolve().parents[1] / "README.md"
EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", GUIDE.read_text(), re.DOTALL | re.MULTILINE)


def test_the_guide_shows_the_app_and_its_tests_as_they_are() -> None:
    files = [EXAMPLES / "pictures.py", EXAMPLES / "test_pictures.py"]
    assert blocks("python") == [file.read_text() for file in files]


def test_the_readmes_app_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOLLGATE_URL", "http://tollgate.test")
    monkeypatch.setenv("TOLLGATE_KEY", "tg_sk_test")
    (code,) = re.findall(r"^```python\n(.*?)^```$", README.read_text(), re.DOTALL | re.MULTILINE)
    names: dict[str, Any] = {}
    exec(code, names)  # noqa: S102

    async def write() -> str:
        return "Once upon a time there was a fox."

    names["write"] = write
    fake = FakeTollgate()
    ada = fake.add_user("ada@example.test", credits=10)
    with fake.replacing(names["app"]), TestClient(names["app"]) as client:
        assert client.get("/me", headers=ada.headers).status_code == 200
        assert client.post("/stories", headers=ada.headers).status_code == 200
    assert (fake.balance(ada), fake.held(ada)) == (7, 0)


@contextmanager
def uvicorn(server: RealTollgate) -> Iterator[httpx.Client]:
    """The app as the guide runs it."""
    port = free_port()
    environment = {**os.environ, "TOLLGATE_URL": server.url, "TOLLGATE_KEY": server.key}
    log = server.folder / "app.log"
    with log.open("wb") as output:
        process = subprocess.Popen(  # noqa: S603
            [sys.executable, "-m", "uvicorn", "pictures:app", "--port", str(port)],
            cwd=EXAMPLES,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    try:
        url = f"http://127.0.0.1:{port}"
        # uvicorn cuts a connection after a fault of the app: each request has one of its own.
        limits = httpx.Limits(max_keepalive_connections=0)
        with httpx.Client(base_url=url, limits=limits, trust_env=False, timeout=30) as client:
            deadline = time.monotonic() + 30
            while True:
                try:
                    client.get("/")
                    break
                except httpx.ConnectError:
                    assert process.poll() is None, log.read_text()
                    assert time.monotonic() < deadline, log.read_text()
                    time.sleep(0.05)
            yield client
    finally:
        process.terminate()
        process.wait(20)


def test_the_app_runs_against_the_real_tollgate_with_the_guides_settings() -> None:
    (settings,) = blocks("toml")
    network, sections = settings.split("\n\n", 1)
    assert network.startswith("trusted_proxies")
    with real_tollgate(sections) as server, uvicorn(server) as app:
        ada, eve = server.sign_up(), server.sign_up()
        server.grant(ada, 16)
        assert app.get("/").json() == "Hello!"
        assert app.get("/", headers=ada.headers).json() == "Hello, Ada!"
        assert app.get("/me").status_code == 401
        assert app.get("/me", headers=ada.headers).json()["email"] == ada.email
        own = f"/users/{ada.user_id}/pictures"
        assert app.get(own, headers=ada.headers).status_code == 200
        assert app.get(own, headers=eve.headers).status_code == 403
        assert app.get("/numbers", headers=ada.headers).status_code == 403
        server.promote(ada, "admin")
        assert app.get("/numbers", headers=ada.headers).status_code == 200

        painted = app.post("/pictures?subject=a+cat", headers=ada.headers)
        assert painted.json() == {"text": "a picture of a cat", "credits_left": 11}
        short = app.post("/pictures?subject=a+cat", headers=eve.headers)
        assert (short.status_code, short.json()["required"]) == (402, 5)
        told = app.post("/stories?subject=a+fox", headers=ada.headers)
        assert told.json()["credits_left"] == 8
        failed = app.post("/stories?subject=nothing", headers=ada.headers)
        assert (failed.status_code, failed.json()["error_code"]) == (500, "internal")
        for _ in range(2):
            assert app.post("/prints/1", headers=ada.headers).json()["credits_left"] == 5
        balance = server.balance(ada)
        assert (balance["balance"], balance["held"]) == (5, 0)

        guest = server.new_guest()
        sketched = [app.post("/sketches", headers=guest).status_code for _ in range(3)]
        assert sketched == [200, 200, 429]
        assert app.post("/sketches").status_code == 401

        server.sign_out(ada)
        assert app.get("/me", headers=ada.headers).status_code == 401
        server.stop()
        down = app.get("/me", headers=eve.headers)
        assert (down.status_code, down.headers["retry-after"]) == (503, "1")


def test_the_app_refuses_to_start_without_its_settings() -> None:
    environment = {name: value for name, value in os.environ.items() if "TOLLGATE" not in name}
    done = subprocess.run(
        [sys.executable, "-c", "import pictures"],
        cwd=EXAMPLES,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    assert "TOLLGATE_URL is not set" in done.stderr

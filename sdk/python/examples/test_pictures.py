"""Tests of the app: no server, no network."""

import os
from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient

from tollgate.testing import FakeTollgate

os.environ.setdefault("TOLLGATE_URL", "http://tollgate.test")
os.environ.setdefault("TOLLGATE_KEY", "tg_sk_test")

from pictures import app


@pytest.fixture
def fake() -> FakeTollgate:
    return FakeTollgate(features={"image.generate": 5}, allowances={"sketch": 2})


@pytest.fixture
def client(fake: FakeTollgate) -> Iterator[TestClient]:
    with fake.replacing(app), TestClient(app, raise_server_exceptions=False) as client:
        yield client


def test_everybody_sees_their_own(client: TestClient, fake: FakeTollgate) -> None:
    ada, eve = fake.add_user("ada@example.test"), fake.add_user("eve@example.test")
    own = f"/users/{ada.user_id}/pictures"
    assert client.get(own, headers=ada.headers).status_code == 200
    assert client.get(own, headers=eve.headers).status_code == 403
    assert client.get(own).status_code == 401


def test_pictures_are_paid_for(client: TestClient, fake: FakeTollgate) -> None:
    ada = fake.add_user("ada@example.test", credits=7)
    painted = client.post("/pictures?subject=a+cat", headers=ada.headers)
    assert painted.json() == {"text": "a picture of a cat", "credits_left": 2}
    short = client.post("/pictures?subject=a+dog", headers=ada.headers)
    assert short.status_code == 402
    assert short.json()["required"] == 5


def test_a_story_that_fails_costs_nothing(client: TestClient, fake: FakeTollgate) -> None:
    ada = fake.add_user("ada@example.test", credits=10)
    assert client.post("/stories?subject=nothing", headers=ada.headers).status_code == 500
    assert (fake.balance(ada), fake.held(ada)) == (10, 0)
    assert client.post("/stories?subject=a+fox", headers=ada.headers).status_code == 200
    assert (fake.balance(ada), fake.held(ada)) == (7, 0)


def test_a_print_is_paid_for_once(client: TestClient, fake: FakeTollgate) -> None:
    ada = fake.add_user("ada@example.test", credits=10)
    for _ in range(3):
        assert client.post("/prints/17", headers=ada.headers).status_code == 200
    assert fake.balance(ada) == 7


def test_visitors_sketch_twice(client: TestClient, fake: FakeTollgate) -> None:
    guest = fake.add_guest()
    said = [client.post("/sketches", headers=guest.headers).status_code for _ in range(3)]
    assert said == [200, 200, 429]


def test_a_silent_tollgate_signs_nobody_out(client: TestClient, fake: FakeTollgate) -> None:
    ada = fake.add_user("ada@example.test")
    fake.is_down = True
    for path in ("/me", "/"):
        assert client.get(path, headers=ada.headers).status_code == 503

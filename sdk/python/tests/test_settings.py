"""Address and key from the environment, refused in words."""

import pytest

from tollgate import ConfigurationError, Tollgate, TollgateSettings

NAMES = ("TOLLGATE_URL", "TOLLGATE_KEY", "TOLLGATE_SERVICE_KEY")


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)


def test_both_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOLLGATE_URL", "http://127.0.0.1:8655/")
    monkeypatch.setenv("TOLLGATE_KEY", "tg_sk_x")
    settings = TollgateSettings.read()
    assert settings.url == "http://127.0.0.1:8655"
    assert settings.service_key is not None
    assert settings.service_key.get_secret_value() == "tg_sk_x"
    assert "tg_sk_x" not in repr(settings)
    assert Tollgate.from_env().url == "http://127.0.0.1:8655"


def test_the_other_name_is_read_where_the_first_is_not_set(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TOLLGATE_URL", "http://127.0.0.1:8655")
    monkeypatch.setenv("TOLLGATE_SERVICE_KEY", "tg_sk_other")
    for first, expected in [("", "tg_sk_other"), ("tg_sk_first", "tg_sk_first")]:
        monkeypatch.setenv("TOLLGATE_KEY", first)
        key = TollgateSettings.read().service_key
        assert key is not None
        assert key.get_secret_value() == expected


def test_what_is_missing_is_said_all_at_once_and_empty_is_missing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(ConfigurationError, match="TOLLGATE_URL is not set: it is Tollgate's"):
        Tollgate.from_env()
    monkeypatch.setenv("TOLLGATE_URL", "http://127.0.0.1:8655")
    monkeypatch.setenv("TOLLGATE_KEY", "")
    with pytest.raises(ConfigurationError, match="TOLLGATE_KEY is not set: make a key"):
        Tollgate.from_env()
    assert Tollgate.from_env(key_needed=False).url == "http://127.0.0.1:8655"


@pytest.mark.parametrize(
    "url",
    [
        "127.0.0.1:8655",
        "localhost:8655",
        "ftp://host",
        "http://",
        "http://host:port",
        "http://host:0",
        "http://host:99999",
        "http://user:hunter2@host",
        "http://host/api",
        "http://host?x=1",
        "http://host#x",
        "http://ho st",
        "http://host\n",
    ],
)
def test_an_address_that_is_none_is_refused(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOLLGATE_URL", url)
    with pytest.raises(ConfigurationError, match=r"^TOLLGATE_URL: it must") as refused:
        Tollgate.from_env(key_needed=False)
    assert "hunter2" not in str(refused.value)
    with pytest.raises(ConfigurationError):
        Tollgate(url)


@pytest.mark.parametrize("key", ["tg sk", "tg_sk_\n", "tg_sk_é"])
def test_a_key_that_cannot_be_one_is_refused_and_not_repeated(
    key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOLLGATE_URL", "http://127.0.0.1:8655")
    monkeypatch.setenv("TOLLGATE_KEY", key)
    with pytest.raises(ConfigurationError, match="TOLLGATE_KEY: it must") as refused:
        Tollgate.from_env()
    assert key not in str(refused.value)


def test_an_address_by_hand_borrows_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOLLGATE_KEY", "tg_sk_x")
    with pytest.raises(ConfigurationError, match="this needs a service key"):
        Tollgate("http://127.0.0.1:1")._service._lines(None)

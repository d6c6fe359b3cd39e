"""Where Tollgate is and the key to its doors, from the environment."""

from typing import Annotated, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, AliasChoices, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from .errors import ConfigurationError


def check_address(text: str) -> str:
    """Host and port alone; ``ValueError`` says what is wrong."""
    parts = urlsplit(text)
    try:
        port_is_fine = parts.port is None or parts.port > 0
    except ValueError:
        port_is_fine = False
    if parts.scheme not in ("http", "https") or not parts.hostname or not port_is_fine:
        raise ValueError("it must be an address such as http://127.0.0.1:8655")
    if parts.username is not None or parts.password is not None:
        raise ValueError("it must not hold a user or a password")
    if parts.path not in ("", "/") or parts.query or parts.fragment:
        raise ValueError("it must end after host and port")
    if any(character.isspace() or not character.isprintable() for character in text):
        raise ValueError("it must not hold spaces")
    return f"{parts.scheme}://{parts.netloc}"


def check_key(secret: SecretStr) -> SecretStr:
    """A key that can stand in a header; ``ValueError`` says what is wrong."""
    text = secret.get_secret_value()
    if not text or any(not "!" <= character <= "~" for character in text):
        raise ValueError("it must be one word of visible ASCII, as `tollgate key create` prints it")
    return secret


class TollgateSettings(BaseSettings):
    """``TOLLGATE_URL`` and ``TOLLGATE_KEY``; empty is not set.

    ``TOLLGATE_SERVICE_KEY`` is read where there is no ``TOLLGATE_KEY``.
    """

    model_config = SettingsConfigDict(
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
        hide_input_in_errors=True,
        populate_by_name=True,
    )

    url: Annotated[str, AfterValidator(check_address)] = Field(
        validation_alias=AliasChoices("TOLLGATE_URL", "url")
    )
    service_key: Annotated[SecretStr, AfterValidator(check_key)] | None = Field(
        default=None,
        validation_alias=AliasChoices("TOLLGATE_KEY", "TOLLGATE_SERVICE_KEY", "service_key"),
    )

    @classmethod
    def read(cls, *, key_needed: bool = True) -> Self:
        """From the environment. Says all that is wrong at once."""
        problems: list[str] = []
        settings: Self | None = None
        try:
            settings = cls.model_validate({})
        except ValidationError as error:
            problems = [
                _problem(found["loc"], found["type"], found["msg"]) for found in error.errors()
            ]
        if settings is not None and key_needed and settings.service_key is None:
            problems.append(
                "TOLLGATE_KEY is not set: make a key with `tollgate key create NAME`, "
                "or say that none is needed (sessions alone) with key_needed=False"
            )
        if settings is None or problems:
            # Raised outside of the handler: the validation's error would hold what was given.
            raise ConfigurationError("; ".join(problems))
        return settings


def _problem(location: tuple[int | str, ...], kind: str, message: str) -> str:
    name = str(location[0]) if location else "settings"
    variable = {"url": "TOLLGATE_URL", "service_key": "TOLLGATE_KEY"}.get(name, name)
    if kind == "missing":
        return f"{variable} is not set: it is Tollgate's address, such as http://127.0.0.1:8655"
    return f"{variable}: {message.removeprefix('Value error, ')}"

"""The real binary on a database of its own, and people who sign up there."""

import json
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import httpx
from stub_server import free_port

REPOSITORY = Path(__file__).resolve().parents[3]
STARTS_WITHIN = 30.0
PASSWORD = "correct-horse-battery"

_numbers = count(1)


def binary() -> Path:
    """Named by ``TOLLGATE_BINARY``, else what ``cargo build`` made."""
    named = os.environ.get("TOLLGATE_BINARY") or os.environ.get("TOLLGATE_BIN")
    built = [REPOSITORY / "target" / profile / "tollgate" for profile in ("debug", "release")]
    candidates = [Path(named)] if named else built
    for file in candidates:
        if file.is_file():
            return file
    raise RuntimeError(
        "there is no tollgate binary at "
        + " or ".join(map(str, candidates))
        + ": run `cargo build` in the repository, or name one with TOLLGATE_BINARY"
    )


@dataclass
class Person:
    user_id: str
    email: str
    cookie: str = field(repr=False)

    @property
    def headers(self) -> dict[str, str]:
        return {"cookie": self.cookie}


class RealTollgate:
    """A running server; ``stop`` and ``start`` keep its data."""

    def __init__(self, folder: Path, settings: str) -> None:
        self.folder = folder
        self.port = free_port()
        self.url = f"http://localhost:{self.port}"
        self.config = folder / "tollgate.toml"
        self.config.write_text(
            f'base_url = "{self.url}"\n'
            f'listen = "127.0.0.1:{self.port}"\n'
            f'database_url = "sqlite://{folder / "tollgate.db"}"\n'
            'secrets = ["python-tests-7b1f4c9e2d8a5036-secret"]\n'
            'trusted_proxies = ["127.0.0.0/8", "::1/128"]\n'
            '[mail]\nsmtp_url = "none"\n[rate_limit]\nenabled = false\n' + settings
        )
        self.process: subprocess.Popen[bytes] | None = None
        self.log = folder / "log"
        self.start()
        self.key = self.new_key()

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(  # noqa: S603
                [binary(), "--config", self.config, "serve"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self._environment(),
            )
        deadline = time.monotonic() + STARTS_WITHIN
        while not self._is_ready():
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise RuntimeError(f"tollgate does not start:\n{self.log.read_text()}")
            time.sleep(0.02)

    def _is_ready(self) -> bool:
        try:
            answer = httpx.get(f"{self.url}/readyz", trust_env=False, timeout=2)
        except httpx.TransportError:
            return False
        return answer.status_code == 200

    def stop(self) -> None:
        process, self.process = self.process, None
        if process is not None:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def run(self, *arguments: str) -> Any:
        """Another command of the program; its JSON."""
        done = subprocess.run(  # noqa: S603
            [binary(), "--config", self.config, "--json", *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            env=self._environment(),
        )
        assert done.returncode == 0, (arguments, done.stdout, done.stderr)
        return json.loads(done.stdout)

    def new_key(self, scopes: str | None = None) -> str:
        chosen = [] if scopes is None else ["--scopes", scopes]
        key: str = self.run("key", "create", "python tests", *chosen)["key"]
        return key

    @staticmethod
    def _environment() -> dict[str, str]:
        """What a shell has set for the app must not reach the server."""
        return {name: value for name, value in os.environ.items() if "TOLLGATE" not in name}

    # ---- People ----

    def sign_up(self) -> Person:
        email = f"person-{next(_numbers)}@example.test"
        with httpx.Client(base_url=self.url, trust_env=False) as browser:
            answer = browser.post(
                "/api/auth/sign-up/email",
                json={"email": email, "password": PASSWORD, "name": "Ada"},
            )
            assert answer.status_code == 200, answer.text
            cookie = "; ".join(f"{name}={value}" for name, value in browser.cookies.items())
        return Person(answer.json()["user"]["id"], email, cookie)

    def sign_out(self, person: Person) -> None:
        headers = {**person.headers, "origin": self.url}
        answer = httpx.post(
            f"{self.url}/api/auth/sign-out", headers=headers, json={}, trust_env=False
        )
        assert answer.status_code == 200, answer.text

    def new_guest(self) -> dict[str, str]:
        """The headers of a visitor without an account."""
        answer = httpx.post(f"{self.url}/api/guest", trust_env=False)
        assert answer.status_code == 201, answer.text
        return {"cookie": "; ".join(f"{name}={value}" for name, value in answer.cookies.items())}

    def grant(self, person: Person, amount: int) -> None:
        self.run("credits", "grant", person.user_id, str(amount), "--reason", "tests")

    def promote(self, person: Person, role: str) -> None:
        self.run("user", "promote", person.user_id, "--role", role)

    def balance(self, person: Person) -> dict[str, Any]:
        told: dict[str, Any] = httpx.get(
            f"{self.url}/api/credits/balance",
            params={"user_id": person.user_id},
            headers={"authorization": f"Bearer {self.key}"},
            trust_env=False,
        ).json()
        return told


@contextmanager
def real_tollgate(settings: str = "") -> Iterator[RealTollgate]:
    with tempfile.TemporaryDirectory(prefix="tollgate-python-") as folder:
        server = RealTollgate(Path(folder), settings)
        try:
            yield server
        finally:
            server.stop()

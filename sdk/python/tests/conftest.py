"""What all tests share."""

from collections.abc import Iterator

import pytest
from real_tollgate import RealTollgate, binary, real_tollgate

PRICES = (
    '[credits]\nfeatures = { "image.generate" = 5 }\n'
    'models = { "m" = { per = 1000, input = 250, output = 1000 } }\n'
)
GUESTS = "[guest]\nallowances = { generate = 2 }\n"


def pytest_sessionstart() -> None:
    # Without the program the contract is not proven: no test may pass as if it were.
    try:
        binary()
    except RuntimeError as problem:
        pytest.exit(str(problem), returncode=1)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def server() -> Iterator[RealTollgate]:
    """One server for all tests that do not stop it; each has people of its own."""
    with real_tollgate(PRICES + GUESTS) as running:
        yield running

"""The package, the guide's app and the tests themselves pass mypy in its strict mode, and ruff."""

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parents[1]


def check(*arguments: str) -> None:
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-m", *arguments],
        cwd=HERE,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_installed_package_is_typed(tmp_path: Path) -> None:
    check("mypy", "--strict", "--cache-dir", str(tmp_path), "--package", "tollgate")


def test_apps_and_tests_are_typed_and_misuse_is_not(tmp_path: Path) -> None:
    # The package is taken as installed, so this fails without its `py.typed`.
    check("mypy", "--strict", "--cache-dir", str(tmp_path), "examples", "tests")


def test_ruff_finds_nothing() -> None:
    check("ruff", "check", "--no-cache")
    check("ruff", "format", "--no-cache", "--check")

"""A Tollgate for your tests: no server, no network, the same answers."""

from .fake import FakeGuest, FakeTollgate, FakeUser

__all__ = ["FakeGuest", "FakeTollgate", "FakeUser"]

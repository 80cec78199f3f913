"""What holds for every test: unit and property tests reach no network."""

import asyncio
import os
import socket
from pathlib import Path

import pytest
from baton.rpc.polling import poll_on_one_thread
from hypothesis import settings

BARRED_FOLDERS = ("unit", "property", "simulation")
TESTS = Path(__file__).parent

# Everywhere else each run explores new examples; a submission is judged by the same ones each time.
# No deadline per example: machines are shared.
settings.register_profile("explore", deadline=None)
settings.register_profile("judge", deadline=None, derandomize=True)
settings.load_profile("judge" if os.environ.get("CI") else "explore")

poll_on_one_thread(os.environ)  # as the processes do, and as early

# pytest-asyncio on Python 3.11 would otherwise make a default loop that nobody closes, and warnings
# are errors here.
asyncio.set_event_loop(None)


@pytest.fixture(autouse=True)
def _no_network(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A unit test that needs a socket is an integration test: it fails here, on any machine."""
    folder = request.path.relative_to(TESTS).parts[0]
    if folder not in BARRED_FOLDERS:
        return

    def refuse(*_: object) -> None:
        raise AssertionError("unit tests open no sockets")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket.socket, "bind", refuse)

"""A server to be measured, as values: how it is called and when it is ready. Starts nothing."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from baton_loadtest.peers.process import Command

LOOPBACK = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Contestant:
    name: str  # in tables and file names
    ours: bool
    serve: Callable[[int], Command]  # on a loopback port
    model_name: str  # as clients ask for it
    ready_path: str  # answers 200 when requests are welcome
    workers: Mapping[str, int] | None = None  # Baton's, to be counted before it is ready

    @property
    def slug(self) -> str:
        return "".join(c if c.isalnum() else "-" for c in self.name.lower())


def endpoint(port: int) -> str:
    return f"http://{LOOPBACK}:{port}"

"""How gRPC waits for its sockets: chosen by the environment, before the library is first imported.

Knows the variable that gRPC reads. Imports no gRPC, or it would come too late.
"""

from collections.abc import MutableMapping

VARIABLE = "GRPC_EXPERIMENTS"

ON_THE_POLLER = "-event_engine_client,-event_engine_listener"
"""By default each message passes three threads of gRPC's event engine before the one that asyncio
listens to: with one stream they cost as much as a quarter of the router. Without the engine that
one thread waits for the sockets itself, as gRPC did in Python until 2026. A version that has lost
the choice says so in a line on stderr and does as it likes."""


def poll_on_one_thread(environ: MutableMapping[str, str]) -> None:
    """Whoever has set the variable knows better."""
    environ.setdefault(VARIABLE, ON_THE_POLLER)

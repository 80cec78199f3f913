"""`python -m cluster.bench.routers`: answers `GET /signals` for every router pod of the fake nodes.

A process of its own, so that what it costs is not counted as the operator's. Says always the same:
nobody asks. Knows no Kubernetes.
"""

import asyncio

from baton.common.signals import RouterSignals, encode_signals
from baton_operator.names import METRICS_PORT
from support.router_signals import quiet_traffic

REQUEST_BYTES_MAX = 16 * 1024


def quiet_signals() -> bytes:
    traffic = quiet_traffic()
    return encode_signals(RouterSignals(model_name="m", incarnation=1, traffic=traffic, workers=()))


async def serve() -> None:
    """Until ended from outside."""
    body = quiet_signals()
    head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n".encode()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                writer.write(head + body)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    server = await asyncio.start_server(answer, "0.0.0.0", METRICS_PORT, limit=REQUEST_BYTES_MAX)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve())

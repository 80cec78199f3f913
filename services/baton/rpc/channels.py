"""gRPC channels to other Baton processes: one per address, with keepalive and message limits.

Knows no service: callers make their own stubs over the channel they get.
"""

import grpc
import grpc.aio

MESSAGE_BYTES_MAX = 16 * 1024 * 1024
"""A KV frame carries at most 4 MiB of payload; one block of a large model may need more than
that."""

CHANNEL_OPTIONS: tuple[tuple[str, int], ...] = (
    ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
    ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
    # A dead peer (power, partition) is noticed within about 15 s even on an idle stream; a killed
    # process closes its sockets and is noticed at once.
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    # A worker that restarts is found again within about a second, not after minutes of backoff.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1_000),
)


class Channels:
    """Hands out one channel per address; `aclose` closes all of them."""

    def __init__(self) -> None:
        self._channels: dict[str, grpc.aio.Channel] = {}

    def channel(self, address: str) -> grpc.aio.Channel:
        """The channel to "host:port"; connects when first used."""
        if address not in self._channels:
            self._channels[address] = grpc.aio.insecure_channel(address, options=CHANNEL_OPTIONS)
        return self._channels[address]

    async def drop(self, address: str) -> None:
        """Close and forget a channel whose worker has left the member list."""
        channel = self._channels.pop(address, None)
        if channel is not None:
            await channel.close()

    async def aclose(self) -> None:
        for address in list(self._channels):
            await self.drop(address)

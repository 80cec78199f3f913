"""gRPC channels to other Baton processes: one per address, with keepalive and message limits.

Under TLS a channel keeps the identity it was made with; when the files change, the next caller gets
a new channel and the old one closes once its last call has ended. Knows no service: callers make
their own stubs over the channel they get, and ask for it again for every call that may reconnect.
"""

import weakref
from dataclasses import dataclass

import grpc
import grpc.aio

from baton.common.clock import Clock
from baton.rpc.identity_files import Identity, IdentitySource, TlsFiles

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
    # Despite its name also what one attempt may take, TLS handshake included: a worker whose cores
    # are all busy needs more than the backoff's tenth of a second.
    ("grpc.min_reconnect_backoff_ms", 5_000),
    ("grpc.max_reconnect_backoff_ms", 1_000),
)


@dataclass(frozen=True, slots=True)
class _Made:
    channel: grpc.aio.Channel
    identity: Identity | None  # None: plaintext


class Channels:
    """Hands out one channel per address; `aclose` closes all of them.

    Without `tls`: plaintext. Raises ConfigError when the files of `tls` are unfit.
    """

    def __init__(self, tls: TlsFiles | None = None, *, clock: Clock | None = None) -> None:
        self._source = None if tls is None else IdentitySource(tls, clock=clock)
        self._made: dict[str, _Made] = {}
        # Of older identities, alive while a call (or its stub) holds them: gRPC closes a channel
        # nobody refers to.
        self._retired: dict[str, weakref.WeakSet[grpc.aio.Channel]] = {}

    def channel(self, address: str) -> grpc.aio.Channel:
        """The channel to "host:port"; connects when first used."""
        identity = None if self._source is None else self._source.current()
        made = self._made.get(address)
        if made is None or made.identity is not identity:
            if made is not None:
                self._retired.setdefault(address, weakref.WeakSet()).add(made.channel)
            made = self._made[address] = _Made(self._new(address, identity), identity)
        return made.channel

    async def drop(self, address: str) -> None:
        """Close and forget a channel whose worker has left the member list."""
        made = self._made.pop(address, None)
        if made is not None:
            await made.channel.close()
        for channel in list(self._retired.pop(address, ())):
            await channel.close()

    async def aclose(self) -> None:
        for address in list(self._made):
            await self.drop(address)

    def _new(self, address: str, identity: Identity | None) -> grpc.aio.Channel:
        if identity is None:
            return grpc.aio.insecure_channel(address, options=CHANNEL_OPTIONS)
        assert self._source is not None
        credentials = grpc.ssl_channel_credentials(
            root_certificates=identity.ca,
            private_key=identity.key,
            certificate_chain=identity.certificate,
        )
        # Pods are dialled by address; their certificates carry the service's name.
        options = (*CHANNEL_OPTIONS, ("grpc.ssl_target_name_override", self._source.name))
        return grpc.aio.secure_channel(address, credentials, options=options)

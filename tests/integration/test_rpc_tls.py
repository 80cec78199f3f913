"""mTLS between real gRPC ends on loopback: who is let in, and certificates that are replaced under
streams that go on."""

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import grpc.aio
import pytest
from baton.rpc.channels import Channels
from baton.rpc.identity_files import LOOK_INTERVAL_S, TlsFiles
from baton.rpc.server import listen, new_server
from baton.rpc.v1 import worker_pb2, worker_pb2_grpc
from support.hand_clock import HandClock
from support.tls_files import NAME, Authority, MountedSecret, secret

LIMIT_S = 10.0
SLOW_S = 0.5
WatchCall = grpc.aio.UnaryStreamCall[worker_pb2.WatchRequest, worker_pb2.WatchEvent]


class CountingWorker(worker_pb2_grpc.WorkerServicer):
    """Counts upwards for as long as its caller listens, and remembers their certificates."""

    def __init__(self) -> None:
        self.seen: list[bytes] = []

    async def Watch(self, request, context) -> None:  # type: ignore[no-untyped-def]  # noqa: N802
        self.seen.extend(context.auth_context().get("x509_pem_cert", ()))
        for sequence in itertools.count():
            await context.write(worker_pb2.WatchEvent(sequence=sequence))
            await asyncio.sleep(0.01)


@asynccontextmanager
async def worker(
    tls: TlsFiles | None, address: str = "127.0.0.1:0", *, clock: HandClock | None = None
) -> AsyncIterator[tuple[str, CountingWorker]]:
    server, servicer = new_server(tls), CountingWorker()
    worker_pb2_grpc.add_WorkerServicer_to_server(servicer, server)
    port = listen(server, address, tls, clock=clock)
    await server.start()
    try:
        yield f"127.0.0.1:{port}", servicer
    finally:
        await server.stop(0)


@asynccontextmanager
async def slow_way(address: str) -> AsyncIterator[str]:
    """Another address of the same worker, over which its first bytes take half a second."""
    host, port = address.split(":")

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65_536):
                writer.write(data)
                await writer.drain()
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        onward, back = await asyncio.open_connection(host, int(port))
        try:
            await asyncio.sleep(SLOW_S)
            await asyncio.gather(carry(reader, back), carry(onward, writer))
        finally:
            for end in (writer, back):
                end.close()

    async with asyncio.TaskGroup() as passing:
        tasks: list[asyncio.Task[None]] = []

        def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            tasks.append(passing.create_task(serve(reader, writer)))

        async with await asyncio.start_server(connected, "127.0.0.1", 0) as server:
            yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        for task in tasks:
            task.cancel()
    await asyncio.sleep(0)  # a closed transport lets its socket go in the next turn of the loop


def watch(channels: Channels, address: str) -> WatchCall:
    stub = worker_pb2_grpc.WorkerStub(channels.channel(address))
    return stub.Watch(worker_pb2.WatchRequest(), timeout=LIMIT_S)


async def next_sequence(call: WatchCall) -> int:
    event = await call.read()
    assert isinstance(event, worker_pb2.WatchEvent)
    return event.sequence


async def refusal(channels: Channels, address: str) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await watch(channels, address).read()
    await channels.aclose()
    return caught.value


async def test_peers_of_one_authority_and_name_talk(tmp_path: Path) -> None:
    tls = secret(tmp_path, Authority()).files()
    channels = Channels(tls)
    async with worker(tls) as (first, _), worker(tls) as (second, _), worker(tls) as (third, _):
        for address in (first, second, third):
            assert await next_sequence(watch(channels, address)) == 0
        await channels.aclose()


@pytest.mark.parametrize("secured", [False, True])
async def test_a_peer_too_busy_to_answer_at_once_is_waited_for(
    secured: bool, tmp_path: Path
) -> None:
    tls = secret(tmp_path, Authority()).files() if secured else None
    async with worker(tls) as (address, _), slow_way(address) as detour:
        channels = Channels(tls)
        assert await next_sequence(watch(channels, detour)) == 0
        await channels.aclose()


async def test_a_worker_that_restarts_is_found_again_within_a_second(tmp_path: Path) -> None:
    tls = secret(tmp_path, Authority()).files()
    channels = Channels(tls)
    async with worker(tls) as (address, _):
        assert await next_sequence(watch(channels, address)) == 0
    with pytest.raises(grpc.aio.AioRpcError):
        await watch(channels, address).read()
    async with worker(tls, address) as (address, _):
        stub = worker_pb2_grpc.WorkerStub(channels.channel(address))
        call = stub.Watch(worker_pb2.WatchRequest(), timeout=LIMIT_S, wait_for_ready=True)
        began_s = asyncio.get_running_loop().time()
        assert await next_sequence(call) == 0
        assert asyncio.get_running_loop().time() - began_s < 2.0
    await channels.aclose()


async def test_plaintext_a_foreign_authority_and_no_certificate_are_refused(
    tmp_path: Path,
) -> None:
    authority = Authority()
    tls = secret(tmp_path / "ours", authority).files()
    foreign = secret(tmp_path / "foreign", Authority("somebody else")).files()
    async with worker(tls) as (address, servicer):
        assert (await refusal(Channels(), address)).code() is grpc.StatusCode.UNAVAILABLE
        error = await refusal(Channels(foreign), address)
        assert error.code() is grpc.StatusCode.UNAVAILABLE
        assert "handshake failed" in (error.details() or "")
        nameless = grpc.ssl_channel_credentials(root_certificates=authority.pem)
        options = (("grpc.ssl_target_name_override", NAME),)
        async with grpc.aio.secure_channel(address, nameless, options=options) as channel:
            stub = worker_pb2_grpc.WorkerStub(channel)
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await stub.Watch(worker_pb2.WatchRequest(), timeout=LIMIT_S).read()
            assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert servicer.seen == [], "nobody came as far as the servicer"


async def test_another_name_is_refused_by_either_end(tmp_path: Path) -> None:
    authority = Authority()
    other = secret(tmp_path / "other", authority, name="other.default.baton")
    tls = secret(tmp_path / "ours", authority).files()
    async with worker(tls) as (address, servicer):
        # The client that expects another service refuses the worker …
        error = await refusal(Channels(other.files("other.default.baton")), address)
        assert error.code() is grpc.StatusCode.UNAVAILABLE
        assert "Hostname" in (error.details() or "")
        # … and the worker refuses a client that pretends to know it.
        mounted = MountedSecret(tmp_path / "mixed")
        leaf = authority.leaf("other.default.baton")
        mounted.write(authority.pem, leaf)
        credentials = grpc.ssl_channel_credentials(authority.pem, leaf.key, leaf.certificate)
        options = (("grpc.ssl_target_name_override", NAME),)
        async with grpc.aio.secure_channel(address, credentials, options=options) as channel:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await worker_pb2_grpc.WorkerStub(channel).Watch(worker_pb2.WatchRequest()).read()
        assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED
        assert NAME in (caught.value.details() or "")
        assert servicer.seen == []


async def test_a_new_leaf_is_shown_to_new_calls_and_old_streams_go_on(tmp_path: Path) -> None:
    authority, clock = Authority(), HandClock()
    mounted = secret(tmp_path, authority)
    channels = Channels(mounted.files(), clock=clock)
    async with worker(mounted.files(), clock=clock) as (address, servicer):
        stream = watch(channels, address)
        assert await next_sequence(stream) == 0
        leaf = authority.leaf()
        mounted.write(authority.pem, leaf)
        clock.now_s += LOOK_INTERVAL_S
        assert await next_sequence(watch(channels, address)) == 0
        assert servicer.seen[-1].split() == leaf.certificate.split()
        assert servicer.seen[0] != servicer.seen[-1]
        for sequence in range(1, 20):
            assert await next_sequence(stream) == sequence
        await channels.aclose()


async def test_an_authority_is_replaced_under_streams_step_by_step(tmp_path: Path) -> None:
    """Bundle, then the new leaf, then the new authority alone: as the operator does it, and each
    process sees each step at its own time."""
    old, new, clock = Authority("old"), Authority("new"), HandClock()
    server_side, client_side = secret(tmp_path / "server", old), secret(tmp_path / "client", old)
    steps = [
        (old.pem + new.pem, old.leaf()),
        (old.pem + new.pem, new.leaf()),
        (new.pem, new.leaf()),
    ]
    channels = Channels(client_side.files(), clock=clock)
    async with (
        worker(server_side.files(), clock=clock) as (first, _),
        worker(server_side.files(), clock=clock) as (second, _),
    ):
        streams = [watch(channels, first), watch(channels, second)]
        for stream in streams:
            assert await next_sequence(stream) == 0
        for ca, leaf in steps:
            for side in (server_side, client_side):
                side.write(ca, leaf)
                clock.now_s += LOOK_INTERVAL_S
                for address in (first, second):
                    assert await next_sequence(watch(channels, address)) == 0
        for stream in streams:
            sequences = [await next_sequence(stream) for _ in range(10)]
            assert sequences == list(range(1, 11))
        # Who still has the old authority's leaf is out.
        stale = secret(tmp_path / "stale", old).files()
        assert (await refusal(Channels(stale), first)).code() is grpc.StatusCode.UNAVAILABLE
        await channels.aclose()


async def test_reconnects_after_a_rotation_use_the_new_files(tmp_path: Path) -> None:
    old, new, clock = Authority("old"), Authority("new"), HandClock()
    mounted = secret(tmp_path, old)
    channels = Channels(mounted.files(), clock=clock)
    async with worker(mounted.files()) as (address, _):
        assert await next_sequence(watch(channels, address)) == 0
    mounted.write(new.pem, new.leaf())
    clock.now_s += LOOK_INTERVAL_S
    async with worker(mounted.files(), address) as (address, servicer):
        assert await next_sequence(watch(channels, address)) == 0
        assert len(servicer.seen) == 1
    await channels.aclose()

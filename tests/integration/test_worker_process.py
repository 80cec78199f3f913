"""A worker process as the cluster sees it: probes from its first moment, signals, drain, and what
becomes of one that stands still. Real processes over loopback, with an engine that has no model."""

import asyncio
import signal
import sys
import time
from pathlib import Path

import pytest
from baton.rpc.identity_files import TlsFiles
from baton.rpc.v1 import decode_pb2
from support.fake_engine import greedy, solo_output
from support.fake_workers import RouterClient, submit_command
from support.tls_files import NAME, Authority, secret
from support.worker_processes import WorkerProcess, until, worker_process

PROMPT = [7 + i % 50 for i in range(21)]
LONG = 200  # tokens: twenty seconds at the fake's pace


async def test_probes_answer_before_the_model_is_loaded_and_after(tmp_path: Path) -> None:
    async with worker_process("decode", tmp_path, ready=False, hold=["load"]) as worker:
        await worker.until_status("/live", 200)
        starting = await worker.get("/ready")
        assert (starting.status_code, starting.text) == (503, "starting\n")
        assert "baton_build_info" in (await worker.get("/metrics")).text
        worker.let_go("load")
        assert (await worker.until_status("/ready", 200)).text == "ready\n"
        assert (await worker.get("/live")).status_code == 200
        assert (await worker.get("/nothing")).status_code == 404


async def test_a_worker_that_is_still_loading_leaves_at_the_first_signal(tmp_path: Path) -> None:
    async with worker_process("prefill", tmp_path, ready=False, hold=["load"]) as worker:
        await worker.until_status("/live", 200)
        worker.signal(signal.SIGTERM)
        assert await worker.ended() == 128 + signal.SIGTERM


@pytest.mark.parametrize("role", ["prefill", "decode"])
async def test_an_idle_worker_leaves_within_two_seconds(role: str, tmp_path: Path) -> None:
    async with worker_process(role, tmp_path) as worker, RouterClient(worker.address) as router:
        if role == "decode":  # a router's stream that stands idle must not hold it up
            await router.send(submit_command("a", PROMPT, greedy(3)))
            await router.finished("a")
        began_s = time.monotonic()
        worker.signal(signal.SIGTERM)
        assert await worker.ended() == 0
        assert time.monotonic() - began_s < 2.0


async def test_sigterm_lets_requests_finish_and_shows_on_the_probe(tmp_path: Path) -> None:
    async with (
        worker_process("decode", tmp_path) as worker,
        RouterClient(worker.address) as router,
    ):
        worker.hold("pace")
        await router.send(submit_command("a", PROMPT, greedy(30)))
        await router.until(lambda: bool(router.tokens("a")))
        worker.signal(signal.SIGTERM)
        assert (await worker.until_status("/ready", 503)).text == "draining\n"
        assert (await worker.get("/live")).status_code == 200
        await router.send(submit_command("b", PROMPT, greedy(3)))
        refused = (await router.finished("b")).error
        assert (refused.code, refused.retryable) == ("draining", True)
        worker.let_go("pace")
        assert await router.output("a") == solo_output(PROMPT, 30)
        assert await worker.ended() == 0


async def test_what_outlives_the_drain_limit_is_handed_back_and_the_worker_leaves(
    tmp_path: Path,
) -> None:
    async with (
        worker_process("decode", tmp_path / "a", "--drain-timeout-s", "0.5") as going,
        worker_process("decode", tmp_path / "b") as staying,
        RouterClient(going.address) as router,
        RouterClient(staying.address) as other,
    ):
        going.hold("pace")
        await router.send(submit_command("a", PROMPT, greedy(LONG)))
        await router.until(lambda: len(router.tokens("a")) >= 2)
        going.signal(signal.SIGTERM)
        error = (await router.finished("a")).error
        assert (error.code, error.retryable) == ("draining", True)
        assert await going.ended(limit_s=5.0) == 0
        told = router.tokens("a")
        await other.send(submit_command("a-2", PROMPT, greedy(LONG), output=told))
        assert [*told, *await other.output("a-2")] == solo_output(PROMPT, LONG)


async def test_a_second_signal_insists(tmp_path: Path) -> None:
    async with (
        worker_process("decode", tmp_path) as worker,
        RouterClient(worker.address) as router,
    ):
        worker.hold("pace")
        await router.send(submit_command("a", PROMPT, greedy(LONG)))
        await router.until(lambda: bool(router.tokens("a")))
        worker.signal(signal.SIGTERM)
        await worker.until_status("/ready", 503)
        worker.signal(signal.SIGTERM)
        assert await worker.ended() == 128 + signal.SIGTERM


async def test_a_step_that_never_ends_moves_its_requests_and_ends_the_worker(
    tmp_path: Path,
) -> None:
    async with (
        worker_process("decode", tmp_path) as worker,
        RouterClient(worker.address) as router,
    ):
        worker.hold("step")
        await router.send(submit_command("a", PROMPT, greedy(3)))
        error = (await router.finished("a")).error
        assert (error.code, error.retryable) == ("worker_failed", True)
        assert (await worker.get("/live")).status_code == 503
        assert (await worker.get("/ready")).text == "failed\n"
        assert await worker.ended() == 1
        told = next(line for line in await worker.log() if line["message"].startswith("stuck"))
        assert told["verdict"] == "an engine step does not end"
        assert told["shape"]["prefill_tokens"] == 8  # what fits a step of the fake
        assert "HaltingRunner" in told["stacks"] or "wait_gone" in told["stacks"]


async def test_an_event_loop_that_does_not_turn_shows_on_the_probe_and_ends_the_worker(
    tmp_path: Path,
) -> None:
    async with worker_process("decode", tmp_path) as worker:
        worker.hold("loop")
        worker.signal(signal.SIGUSR1)
        stuck = await worker.until_status("/live", 503)
        assert stuck.text == "the event loop does not turn\n"
        assert (await worker.get("/ready")).status_code == 503
        assert await worker.ended() == 1
        assert any(line["message"] == "ended by force" for line in await worker.log())


async def test_a_worker_that_was_suspended_goes_on_where_it_was(tmp_path: Path) -> None:
    """Longer than any limit of its watchdog: none of that time is held against it."""
    async with (
        worker_process("decode", tmp_path) as worker,
        RouterClient(worker.address) as router,
    ):
        worker.hold("pace")
        await router.send(submit_command("a", PROMPT, greedy(20)))
        await router.until(lambda: bool(router.tokens("a")))
        worker.signal(signal.SIGSTOP)
        await asyncio.sleep(4.0)
        worker.signal(signal.SIGCONT)
        assert await router.output("a") == solo_output(PROMPT, 20)
        assert (await worker.get("/live")).status_code == 200


async def test_a_prefill_worker_suspended_in_a_handoff_is_left_and_does_no_harm_when_it_wakes(
    tmp_path: Path,
) -> None:
    async with (
        worker_process("prefill", tmp_path / "p") as prefill,
        worker_process("prefill", tmp_path / "q") as spare,
        worker_process("decode", tmp_path / "d") as decode,
        RouterClient(decode.address) as router,
    ):
        prefill.hold("pace")
        candidates = [prefill.address, spare.address]
        frozen = [token + 1 for token in PROMPT]
        await router.send(
            submit_command("a", frozen, greedy(40), candidates=candidates, deadline_s=8.0)
        )
        await until_received(decode)
        prefill.signal(signal.SIGSTOP)
        # Half of the time the request has left is waited, then the next candidate continues.
        assert await router.output("a") == solo_output(frozen, 40)
        assert router.updates["a"][0].prefill_path == "remote"
        prefill.let_go("pace")
        prefill.signal(signal.SIGCONT)
        for number in range(3):  # into blocks that the stale hand-off once owned
            prompt = [token + 2 + number for token in PROMPT]
            name = f"b{number}"
            await router.send(submit_command(name, prompt, greedy(6), candidates=candidates))
            assert await router.output(name) == solo_output(prompt, 6)
            assert router.updates[name][0].prefill_path == "remote"
        assert (await prefill.get("/live")).status_code == 200


async def until_received(decode: WorkerProcess) -> None:
    """The first KV frame of a hand-off has come."""

    async def received() -> bool:
        text = (await decode.get("/metrics")).text
        lines = [line for line in text.splitlines() if 'direction="received"' in line]
        return any(float(line.rsplit(" ", 1)[1]) > 0 for line in lines)

    await until(received)


async def test_workers_with_certificates_hand_over_to_each_other(tmp_path: Path) -> None:
    authority = Authority()
    mounted = secret(tmp_path / "tls", authority)
    flags = ("--tls-dir", str(tmp_path / "tls"), "--tls-name", NAME)
    tls = TlsFiles(tmp_path / "tls", NAME)
    async with (
        worker_process("prefill", tmp_path / "p", *flags) as prefill,
        worker_process("decode", tmp_path / "d", *flags) as decode,
        RouterClient(decode.address, tls=tls) as router,
    ):
        decode.hold("pace")
        await router.send(submit_command("a", PROMPT, greedy(20), candidates=[prefill.address]))
        await router.until(lambda: bool(router.tokens("a")))
        mounted.write(authority.pem, authority.leaf())
        decode.let_go("pace")
        assert await router.output("a") == solo_output(PROMPT, 20)
        assert router.updates["a"][0].prefill_path == "remote"
        other = [token + 1 for token in PROMPT]
        await asyncio.sleep(1.0)  # the workers look at their files once a second
        await router.send(submit_command("b", other, greedy(5), candidates=[prefill.address]))
        assert await router.output("b") == solo_output(other, 5)
        assert router.updates["b"][0].prefill_path == "remote"
        assert router.terminals("b")[0].finish_reason == decode_pb2.FINISH_REASON_LENGTH


async def test_unfit_certificates_end_the_start_with_words(tmp_path: Path) -> None:
    flags = ("--tls-dir", str(tmp_path / "none"), "--tls-name", NAME)
    async with worker_process("decode", tmp_path, *flags, ready=False) as worker:
        assert await worker.ended() == 1
        assert "cannot read ca.crt" in worker.errors()


@pytest.mark.parametrize("role", ["prefill", "decode"])
async def test_the_real_module_hears_signals_while_it_imports(role: str) -> None:
    """As process 1 of a container it would sleep through its grace period otherwise."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        "import os, signal, sys, runpy\n"
        f"sys.argv = ['baton.{role}']\n"
        "class Importing:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name == 'baton.{role}.app':\n"
        "            os.kill(os.getpid(), signal.SIGTERM)\n"
        "sys.meta_path.insert(0, Importing())\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"  # what the kernel does for process 1
        f"runpy.run_module('baton.{role}', run_name='__main__')\n",
    )
    async with asyncio.timeout(30):
        assert await process.wait() == 128 + signal.SIGTERM

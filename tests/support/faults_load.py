"""Who asks: clients of a router, and a router that names the prefill worker to a decode worker.

Knows the two protocols; failures are the server's to count.
"""

import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import grpc
import httpx
from baton.engine.params import SamplingParams
from baton.rpc.convert import params_to_wire
from baton.rpc.identity_files import TlsFiles
from baton.rpc.v1 import decode_pb2, decode_pb2_grpc

from support.tiny_tokenizer import VOCAB_SIZE

ASK_LIMIT_S = 60.0
AGAIN_S = 0.2  # a client that waits for nothing is a load by itself
PROMPT = "the quick brown fox jumps over the lazy dog and runs away again "
HANDED_OVER_TOKENS = 70  # several blocks


@dataclass(frozen=True, slots=True)
class Question:
    """What a client asks again and again, its prompt a little different each time."""

    prompt: str = PROMPT * 2
    output_tokens: int = 8
    pause_s: float = 0.0  # from an answer to the next question


class Clients:
    """Some clients that ask a router, each its next question after its last answer."""

    def __init__(self, url: str, model_name: str, key: str | None = None) -> None:
        self._url, self._model_name = url, model_name
        self._headers = {"authorization": f"Bearer {key}"} if key else {}

    @contextmanager
    def asking(self, count: int, question: Question) -> Iterator[None]:
        """While it lasts; afterwards every request has ended."""
        stopping = threading.Event()
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
        with httpx.Client(
            base_url=self._url,
            headers=self._headers,
            trust_env=False,
            timeout=ASK_LIMIT_S,
            limits=limits,
        ) as client:
            threads = [
                threading.Thread(
                    target=self._ask, args=(client, question, number, stopping), daemon=True
                )
                for number in range(count)
            ]
            with _all_running(threads, stopping):
                yield

    def _ask(
        self, client: httpx.Client, question: Question, number: int, stopping: threading.Event
    ) -> None:
        body = {
            "model": self._model_name,
            "max_tokens": question.output_tokens,
            "ignore_eos": True,
            "stream": True,  # a client that waits for tokens leaves when it is told to
        }
        while not stopping.is_set():
            prompt = f"{number} {time.monotonic_ns()} {question.prompt}"
            try:
                with client.stream(
                    "POST", "/v1/completions", json=body | {"prompt": prompt}
                ) as said:
                    for _ in said.iter_bytes():
                        if stopping.is_set():
                            return
                    failed = said.status_code != 200
            except httpx.TransportError:
                failed = True
            stopping.wait(AGAIN_S if failed else question.pause_s)


class HandOffs:
    """Asks a decode worker as a router does, and names the prefill worker: whether a router's own
    decisions are for it depends on how busy the machine is."""

    def __init__(self, decode: str, prefill: str, tls: TlsFiles | None = None) -> None:
        self._decode, self._prefill, self._tls = decode, prefill, tls

    @contextmanager
    def asking(self) -> Iterator[None]:
        stopping = threading.Event()
        thread = threading.Thread(target=self._run, args=(stopping,), daemon=True)
        with _all_running([thread], stopping):
            yield

    def _run(self, stopping: threading.Event) -> None:
        with self._channel() as channel:
            stub = decode_pb2_grpc.DecodeStub(channel)
            number = 0
            while not stopping.is_set():
                number += 1
                with suppress(grpc.RpcError):
                    list(stub.Stream(iter([self._submission(number)]), timeout=ASK_LIMIT_S))
                stopping.wait(AGAIN_S)

    def _channel(self) -> grpc.Channel:
        if self._tls is None:
            return grpc.insecure_channel(self._decode)
        credentials = grpc.ssl_channel_credentials(
            self._tls.ca.read_bytes(),
            self._tls.key.read_bytes(),
            self._tls.certificate.read_bytes(),
        )
        options = [("grpc.ssl_target_name_override", self._tls.name)]
        return grpc.secure_channel(self._decode, credentials, options)

    def _submission(self, number: int) -> decode_pb2.DecodeCommand:
        """A prompt of several blocks that no cache has."""
        prompt = random.Random(number).choices(range(3, VOCAB_SIZE), k=HANDED_OVER_TOKENS)
        return decode_pb2.DecodeCommand(
            submit=decode_pb2.Submit(
                request_id=f"direct-{time.monotonic_ns()}",
                prompt_token_ids=prompt,
                sampling=params_to_wire(SamplingParams(4, ignore_eos=True)),
                deadline_s=ASK_LIMIT_S,
                prefill_candidates=[self._prefill],
            )
        )


@contextmanager
def _all_running(threads: list[threading.Thread], stopping: threading.Event) -> Iterator[None]:
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stopping.set()
        for thread in threads:
            thread.join(ASK_LIMIT_S)

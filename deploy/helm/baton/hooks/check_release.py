"""`helm test`: asks a release what its users would, and says of each check whether it holds.

The operator is ready and has metrics; the model answers a chat completion, streams the same answer,
and its routers and workers have counted the work. Whatever may still be starting is tried again
until the limit. Where the model asks for an API key, it is in the environment. Standard library
only, so that it runs in any image with Python.
"""

import argparse
import json
import os
import socket
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Mapping, Sequence
from http import HTTPStatus
from typing import TypeVar

Found = TypeVar("Found")

METRICS_PORT = 9090
CALL_LIMIT_S = 120.0  # a small model on a busy CPU answers within seconds
SHORT_LIMIT_S = 60.0  # what is started already: DNS forgets a wrong answer within 30 s
PAUSE_S = 1.0
ANSWER_TOKENS_MAX = 24
ANSWER_BYTES_MAX = 4_000_000
KEY_VARIABLE = "BATON_API_KEY"
ANY_KEY = "helm-test"  # as clients send one to a model that looks at none
KEY_ADVICE = (
    "this model asks for an API key; put one into a Secret of this namespace as its entry api-key,"
    " and the Secret's name into the value tests.apiKeySecret"
)


class CheckFailed(Exception):
    """What should hold does not; the text says what was found instead."""


class NoKey(CheckFailed):
    """The model asks for a key, and none was given: to wait would be in vain."""


def get(url: str, body: Mapping[str, object] | None = None, *, key: str = "") -> str:
    """The text at `url`. Raises CheckFailed for everything but 200."""
    request = urllib.request.Request(
        url,
        data=None if body is None else json.dumps(body).encode(),
        headers={"Content-Type": "application/json", "Authorization": f"Bearer {key or ANY_KEY}"},
    )
    try:
        with urllib.request.urlopen(request, timeout=CALL_LIMIT_S) as answer:
            content: bytes = answer.read(ANSWER_BYTES_MAX)
            return content.decode()
    except urllib.error.HTTPError as error:
        if error.code == HTTPStatus.UNAUTHORIZED and not key:
            raise NoKey(f"{url} answered {error.code}: {KEY_ADVICE}") from None
        said = error.read(500).decode(errors="replace")
        raise CheckFailed(f"{url} answered {error.code}: {said}") from None
    except OSError as error:
        raise CheckFailed(f"{url} cannot be reached: {error}") from None


def addresses(host: str, port: int) -> list[str]:
    """Every pod behind a headless Service, as host:port."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise CheckFailed(f"{host} has no pods, or DNS does not know them: {error}") from None
    names = {str(address[0]) for *_, address in found}
    return sorted(f"[{name}]:{port}" if ":" in name else f"{name}:{port}" for name in names)


def total(metrics: Iterable[str], name: str) -> float:
    """A metric's sum over texts in Prometheus' format. A pod with nothing to tell yet may lack a
    metric with labels; raises CheckFailed where every text lacks it."""
    samples = [
        float(line.rsplit(" ", 1)[1])
        for text in metrics
        for line in text.splitlines()
        if line.startswith((f"{name} ", f"{name}{{"))
    ]
    if not samples:
        raise CheckFailed(f"no pod has the metric {name}")
    return sum(samples)


def chat(endpoint: str, model: str, prompt: str, *, key: str, stream: bool) -> str:
    """The answer to `prompt`; greedy, so that it is the same each time."""
    body = {
        "model": model,
        "messages": [{"role": "user", "content": prompt}],
        "max_tokens": ANSWER_TOKENS_MAX,
        "temperature": 0,
        "stream": stream,
    }
    text = get(f"{endpoint}/v1/chat/completions", body, key=key)
    try:
        return streamed(text) if stream else json.loads(text)["choices"][0]["message"]["content"]
    except (ValueError, LookupError, TypeError):
        raise CheckFailed(f"this is no chat completion: {text[:500]!r}") from None


def streamed(text: str) -> str:
    """The answer in a stream of server-sent events. Raises CheckFailed if the stream broke off."""
    events = [line.removeprefix("data: ") for line in text.splitlines() if line.startswith("data:")]
    if not events or events[-1] != "[DONE]":
        raise CheckFailed(f"the stream did not end with [DONE]: {text[-500:]!r}")
    choices = [choice for event in events[:-1] for choice in json.loads(event)["choices"]]
    if not any(choice.get("finish_reason") for choice in choices):
        raise CheckFailed("no event of the stream says why the answer ended")
    return "".join(choice["delta"].get("content") or "" for choice in choices)


def eventually(
    check: Callable[[], Found],
    limit_s: float,
    clock: Callable[[], float],
    pause: Callable[[], None],
) -> Found:
    """What `check` returns once it holds; else its last CheckFailed, NoKey without any wait."""
    end = clock() + limit_s
    while True:
        try:
            return check()
        except NoKey:
            raise
        except CheckFailed:
            if clock() >= end:
                raise
        pause()


class Release:
    """What the checks ask; `limit_s` is how long the model may take to be there. `key` is what the
    model asks for; empty: nothing."""

    def __init__(self, options: argparse.Namespace, key: str = "") -> None:
        self._options = options
        self._key = key
        self._model = ""
        self._answer = ""

    def checks(self) -> list[tuple[str, float, Callable[[], str]]]:
        """Name, limit in seconds, check; a check returns what it saw."""
        found = [("operator", SHORT_LIMIT_S, self.operator)]
        if self._options.endpoint:
            found += [
                ("models", self._options.wait_s, self.models),
                ("chat completion", self._options.wait_s, self.completion),
                ("streamed completion", SHORT_LIMIT_S, self.stream),
                ("router metrics", SHORT_LIMIT_S, self.routers),
                ("decode metrics", SHORT_LIMIT_S, self.decode),
            ]
        if self._options.prefill:
            found.append(("prefill metrics", SHORT_LIMIT_S, self.prefill))
        return found

    def operator(self) -> str:
        get(f"{self._options.operator}/ready")
        text = get(f"{self._options.operator}/metrics")
        leads = total([text], "leader_election_master_status")
        return f"ready, {'leads' if leads else 'stands by'}"

    def models(self) -> str:
        listed = json.loads(get(f"{self._options.endpoint}/v1/models", key=self._key))["data"]
        if not listed:
            raise CheckFailed("no model is listed")
        self._model = listed[0]["id"]
        return self._model

    def completion(self) -> str:
        self._answer = self._chat(stream=False)
        expected = self._options.expect
        if expected not in self._answer:
            raise CheckFailed(f"{self._answer!r} does not contain {expected!r}")
        return repr(self._answer)

    def stream(self) -> str:
        again = self._chat(stream=True)
        if again != self._answer:
            raise CheckFailed(f"streamed {again!r}, in one piece {self._answer!r}")
        return "the same answer"

    def routers(self) -> str:
        pods = self._metrics(self._options.routers)
        requests = total(pods, "baton_router_requests_total")
        if requests < 2:  # the two above
            raise CheckFailed(f"{len(pods)} routers counted {requests:.0f} requests")
        return f"{len(pods)} pods, {requests:.0f} requests"

    def decode(self) -> str:
        pods = self._metrics(self._options.decode)
        steps = total(pods, "baton_engine_steps_total")
        if not steps:
            raise CheckFailed("no decode worker has made a step")
        return f"{len(pods)} pods, {steps:.0f} steps"

    def prefill(self) -> str:
        """They may have had nothing to do: decode computes short prompts itself."""
        pods = self._metrics(self._options.prefill)
        return f"{len(pods)} pods, {total(pods, 'baton_engine_steps_total'):.0f} steps"

    def _chat(self, *, stream: bool) -> str:
        where, asked = self._options.endpoint, self._options.prompt
        return chat(where, self._model, asked, key=self._key, stream=stream)

    def _metrics(self, host: str) -> list[str]:
        return [get(f"http://{address}/metrics") for address in addresses(host, self._options.port)]


def run(release: Release, clock: Callable[[], float], pause: Callable[[], None]) -> bool:
    """Make every check until one fails; prints a line each. Returns whether all held."""
    for name, limit_s, check in release.checks():
        began_s = clock()
        try:
            saw = eventually(check, limit_s, clock, pause)
        except CheckFailed as error:
            print(f"FAILED  {name}, for {clock() - began_s:.0f} s: {error}", flush=True)
            return False
        print(f"ok      {name}: {saw} ({clock() - began_s:.1f} s)", flush=True)
    return True


def read_options(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Checks a release of the chart baton.")
    parser.add_argument("--operator", required=True, help="address of its metrics port")
    parser.add_argument("--endpoint", default="", help="address of the model; absent: no model")
    for role in ("routers", "decode", "prefill"):
        parser.add_argument(f"--{role}", default="", help="name of the pods' headless Service")
    parser.add_argument("--port", type=int, default=METRICS_PORT, help="metrics port of the pods")
    parser.add_argument("--wait-s", type=float, default=SHORT_LIMIT_S, help="for the model")
    parser.add_argument("--prompt", default="", help="what the model is asked")
    parser.add_argument("--expect", default="", help="what its answer must contain")
    return parser.parse_args(argv)


def main() -> int:
    release = Release(read_options(sys.argv[1:]), os.environ.get(KEY_VARIABLE, "").strip())
    return 0 if run(release, time.monotonic, lambda: time.sleep(PAUSE_S)) else 1


if __name__ == "__main__":
    sys.exit(main())

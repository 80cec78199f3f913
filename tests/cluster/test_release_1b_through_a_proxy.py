"""The unmodified `openai` client through an nginx in front of the Service: as an ingress controller
sets it up from the chart's Ingress, and as nginx is by itself.

Whether a proxy holds a stream back shows in what the routers had yet to generate when the first
piece was here.
"""

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from cluster.answers import streamed_pieces, whole_answer
from cluster.harness import lifecycle, packages
from cluster.proxy import directives_of, running_nginx
from cluster.release import CHART, MODEL, NAMESPACE, RELEASE, SERVICE, Release
from openai import APIStatusError, BadRequestError, OpenAI

STORY: Any = [{"role": "user", "content": "Tell me a long story about a lighthouse keeper."}]
STORY_TOKENS = 120
MEBIBYTE = 1 << 20
PARAGRAPH = "The quick brown fox jumps over the lazy dog near the bank of the river. "

COMPRESSES = ("gzip on;", "gzip_types text/event-stream;", "gzip_min_length 0;")
"""What nginx compresses it holds back, unless the answer asks it to pass everything on at once."""

DOES_NOT_LISTEN = "proxy_ignore_headers X-Accel-Buffering;"

Open = Callable[[Sequence[str]], AbstractContextManager[OpenAI]]


@dataclass(frozen=True, slots=True)
class Ingress:
    """What a controller makes of the chart's Ingress."""

    upstream: str
    directives: tuple[str, ...]


@pytest.fixture(scope="module")
def nginx() -> Path:
    """From PATH, or where the harness unpacks it; without one the tests are skipped, visibly."""
    folder = packages.tool_folder(lifecycle.default_layout().cache, "nginx")
    found = shutil.which("nginx") or shutil.which("nginx", path=folder)
    if found is None:
        pytest.skip("no nginx: `python -m cluster.harness tools` fetches Debian's")
    return Path(found)


@pytest.fixture(scope="module")
def ingress(release: Release) -> Ingress:
    """The chart's Ingress, as the API server would keep it, and the Service behind it."""
    chart = (str(CHART), f"--set=ingress.enabled=true,modelService.name={SERVICE}")
    only = "--show-only=templates/ingress.yaml"
    rendered = release.cluster.helm("template", RELEASE, *chart, only, namespace=NAMESPACE)
    check = ("apply", "--server-side", "--dry-run=server", "--output=json", "--filename=-")
    made = json.loads(release.cluster.kubectl(*check, namespace=NAMESPACE, stdin=rendered))
    [rule] = made["spec"]["rules"]
    [path] = rule["http"]["paths"]
    backend = path["backend"]["service"]
    service = release.cluster.read("service", backend["name"], namespace=NAMESPACE)["spec"]
    [port] = [one["port"] for one in service["ports"] if one["name"] == backend["port"]["name"]]
    directives = directives_of(made["metadata"]["annotations"])
    return Ingress(f"{service['clusterIP']}:{port}", tuple(directives))


@pytest.fixture(scope="module")
def through(nginx: Path, ingress: Ingress, tmp_path_factory: pytest.TempPathFactory) -> Open:
    """Opens a client behind an nginx with the given directives."""

    @contextmanager
    def opened(directives: Sequence[str]) -> Iterator[OpenAI]:
        folder = tmp_path_factory.mktemp("nginx")
        with (
            running_nginx(nginx, folder, ingress.upstream, directives) as url,
            OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client,
        ):
            yield client

    return opened


@pytest.fixture(scope="module")
def client(through: Open, ingress: Ingress) -> Iterator[OpenAI]:
    """Behind the proxy that the chart's Ingress asks for."""
    with through(ingress.directives) as opened:
        yield opened


@pytest.fixture(scope="module")
def routers(release: Release) -> list[str]:
    """Addresses of those that stay: what an earlier run asked for may still be rolling out."""
    release.await_rollout("router")
    selector = f"app.kubernetes.io/instance={SERVICE},app.kubernetes.io/component=router"
    return list(release.cluster.pod_addresses(NAMESPACE, selector).values())


def test_the_chart_asks_for_a_proxy_that_neither_buffers_nor_gives_up(ingress: Ingress) -> None:
    assert {
        "proxy_buffering off;",
        "proxy_read_timeout 600s;",
        "proxy_send_timeout 600s;",
        "client_max_body_size 8m;",
    } <= set(ingress.directives)


def test_the_capital_of_france_is_paris(client: OpenAI) -> None:
    assert "Paris" in whole_answer(client)


def test_a_stream_says_the_same(client: OpenAI) -> None:
    pieces = streamed_pieces(client)
    assert len(pieces) > 2
    assert "".join(pieces) == whole_answer(client)


def test_pieces_come_while_the_rest_is_generated(client: OpenAI, routers: list[str]) -> None:
    assert generated_after_the_first_piece(client, routers) > STORY_TOKENS / 2


@pytest.mark.parametrize("directives", [(), COMPRESSES], ids=["as-it-comes", "that-compresses"])
def test_they_do_so_through_an_nginx_that_was_not_told_to_stream(
    through: Open, routers: list[str], directives: tuple[str, ...]
) -> None:
    """It buffers, unless the answer asks it not to."""
    with through(directives) as plain:
        assert generated_after_the_first_piece(plain, routers) > STORY_TOKENS / 2


def test_a_proxy_that_holds_streams_back_would_be_noticed(
    through: Open, routers: list[str]
) -> None:
    with through((*COMPRESSES, DOES_NOT_LISTEN)) as holding:
        assert generated_after_the_first_piece(holding, routers) == 0


def test_a_long_prompt_is_answered(client: OpenAI) -> None:
    answer = client.completions.create(
        model=MODEL, prompt=PARAGRAPH * 80, max_tokens=4, temperature=0
    )
    assert answer.usage is not None
    assert answer.usage.prompt_tokens > 1_000
    assert answer.choices[0].text


def test_a_prompt_of_megabytes_is_the_routers_to_judge(client: OpenAI) -> None:
    """nginx by itself would refuse it at one."""
    with pytest.raises(BadRequestError) as refused:
        ask(client, 7 * MEBIBYTE)
    assert refused.value.code == "context_length_exceeded"


def test_one_beyond_the_limit_is_refused_by_the_proxy(client: OpenAI) -> None:
    with pytest.raises(APIStatusError) as refused:
        ask(client, 9 * MEBIBYTE)
    assert refused.value.status_code == 413
    assert "nginx" in refused.value.response.text


def ask(client: OpenAI, prompt_bytes: int) -> None:
    prompt = PARAGRAPH * (prompt_bytes // len(PARAGRAPH))
    client.completions.create(model=MODEL, prompt=prompt, max_tokens=1)


def generated_after_the_first_piece(client: OpenAI, routers: Sequence[str]) -> float:
    """Tokens that the routers still got from workers once the first piece was here."""
    stream = client.chat.completions.create(
        model=MODEL, messages=STORY, temperature=0, max_tokens=STORY_TOKENS, stream=True
    )
    next(stream)
    at_first = sum(map(generated, routers))
    for _ in stream:
        pass
    return sum(map(generated, routers)) - at_first


def generated(router: str) -> float:
    """Tokens that a router has got from workers so far."""
    metrics = httpx.get(f"http://{router}:9090/metrics", timeout=10, trust_env=False)
    values = [
        float(line.rsplit(" ", 1)[1])
        for line in metrics.raise_for_status().text.splitlines()
        if line.startswith("vllm:generation_tokens_total{")
    ]
    return sum(values)

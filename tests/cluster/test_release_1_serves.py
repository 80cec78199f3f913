"""What a platform engineer sees first: install, apply, an OpenAI endpoint, columns, conditions."""

import time
from collections.abc import Iterator

import httpx
import pytest
from baton.router.decide import PROBE_TURNS
from cluster.answers import streamed_pieces, whole_answer
from cluster.release import MODEL, NAMESPACE, SERVICE, Release
from openai import OpenAI

ROUTERS = 2


@pytest.fixture
def client(release: Release) -> Iterator[OpenAI]:
    with OpenAI(base_url=release.url(), api_key="none", max_retries=0) as opened:
        yield opened


def test_the_capital_of_france_is_paris(client: OpenAI) -> None:
    assert "Paris" in whole_answer(client)


def test_a_stream_says_the_same(client: OpenAI) -> None:
    pieces = streamed_pieces(client)
    assert len(pieces) > 2
    assert "".join(pieces) == whole_answer(client)


def test_the_model_is_listed(client: OpenAI) -> None:
    assert [model.id for model in client.models.list()] == [MODEL]


def test_kubectl_shows_how_the_service_is(release: Release) -> None:
    text = release.cluster.kubectl("get", "modelservices", SERVICE, namespace=NAMESPACE)
    titles, row = text.splitlines()
    assert {"NAME", "READY", "PREFILL", "DECODE", "AGE"} <= set(titles.split())
    assert {SERVICE, "True", "1/1", "2/2"} <= set(row.split())


def test_its_short_name_is_known(release: Release) -> None:
    assert SERVICE in release.cluster.kubectl("get", "msvc", namespace=NAMESPACE)


def test_kubectl_can_wait_for_it(release: Release) -> None:
    wait = ("wait", "--for=condition=Ready", f"modelservice/{SERVICE}", "--timeout=30s")
    assert "condition met" in release.cluster.kubectl(*wait, namespace=NAMESPACE)


def test_prompts_are_computed_by_prefill_workers(release: Release, client: OpenAI) -> None:
    """The road through both roles is the one that is taken, not decode alone."""
    before = _sent_bytes(release)
    # A prefill worker that was slow when it started may look slow until it is probed.
    for _ in range(ROUTERS * PROBE_TURNS):
        # No cache has seen it, whatever ran before; long, so that handing it over pays.
        prompt = f"{time.time_ns()} " + "Tell me about the history of the city of Paris. " * 40
        client.completions.create(model=MODEL, prompt=prompt, max_tokens=4, temperature=0)
        if _sent_bytes(release) > before:
            return
    pytest.fail("no prompt was computed by a prefill worker")


def test_pods_run_where_restricted_is_enforced(release: Release) -> None:
    labels = release.cluster.read("namespace", NAMESPACE)["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"
    assert len(release.pods("decode")) == 2


def test_helm_test_passes(release: Release) -> None:
    text = release.cluster.helm("test", "baton", "--timeout=3m", namespace=NAMESPACE, limit_s=200)
    assert "Succeeded" in text


def _sent_bytes(release: Release) -> float:
    """KV that prefill workers have handed over."""
    selector = f"app.kubernetes.io/instance={SERVICE},app.kubernetes.io/component=prefill"
    addresses = release.cluster.pod_addresses(NAMESPACE, selector).values()
    metrics = [httpx.get(f"http://{one}:9090/metrics", timeout=10).text for one in addresses]
    return sum(
        float(line.rsplit(" ", 1)[1])
        for line in "".join(metrics).splitlines()
        if line.startswith("baton_handoff_bytes_total") and "sent" in line
    )

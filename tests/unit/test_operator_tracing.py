"""`spec.tracing`: what pods are told, judged by OpenTelemetry's own reading of it, and where they
may send it."""

import json
import re
from typing import Any

import pytest
from baton_operator.collectors import Anywhere, CollectorUrl, InNamespace, OneAddress, Place
from baton_operator.desired import desired_manifests
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from support.model_services import OWNER, RELEASE, spec_of

ROLES = ("router", "prefill", "decode")
HERE = {"endpoint": "http://otel.observability:4318"}


def objects(kind: str, **spec: Any) -> dict[str, Any]:
    """By role."""
    made = json.loads(json.dumps(desired_manifests(OWNER, spec_of(**spec), {}, RELEASE)))
    return {
        one["metadata"]["labels"]["app.kubernetes.io/component"]: one
        for one in made
        if one["kind"] == kind
    }


def env_of(role: str, **spec: Any) -> list[dict[str, Any]]:
    pod = objects("Deployment", **spec)[role]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    found: list[dict[str, Any]] = container["env"]
    return found


def environ_of(role: str, pod_name: str, **spec: Any) -> dict[str, str]:
    """As kubelet makes it: a variable may speak of those before it."""
    environ: dict[str, str] = {}
    for one in env_of(role, **spec):
        assert len({"value", "valueFrom"} & one.keys()) == 1, one  # the API server's rule
        value = one.get("value", pod_name)
        environ[one["name"]] = re.sub(
            r"\$\((\w+)\)", lambda said: environ.get(said[1], said[0]), value
        )
    return environ


@pytest.mark.parametrize("role", ROLES)
def test_every_role_tells_the_collector_who_it_is(
    role: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environ_of(role, "smol-0", tracing=HERE).items():
        monkeypatch.setenv(name, value)
    exporter = OTLPSpanExporter()
    assert exporter._endpoint == "http://otel.observability:4318/v1/traces"
    told = Resource.create().attributes
    assert {name: told[name] for name in told if name.startswith("k8s.")} == {
        "k8s.namespace.name": "models",
        "k8s.deployment.name": f"smol-{role}",
        "k8s.pod.name": "smol-0",
    }
    assert str(told["service.name"]).startswith("unknown_service")  # the process knows it better


@pytest.mark.parametrize(
    ("said", "ratio"), [({}, 1.0), ({"sampledPercent": 7}, 0.07), ({"sampledPercent": 0}, 0.0)]
)
def test_the_router_decides_for_that_share_and_who_has_a_parent_follows_it(
    said: dict[str, int], ratio: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = {role: environ_of(role, "p", tracing={**HERE, **said}) for role in ROLES}
    for name, value in told["router"].items():
        monkeypatch.setenv(name, value)
    sampler = TracerProvider(shutdown_on_exit=False).sampler.get_description()
    assert sampler.startswith(f"ParentBased{{root:TraceIdRatioBased{{{ratio}}}")
    assert "remoteParentSampled:AlwaysOnSampler" in sampler
    assert "remoteParentNotSampled:AlwaysOffSampler" in sampler
    samplers = {environ["OTEL_TRACES_SAMPLER_ARG"] for environ in told.values()}
    assert len(samplers) == 1


def test_nothing_is_said_where_nothing_was_asked() -> None:
    for role in ROLES:
        assert "OTEL" not in json.dumps(env_of(role))


def test_a_template_has_the_last_word_on_each_variable() -> None:
    theirs = [
        {"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
        {"name": "OTEL_RESOURCE_ATTRIBUTES", "value": "host.ip=$(POD_IP)"},
        {"name": "OTEL_TRACES_SAMPLER_ARG", "value": "0.001"},
        {"name": "OTEL_EXPORTER_OTLP_ENDPOINT", "valueFrom": {"configMapKeyRef": {"key": "otlp"}}},
    ]
    spec = {"tracing": HERE, "router": {"template": {"env": theirs}}}
    assert env_of("router", **spec)[-4:] == theirs  # in their order, or $(POD_IP) is not known
    environ = environ_of("router", "10.0.0.7", **spec)
    assert environ["OTEL_RESOURCE_ATTRIBUTES"] == "host.ip=10.0.0.7"
    assert environ["OTEL_TRACES_SAMPLER"] == "parentbased_traceidratio"
    assert env_of("decode", **spec) == env_of("decode", tracing=HERE)


@pytest.mark.parametrize(
    ("host", "place"),
    [
        ("10.1.2.3", OneAddress("10.1.2.3/32")),
        ("[fd00::7]", OneAddress("fd00::7/128")),
        ("otel", InNamespace(None)),
        ("otel.observability", InNamespace("observability")),
        ("otel.observability.svc", InNamespace("observability")),
        ("otel.observability.svc.cluster.local", InNamespace("observability")),
        ("otel.observability.svc.cluster.local.", InNamespace("observability")),
        ("otel-0.otel.observability.svc", InNamespace("observability")),
        ("api.otel.example", Anywhere()),
        ("otel.example.", Anywhere()),
        ("otel.team.svc.example.com", Anywhere()),
        ("x.cluster.local", Anywhere()),
    ],
)
def test_a_host_is_where_pods_find_it(host: str, place: Place) -> None:
    assert CollectorUrl(f"http://{host}:4318").place == place


@pytest.mark.parametrize(
    ("text", "port"),
    [
        ("http://otel:1", 1),
        ("https://otel.example.com:443/otlp", 443),
        ("http://otel.obs:4318/", 4318),
        ("http://[::1]:65535/a/b", 65535),
    ],
)
def test_a_collector_has_a_port_and_perhaps_a_path(text: str, port: int) -> None:
    assert CollectorUrl(text).port == port


@pytest.mark.parametrize(
    "text",
    [
        "",
        "otel:4318",
        "grpc://otel:4317",
        "http://otel",
        "http://otel:0",
        "http://otel:65536",
        "http://:4318",
        "http://me:secret@otel:4318",
        "http://otel:4318?token=x",
        "http://Otel:4318",
        "http://$(HOST_IP):4318",
        "http://1.2.3.456:4318",
        "http://1.2.3:4318",
        "http://fd00::7:4318",
        "http://[fd00::7%eth0]:4318",
        "http://otel_collector:4318",
        "http://otel:4318/../x",
        "http://otel:4318\n",
        f"http://{'o' * 64}:4318",
        "http://" + "o." * 300 + "o:4318",
    ],
)
def test_anything_else_is_refused_and_the_error_shows_the_shape(text: str) -> None:
    with pytest.raises(ValueError, match="write the collector as http://HOST:PORT"):
        CollectorUrl(text)


def egress(role: str, endpoint: str, source: str = "pvc://weights/m.gguf") -> Any:
    spec = {"model": {"name": "m", "source": source}, "tracing": {"endpoint": endpoint}}
    return objects("NetworkPolicy", **spec)[role]["spec"].get("egress")


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize(
    ("endpoint", "to"),
    [
        ("http://10.1.2.3:4318", [{"ipBlock": {"cidr": "10.1.2.3/32"}}]),
        ("http://otel:4318", "models"),
        ("http://otel.observability:4318", "observability"),
        ("https://api.otel.example:4318", None),
    ],
)
def test_policies_lead_every_role_as_near_to_the_collector_as_they_can(
    role: str, endpoint: str, to: Any
) -> None:
    if isinstance(to, str):
        to = [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": to}}}]
    rule = {"ports": [{"protocol": "TCP", "port": 4318}], **({"to": to} if to else {})}
    allowed = egress(role, endpoint)
    assert rule in allowed
    assert {"protocol": "UDP", "port": 53} in allowed[0]["ports"]  # for the collector's name


def test_pods_that_fetch_their_weights_may_go_anywhere_already() -> None:
    assert egress("decode", "http://otel:4318", source="hf://org/repo") is None

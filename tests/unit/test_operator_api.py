"""A ModelService is read whole, or refused with every problem and what to write instead."""

from typing import Any

import pytest
from baton.common.errors import InvalidSpec
from baton.engine.quant.kv import KvCacheDtype as EngineKvCacheDtype
from baton.engine.quant.quantization import Quantization as EngineQuantization
from baton.engine.speculation import Speculation as EngineSpeculation
from baton_operator.api import ModelServiceSpec, ScalingMode, parse_service
from baton_operator.engineapi import DraftModel, KvCacheDtype, Quantization, Speculation
from baton_operator.quantities import Duration, Memory
from baton_operator.sources import ModelSource
from baton_operator.writing import written
from support.model_services import model_service, spec_of

SCALING = {"maxReplicas": 4}


def problems_of(resource: Any) -> tuple[str, ...]:
    with pytest.raises(InvalidSpec) as caught:
        parse_service(resource)
    return caught.value.problems


def test_the_plans_example_is_read() -> None:
    spec = spec_of()
    assert spec.model.name == "smollm2-135m"
    assert spec.slo is not None
    assert (spec.slo.ttft, spec.slo.itl) == (Duration("500ms"), Duration("50ms"))
    assert spec.prefill is not None
    assert spec.prefill.scaling is not None
    assert spec.prefill.scaling.mode is ScalingMode.INTERNAL
    assert (spec.prefill.scaling.min_replicas, spec.prefill.scaling.max_replicas) == (0, 4)
    assert spec.decode.engine.kv_cache == Memory("2Gi")


def test_the_least_that_can_be_said_is_a_model_and_a_decode_role() -> None:
    spec = spec_of(slo=None, prefill=None, decode={})
    assert spec.prefill is None
    assert spec.router.replicas == 2
    assert spec == parse_service(model_service(slo=None, prefill=None, decode={}))


def test_what_can_be_chosen_of_the_engine_is_what_it_has() -> None:
    assert [one.value for one in Quantization] == [one.value for one in EngineQuantization]
    assert [one.value for one in KvCacheDtype] == [one.value for one in EngineKvCacheDtype]
    assert [one.value for one in Speculation] == [one.value for one in EngineSpeculation]


def test_decode_alone_guesses_and_only_if_told_to() -> None:
    assert spec_of(decode={}).decode.engine.speculation is Speculation.NONE
    said = {"engine": {"speculation": "prompt-lookup"}}
    assert spec_of(decode=said).decode.engine.speculation is Speculation.PROMPT_LOOKUP
    problems = problems_of(model_service(prefill=said))
    assert problems == ("spec.prefill.engine.speculation: there is no such field",)


DRAFT = {"source": "hf://org/tiny@main"}


def test_a_draft_model_is_read_and_written_as_it_was_said() -> None:
    said = {"speculation": "draft-model", "draftModel": DRAFT}
    engine = spec_of(decode={"engine": said}).decode.engine
    assert engine.speculation is Speculation.DRAFT_MODEL
    assert engine.draft_model == DraftModel(ModelSource("hf://org/tiny@main"))
    assert written(engine) == said
    problems = problems_of(model_service(prefill={"engine": {"draftModel": DRAFT}}))
    assert problems == ("spec.prefill.engine.draftModel: there is no such field",)


def test_what_both_roles_must_share_may_be_said_in_one() -> None:
    said = {"engine": {"quantization": "int8", "kvCacheDtype": "bfloat16"}}
    for spec in (spec_of(decode=said), spec_of(decode={}, prefill=said)):
        assert spec.quantization is Quantization.INT8
        assert spec.kv_cache_dtype is KvCacheDtype.BFLOAT16
    silent = spec_of(decode={}, prefill={})
    assert silent.quantization is silent.kv_cache_dtype is None


def test_every_problem_is_told_at_once_with_its_path() -> None:
    resource = model_service(
        model={"name": "bad name", "source": "s3://x"},
        decode={"replicas": 0, "engine": {"kvCache": "lots", "colour": "red"}},
        router={"replicas": "two"},
    )
    problems = problems_of(resource)
    assert [problem.split(":")[0] for problem in problems] == [
        "spec.model.name",
        "spec.model.source",
        "spec.decode.replicas",
        "spec.decode.engine.colour",
        "spec.decode.engine.kvCache",
        "spec.router.replicas",
    ]


@pytest.mark.parametrize(
    ("change", "advice"),
    [
        pytest.param(
            {"decode": {"replicas": 1, "scaling": SCALING}},
            "give one, or neither",
            id="replicas-and-scaling",
        ),
        pytest.param(
            {"decode": {"scaling": {"minReplicas": 5, "maxReplicas": 4}}},
            "raise maxReplicas or lower minReplicas",
            id="min-above-max",
        ),
        pytest.param({"decode": {"scaling": {}}}, "give maxReplicas", id="internal-without-max"),
        pytest.param(
            {"decode": {"scaling": {"mode": "external", "maxReplicas": 4}}},
            "with mode external write them in",
            id="external-with-max",
        ),
        pytest.param(
            {"decode": {"scaling": {"mode": "external", "minReplicas": 1}}},
            "with mode external write them in",
            id="external-with-min",
        ),
        pytest.param(
            {"decode": {"scaling": {"maxReplicas": 4, "idleAfter": "5m"}}},
            "set minReplicas to 0",
            id="idle-without-zero",
        ),
        pytest.param(
            {
                "prefill": {"engine": {"quantization": "none"}},
                "decode": {"engine": {"quantization": "int8"}},
            },
            "give both the same quantization",
            id="two-quantizations",
        ),
        pytest.param(
            {
                "prefill": {"engine": {"kvCacheDtype": "int8"}},
                "decode": {"engine": {"kvCacheDtype": "bfloat16"}},
            },
            "give both the same kvCacheDtype",
            id="two-kv-cache-dtypes",
        ),
        pytest.param({"slo": None}, "give slo.ttft and slo.itl", id="scaling-without-slo"),
        pytest.param(
            {"decode": {"template": {"labels": {"app.kubernetes.io/name": "x"}}}},
            "choose another prefix",
            id="reserved-label",
        ),
        pytest.param(
            {"decode": {"template": {"volumes": [{"name": "baton-cache"}]}}},
            "choose another name",
            id="reserved-volume",
        ),
        pytest.param(
            {"decode": {"template": {"env": [{"name": "A", "value": "1", "valueFrom": {}}]}}},
            "drop one",
            id="value-and-value-from",
        ),
        pytest.param(
            {"decode": {"template": {"env": [{"name": "A"}, {"name": "A"}]}}},
            "two items have the name 'A'",
            id="doubled-env",
        ),
        pytest.param(
            {"imagePullSecrets": [{"name": str(i)} for i in range(9)]},
            "has 9 items (at most 8)",
            id="too-many",
        ),
        pytest.param(
            {"image": {"pullPolicy": "Sometimes"}},
            "must be one of Always, IfNotPresent, Never",
            id="unknown-choice",
        ),
        pytest.param(
            {"decode": {"engine": {"speculation": "draft-model"}}},
            "give draftModel.source",
            id="guesses-of-no-draft-model",
        ),
        pytest.param(
            {"decode": {"engine": {"draftModel": DRAFT}}},
            "write that, or drop draftModel",
            id="draft-model-that-does-not-guess",
        ),
        pytest.param(
            {"decode": {"engine": {"speculation": "prompt-lookup", "draftModel": DRAFT}}},
            "write that, or drop draftModel",
            id="guesses-from-elsewhere",
        ),
        pytest.param(
            {"decode": {"engine": {"speculation": "draft-model", "draftModel": {}}}},
            "draftModel.source: is required",
            id="draft-model-from-nowhere",
        ),
        pytest.param(
            {"decode": {"engine": {"speculation": "draft-model", "draftModel": {"source": "x"}}}},
            "draftModel.source: write the source as pvc://CLAIM/PATH",
            id="draft-model-of-no-source",
        ),
        pytest.param(
            {"router": {"apiKeys": {}}}, "apiKeys.secretName: is required", id="keys-without-secret"
        ),
        pytest.param(
            {"router": {"apiKeys": {"secretName": "keys/../x"}}},
            "write the name of a Secret",
            id="keys-of-no-secret",
        ),
        pytest.param({"tracing": {}}, "tracing.endpoint: is required", id="traces-to-nowhere"),
        pytest.param(
            {"tracing": {"endpoint": "otel:4318"}},
            "tracing.endpoint: write the collector as http://HOST:PORT",
            id="collector-without-scheme",
        ),
        pytest.param(
            {"tracing": {"endpoint": "http://otel:4317"}},
            "write its port for OTLP over HTTP, 4318",
            id="collector-of-grpc",
        ),
        pytest.param(
            {"tracing": {"endpoint": "http://otel:4318/v1/traces/"}},
            "drop /v1/traces",
            id="collector-with-the-path-of-spans",
        ),
        pytest.param(
            {"tracing": {"endpoint": "http://otel:4318", "sampledPercent": 101}},
            "must be at most 100",
            id="more-than-all-requests",
        ),
        pytest.param({"decode": []}, "must be an object", id="wrong-kind"),
        pytest.param(
            {"decode": {"template": {"tolerations": "all"}}}, "must be a list", id="text-for-list"
        ),
    ],
)
def test_what_cannot_be_is_refused_with_advice(change: dict[str, Any], advice: str) -> None:
    (problem,) = problems_of(model_service(**change))
    assert advice in problem


@pytest.mark.parametrize("name", ["Upper", "1digit", "a" * 51, "dot.ted", ""])
def test_a_name_that_no_service_can_have_is_refused(name: str) -> None:
    resource = model_service()
    resource["metadata"]["name"] = name
    (problem,) = problems_of(resource)
    assert problem.startswith("metadata.name: ")


def test_a_resource_without_a_spec_is_refused() -> None:
    problems = problems_of({"metadata": {"name": "a"}})
    assert problems == ("spec.model: is required", "spec.decode: is required")


def test_numbers_in_maps_are_read_as_their_text() -> None:
    spec: ModelServiceSpec = spec_of(
        decode={"template": {"resources": {"limits": {"cpu": 2, "memory": "4Gi"}}}}
    )
    assert spec.decode.template.resources.limits == {"cpu": "2", "memory": "4Gi"}

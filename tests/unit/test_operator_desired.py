"""The objects of a ModelService: what pods are told, what they may do, and who may call them."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from baton.common.config import read_settings
from baton.engine.speculation import Speculation
from baton.router.discovery import ServiceMember, parse_members
from baton.router.settings import RouterSettings
from baton.worker.settings import WorkerSettings
from baton_operator.desired import desired_manifests
from baton_operator.names import GRPC_PORT, HTTP_PORT, METRICS_PORT, Role
from baton_operator.pods import EXIT_MARGIN_S
from support.model_services import OWNER, RELEASE, spec_of

ROLES = ("router", "prefill", "decode")


def manifests(replicas: Mapping[Role, int | None] | None = None, **spec: Any) -> Any:
    """By kind and name."""
    made = desired_manifests(OWNER, spec_of(**spec), replicas or {}, RELEASE)
    return {(one["kind"], one["metadata"]["name"]): one for one in json.loads(json.dumps(made))}


def pod_of(role: str, **spec: Any) -> Any:
    return manifests(**spec)[("Deployment", f"smol-{role}")]["spec"]["template"]["spec"]


def container_of(role: str, **spec: Any) -> Any:
    (container,) = pod_of(role, **spec)["containers"]
    return container


def router_settings(**spec: Any) -> RouterSettings:
    return read_settings(RouterSettings, container_of("router", **spec)["args"], {}, program="t")


def worker_settings(role: str, **spec: Any) -> WorkerSettings:
    return read_settings(WorkerSettings, container_of(role, **spec)["args"], {}, program="t")


def test_a_service_has_the_objects_of_each_role() -> None:
    kinds = ("Deployment", "NetworkPolicy", "PodDisruptionBudget", "ServiceAccount")
    assert manifests().keys() == {
        *((kind, f"smol-{role}") for kind in kinds for role in ROLES),
        ("Service", "smol"),
        ("Service", "smol-prefill"),
        ("Service", "smol-decode"),
        ("Role", "smol-router"),
        ("RoleBinding", "smol-router"),
    }


def test_without_a_prefill_role_nothing_is_made_for_it() -> None:
    made = manifests(prefill=None)
    assert not [name for _, name in made if name.endswith("prefill")]
    assert router_settings(prefill=None).prefill_workers == ()


def test_the_router_is_told_the_model_and_its_workers() -> None:
    settings = router_settings()
    assert (settings.host, settings.port) == ("0.0.0.0", HTTP_PORT)
    assert settings.model_name == "smollm2-135m"
    assert settings.metrics_port == METRICS_PORT
    assert settings.decode_workers == ("endpoints://models/smol-decode:7000",)
    assert settings.prefill_workers == ("endpoints://models/smol-prefill:7000",)
    (member,) = parse_members("--decode-workers", settings.decode_workers)
    assert member == ServiceMember("models", "smol-decode", GRPC_PORT)


def test_the_router_measures_against_the_promise_where_there_is_one() -> None:
    slo = {"ttft": "500ms", "itl": "50ms"}
    told = router_settings(slo=slo)
    assert (told.slo_ttft_s, told.slo_itl_s) == (0.5, 0.05)
    told = router_settings(slo=None, prefill=None)
    assert (told.slo_ttft_s, told.slo_itl_s) == (None, None)


@pytest.mark.parametrize("role", ROLES)
def test_pods_speak_to_each_other_under_the_services_name(role: str) -> None:
    settings = router_settings() if role == "router" else worker_settings(role)
    assert settings.tls_name == OWNER.tls_name == "smol.models.baton"
    (volume,) = [one for one in pod_of(role)["volumes"] if "secret" in one]
    assert volume["secret"] == {"secretName": "smol-tls"}
    (mount,) = [one for one in container_of(role)["volumeMounts"] if one["name"] == volume["name"]]
    assert (mount["mountPath"], mount["readOnly"]) == (str(settings.tls_dir), True)


KEYS = {"replicas": 1, "apiKeys": {"secretName": "clients"}}


def test_routers_read_the_keys_of_clients_from_their_secret() -> None:
    container = container_of("router", router=KEYS)
    path = Path(container["args"][container["args"].index("--api-keys-file") + 1])
    (volume,) = [one for one in pod_of("router", router=KEYS)["volumes"] if "keys" in one["name"]]
    (entry,) = volume["secret"]["items"]  # what else is in the Secret stays outside
    assert volume["secret"]["secretName"] == "clients"
    assert "optional" not in volume["secret"]  # no router serves everybody for want of a Secret
    (mount,) = [one for one in container["volumeMounts"] if one["name"] == volume["name"]]
    assert "subPath" not in mount  # kubelet replaces the file when the Secret changes
    assert (Path(mount["mountPath"]) / entry["path"], mount["readOnly"]) == (path, True)
    assert (entry["key"], str(path)) == ("keys.json", "/etc/baton/keys/keys.json")


def test_nobody_but_routers_sees_the_keys_and_nobody_where_there_are_none() -> None:
    for role in ("prefill", "decode"):
        assert "clients" not in json.dumps(pod_of(role, router=KEYS))
        assert pod_of(role, router=KEYS) == pod_of(role)
    assert "keys" not in json.dumps(pod_of("router"))


@pytest.mark.parametrize("role", ROLES)
def test_the_kubelet_asks_on_the_metrics_port(role: str) -> None:
    container = container_of(role)
    asked = {
        name: container[name]["httpGet"]
        for name in ("startupProbe", "livenessProbe", "readinessProbe")
    }
    assert asked == {
        "startupProbe": {"path": "/live", "port": "metrics"},
        "livenessProbe": {"path": "/live", "port": "metrics"},
        "readinessProbe": {"path": "/ready", "port": "metrics"},
    }
    ports = {one["name"]: one["containerPort"] for one in container["ports"]}
    assert ports["metrics"] == METRICS_PORT


def test_a_worker_takes_work_for_as_long_as_routers_give_it() -> None:
    """Deleted with the whole service, all pods hear of it at once."""
    left_s = {
        role: container_of(role)["lifecycle"]["preStop"]["sleep"]["seconds"] for role in ROLES
    }
    assert left_s["router"] < left_s["prefill"] == left_s["decode"]


def test_workers_are_told_what_their_engine_shall_do() -> None:
    limits = {"resources": {"limits": {"cpu": "3500m"}}}
    engine = {"quantization": "int8", "kvCacheDtype": "bfloat16", "kvCache": "2Gi"}
    decode = worker_settings("decode", decode={"engine": engine, "template": limits})
    assert (decode.host, decode.port) == ("0.0.0.0", GRPC_PORT)
    assert decode.metrics_port == METRICS_PORT
    assert (decode.quantization.value, decode.kv_cache_dtype.value) == ("int8", "bfloat16")
    assert decode.kv_cache_mib == 2048
    assert decode.threads == 3
    prefill = worker_settings("prefill", decode={"engine": engine, "template": limits})
    # both roles hand KV to each other
    assert prefill.quantization == decode.quantization
    assert prefill.kv_cache_dtype == decode.kv_cache_dtype
    assert (prefill.kv_cache_mib, prefill.threads) == (1024, 1)  # the worker's defaults


def test_decode_guesses_where_the_spec_says_so() -> None:
    said = {"engine": {"speculation": "prompt-lookup"}}
    told = worker_settings("decode", decode=said)
    assert told.speculation is Speculation.PROMPT_LOOKUP
    assert worker_settings("prefill", decode=said).speculation is Speculation.NONE


def test_a_draft_model_in_the_environment_is_not_overruled() -> None:
    env = {"BATON_SPECULATION": "draft-model", "BATON_DRAFT_MODEL": "file:///draft.gguf"}
    args = container_of("decode", decode={"engine": {"speculation": "none"}})["args"]
    told = read_settings(WorkerSettings, args, env, program="t")
    assert told.speculation is Speculation.DRAFT_MODEL


def test_part_of_a_core_is_one_thread() -> None:
    template = {"resources": {"requests": {"cpu": "250m"}}}
    assert worker_settings("decode", decode={"template": template}).threads == 1


@pytest.mark.parametrize("role", ROLES)
def test_the_kubelet_waits_longer_than_the_drain(role: str) -> None:
    pod, args = pod_of(role), container_of(role)["args"]
    drain_s = float(args[args.index("--drain-timeout-s") + 1])
    lifecycle = container_of(role).get("lifecycle", {})
    leave_s = lifecycle.get("preStop", {}).get("sleep", {}).get("seconds", 0)
    assert pod["terminationGracePeriodSeconds"] == leave_s + drain_s + EXIT_MARGIN_S


def test_no_request_outlives_the_drain_of_its_router() -> None:
    settings = router_settings()
    assert settings.drain_timeout_s >= settings.request_timeout_s


@pytest.mark.parametrize(
    ("decode", "holds"),
    [
        ({"replicas": 2}, False),
        ({"scaling": {"maxReplicas": 2}}, False),
        ({"scaling": {"minReplicas": 0, "maxReplicas": 2}}, True),
        ({"scaling": {"mode": "external"}}, True),
    ],
)
def test_where_decode_may_be_at_zero_routers_hold_requests(
    decode: dict[str, Any], holds: bool
) -> None:
    settings = router_settings(decode=decode)
    assert settings.scale_from_zero is holds
    assert settings.ready_wait_s < settings.request_timeout_s


def test_weights_on_a_claim_are_mounted_for_reading() -> None:
    model = {"name": "m", "source": "pvc://models/smol/m.gguf"}
    pod = pod_of("decode", model=model)
    assert "initContainers" not in pod
    (volume,) = [one for one in pod["volumes"] if one["name"] == "baton-weights"]
    assert volume["persistentVolumeClaim"] == {"claimName": "models", "readOnly": True}
    assert worker_settings("decode", model=model).model == "file:///weights/smol/m.gguf"


def test_weights_in_an_image_are_copied_out_by_its_own_cp() -> None:
    model = {"name": "m", "source": "oci://reg.example/w:v1/models/smol"}
    (copy,) = pod_of("router", model=model)["initContainers"]
    assert copy["image"] == "reg.example/w:v1"
    assert copy["command"] == ["cp", "-R", "/models/smol", "/weights/"]
    assert router_settings(model=model).model == "file:///weights/smol"


def test_weights_from_the_network_are_pulled_before_the_process_starts() -> None:
    (pull,) = pod_of("decode")["initContainers"]
    settings = worker_settings("decode")
    assert pull["image"] == RELEASE.worker
    assert pull["command"][-4:] == ["pull", settings.model, "--cache-dir", str(settings.cache_dir)]
    cache = Path(settings.cache_dir)
    assert str(cache) in [mount["mountPath"] for mount in pull["volumeMounts"]]


def test_what_a_pull_lays_aside_does_not_fill_the_folder_that_has_a_limit() -> None:
    """Kubelet evicts a pod whose volume grows beyond its limit; a wheel passes through TMPDIR."""
    pod = pod_of("decode")
    (pull,) = pod["initContainers"]
    environ = {one["name"]: one["value"] for one in pull["env"]}
    volumes = {mount["mountPath"]: mount["name"] for mount in pull["volumeMounts"]}
    limits = {one["name"]: one.get("emptyDir", {}).get("sizeLimit") for one in pod["volumes"]}
    assert limits[volumes[environ["TMPDIR"]]] is None
    assert limits[volumes[environ["HOME"]]] is not None  # where pip would keep a cache
    assert environ["PIP_NO_CACHE_DIR"] == "1"


def test_replicas_are_fixed_decided_or_somebody_elses() -> None:
    made = manifests({Role.PREFILL: 3})
    assert made[("Deployment", "smol-decode")]["spec"]["replicas"] == 2
    assert made[("Deployment", "smol-prefill")]["spec"]["replicas"] == 3
    assert made[("Deployment", "smol-router")]["spec"]["replicas"] == 2
    external = manifests(decode={"scaling": {"mode": "external"}})
    assert "replicas" not in external[("Deployment", "smol-decode")]["spec"]
    assert manifests(decode={})[("Deployment", "smol-decode")]["spec"]["replicas"] == 1


def test_a_decision_of_zero_is_zero_and_not_nothing() -> None:
    made = manifests({Role.PREFILL: 0})
    assert made[("Deployment", "smol-prefill")]["spec"]["replicas"] == 0


def test_a_users_template_is_merged_into_ours() -> None:
    template = {
        "labels": {"team": "search"},
        "annotations": {"note": "x"},
        "nodeSelector": {"gpu": "h200"},
        "tolerations": [{"key": "gpu", "operator": "Exists", "tolerationSeconds": 0}],
        "affinity": {"nodeAffinity": {}},
        "resources": {"requests": {"cpu": 2}, "limits": {"nvidia.com/gpu": 1}},
        "env": [{"name": "HOME", "value": "/home"}, {"name": "A", "valueFrom": {"x": "y"}}],
        "volumes": [{"name": "mine", "emptyDir": {}}],
        "volumeMounts": [{"name": "mine", "mountPath": "/mine", "readOnly": True}],
        "probes": {"startup": {"failureThreshold": 900}, "liveness": {"initialDelaySeconds": 0}},
    }
    made = manifests(decode={"template": template})[("Deployment", "smol-decode")]
    metadata = made["spec"]["template"]["metadata"]
    assert metadata["labels"]["team"] == "search"
    assert metadata["labels"]["app.kubernetes.io/component"] == "decode"
    assert metadata["annotations"] == {"note": "x"}
    pod = made["spec"]["template"]["spec"]
    assert pod["nodeSelector"] == {"gpu": "h200"}
    assert pod["tolerations"] == template["tolerations"]
    assert pod["affinity"] == template["affinity"]
    assert {"name": "mine", "emptyDir": {}} in pod["volumes"]
    (container,) = pod["containers"]
    assert container["resources"] == {"requests": {"cpu": "2"}, "limits": {"nvidia.com/gpu": "1"}}
    assert container["env"] == template["env"]
    assert container["volumeMounts"][-1] == template["volumeMounts"][0]  # type: ignore[index]
    assert container["startupProbe"]["failureThreshold"] == 900
    assert container["startupProbe"]["httpGet"] == {"path": "/live", "port": "metrics"}
    assert container["livenessProbe"]["initialDelaySeconds"] == 0


def test_a_variable_of_a_template_takes_nothing_from_ours_of_that_name() -> None:
    home = {"name": "HOME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}
    assert container_of("router", router={"template": {"env": [home]}})["env"] == [home]


def test_images_and_pull_secrets_come_from_the_spec_where_it_has_them() -> None:
    image = {"worker": "mine:2", "pullPolicy": "Never"}
    spec: dict[str, Any] = {"image": image, "imagePullSecrets": [{"name": "key"}]}
    assert container_of("decode", **spec)["image"] == "mine:2"
    assert container_of("decode", **spec)["imagePullPolicy"] == "Never"
    assert container_of("router", **spec)["image"] == RELEASE.router
    assert pod_of("router", **spec)["imagePullSecrets"] == [{"name": "key"}]


def test_only_workers_carry_vllms_label() -> None:
    made = manifests()
    for role, engine in (("router", None), ("prefill", "vllm"), ("decode", "vllm")):
        labels = made[("Deployment", f"smol-{role}")]["spec"]["template"]["metadata"]["labels"]
        assert labels.get("llm-d.ai/engine-type") == engine


def test_services_lead_to_ports_that_containers_have() -> None:
    made = manifests()
    for name, role in (("smol", "router"), ("smol-prefill", "prefill"), ("smol-decode", "decode")):
        (port,) = made[("Service", name)]["spec"]["ports"]
        ports = {one["name"]: one["containerPort"] for one in container_of(role)["ports"]}
        assert ports[port["targetPort"]] == port["port"]
    assert made[("Service", "smol-decode")]["spec"]["clusterIP"] == "None"
    assert made[("Service", "smol-decode")]["spec"]["publishNotReadyAddresses"] is True


def test_every_object_is_owned_and_labelled() -> None:
    for one in manifests().values():
        (reference,) = one["metadata"]["ownerReferences"]
        assert (reference["uid"], reference["controller"]) == (OWNER.uid, True)
        assert one["metadata"]["namespace"] == OWNER.namespace
        assert one["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "baton-operator"


def test_the_same_spec_gives_the_same_manifests() -> None:
    assert json.dumps(list(manifests().values())) == json.dumps(list(manifests().values()))

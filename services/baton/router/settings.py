"""What the router can be told. Frozen; read from flags and environment by `baton.common.config`."""

from dataclasses import dataclass
from pathlib import Path

from baton.common.config import setting


@dataclass(frozen=True, slots=True)
class RouterSettings:
    """The OpenAI endpoint of one model in front of its prefill and decode workers."""

    model: str = setting("model reference, for its tokenizer: pip://..., hf://... or file://...")
    model_name: str = setting("the name clients ask for")
    decode_workers: tuple[str, ...] = setting(
        "decode workers: host:port, dns://name:port or endpoints://namespace/service:port,..."
    )
    prefill_workers: tuple[str, ...] = setting(
        "prefill workers, in the same form; without any, decode workers compute prompts", default=()
    )
    cores_shared: bool = setting(
        "workers of both roles are on the same cores, as on a laptop: prefill computes every prompt"
        " that decode has no cached prefix of",
        default=False,
    )
    host: str = setting("address to listen on", default="127.0.0.1")
    port: int = setting("HTTP port", default=8000, at_least=1, at_most=65_535)
    metrics_port: int = setting(
        "port for metrics, probes and scaling signals; 0: metrics and /ready stay on the HTTP port",
        default=0,
        at_least=0,
        at_most=65_535,
    )
    tls_dir: Path | None = setting(  # noqa: RUF009
        "directory with ca.crt, tls.crt and tls.key, for mutual TLS with workers; none: plaintext",
        default=None,
    )
    tls_name: str | None = setting("name that workers' certificates must carry", default=None)
    api_keys_file: Path | None = setting(  # noqa: RUF009
        "JSON file of tenants and the SHA-256 of their API keys, read again when it changes; none:"
        " no keys are asked for",
        default=None,
    )
    slo_ttft_s: float | None = setting(
        "target for the time to the first token, in seconds; none: attainment is not measured",
        default=None,
        at_least=0.0,
    )
    slo_itl_s: float | None = setting(
        "target for an answer's mean time between tokens, in seconds; none: not measured",
        default=None,
        at_least=0.0,
    )
    cache_dir: Path = setting("where pulled models are kept", default=Path("~/.cache/baton"))  # noqa: RUF009
    request_timeout_s: float = setting(
        "seconds a request may take; the OpenAI client gives up after 600 as well",
        default=600.0,
        at_least=0.1,
        at_most=86_400.0,
    )
    ready_wait_s: float = setting(
        "seconds a request waits for a ready decode worker; a restart of a small model takes less",
        default=5.0,
        at_least=0.0,
        at_most=3_600.0,
    )
    scale_from_zero: bool = setting(
        "hold requests until their deadline while there is no decode worker: one will be started",
        default=False,
    )
    requests_max: int = setting(
        "requests in flight, held ones included; more are refused with 429",
        default=1_024,
        at_least=1,
    )
    prompt_tokens_max: int = setting(
        "prompt tokens of the requests in flight; more are refused with 429",
        default=4_194_304,
        at_least=1,
    )
    body_bytes_max: int = setting(
        "bytes of a request body; a prompt of a million tokens has about 4 MiB",
        default=8_388_608,
        at_least=1_024,
    )
    dns_interval_s: float = setting(
        "seconds between two looks at dns:// names; about the lifetime of a cluster's records",
        default=5.0,
        at_least=0.1,
        at_most=3_600.0,
    )
    drain_timeout_s: float = setting(
        "seconds running requests may take after SIGTERM; below Kubernetes' grace of 30 s",
        default=25.0,
        at_least=0.0,
        at_most=86_400.0,
    )

"""The commands that make a local stack, and what its options mean. Nothing is started."""

from pathlib import Path

import pytest
from baton.cli.serve import banner, reachable_url
from baton.cli.stack import (
    DEFAULT_MODEL,
    StackOptions,
    served_name,
    stack_children,
    threads_per_worker,
)
from baton.engine.quant.kv import KvCacheDtype
from baton.engine.quant.quantization import Quantization
from baton.engine.speculation import Speculation


def options(
    *,
    prefill: int = 1,
    decode: int = 1,
    host: str = "127.0.0.1",
    api_keys_file: Path | None = None,
) -> StackOptions:
    return StackOptions(
        model="file:///m.gguf",
        model_name="m",
        host=host,
        port=8000,
        prefill=prefill,
        decode=decode,
        quantization=Quantization.INT8,
        kv_cache_dtype=KvCacheDtype.BFLOAT16,
        speculation=Speculation.DRAFT_MODEL,
        draft_model="file:///draft.gguf",
        threads=3,
        cache_dir=Path("/cache"),
        api_keys_file=api_keys_file,
    )


def flags(command: tuple[str, ...]) -> dict[str, str]:
    """`python -m MODULE --a x --b y` as a mapping of flags."""
    assert command[:2] == ("py", "-m")
    return dict(zip(command[3::2], command[4::2], strict=True))


def test_stack_has_one_process_per_worker_and_one_router() -> None:
    children = stack_children(options(prefill=2, decode=1), [7001, 7002, 7003], "py")
    assert [(child.name, child.command[2]) for child in children] == [
        ("prefill-0", "baton.prefill"),
        ("prefill-1", "baton.prefill"),
        ("decode-0", "baton.decode"),
        ("router", "baton.router"),
    ]


def test_router_knows_every_worker_by_role() -> None:
    router = stack_children(options(prefill=2, decode=1), [7001, 7002, 7003], "py")[-1]
    assert flags(router.command) == {
        "--host": "127.0.0.1",
        "--port": "8000",
        "--model": "file:///m.gguf",
        "--model-name": "m",
        "--cache-dir": "/cache",
        "--prefill-workers": "127.0.0.1:7001,127.0.0.1:7002",
        "--decode-workers": "127.0.0.1:7003",
        "--cores-shared": "true",
        "--drain-timeout-s": "5",
    }


def test_the_router_ends_before_the_workers_that_it_needs() -> None:
    *workers, router = stack_children(options(), [7001, 7002], "py")
    assert router.ends_first
    assert not any(worker.ends_first for worker in workers)


def test_without_prefill_workers_the_router_gets_no_such_flag() -> None:
    router = stack_children(options(prefill=0, decode=2), [7001, 7002], "py")[-1]
    assert "--prefill-workers" not in router.command
    assert "--cores-shared" not in router.command
    assert flags(router.command)["--decode-workers"] == "127.0.0.1:7001,127.0.0.1:7002"


def test_the_router_alone_is_told_of_api_keys_and_the_banner_shows_how_to_use_one() -> None:
    asking = options(api_keys_file=Path("/keys.json"))
    *workers, router = stack_children(asking, [7001, 7002], "py")
    assert flags(router.command)["--api-keys-file"] == "/keys.json"
    assert not any("--api-keys-file" in worker.command for worker in workers)
    assert "authorization: Bearer $OPENAI_API_KEY" in banner(asking, "baton")
    assert "authorization" not in banner(options(), "baton")


def test_workers_stay_on_loopback_even_when_the_endpoint_is_public() -> None:
    prefill, decode, router = stack_children(options(host="0.0.0.0"), [7001, 7002], "py")
    assert flags(prefill.command)["--host"] == flags(decode.command)["--host"] == "127.0.0.1"
    assert flags(router.command)["--host"] == "0.0.0.0"


def test_only_decode_is_told_to_guess() -> None:
    prefill, decode, _ = stack_children(options(), [7001, 7002], "py")
    assert "--speculation" not in prefill.command
    assert flags(decode.command)["--draft-model"] == "file:///draft.gguf"


def test_decode_stands_back_where_prefill_is_beside_it_and_only_there() -> None:
    prefill, decode, _ = stack_children(options(), [7001, 7002], "py")
    assert "--niceness" not in prefill.command
    assert "--niceness" in decode.command
    alone = stack_children(options(prefill=0), [7001], "py")[0]
    assert "--niceness" not in alone.command


def test_workers_are_told_model_quantization_threads_and_port() -> None:
    decode = stack_children(options(), [7001, 7002], "py")[1]
    assert flags(decode.command) == {
        "--host": "127.0.0.1",
        "--port": "7002",
        "--model": "file:///m.gguf",
        "--model-name": "m",
        "--cache-dir": "/cache",
        "--niceness": "10",
        "--speculation": "draft-model",
        "--draft-model": "file:///draft.gguf",
        "--quantization": "int8",
        "--kv-cache-dtype": "bfloat16",
        "--threads": "3",
        "--drain-timeout-s": "5",
    }


@pytest.mark.parametrize(
    ("cores", "prefill", "decode", "threads"),
    [(2, 1, 1, 1), (16, 1, 1, 8), (16, 1, 2, 5), (2, 0, 1, 2), (1, 2, 2, 1)],
)
def test_on_torch_cores_are_shared_equally_and_nobody_gets_none(
    cores: int, prefill: int, decode: int, threads: int
) -> None:
    assert threads_per_worker(cores, prefill, decode, kernels=False) == threads


@pytest.mark.parametrize(
    ("cores", "prefill", "decode", "threads"),
    [(2, 1, 1, 2), (16, 1, 1, 16), (16, 1, 3, 5), (16, 2, 2, 8), (2, 0, 1, 2), (1, 2, 2, 1)],
)
def test_on_our_kernels_the_roles_share_all_cores(
    cores: int, prefill: int, decode: int, threads: int
) -> None:
    assert threads_per_worker(cores, prefill, decode, kernels=True) == threads


@pytest.mark.parametrize(
    ("reference", "name"),
    [
        (DEFAULT_MODEL, "smollm2-135m"),
        ("file:///models/Tiny.gguf", "tiny"),
        ("file:///models/tiny-dir/", "tiny-dir"),
        ("hf://Org/Some-Repo", "some-repo"),
        ("hf://Org/Some-Repo@refs/pr/1", "some-repo"),
        ("hf://Org/Some-Repo@main#Model.gguf", "model"),
        ("pip://pkg==1.0#inner/Model.Q8_0.gguf", "model.q8_0"),
    ],
)
def test_name_of_a_model_comes_from_its_reference(reference: str, name: str) -> None:
    assert served_name(reference) == name


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:8000"),
        ("0.0.0.0", "http://127.0.0.1:8000"),
        ("::1", "http://[::1]:8000"),
        ("::", "http://127.0.0.1:8000"),
    ],
)
def test_url_is_one_that_a_local_client_can_open(host: str, url: str) -> None:
    assert reachable_url(options(host=host)) == url


def test_banner_says_where_how_and_how_to_end() -> None:
    text = banner(options(), "baton")
    assert "http://127.0.0.1:8000/v1/chat/completions" in text
    assert "baton chat --url http://127.0.0.1:8000" in text
    assert "Ctrl-C" in text

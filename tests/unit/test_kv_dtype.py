"""What the KV cache holds follows from what workers of one service have in common, never from the
machine: peers on unlike processors exchange KV.
"""

import pytest
from baton.common.errors import ConfigError
from baton.engine.quant.kv import (
    KvCacheDtype,
    kv_dtype_name,
    kv_vector_bytes,
    require_fit,
    require_kv_on_cpu,
)
from baton.engine.quant.quantization import (
    CPU_SCHEMES,
    CUDA_SCHEMES,
    Quantization,
    require_on_cpu,
    require_on_cuda,
)


@pytest.mark.parametrize(
    ("quantization", "held"),
    [
        (Quantization.NONE, "float32"),
        (Quantization.BF16, "bfloat16"),
        (Quantization.INT8, "int8"),
        (Quantization.INT8_WEIGHT_ONLY, "bfloat16"),
        (Quantization.INT4_WEIGHT_ONLY, "bfloat16"),
        (Quantization.INT4, "int8"),
        (Quantization.FP8, "bfloat16"),
    ],
)
def test_auto_follows_the_weights(quantization: Quantization, held: str) -> None:
    found = kv_dtype_name(quantization, KvCacheDtype.AUTO, block_size=16, head_size=64)
    assert found == held


@pytest.mark.parametrize(("block_size", "head_size"), [(8, 64), (16, 24), (24, 80)])
def test_auto_takes_8_bits_only_where_block_and_head_allow(block_size: int, head_size: int) -> None:
    shape = {"block_size": block_size, "head_size": head_size}
    assert kv_dtype_name(Quantization.INT8, KvCacheDtype.AUTO, **shape) == "bfloat16"
    asked = kv_dtype_name(Quantization.INT8, KvCacheDtype.INT8, **shape)
    assert asked == "int8"
    with pytest.raises(ConfigError, match="multiple"):
        require_fit(asked, **shape)


@pytest.mark.parametrize("choice", [c for c in KvCacheDtype if c is not KvCacheDtype.AUTO])
@pytest.mark.parametrize("quantization", Quantization)
def test_what_is_asked_for_is_held(quantization: Quantization, choice: KvCacheDtype) -> None:
    assert kv_dtype_name(quantization, choice, block_size=16, head_size=64) == choice.value
    assert kv_vector_bytes(choice.value, 64) >= 64


def test_a_cpu_worker_refuses_what_only_a_cuda_device_computes() -> None:
    for scheme in CPU_SCHEMES:
        require_on_cpu(scheme)
    with pytest.raises(ConfigError, match="fp8 needs a CUDA device"):
        require_on_cpu(Quantization.FP8)
    require_kv_on_cpu("int8")
    with pytest.raises(ConfigError, match="fp8 needs a CUDA device"):
        require_kv_on_cpu("fp8")


def test_a_cuda_worker_refuses_what_only_a_processor_computes() -> None:
    for scheme in CUDA_SCHEMES:
        require_on_cuda(scheme)
    with pytest.raises(ConfigError, match="int4 is for CPUs; on a CUDA device choose int4-weight"):
        require_on_cuda(Quantization.INT4)

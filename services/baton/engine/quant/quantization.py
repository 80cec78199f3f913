"""The compute schemes a worker can be asked for. Pure values; importing them costs no torch.

Knows which of them a processor has; knows no kernels.
"""

from enum import Enum

from baton.common.errors import ConfigError


class Quantization(Enum):
    """How the linear layers compute. Residual stream, norms and rotary are float32 always."""

    NONE = "none"  # float32 weights; KV in float32
    BF16 = "bf16"  # bfloat16 weights and products; KV in bfloat16
    INT8 = "int8"  # 8-bit weights per output, 8-bit activations per token; KV in 8 bits
    INT4 = "int4"  # 4-bit weights in groups of 32, 8-bit activations per 64 channels; CPU only
    INT8_WEIGHT_ONLY = "int8-weight-only"  # 8-bit weights per output; the rest as in bf16
    INT4_WEIGHT_ONLY = "int4-weight-only"  # 4-bit weights in groups of 32; the rest as in bf16
    FP8 = "fp8"  # 8-bit floats: weights per output, activations per token; CUDA only

    @classmethod
    def parse(cls, text: str) -> "Quantization":
        """Raises ConfigError for an unknown name."""
        try:
            return cls(text.strip().lower())
        except ValueError:
            known = ", ".join(scheme.value for scheme in cls)
            raise ConfigError([f"quantization {text!r:.40} is unknown (known: {known})"]) from None


CPU_SCHEMES = tuple(scheme for scheme in Quantization if scheme is not Quantization.FP8)
"""No processor multiplies 8-bit floats; there int8 takes the same memory and loses less."""


CUDA_SCHEMES = tuple(scheme for scheme in Quantization if scheme is not Quantization.INT4)
"""A device multiplies bfloat16 as fast as it reads 4 bits: there the activations keep theirs."""


def refused_on_cpu(quantization: Quantization) -> ConfigError:
    """What a CPU worker answers to a scheme that is not of CPU_SCHEMES."""
    return ConfigError(
        [f"quantization {quantization.value} needs a CUDA device; on a CPU choose int8"]
    )


def require_on_cpu(quantization: Quantization) -> None:
    """Raises ConfigError for a scheme that only CUDA devices compute."""
    if quantization not in CPU_SCHEMES:
        raise refused_on_cpu(quantization)


def require_on_cuda(quantization: Quantization) -> None:
    """Raises ConfigError for a scheme that only processors compute."""
    if quantization not in CUDA_SCHEMES:
        raise refused_on_cuda(quantization)


def refused_on_cuda(quantization: Quantization) -> ConfigError:
    """What a CUDA worker answers to a scheme that is not of CUDA_SCHEMES."""
    return ConfigError(
        [f"quantization {quantization.value} is for CPUs; on a CUDA device choose int4-weight-only"]
    )

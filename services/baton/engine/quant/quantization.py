"""The compute schemes a worker can be asked for. Pure values; importing them costs no torch."""

from enum import Enum

from baton.common.errors import ConfigError


class Quantization(Enum):
    """How the linear layers compute. Residual stream, norms and rotary are float32 always."""

    NONE = "none"  # float32 weights; KV in float32
    BF16 = "bf16"  # bfloat16 weights and products; KV in bfloat16
    INT8 = "int8"  # 8-bit weights per output, 8-bit activations per token; KV in 8 bits
    INT8_WEIGHT_ONLY = "int8-weight-only"  # 8-bit weights per output; the rest as in bf16
    INT4_WEIGHT_ONLY = "int4-weight-only"  # 4-bit weights in groups of 32; the rest as in bf16

    @classmethod
    def parse(cls, text: str) -> "Quantization":
        """Raises ConfigError for an unknown name."""
        try:
            return cls(text.strip().lower())
        except ValueError:
            known = ", ".join(scheme.value for scheme in cls)
            raise ConfigError([f"quantization {text!r:.40} is unknown (known: {known})"]) from None

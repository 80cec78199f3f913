"""What a compute scheme makes of a model beyond its layers. Pure; importing it costs no torch.

Knows schemes; knows no weights.
"""

from baton.engine.quant.quantization import Quantization

ROTATED_CHANNELS = 64
"""Of int8: channels that are rotated together, see `int8`. 128 would gain a tenth more, at twice
the cost in prefill."""


_HEADS = {
    Quantization.INT4: Quantization.INT8,
    Quantization.INT4_WEIGHT_ONLY: Quantization.INT8_WEIGHT_ONLY,
}


def head_scheme(quantization: Quantization) -> Quantization:
    """Of the head, given that of the layers. Four bits are too few for it: with eight, perplexity
    rises 0.2 % instead of 6 % (`make quality`)."""
    return _HEADS.get(quantization, quantization)


def narrow_embedding(quantization: Quantization) -> bool:
    """Whether the embedding is kept in bfloat16, else float32. Rows are only looked up: that halves
    the table where weights are rounded anyway."""
    return quantization is not Quantization.NONE

"""What is to be measured on a CUDA device, and what was aimed at. Values alone."""

from baton.engine.quant.quantization import Quantization

from baton_loadtest.gpu_report import decode_work, prefill_work
from baton_loadtest.gpu_spec import PROMPTS, REQUESTS, ShapeName

DECODE_AIM, PREFILL_AIM = "≥ 85 %", "≥ 70 %"
END_TO_END_AIM = "≥ 95 %"
KERNEL_AIM = "≥ 80 %"
HANDOFF_AIM = "≤ 5 ms"

AIMS = {
    **{decode_work(requests): DECODE_AIM for requests in REQUESTS},
    **{prefill_work(tokens): PREFILL_AIM for tokens in PROMPTS},
}
"""Of the roofline, by work."""

Case = tuple[str, str]
"""A shape and a quantization."""

AIMED_AT: Case = (ShapeName.LLAMA_3_1_8B.value, Quantization.BF16.value)

FURTHER: tuple[Case, ...] = (
    *((shape.value, AIMED_AT[1]) for shape in ShapeName if shape.value != AIMED_AT[0]),
    *(
        (AIMED_AT[0], scheme.value)
        for scheme in (
            Quantization.FP8,
            Quantization.INT8,
            Quantization.INT8_WEIGHT_ONLY,
            Quantization.INT4_WEIGHT_ONLY,
        )
    ),
)
"""Each shape, and each scheme, once."""

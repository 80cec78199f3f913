"""The tensor types of GGUF files: their numbers on disk, block lengths and block sizes.

Knows how many bytes a tensor takes; knows nothing of how its values are decoded.
"""

from enum import Enum


class GgmlType(Enum):
    """A supported tensor type: (number in the file, values per block, bytes per block)."""

    F32 = (0, 1, 4)
    F16 = (1, 1, 2)
    Q4_0 = (2, 32, 18)
    Q4_1 = (3, 32, 20)
    Q5_0 = (6, 32, 22)
    Q5_1 = (7, 32, 24)
    Q8_0 = (8, 32, 34)
    Q4_K = (12, 256, 144)
    Q5_K = (13, 256, 176)
    Q6_K = (14, 256, 210)
    BF16 = (30, 1, 2)

    def __init__(self, number: int, block_values: int, block_bytes: int) -> None:
        self.number = number
        self.block_values = block_values
        self.block_bytes = block_bytes


GGML_TYPES = {kind.number: kind for kind in GgmlType}
SUPPORTED_GGML_TYPES = " ".join(kind.name for kind in GgmlType)

# Types other programs write and this one does not read: only so that the refusal can name them.
_FOREIGN_NAMES = {
    9: "Q8_1",
    10: "Q2_K",
    11: "Q3_K",
    15: "Q8_K",
    16: "IQ2_XXS",
    17: "IQ2_XS",
    18: "IQ3_XXS",
    19: "IQ1_S",
    20: "IQ4_NL",
    21: "IQ3_S",
    22: "IQ2_S",
    23: "IQ4_XS",
    24: "I8",
    25: "I16",
    26: "I32",
    27: "I64",
    28: "F64",
    29: "IQ1_M",
    34: "TQ1_0",
    35: "TQ2_0",
    39: "MXFP4",
    40: "NVFP4",
    41: "Q1_0",
}


def ggml_type_name(number: int) -> str:
    """The name of a tensor type for people, supported or not."""
    kind = GGML_TYPES.get(number)
    return kind.name if kind else _FOREIGN_NAMES.get(number, f"number {number}")

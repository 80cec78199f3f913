"""Random blocks of every quantized GGUF format: any bytes are one, apart from its scales."""

import numpy as np
from baton.model.ggml import GgmlType
from numpy.typing import NDArray

# Where each format keeps its float16 scales (byte offsets): these must be finite numbers.
SCALES_AT = {
    GgmlType.Q8_0: (0,),
    GgmlType.Q4_0: (0,),
    GgmlType.Q4_1: (0, 2),
    GgmlType.Q5_0: (0,),
    GgmlType.Q5_1: (0, 2),
    GgmlType.Q4_K: (0, 2),
    GgmlType.Q5_K: (0, 2),
    GgmlType.Q6_K: (208,),
}


def random_blocks(
    kind: GgmlType, blocks: int, *, seed: int = 0, spread: float = 0.1
) -> NDArray[np.uint8]:
    """[blocks, block bytes], with scales around 0 of that `spread`."""
    generator = np.random.default_rng((kind.number, seed))
    packed = generator.integers(0, 256, (blocks, kind.block_bytes), dtype=np.uint8)
    for offset in SCALES_AT[kind]:
        scales = generator.normal(0, spread, (blocks, 1)).astype(np.float16)
        packed[:, offset : offset + 2] = scales.view(np.uint8)
    return packed

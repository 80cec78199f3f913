"""Counter-based noise: one Gumbel number per (seed, position, token id), the same on every worker.

The token with the largest logit + noise is a draw from the softmax of the logits. Knows neither
logits nor any state. A tiny change of the logits changes the token only where the two best sums all
but tie; a draw by cumulative sums would change wherever it falls near one of its many borders.
"""

import numpy as np
from numpy.typing import NDArray


def gumbel(seed: int, position: int, count: int) -> NDArray[np.float64]:
    """[count] standard Gumbel numbers for token ids 0 .. count - 1 at index `position`.

    `seed` has 64 bits. Philox is a counter-based generator whose raw output numpy keeps stable.
    """
    key = np.array([seed, position], dtype=np.uint64)
    words = np.random.Philox(key=key).random_raw(count)
    # 53 bits, moved off both ends of (0, 1), where a logarithm would be infinite
    noise: NDArray[np.float64] = (words >> np.uint64(11)).astype(np.float64)
    noise += 0.5
    noise *= 2.0**-53
    for _ in range(2):  # -log(-log(u)), in place
        np.log(noise, out=noise)
        np.negative(noise, out=noise)
    return noise

"""Counter-based noise: one Gumbel number per (seed, position, token id), the same on every worker.

The token with the largest logit + noise is a draw from the softmax of the logits. Knows neither
logits nor any state. A tiny change of the logits changes the token only where the two best sums all
but tie; a draw by cumulative sums would change wherever it falls near one of its many borders.
"""

import math

import numpy as np
from numpy.typing import NDArray

WORD_BITS = 53  # of 64: what a float64 holds exactly
BORDER_SLACK = 1e-9  # logarithms err by some 1e-16, and the border with them


class Noise:
    """The noise of one draw. Words are made at once and turned into numbers as they are asked for:
    that costs five times as much as the words."""

    def __init__(self, seed: int, position: int, count: int) -> None:
        """For token ids 0 .. count - 1, to be drawn at index `position`. `seed` has 64 bits.

        Philox is a counter-based generator whose raw output numpy keeps stable.
        """
        key = np.array([seed, position], dtype=np.uint64)
        self._words = np.random.Philox(key=key).random_raw(count)

    def at(self, token_ids: NDArray[np.intp]) -> NDArray[np.float64]:
        """Standard Gumbel numbers of some tokens."""
        # 53 bits, moved off both ends of (0, 1), where a logarithm would be infinite
        noise: NDArray[np.float64] = (self._words[token_ids] >> np.uint64(11)).astype(np.float64)
        noise += 0.5
        noise *= 2.0**-WORD_BITS
        for _ in range(2):  # -log(-log(u)), in place
            np.log(noise, out=noise)
            np.negative(noise, out=noise)
        return noise

    def above(self, border: float) -> NDArray[np.intp]:
        """All token ids whose number is above `border`, in order, and perhaps a few just below."""
        share = math.exp(-math.exp(min(-border, 700.0)))  # of the numbers that are below
        word = int(share * (1.0 - BORDER_SLACK) * 2.0**64)
        return np.flatnonzero(self._words >= np.uint64(word))

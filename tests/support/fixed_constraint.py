"""A constraint that is a table: the tokens that may follow each output it knows."""

from collections.abc import Mapping, Sequence

import numpy as np


class FixedConstraint:
    """Implements Constraint."""

    def __init__(self, following: Mapping[tuple[int, ...], Sequence[int]], vocab_size: int) -> None:
        self._following, self._vocab_size = following, vocab_size

    def allowed(self, output: Sequence[int]) -> bytes | None:
        tokens = self._following.get(tuple(output))
        if tokens is None:
            return None
        bits = np.zeros(self._vocab_size, np.uint8)
        bits[list(tokens)] = 1
        return np.packbits(bits, bitorder="little").tobytes()

    def forced(self, output: Sequence[int]) -> Sequence[int]:
        found: list[int] = []
        while len(following := self._following.get((*output, *found), ())) == 1:
            found += following
        return found

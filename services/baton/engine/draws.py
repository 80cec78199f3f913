"""Counter-based randomness: one uniform draw per (seed, position), the same on every worker.

Knows no generator state, so a request that moves, is preempted or is resumed draws what it would
have drawn.
"""

from hashlib import blake2b

DRAW_BITS = 53  # as many as a float64 mantissa holds


def uniform(seed: int, position: int) -> float:
    """A draw in [0, 1) for the token at index `position` of prompt + output."""
    key = seed.to_bytes(8, "little") + position.to_bytes(8, "little")
    word = int.from_bytes(blake2b(key, digest_size=8, person=b"baton-draw").digest(), "little")
    return float(word >> (64 - DRAW_BITS)) / float(1 << DRAW_BITS)

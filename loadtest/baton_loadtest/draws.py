"""Counter-based randomness of workloads: one uniform draw per (seed, position), on any machine.

Knows no generator state: request 7 of a run is the same whatever was drawn before it.
"""

from hashlib import blake2b

DRAW_BITS = 53  # as many as a float64 mantissa holds


def uniform(seed: int, position: int) -> float:
    """A draw in [0, 1) number `position` of a run."""
    key = seed.to_bytes(8, "little") + position.to_bytes(8, "little")
    word = int.from_bytes(blake2b(key, digest_size=8, person=b"baton-load").digest(), "little")
    return float(word >> (64 - DRAW_BITS)) / float(1 << DRAW_BITS)

"""The random words of numpy's Philox4x64-10, and Gumbel numbers made of them, on the device.

Knows counters and keys; knows nothing of what the numbers are for. Same words and formula as
`engine/noise`, in float64: numbers differ by what two libraries' logarithms do, some 1e-16.
"""

import triton
import triton.language as tl

_ROUNDS = tl.constexpr(10)
_MULTIPLIER_0 = tl.constexpr(0xD2E7470EE14C6C93)
_MULTIPLIER_1 = tl.constexpr(0xCA5A826395121157)
_STRIDE_0 = tl.constexpr(0x9E3779B97F4A7C15)  # of the key, from round to round
_STRIDE_1 = tl.constexpr(0xBB67AE8584CAA73B)
_SPARE_BITS = tl.constexpr(11)  # of 64: a float64 holds 53 exactly
_UNIT = tl.constexpr(2.0**-53)


@triton.jit
def random_words(seed, position, quads):
    """Words 4 * quad .. 4 * quad + 3 of the stream with key (seed, position).

    quads [N] uint64 -> [N, 4] uint64; seed and position uint64.
    """
    first = quads + 1  # numpy counts before it computes
    second, third, fourth = quads * 0, quads * 0, quads * 0
    key_0, key_1 = seed, position
    for _ in tl.static_range(_ROUNDS):
        high_0, low_0 = tl.umulhi(first, _MULTIPLIER_0), first * _MULTIPLIER_0
        high_1, low_1 = tl.umulhi(third, _MULTIPLIER_1), third * _MULTIPLIER_1
        first, second = high_1 ^ second ^ key_0, low_1
        third, fourth = high_0 ^ fourth ^ key_1, low_0
        key_0 += _STRIDE_0
        key_1 += _STRIDE_1
    pairs = tl.join(tl.join(first, third), tl.join(second, fourth))  # [N, 2, 2]
    return tl.reshape(pairs, [quads.shape[0], 4])


@triton.jit
def gumbel(words):
    """uint64 words -> standard Gumbel numbers, float64."""
    # off both ends of (0, 1), where a logarithm would be infinite
    share = ((words >> _SPARE_BITS).to(tl.float64) + 0.5) * _UNIT
    return -tl.log(-tl.log(share))

// Vectors of 16 floats, whatever registers the build has: exponentials, sums, levels, the rotation.
// Every sum has one fixed order, so that equal inputs give equal bits wherever they are used.
#pragma once

#ifdef __AVX512F__
#include "quads_avx512.h"
#else
#include "quads_avx2.h"
#endif

#include <algorithm>
#include <cmath>
#include <limits>

namespace baton {

constexpr int kLanes = 16;
constexpr float kLog2E = 1.44269504088896341f;
constexpr int kLevels = 127;  // of 8-bit values: -127 .. 127

inline void ask_for(const void* place) {
  _mm_prefetch(static_cast<const char*>(place), _MM_HINT_T0);
}

inline int round_up(int value, int unit) { return (value + unit - 1) / unit * unit; }

inline Floats load_bf16(const uint8_t* x) {
  return widen_bf16(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(x)));
}

// The first `count` lanes; the others are zero, and left alone in memory.
inline Floats load_bf16(const uint8_t* x, int count) {
  if (count >= kLanes) return load_bf16(x);
  uint8_t halves[2 * kLanes] = {};
  std::memcpy(halves, x, 2 * count);
  return load_bf16(halves);
}

inline void store_bf16(uint8_t* x, Floats v, int count = kLanes) {
  const __m256i halves = narrow_bf16(v);
  if (count >= kLanes) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(x), halves);
  } else {
    std::memcpy(x, &halves, 2 * count);
  }
}

inline float sum_of(Floats v) {
  const __m256 eight = _mm256_add_ps(low_half(v), high_half(v));
  const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

inline float largest_of(Floats v) {
  const __m256 eight = _mm256_max_ps(low_half(v), high_half(v));
  const __m128 four = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  const __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)));
}

inline float first_of(Floats v) { return _mm256_cvtss_f32(low_half(v)); }

// 2 to the v; relative error below 2e-7. -inf gives 0, NaN stays NaN. Always inline, as all that takes
// or gives vectors for every few values: those of two registers would be passed in memory.
[[gnu::always_inline]] inline Floats exp2_of(Floats v) {
  const Floats clipped = larger(repeat(-200.0f), v);  // NaN is the second: kept
  const Floats whole = rounded(clipped);
  const Floats part = clipped - whole;  // -0.5 .. 0.5
  Floats sum = repeat(1.5353362e-4f);
  sum = fused(sum, part, repeat(1.3398874e-3f));
  sum = fused(sum, part, repeat(9.6184373e-3f));
  sum = fused(sum, part, repeat(5.5503324e-2f));
  sum = fused(sum, part, repeat(2.4022648e-1f));
  sum = fused(sum, part, repeat(6.9314718e-1f));
  sum = fused(sum, part, repeat(1.0f));
  return times_power(sum, whole);
}

// gate * sigmoid(gate) * up
[[gnu::always_inline]] inline Floats gated(Floats gate, Floats up) {
  const Floats power = exp2_of(gate * repeat(-kLog2E));
  return gate / (repeat(1.0f) + power) * up;
}

inline float sum_of_squares(const float* x, int count) {
  Floats sum = zero_floats();
  for (int i = 0; i < count; i += kLanes) {
    const Floats v = load_floats(x + i, count - i);
    sum = fused(v, v, sum);
  }
  return sum_of(sum);
}

// The largest magnitude of the values it was shown, and whether NaN was among them.
struct Extent {
  Floats largest = zero_floats();
  Mask nan = lanes(0, 0);

  void see(Floats v) {
    largest = larger(largest, magnitude(v));
    nan = either(nan, is_nan(v));
  }

  // Never zero, and NaN where any value is.
  float most() const {
    return any(nan) ? std::nanf("") : std::fmax(largest_of(largest), 1e-30f);
  }
};

// What the levels of `count` values are scaled by: never zero, and NaN where any value is.
inline float largest_magnitude(const float* x, int count) {
  Extent extent;
  for (int i = 0; i < count; i += kLanes) extent.see(load_floats(x + i, count - i));
  return extent.most();
}

// 16 values as symmetric 8-bit levels; `most` is the largest magnitude of their kind.
inline __m128i levels_of(Floats v, float most) { return to_int8(to_ints(v * repeat(kLevels / most))); }

struct Best {
  int index;  // of the largest value, the first of equals
  bool finite;
};

// One pass over `count` values. With NaN among them the index means nothing.
inline Best best_of(const float* x, int count) {
  const Floats nothing = repeat(-std::numeric_limits<float>::infinity());
  Floats most[kChains], zero = zero_floats();
  Ints first[kChains];
  for (int c = 0; c < kChains; ++c) most[c] = nothing, first[c] = zero_ints();
  const auto look = [&](int c, int begin, Floats v, Floats v_or_zero) {
    const Mask better = greater(v, most[c]);
    most[c] = pick(better, v, most[c]);
    first[c] = pick(better, repeat_int(begin), first[c]);
    zero = fused(v_or_zero, zero_floats(), zero);  // NaN of NaN and infinity
  };
  int i = 0;
  for (; i + kChains * kLanes <= count; i += kChains * kLanes) {
#pragma GCC unroll 4
    for (int c = 0; c < kChains; ++c) {
      const Floats v = load_floats(x + i + c * kLanes);
      look(c, i + c * kLanes, v, v);
    }
  }
  for (; i < count; i += kLanes) {
    const Floats v = load_floats(x + i, count - i);
    look(0, i, pick(lanes(0, count - i), v, nothing), v);
  }
  Floats all = most[0];
  for (int c = 1; c < kChains; ++c) all = larger(all, most[c]);
  const Floats largest = repeat(largest_of(all));
  alignas(64) static constexpr int32_t kOrder[] = {0, 1, 2,  3,  4,  5,  6,  7,
                                                   8, 9, 10, 11, 12, 13, 14, 15};
  int index = count;
  for (int c = 0; c < kChains; ++c) {
    const Ints places = add_ints(first[c], load_ints(kOrder));
    index = std::min(index, least_of(equal(most[c], largest), places));
  }
  return {index < count ? index : 0, sum_of(zero) == 0.0f};
}

// Turns groups of `size` values by the orthogonal Hadamard matrix, from x to `out`, which may be
// one. `count` is a multiple of `size`; out has room for whole vectors. The largest magnitude of
// the turned values.
inline float rotate(const float* x, int count, int size, float* out) {
  constexpr int kWide = 4;  // vectors turned in registers
  const Floats norm = repeat(1.0f / std::sqrt(static_cast<float>(size)));
  Extent extent;
  if (size == kWide * kLanes) {
    for (int i = 0; i < count; i += size) {
      Floats v[kWide];
#pragma GCC unroll 4
      for (int n = 0; n < kWide; ++n) {
        v[n] = rotate_lanes(load_floats(x + i + n * kLanes), size) * norm;
      }
      const Floats a = v[0] + v[1], b = v[0] - v[1], c = v[2] + v[3], d = v[2] - v[3];
      v[0] = a + c, v[1] = b + d, v[2] = a - c, v[3] = b - d;
#pragma GCC unroll 4
      for (int n = 0; n < kWide; ++n) {
        store_floats(out + i + n * kLanes, v[n]);
        extent.see(v[n]);
      }
    }
    return extent.most();
  }
  for (int i = 0; i < count; i += kLanes) {
    store_floats(out + i, rotate_lanes(load_floats(x + i, count - i), size) * norm);
  }
  for (int half = kLanes; half < size; half *= 2) {
    for (int group = 0; group < count; group += 2 * half) {
      for (int i = group; i < group + half; i += kLanes) {
        const Floats a = load_floats(out + i), b = load_floats(out + i + half);
        store_floats(out + i, a + b);
        store_floats(out + i + half, a - b);
      }
    }
  }
  return largest_magnitude(out, count);
}

}  // namespace baton

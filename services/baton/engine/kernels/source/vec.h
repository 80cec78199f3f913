// Vectors of 16 floats: masks, conversions, exponentials, sums and the Hadamard rotation.
// Every sum has one fixed order, so that equal inputs give equal bits wherever they are used.
#pragma once

#include <immintrin.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>

namespace baton {

constexpr int kLanes = 16;
constexpr float kLog2E = 1.44269504088896341f;

inline int round_up(int value, int unit) { return (value + unit - 1) / unit * unit; }

// The first `count` lanes; all of them from 16 on.
inline __mmask16 first_lanes(int count) {
  return count >= kLanes ? 0xffff : static_cast<__mmask16>((1u << (count > 0 ? count : 0)) - 1u);
}

inline __m512 widen_bf16(__m256i halves) {
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(halves), 16));
}

inline __m512 widen_int8(__m128i levels) {
  return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(levels));
}

// To the nearest, ties to even; NaN stays NaN.
inline __m256i narrow_bf16(__m512 v) {
  const __m512i bits = _mm512_castps_si512(v);
  const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
  const __m512i rounded = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
  const __mmask16 nan = _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q);
  const __m512i quiet = _mm512_or_si512(bits, _mm512_set1_epi32(0x400000));
  return _mm512_cvtepi32_epi16(
      _mm512_srli_epi32(_mm512_mask_mov_epi32(rounded, nan, quiet), 16));
}

// 2 to the v; relative error below 2e-7. -inf gives 0, NaN stays NaN.
inline __m512 exp2_ps(__m512 v) {
  const __m512 clipped = _mm512_max_ps(_mm512_set1_ps(-200.0f), v);  // NaN is the second: kept
  const __m512 whole = _mm512_roundscale_ps(clipped, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  const __m512 part = _mm512_sub_ps(clipped, whole);  // -0.5 .. 0.5
  __m512 sum = _mm512_set1_ps(1.5353362e-4f);
  sum = _mm512_fmadd_ps(sum, part, _mm512_set1_ps(1.3398874e-3f));
  sum = _mm512_fmadd_ps(sum, part, _mm512_set1_ps(9.6184373e-3f));
  sum = _mm512_fmadd_ps(sum, part, _mm512_set1_ps(5.5503324e-2f));
  sum = _mm512_fmadd_ps(sum, part, _mm512_set1_ps(2.4022648e-1f));
  sum = _mm512_fmadd_ps(sum, part, _mm512_set1_ps(6.9314718e-1f));
  sum = _mm512_fmadd_ps(sum, part, _mm512_set1_ps(1.0f));
  return _mm512_scalef_ps(sum, whole);
}

// gate * sigmoid(gate) * up
inline __m512 gated(__m512 gate, __m512 up) {
  const __m512 power = exp2_ps(_mm512_mul_ps(gate, _mm512_set1_ps(-kLog2E)));
  const __m512 sigmoid = _mm512_div_ps(gate, _mm512_add_ps(_mm512_set1_ps(1.0f), power));
  return _mm512_mul_ps(sigmoid, up);
}

// Sixteen vectors to one: lane i is the sum of v[i]'s lanes.
inline __m512 sums_of_16(const __m512 v[16]) {
  __m512 four[4];
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    const __m512* p = v + 4 * i;
    const __m512 ab = _mm512_add_ps(_mm512_unpacklo_ps(p[0], p[1]), _mm512_unpackhi_ps(p[0], p[1]));
    const __m512 cd = _mm512_add_ps(_mm512_unpacklo_ps(p[2], p[3]), _mm512_unpackhi_ps(p[2], p[3]));
    const __m512d lo = _mm512_unpacklo_pd(_mm512_castps_pd(ab), _mm512_castps_pd(cd));
    const __m512d hi = _mm512_unpackhi_pd(_mm512_castps_pd(ab), _mm512_castps_pd(cd));
    four[i] = _mm512_add_ps(_mm512_castpd_ps(lo), _mm512_castpd_ps(hi));
  }
  const auto fold = [](__m512 a, __m512 b) {
    return _mm512_add_ps(_mm512_shuffle_f32x4(a, b, 0x88), _mm512_shuffle_f32x4(a, b, 0xdd));
  };
  return fold(fold(four[0], four[1]), fold(four[2], four[3]));
}

inline float sum_of_squares(const float* x, int count) {
  __m512 sum = _mm512_setzero_ps();
  for (int i = 0; i < count; i += kLanes) {
    const __m512 v = _mm512_maskz_loadu_ps(first_lanes(count - i), x + i);
    sum = _mm512_fmadd_ps(v, v, sum);
  }
  return _mm512_reduce_add_ps(sum);
}

// What the levels of `count` values are scaled by: never zero, and NaN where any value is.
inline float largest_magnitude(const float* x, int count) {
  __m512 largest = _mm512_setzero_ps();
  __mmask16 nan = 0;
  for (int i = 0; i < count; i += kLanes) {
    const __m512 v = _mm512_maskz_loadu_ps(first_lanes(count - i), x + i);
    largest = _mm512_max_ps(largest, _mm512_abs_ps(v));
    nan |= _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q);
  }
  return nan ? std::nanf("") : std::fmax(_mm512_reduce_max_ps(largest), 1e-30f);
}

struct Best {
  int index;  // of the largest value, the first of equals
  bool finite;
};

// One pass over `count` values. With NaN among them the index means nothing.
inline Best best_of(const float* x, int count) {
  constexpr int kChains = 4;
  const __m512 nothing = _mm512_set1_ps(-std::numeric_limits<float>::infinity());
  __m512 most[kChains], zero = _mm512_setzero_ps();
  __m512i first[kChains];
  for (int c = 0; c < kChains; ++c) most[c] = nothing, first[c] = _mm512_setzero_si512();
  for (int i = 0; i < count; i += kChains * kLanes) {
#pragma GCC unroll 4
    for (int c = 0; c < kChains; ++c) {
      const int begin = i + c * kLanes;
      const __mmask16 mask = first_lanes(count - begin);
      const __m512 v = _mm512_mask_loadu_ps(nothing, mask, x + begin);
      const __mmask16 better = _mm512_cmp_ps_mask(v, most[c], _CMP_GT_OQ);
      most[c] = _mm512_mask_mov_ps(most[c], better, v);
      first[c] = _mm512_mask_mov_epi32(first[c], better, _mm512_set1_epi32(begin));
      zero = _mm512_mask3_fmadd_ps(v, _mm512_setzero_ps(), zero, mask);  // NaN of NaN and infinity
    }
  }
  const __m512 all = _mm512_max_ps(_mm512_max_ps(most[0], most[1]), _mm512_max_ps(most[2], most[3]));
  const __m512 largest = _mm512_set1_ps(_mm512_reduce_max_ps(all));
  const __m512i lanes = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  int index = count;
  for (int c = 0; c < kChains; ++c) {
    const __mmask16 equal = _mm512_cmp_ps_mask(most[c], largest, _CMP_EQ_OQ);
    index = std::min(index, _mm512_mask_reduce_min_epi32(equal, _mm512_add_epi32(first[c], lanes)));
  }
  return {index < count ? index : 0, _mm512_reduce_add_ps(zero) == 0.0f};
}

// Butterflies among the lanes of one vector, for groups of `size` <= 16 lanes.
inline __m512 rotate_lanes(__m512 v, int size) {
  const auto mix = [](__m512 mine, __m512 other, __mmask16 second) {
    return _mm512_mask_sub_ps(_mm512_add_ps(mine, other), second, other, mine);
  };
  if (size >= 2) v = mix(v, _mm512_permute_ps(v, 0xb1), 0xaaaa);
  if (size >= 4) v = mix(v, _mm512_permute_ps(v, 0x4e), 0xcccc);
  if (size >= 8) v = mix(v, _mm512_shuffle_f32x4(v, v, 0xb1), 0xf0f0);
  if (size >= 16) v = mix(v, _mm512_shuffle_f32x4(v, v, 0x4e), 0xff00);
  return v;
}

// Turns each group of `size` values by the orthogonal Hadamard matrix. `count` is a multiple of
// `size`; x has room for whole vectors.
inline void rotate(float* x, int count, int size) {
  const __m512 norm = _mm512_set1_ps(1.0f / std::sqrt(static_cast<float>(size)));
  for (int i = 0; i < count; i += kLanes) {
    const __m512 v = _mm512_maskz_loadu_ps(first_lanes(count - i), x + i);
    _mm512_storeu_ps(x + i, _mm512_mul_ps(rotate_lanes(v, size), norm));
  }
  for (int half = kLanes; half < size; half *= 2) {
    for (int group = 0; group < count; group += 2 * half) {
      for (int i = group; i < group + half; i += kLanes) {
        const __m512 a = _mm512_loadu_ps(x + i), b = _mm512_loadu_ps(x + i + half);
        _mm512_storeu_ps(x + i, _mm512_add_ps(a, b));
        _mm512_storeu_ps(x + i + half, _mm512_sub_ps(a, b));
      }
    }
  }
}

}  // namespace baton

// Vectors of 16 floats, integers and masks in AVX-512; vec_avx2.h says the same in halves.
#pragma once

#include <immintrin.h>

#include <cstdint>
#include <cstring>

namespace baton {

using Floats = __m512;
using Ints = __m512i;
using Mask = __mmask16;

// What fits the 32 registers together: rows and vectors of float attention, groups of 16 keys and
// vectors of 8-bit attention, running maxima.
constexpr int kFloatRows = 4, kFloatVectors = 4;
constexpr int kLevelGroups = 4, kLevelVectors = 4;
constexpr int kChains = 4;

// Lanes begin .. end - 1, which may lie outside of the vector.
inline Mask lanes(int begin, int end) {
  const auto first = [](int count) {
    return count >= 16 ? 0xffffu : (1u << (count > 0 ? count : 0)) - 1u;
  };
  return static_cast<Mask>(first(end) & ~first(begin));
}

inline Floats zero_floats() { return _mm512_setzero_ps(); }
inline Floats repeat(float value) { return _mm512_set1_ps(value); }

// `count`: the lanes from the first on; the others are zero, and left alone in memory. Whole vectors
// go without a mask: what a masked store wrote, some processors only read once it is in the cache.
inline Floats load_floats(const float* x) { return _mm512_loadu_ps(x); }
inline Floats load_floats(const float* x, int count) {
  return count >= 16 ? _mm512_loadu_ps(x) : _mm512_maskz_loadu_ps(lanes(0, count), x);
}
inline void store_floats(float* x, Floats v) { _mm512_storeu_ps(x, v); }
inline void store_floats(float* x, Floats v, int count) {
  if (count >= 16) return _mm512_storeu_ps(x, v);
  _mm512_mask_storeu_ps(x, lanes(0, count), v);
}

inline Floats fused(Floats a, Floats b, Floats c) { return _mm512_fmadd_ps(a, b, c); }  // a * b + c
inline Floats larger(Floats a, Floats b) { return _mm512_max_ps(a, b); }  // b where either is NaN
inline Floats magnitude(Floats v) { return _mm512_abs_ps(v); }
inline Floats rounded(Floats v) {
  return _mm512_roundscale_ps(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
// v times 2 to the whole numbers `power`
inline Floats times_power(Floats v, Floats power) { return _mm512_scalef_ps(v, power); }

inline Mask is_nan(Floats v) { return _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q); }
inline Mask greater(Floats a, Floats b) { return _mm512_cmp_ps_mask(a, b, _CMP_GT_OQ); }
inline Mask equal(Floats a, Floats b) { return _mm512_cmp_ps_mask(a, b, _CMP_EQ_OQ); }
inline Mask either(Mask a, Mask b) { return static_cast<Mask>(a | b); }
inline bool any(Mask mask) { return mask != 0; }
inline Floats pick(Mask mask, Floats yes, Floats no) { return _mm512_mask_mov_ps(no, mask, yes); }
inline Ints pick(Mask mask, Ints yes, Ints no) { return _mm512_mask_mov_epi32(no, mask, yes); }

inline Ints zero_ints() { return _mm512_setzero_si512(); }
inline Ints repeat_int(int32_t value) { return _mm512_set1_epi32(value); }
inline Ints load_ints(const int32_t* x) { return _mm512_loadu_si512(x); }
inline Ints add_ints(Ints a, Ints b) { return _mm512_add_epi32(a, b); }
inline Ints subtract_ints(Ints a, Ints b) { return _mm512_sub_epi32(a, b); }
inline Ints to_ints(Floats v) { return _mm512_cvtps_epi32(v); }  // to the nearest, ties to even
inline Floats to_floats(Ints v) { return _mm512_cvtepi32_ps(v); }
inline __m128i to_int8(Ints v) { return _mm512_cvtsepi32_epi8(v); }  // with saturation
inline __m256i to_int16(Ints v) { return _mm512_cvtsepi32_epi16(v); }
inline int sum_of(Ints v) { return _mm512_reduce_add_epi32(v); }
inline int least_of(Mask mask, Ints v) { return _mm512_mask_reduce_min_epi32(mask, v); }

inline __m256 low_half(Floats v) { return _mm512_castps512_ps256(v); }
inline __m256 high_half(Floats v) { return _mm512_extractf32x8_ps(v, 1); }

inline Floats join(__m256 low, __m256 high) {
  return _mm512_insertf32x8(_mm512_castps256_ps512(low), high, 1);
}

// Each lane twice: lanes 0 .. 7 to the first vector, 8 .. 15 to the second.
inline void twice(Floats v, Floats* two) {
  const Ints order = _mm512_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7);
  two[0] = _mm512_permutexvar_ps(order, v);
  two[1] = _mm512_permutexvar_ps(_mm512_add_epi32(order, _mm512_set1_epi32(8)), v);
}

inline Floats widen_int8(__m128i levels) {
  return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(levels));
}

inline Floats widen_bf16(__m256i halves) {
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(halves), 16));
}

// To the nearest, ties to even; NaN stays NaN.
inline __m256i narrow_bf16(Floats v) {
  const Ints bits = _mm512_castps_si512(v);
  const Ints odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
  const Ints near = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
  const Ints quiet = _mm512_or_si512(bits, _mm512_set1_epi32(0x400000));
  return _mm512_cvtepi32_epi16(_mm512_srli_epi32(pick(is_nan(v), quiet, near), 16));
}

// 16 bytes to every second byte of `out`; the others are not touched.
inline void store_every_second(uint8_t* out, __m128i bytes) {
  _mm256_mask_storeu_epi8(out, 0x55555555, _mm256_cvtepu8_epi16(bytes));
}

// Sixteen vectors to one: lane i is the sum of v[i]'s lanes.
inline Floats sums_of_16(const Floats v[16]) {
  Floats four[4];
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    const Floats* p = v + 4 * i;
    const Floats ab = _mm512_unpacklo_ps(p[0], p[1]) + _mm512_unpackhi_ps(p[0], p[1]);
    const Floats cd = _mm512_unpacklo_ps(p[2], p[3]) + _mm512_unpackhi_ps(p[2], p[3]);
    const __m512d lo = _mm512_unpacklo_pd(_mm512_castps_pd(ab), _mm512_castps_pd(cd));
    const __m512d hi = _mm512_unpackhi_pd(_mm512_castps_pd(ab), _mm512_castps_pd(cd));
    four[i] = _mm512_castpd_ps(lo) + _mm512_castpd_ps(hi);
  }
  const auto fold = [](Floats a, Floats b) {
    return _mm512_shuffle_f32x4(a, b, 0x88) + _mm512_shuffle_f32x4(a, b, 0xdd);
  };
  return fold(fold(four[0], four[1]), fold(four[2], four[3]));
}

// Butterflies among the lanes of one vector, for groups of `size` <= 16 lanes.
inline Floats rotate_lanes(Floats v, int size) {
  const auto mix = [](Floats mine, Floats other, Mask second) {
    return _mm512_mask_sub_ps(mine + other, second, other, mine);
  };
  if (size >= 2) v = mix(v, _mm512_permute_ps(v, 0xb1), 0xaaaa);
  if (size >= 4) v = mix(v, _mm512_permute_ps(v, 0x4e), 0xcccc);
  if (size >= 8) v = mix(v, _mm512_shuffle_f32x4(v, v, 0xb1), 0xf0f0);
  if (size >= 16) v = mix(v, _mm512_shuffle_f32x4(v, v, 0x4e), 0xff00);
  return v;
}

}  // namespace baton

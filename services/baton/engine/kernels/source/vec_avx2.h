// Vectors of 16 floats, integers and masks as two AVX2 registers each; vec_avx512.h has them in one.
// Every function has the bits of its twin there.
#pragma once

#include <immintrin.h>

#include <cstdint>
#include <cstring>

namespace baton {

struct Floats {
  __m256 low, high;
};
struct Ints {
  __m256i low, high;
};
struct Mask {
  __m256i low, high;  // lanes of all ones or all zeros
};

// What fits the 16 registers together: rows and vectors of float attention, groups of 16 keys and
// vectors of 8-bit attention, running maxima.
constexpr int kFloatRows = 2, kFloatVectors = 2;
constexpr int kLevelGroups = 1, kLevelVectors = 1;
constexpr int kChains = 2;

// Lanes begin .. end - 1, which may lie outside of the vector.
inline Mask lanes(int begin, int end) {
  const __m256i first = _mm256_set1_epi32(begin - 1), stop = _mm256_set1_epi32(end);
  const auto between = [&](__m256i lane) {
    return _mm256_and_si256(_mm256_cmpgt_epi32(lane, first), _mm256_cmpgt_epi32(stop, lane));
  };
  return {between(_mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7)),
          between(_mm256_setr_epi32(8, 9, 10, 11, 12, 13, 14, 15))};
}

inline Floats operator+(Floats a, Floats b) {
  return {_mm256_add_ps(a.low, b.low), _mm256_add_ps(a.high, b.high)};
}
inline Floats operator-(Floats a, Floats b) {
  return {_mm256_sub_ps(a.low, b.low), _mm256_sub_ps(a.high, b.high)};
}
inline Floats operator*(Floats a, Floats b) {
  return {_mm256_mul_ps(a.low, b.low), _mm256_mul_ps(a.high, b.high)};
}
inline Floats operator/(Floats a, Floats b) {
  return {_mm256_div_ps(a.low, b.low), _mm256_div_ps(a.high, b.high)};
}

inline Floats zero_floats() { return {_mm256_setzero_ps(), _mm256_setzero_ps()}; }
inline Floats repeat(float value) { return {_mm256_set1_ps(value), _mm256_set1_ps(value)}; }

// `count`: the lanes from the first on; the others are zero, and left alone in memory.
inline Floats load_floats(const float* x) { return {_mm256_loadu_ps(x), _mm256_loadu_ps(x + 8)}; }
inline void store_floats(float* x, Floats v) {
  _mm256_storeu_ps(x, v.low);
  _mm256_storeu_ps(x + 8, v.high);
}
inline Floats load_floats(const float* x, int count) {
  if (count >= 16) return load_floats(x);
  const Mask mask = lanes(0, count);
  return {_mm256_maskload_ps(x, mask.low), _mm256_maskload_ps(x + 8, mask.high)};
}
inline void store_floats(float* x, Floats v, int count) {
  if (count >= 16) return store_floats(x, v);
  const Mask mask = lanes(0, count);
  _mm256_maskstore_ps(x, mask.low, v.low);
  _mm256_maskstore_ps(x + 8, mask.high, v.high);
}

inline Floats fused(Floats a, Floats b, Floats c) {  // a * b + c
  return {_mm256_fmadd_ps(a.low, b.low, c.low), _mm256_fmadd_ps(a.high, b.high, c.high)};
}
inline Floats larger(Floats a, Floats b) {  // b where either is NaN
  return {_mm256_max_ps(a.low, b.low), _mm256_max_ps(a.high, b.high)};
}
inline Floats magnitude(Floats v) {
  const __m256 sign = _mm256_set1_ps(-0.0f);
  return {_mm256_andnot_ps(sign, v.low), _mm256_andnot_ps(sign, v.high)};
}
inline Floats rounded(Floats v) {
  constexpr int kNearest = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
  return {_mm256_round_ps(v.low, kNearest), _mm256_round_ps(v.high, kNearest)};
}

// v times 2 to the whole numbers `power`, in two steps: one power may be beyond what a float holds.
// Only the second one rounds.
inline Floats times_power(Floats v, Floats power) {
  const auto scaled = [](__m256 x, __m256 exponent) {
    const __m256 limit = _mm256_set1_ps(252.0f);
    const __m256i whole = _mm256_cvtps_epi32(
        _mm256_max_ps(_mm256_sub_ps(_mm256_setzero_ps(), limit), _mm256_min_ps(exponent, limit)));
    const __m256i half = _mm256_srai_epi32(whole, 1);
    const auto power_of_2 = [](__m256i exponents) {
      const __m256i biased = _mm256_add_epi32(exponents, _mm256_set1_epi32(127));
      return _mm256_castsi256_ps(_mm256_slli_epi32(biased, 23));
    };
    return _mm256_mul_ps(_mm256_mul_ps(x, power_of_2(half)),
                         power_of_2(_mm256_sub_epi32(whole, half)));
  };
  return {scaled(v.low, power.low), scaled(v.high, power.high)};
}

inline Mask as_mask(__m256 low, __m256 high) {
  return {_mm256_castps_si256(low), _mm256_castps_si256(high)};
}
inline Mask is_nan(Floats v) {
  return as_mask(_mm256_cmp_ps(v.low, v.low, _CMP_UNORD_Q),
                 _mm256_cmp_ps(v.high, v.high, _CMP_UNORD_Q));
}
inline Mask greater(Floats a, Floats b) {
  return as_mask(_mm256_cmp_ps(a.low, b.low, _CMP_GT_OQ), _mm256_cmp_ps(a.high, b.high, _CMP_GT_OQ));
}
inline Mask equal(Floats a, Floats b) {
  return as_mask(_mm256_cmp_ps(a.low, b.low, _CMP_EQ_OQ), _mm256_cmp_ps(a.high, b.high, _CMP_EQ_OQ));
}
inline Mask either(Mask a, Mask b) {
  return {_mm256_or_si256(a.low, b.low), _mm256_or_si256(a.high, b.high)};
}
inline bool any(Mask mask) {
  const __m256i all = _mm256_or_si256(mask.low, mask.high);
  return !_mm256_testz_si256(all, all);
}
inline Floats pick(Mask mask, Floats yes, Floats no) {
  return {_mm256_blendv_ps(no.low, yes.low, _mm256_castsi256_ps(mask.low)),
          _mm256_blendv_ps(no.high, yes.high, _mm256_castsi256_ps(mask.high))};
}
inline Ints pick(Mask mask, Ints yes, Ints no) {
  return {_mm256_blendv_epi8(no.low, yes.low, mask.low),
          _mm256_blendv_epi8(no.high, yes.high, mask.high)};
}

inline Ints zero_ints() { return {_mm256_setzero_si256(), _mm256_setzero_si256()}; }
inline Ints repeat_int(int32_t value) {
  return {_mm256_set1_epi32(value), _mm256_set1_epi32(value)};
}
inline Ints load_ints(const int32_t* x) {
  const auto* halves = reinterpret_cast<const __m256i*>(x);
  return {_mm256_loadu_si256(halves), _mm256_loadu_si256(halves + 1)};
}
inline Ints add_ints(Ints a, Ints b) {
  return {_mm256_add_epi32(a.low, b.low), _mm256_add_epi32(a.high, b.high)};
}
inline Ints subtract_ints(Ints a, Ints b) {
  return {_mm256_sub_epi32(a.low, b.low), _mm256_sub_epi32(a.high, b.high)};
}
inline Ints to_ints(Floats v) {  // to the nearest, ties to even
  return {_mm256_cvtps_epi32(v.low), _mm256_cvtps_epi32(v.high)};
}
inline Floats to_floats(Ints v) { return {_mm256_cvtepi32_ps(v.low), _mm256_cvtepi32_ps(v.high)}; }
inline __m256i to_int16(Ints v) {  // with saturation
  return _mm256_permute4x64_epi64(_mm256_packs_epi32(v.low, v.high), 0xd8);
}
inline __m128i to_int8(Ints v) {  // with saturation
  const __m256i words = to_int16(v);
  return _mm_packs_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
}
inline int sum_of(Ints v) {
  const __m256i eight = _mm256_add_epi32(v.low, v.high);
  __m128i sum = _mm_add_epi32(_mm256_castsi256_si128(eight), _mm256_extracti128_si256(eight, 1));
  sum = _mm_add_epi32(sum, _mm_shuffle_epi32(sum, 0x4e));
  return _mm_cvtsi128_si32(_mm_add_epi32(sum, _mm_shuffle_epi32(sum, 0xb1)));
}
inline int least_of(Mask mask, Ints v) {
  const Ints seen = pick(mask, v, repeat_int(INT32_MAX));
  const __m256i eight = _mm256_min_epi32(seen.low, seen.high);
  __m128i least = _mm_min_epi32(_mm256_castsi256_si128(eight), _mm256_extracti128_si256(eight, 1));
  least = _mm_min_epi32(least, _mm_shuffle_epi32(least, 0x4e));
  return _mm_cvtsi128_si32(_mm_min_epi32(least, _mm_shuffle_epi32(least, 0xb1)));
}

inline __m256 low_half(Floats v) { return v.low; }
inline __m256 high_half(Floats v) { return v.high; }

inline Floats join(__m256 low, __m256 high) { return {low, high}; }

// Each lane twice: lanes 0 .. 7 to the first vector, 8 .. 15 to the second.
inline void twice(Floats v, Floats* two) {
  const auto doubled = [](__m256 x) -> Floats {
    const __m256 first = _mm256_unpacklo_ps(x, x), second = _mm256_unpackhi_ps(x, x);
    return {_mm256_permute2f128_ps(first, second, 0x20),
            _mm256_permute2f128_ps(first, second, 0x31)};
  };
  two[0] = doubled(v.low);
  two[1] = doubled(v.high);
}

inline Floats widen_int8(__m128i levels) {
  return to_floats({_mm256_cvtepi8_epi32(levels),
                    _mm256_cvtepi8_epi32(_mm_unpackhi_epi64(levels, levels))});
}

inline Floats widen_bf16(__m256i halves) {
  const auto wide = [](__m128i eight) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(eight), 16));
  };
  return {wide(_mm256_castsi256_si128(halves)), wide(_mm256_extracti128_si256(halves, 1))};
}

// To the nearest, ties to even; NaN stays NaN.
inline __m256i narrow_bf16(Floats v) {
  const auto narrow = [](__m256 x) {
    const __m256i bits = _mm256_castps_si256(x);
    const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
    const __m256i near =
        _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
    const __m256i quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x400000));
    const __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(x, x, _CMP_UNORD_Q));
    return _mm256_srli_epi32(_mm256_blendv_epi8(near, quiet, nan), 16);
  };
  return _mm256_permute4x64_epi64(_mm256_packus_epi32(narrow(v.low), narrow(v.high)), 0xd8);
}

// 16 bytes to every second byte of `out`; the others are not touched.
inline void store_every_second(uint8_t* out, __m128i bytes) {
  alignas(16) uint8_t each[16];
  _mm_store_si128(reinterpret_cast<__m128i*>(each), bytes);
  for (int i = 0; i < 16; ++i) out[2 * i] = each[i];
}

// Sixteen vectors to one: lane i is the sum of v[i]'s lanes.
inline Floats sums_of_16(const Floats v[16]) {
  const auto four_of = [](__m256 a, __m256 b, __m256 c, __m256 d) {
    const __m256 ab = _mm256_add_ps(_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b));
    const __m256 cd = _mm256_add_ps(_mm256_unpacklo_ps(c, d), _mm256_unpackhi_ps(c, d));
    const __m256d lo = _mm256_unpacklo_pd(_mm256_castps_pd(ab), _mm256_castps_pd(cd));
    const __m256d hi = _mm256_unpackhi_pd(_mm256_castps_pd(ab), _mm256_castps_pd(cd));
    return _mm256_add_ps(_mm256_castpd_ps(lo), _mm256_castpd_ps(hi));
  };
  Floats four[4];
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    const Floats* p = v + 4 * i;
    four[i] = {four_of(p[0].low, p[1].low, p[2].low, p[3].low),
               four_of(p[0].high, p[1].high, p[2].high, p[3].high)};
  }
  const auto fold = [](Floats a, Floats b) -> Floats {
    const auto pairs = [](Floats x) {
      return _mm256_add_ps(_mm256_permute2f128_ps(x.low, x.high, 0x20),
                           _mm256_permute2f128_ps(x.low, x.high, 0x31));
    };
    return {pairs(a), pairs(b)};
  };
  return fold(fold(four[0], four[1]), fold(four[2], four[3]));
}

// Butterflies among the lanes of one vector, for groups of `size` <= 16 lanes.
inline Floats rotate_lanes(Floats v, int size) {
  const auto inside = [](__m256 mine, __m256 other, __m256 second) {
    return _mm256_blendv_ps(_mm256_add_ps(mine, other), _mm256_sub_ps(other, mine), second);
  };
  const auto halves = [&](auto swapped, __m256 second) -> Floats {
    return {inside(v.low, swapped(v.low), second), inside(v.high, swapped(v.high), second)};
  };
  const float yes = -1.0f;  // its sign chooses the difference
  if (size >= 2) {
    v = halves([](__m256 x) { return _mm256_permute_ps(x, 0xb1); },
               _mm256_setr_ps(0, yes, 0, yes, 0, yes, 0, yes));
  }
  if (size >= 4) {
    v = halves([](__m256 x) { return _mm256_permute_ps(x, 0x4e); },
               _mm256_setr_ps(0, 0, yes, yes, 0, 0, yes, yes));
  }
  if (size >= 8) {
    v = halves([](__m256 x) { return _mm256_permute2f128_ps(x, x, 1); },
               _mm256_setr_ps(0, 0, 0, 0, yes, yes, yes, yes));
  }
  if (size >= 16) v = {_mm256_add_ps(v.low, v.high), _mm256_sub_ps(v.low, v.high)};
  return v;
}

}  // namespace baton

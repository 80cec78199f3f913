// Products of 8 bits in AVX2, and what is widened to them; quads_avx512.h says the same in whole
// registers.
#pragma once

#include "vec_avx2.h"

namespace baton {

// Products of 8 bits. The instruction wants one side unsigned and adds two products in 16 bits, with
// saturation. So it gets the sizes of one side's levels, and the bits of the other's are flipped
// where the first ones are negative: ~x is -x - 1, two products of at most 127 * 128 fit, and what
// all the ones add up to depends on the first side alone: it is taken off at the end.
struct Quad {
  __m256i sizes, flips;
};

constexpr int kQuadBytes = 8;  // of four levels as they are kept: sizes, then flips

// 16 levels as four quads. `offset`: what the other side's levels have had flipped already.
inline void put_quads(uint8_t* out, __m128i levels, int offset) {
  const __m128i sizes = _mm_abs_epi8(levels);
  const __m128i flips = _mm_xor_si128(_mm_cmpgt_epi8(_mm_setzero_si128(), levels),
                                      _mm_set1_epi8(static_cast<char>(offset)));
  auto* place = reinterpret_cast<__m128i*>(out);
  _mm_storeu_si128(place, _mm_unpacklo_epi32(sizes, flips));
  _mm_storeu_si128(place + 1, _mm_unpackhi_epi32(sizes, flips));
}

inline Quad repeat_quad(const uint8_t* x) {
  int32_t sizes, flips;
  std::memcpy(&sizes, x, sizeof sizes);
  std::memcpy(&flips, x + 4, sizeof flips);
  return {_mm256_set1_epi32(sizes), _mm256_set1_epi32(flips)};
}

// What the flipped bits add to a sum with these levels, 16 at a time.
inline Ints flipped_ones(Ints levels) {
  const auto negative = [](__m256i x) { return _mm256_min_epi32(x, _mm256_setzero_si256()); };
  return {negative(levels.low), negative(levels.high)};
}

inline __m256i add_quad(__m256i sum, Quad quad, __m256i others) {
  const __m256i twos = _mm256_maddubs_epi16(quad.sizes, _mm256_xor_si256(others, quad.flips));
  return _mm256_add_epi32(sum, _mm256_madd_epi16(twos, _mm256_set1_epi16(1)));
}

inline Ints load_line(const uint8_t* x) {
  const auto* halves = reinterpret_cast<const __m256i*>(x);
  return {_mm256_load_si256(halves), _mm256_load_si256(halves + 1)};
}
inline void store_line(uint8_t* x, Ints v) {
  auto* halves = reinterpret_cast<__m256i*>(x);
  _mm256_store_si256(halves, v.low);
  _mm256_store_si256(halves + 1, v.high);
}

// Lanes of two 16-bit values: the first of each twice, the second of each twice.
inline void split_pairs(Ints pairs, Ints* first, Ints* second) {
  const __m256i firsts = _mm256_set_epi32(0x0d0c0d0c, 0x09080908, 0x05040504, 0x01000100, 0x0d0c0d0c,
                                          0x09080908, 0x05040504, 0x01000100);
  const __m256i seconds = _mm256_or_si256(firsts, _mm256_set1_epi8(2));
  *first = {_mm256_shuffle_epi8(pairs.low, firsts), _mm256_shuffle_epi8(pairs.high, firsts)};
  *second = {_mm256_shuffle_epi8(pairs.low, seconds), _mm256_shuffle_epi8(pairs.high, seconds)};
}

// The upper bytes of number * step + start, for eight 4-bit numbers of each lane: those at places 0,
// 1, 4, 5 to the first vector, those at 2, 3, 6, 7 to the second.
inline void widen_numbers(Ints numbers, Ints steps, Ints starts, Ints* two) {
  const __m256i ones = _mm256_set1_epi16(15), upper = _mm256_set1_epi16(-0x100);
  const auto widen = [&](__m256i own, __m256i step, __m256i start, __m256i* first,
                         __m256i* second) {
    const auto scaled = [&](__m256i v) {
      return _mm256_add_epi16(_mm256_mullo_epi16(v, step), start);
    };
    const auto joined = [&](__m256i even, __m256i odd) {
      return _mm256_or_si256(_mm256_srli_epi16(even, 8), _mm256_and_si256(odd, upper));
    };
    *first = joined(scaled(_mm256_and_si256(own, ones)),
                    scaled(_mm256_and_si256(_mm256_srli_epi16(own, 4), ones)));
    *second = joined(scaled(_mm256_and_si256(_mm256_srli_epi16(own, 8), ones)),
                     scaled(_mm256_srli_epi16(own, 12)));
  };
  widen(numbers.low, steps.low, starts.low, &two[0].low, &two[1].low);
  widen(numbers.high, steps.high, starts.high, &two[0].high, &two[1].high);
}

// 8-bit attention. Keys as they lie: 4 dims of 16 tokens, level + 128.
using Quads = Ints;

inline Quads load_quads(const uint8_t* keys) {
  return load_ints(reinterpret_cast<const int32_t*>(keys));
}
inline void put_query_quads(uint8_t* out, __m128i levels) { put_quads(out, levels, 0x80); }
inline void add_quads(Ints& sum, Quads keys, Quad query) {
  sum = {add_quad(sum.low, query, keys.low), add_quad(sum.high, query, keys.high)};
}
// What a sum of quads with all of a query's levels has too much, 16 levels at a time.
inline Ints query_excess(Ints levels) { return flipped_ones(levels); }

// Values of 2 tokens: 16 dims, level pairs in 16 bits.
using Pairs = Ints;

inline Pairs load_pairs(const uint8_t* values) {
  const auto* halves = reinterpret_cast<const __m128i*>(values);
  return {_mm256_cvtepi8_epi16(_mm_loadu_si128(halves)),
          _mm256_cvtepi8_epi16(_mm_loadu_si128(halves + 1))};
}

inline void add_pairs(Ints& sum, Pairs values, int32_t weights) {
  const __m256i pair = _mm256_set1_epi32(weights);
  sum = {_mm256_add_epi32(sum.low, _mm256_madd_epi16(values.low, pair)),
         _mm256_add_epi32(sum.high, _mm256_madd_epi16(values.high, pair))};
}

}  // namespace baton

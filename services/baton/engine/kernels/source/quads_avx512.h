// Products of 8 bits in AVX-512, and what is widened to them; quads_avx2.h says the same in halves.
#pragma once

#include "vec_avx512.h"

namespace baton {

inline Ints load_line(const uint8_t* x) { return _mm512_load_si512(x); }
inline void store_line(uint8_t* x, Ints v) { _mm512_store_si512(x, v); }

// Lanes of two 16-bit values: the first of each twice, the second of each twice.
inline void split_pairs(Ints pairs, Ints* first, Ints* second) {
  *first = _mm512_shuffle_epi8(pairs, _mm512_set4_epi32(0x0d0c0d0c, 0x09080908, 0x05040504, 0x01000100));
  *second = _mm512_shuffle_epi8(pairs, _mm512_set4_epi32(0x0f0e0f0e, 0x0b0a0b0a, 0x07060706, 0x03020302));
}

// The upper bytes of number * step + start, for eight 4-bit numbers of each lane: those at places 0,
// 1, 4, 5 to the first vector, those at 2, 3, 6, 7 to the second.
inline void widen_numbers(Ints numbers, Ints steps, Ints starts, Ints* two) {
  const Ints ones = _mm512_set1_epi16(15), upper = _mm512_set1_epi16(-0x100);
  const auto scaled = [&](Ints v) {
    return _mm512_add_epi16(_mm512_mullo_epi16(v, steps), starts);
  };
  const auto joined = [&](Ints even, Ints odd) {  // (even >> 8) | (odd & upper)
    return _mm512_ternarylogic_epi32(_mm512_srli_epi16(even, 8), odd, upper, 0xf8);
  };
  two[0] = joined(scaled(_mm512_and_si512(numbers, ones)),
                  scaled(_mm512_and_si512(_mm512_srli_epi16(numbers, 4), ones)));
  two[1] = joined(scaled(_mm512_and_si512(_mm512_srli_epi16(numbers, 8), ones)),
                  scaled(_mm512_srli_epi16(numbers, 12)));
}

// 8-bit attention. Keys as they lie: 4 dims of 16 tokens, level + 128.
using Quads = Ints;
using Quad = Ints;

constexpr int kQuadBytes = 4;  // of four levels of a query

inline Quads load_quads(const uint8_t* keys) { return _mm512_loadu_si512(keys); }

inline void put_query_quads(uint8_t* out, __m128i levels) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(out), levels);
}

inline Quad repeat_quad(const uint8_t* query) {
  int32_t four;
  std::memcpy(&four, query, sizeof four);
  return _mm512_set1_epi32(four);
}

// The instructions are written out: compilers copy the sums around them otherwise, at half the
// speed.
inline void add_quads(Ints& sum, Quads keys, Quad query) {
  asm("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(keys), "v"(query));
}

// What a sum of quads with all of a query's levels has too much, 16 levels at a time.
inline Ints query_excess(Ints levels) { return _mm512_slli_epi32(levels, 7); }

// Values of 2 tokens: 16 dims, level pairs in 16 bits.
using Pairs = Ints;

inline Pairs load_pairs(const uint8_t* values) {
  return _mm512_cvtepi8_epi16(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(values)));
}

inline void add_pairs(Ints& sum, Pairs values, int32_t weights) {
  asm("vpdpwssd %2, %1, %0" : "+v"(sum) : "v"(values), "v"(_mm512_set1_epi32(weights)));
}

}  // namespace baton

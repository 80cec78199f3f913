// Panels of 8-bit and 4-bit weights, and how they become the bfloat16 panels that the tile reads.
//
// 8 bits: [steps][kPanel][2 levels], a scale per column that the sums are multiplied with. 4 bits:
// groups of 32 inputs, each with a float16 scale and minimum per column before its levels, as GGUF's
// Q4_1 has them. A step is two inputs, as in a bfloat16 panel. Widening a panel costs about as much
// as multiplying it with two rows.
#pragma once

#include "panel.h"

namespace baton {

constexpr int kInt4StepBytes = kPanel;
constexpr int kGroupInputs = 32;
constexpr int kGroupSteps = kGroupInputs / 2;
constexpr int kInt4HeadBytes = kPanel * 4;  // scales [kPanel], then minima [kPanel], in float16
constexpr int kInt4GroupBytes = kInt4HeadBytes + kGroupSteps * kInt4StepBytes;
constexpr int kLevelMax = 15;

inline int int4_groups(int steps) { return (steps + kGroupSteps - 1) / kGroupSteps; }

// Where one weight's level lies in a step of a 4-bit panel. A byte holds the levels of two columns
// eight apart: the lower ones widen to one vector as they lie, the upper ones to the next.
struct Nibble {
  int byte, shift;

  Nibble(int column, int input)
      : byte(column / 16 * 16 + column % 8 * 2 + input % 2), shift(column % 16 / 8 * 4) {}
};

// 32 floats to 32 bfloat16, in their order.
inline void put_bf16(uint8_t* out, Floats low, Floats high) {
#ifdef __AVX512BF16__
  _mm512_store_si512(out, reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(high, low)));
#else
  store_bf16(out, low);
  store_bf16(out + 2 * kLanes, high);
#endif
}

inline const uint8_t* widen_int8_panel(const uint8_t* in, int steps, uint8_t* out) {
  const uint8_t* const begin = out;
  for (int step = 0; step < steps; ++step, in += kLevelStepBytes, out += kStepBytes) {
    _mm_prefetch(reinterpret_cast<const char*>(in + 1024), _MM_HINT_T0);
    const auto* levels = reinterpret_cast<const __m128i*>(in);
    put_bf16(out, widen_int8(_mm_load_si128(levels)), widen_int8(_mm_load_si128(levels + 1)));
    put_bf16(out + 64, widen_int8(_mm_load_si128(levels + 2)),
             widen_int8(_mm_load_si128(levels + 3)));
  }
  return begin;
}

// The 16 halves from `halves` on.
inline Floats widen_halves(const uint8_t* halves) {
  const auto* eight = reinterpret_cast<const __m128i*>(halves);
  return join(_mm256_cvtph_ps(_mm_load_si128(eight)), _mm256_cvtph_ps(_mm_load_si128(eight + 1)));
}

inline const uint8_t* widen_int4_panel(const uint8_t* in, int steps, uint8_t* out) {
  const uint8_t* const begin = out;
  for (int first = 0; first < steps; first += kGroupSteps) {
    // of 8 columns, each twice: for both inputs of a step
    Floats scales[4], minima[4];
#pragma GCC unroll 2
    for (int half = 0; half < 2; ++half) {
      twice(widen_halves(in + half * 32), scales + 2 * half);
      twice(widen_halves(in + kPanel * 2 + half * 32), minima + 2 * half);
    }
    in += kInt4HeadBytes;
    const int count = std::min(kGroupSteps, steps - first);
    for (int step = 0; step < count; ++step, out += kStepBytes) {
      const uint8_t* levels = in + step * kInt4StepBytes;
      _mm_prefetch(reinterpret_cast<const char*>(levels + 1024), _MM_HINT_T0);
#pragma GCC unroll 2
      for (int half = 0; half < 2; ++half) {
        const __m128i pairs = _mm_load_si128(reinterpret_cast<const __m128i*>(levels + half * 16));
        const __m128i low = _mm_and_si128(pairs, _mm_set1_epi8(kLevelMax));
        const __m128i high = _mm_and_si128(_mm_srli_epi16(pairs, 4), _mm_set1_epi8(kLevelMax));
        put_bf16(out + half * 64,
                 fused(widen_int8(low), scales[2 * half], minima[2 * half]),
                 fused(widen_int8(high), scales[2 * half + 1], minima[2 * half + 1]));
      }
    }
    in += kGroupSteps * kInt4StepBytes;
  }
  return begin;
}

}  // namespace baton

// Panels of 8-bit and 4-bit weights, and how they become the bfloat16 panels that the tile reads.
//
// 8 bits: [steps][kPanel][2 levels], a scale per column that the sums are multiplied with. 4 bits:
// groups of 32 inputs, each with a float16 scale and minimum per column before its levels, as GGUF's
// Q4_1 has them. A step is two inputs, as in a bfloat16 panel. Widening a panel costs about as much
// as multiplying it with two rows.
#pragma once

#include "abi.h"
#include "vec.h"

namespace baton {

constexpr int kPanelStepBytes = kPanel * 4;
constexpr int kInt8StepBytes = kPanel * 2;
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

#ifdef __AVX512BF16__

// 32 floats to 32 bfloat16, in their order.
inline void put_bf16(uint8_t* out, __m512 low, __m512 high) {
  _mm512_store_si512(out, reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(high, low)));
}

inline const uint8_t* widen_int8_panel(const uint8_t* in, int steps, uint8_t* out) {
  const uint8_t* const begin = out;
  for (int step = 0; step < steps; ++step, in += kInt8StepBytes, out += kPanelStepBytes) {
    _mm_prefetch(reinterpret_cast<const char*>(in + 1024), _MM_HINT_T0);
    const auto* levels = reinterpret_cast<const __m128i*>(in);
    put_bf16(out, widen_int8(_mm_load_si128(levels)), widen_int8(_mm_load_si128(levels + 1)));
    put_bf16(out + 64, widen_int8(_mm_load_si128(levels + 2)),
             widen_int8(_mm_load_si128(levels + 3)));
  }
  return begin;
}

// Scales or minima of 8 columns, each twice: for both inputs of a step.
inline __m512 twice_8_halves(const uint8_t* halves) {
  const __m256 wide = _mm256_cvtph_ps(_mm_load_si128(reinterpret_cast<const __m128i*>(halves)));
  const __m512i order = _mm512_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7);
  return _mm512_permutexvar_ps(order, _mm512_castps256_ps512(wide));
}

inline const uint8_t* widen_int4_panel(const uint8_t* in, int steps, uint8_t* out) {
  const uint8_t* const begin = out;
  const __m512 values =
      _mm512_setr_ps(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, kLevelMax);
  for (int first = 0; first < steps; first += kGroupSteps) {
    __m512 scales[4], minima[4];
#pragma GCC unroll 4
    for (int v = 0; v < 4; ++v) {
      scales[v] = twice_8_halves(in + v * 16);
      minima[v] = twice_8_halves(in + kPanel * 2 + v * 16);
    }
    in += kInt4HeadBytes;
    const int count = std::min(kGroupSteps, steps - first);
    for (int step = 0; step < count; ++step, out += kPanelStepBytes) {
      const uint8_t* levels = in + step * kInt4StepBytes;
      _mm_prefetch(reinterpret_cast<const char*>(levels + 1024), _MM_HINT_T0);
#pragma GCC unroll 2
      for (int half = 0; half < 2; ++half) {
        const __m512i pairs = _mm512_cvtepu8_epi32(
            _mm_load_si128(reinterpret_cast<const __m128i*>(levels + half * 16)));
        // the permutation looks at the lowest four bits of each lane only
        const __m512 low = _mm512_permutexvar_ps(pairs, values);
        const __m512 high = _mm512_permutexvar_ps(_mm512_srli_epi32(pairs, 4), values);
        put_bf16(out + half * 64, _mm512_fmadd_ps(low, scales[2 * half], minima[2 * half]),
                 _mm512_fmadd_ps(high, scales[2 * half + 1], minima[2 * half + 1]));
      }
    }
    in += kGroupSteps * kInt4StepBytes;
  }
  return begin;
}

#endif

}  // namespace baton

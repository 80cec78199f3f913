// Rows times a panel in AVX-512: one register tile of up to 12 rows serves all schemes. Every step
// multiplies four bytes of a row (one float32, two bfloat16 or four 8-bit levels) with four bytes
// of each column.
#pragma once

#include "panel.h"

namespace baton {

constexpr int kTileRows = 12;  // 24 sums, 2 vectors of weights and 1 of a row: 27 of 32 registers
constexpr int kTileHalves = 2;    // of a panel, that a tile of levels takes at once
constexpr int kRowStepBytes = 4;  // of a row that one multiplication takes

// Whether a panel is widened to bfloat16 before it is multiplied.
inline bool is_widened(const Linear& linear) {
  return linear.scheme == kInt8Weight || linear.scheme == kInt4Weight;
}

inline int row_bytes(const Linear& linear) { return step_count(linear) * kRowStepBytes; }

// Levels of a row, of which `most` is the largest magnitude, plus 128: the instruction wants them
// unsigned.
inline void put_row_levels(const Linear& linear, const float* x, float most, uint8_t* out) {
  for (int i = 0; i < linear.inner; i += kLanes) {
    const __m128i levels = levels_of(load_floats(x + i, linear.inner - i), most);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(out + i),
                     _mm_xor_si128(levels, _mm_set1_epi8(-128)));
  }
}

inline void put_row_bf16(uint8_t* out, int i, Floats v) { store_bf16(out + 2 * i, v); }

// The instructions are written out: compilers copy the sums around them otherwise, at half the
// speed.
struct Float32Tile {
  using Sum = Floats;
  static Sum zero() { return zero_floats(); }
  static void add(Sum& sum, Ints row, Ints columns) {
    asm("vfmadd231ps %2, %1, %0" : "+v"(sum) : "v"(row), "v"(columns));
  }
  static Floats value(Sum sum, const Linear&, int, float) { return sum; }
};

struct Bfloat16Tile : Float32Tile {
  static void add(Sum& sum, Ints row, Ints columns) {
#ifdef __AVX512BF16__
    asm("vdpbf16ps %2, %1, %0" : "+v"(sum) : "v"(row), "v"(columns));
#else
    const Ints second = _mm512_set1_epi32(-0x10000);
    Float32Tile::add(sum, _mm512_slli_epi32(row, 16), _mm512_slli_epi32(columns, 16));
    Float32Tile::add(sum, _mm512_and_si512(row, second), _mm512_and_si512(columns, second));
#endif
  }
};

// The columns are levels, exact in bfloat16.
struct Int8WeightTile : Bfloat16Tile {
  static Floats value(Sum sum, const Linear& linear, int column, float) {
    return int8_weight_value(sum, linear, column);
  }
};

struct Int8Tile {
  using Sum = Ints;
  static Sum zero() { return zero_ints(); }
  static void add(Sum& sum, Ints row, Ints columns) {
    asm("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(row), "v"(columns));
  }
  static Floats value(Sum sum, const Linear& linear, int column, float row_scale) {
    const Ints exact = subtract_ints(sum, load_ints(linear.sums + column));
    return int8_value(exact, linear, column, row_scale);
  }
};

template <class Tile, int Rows>
void compute_tile(const Linear& linear, const uint8_t* columns, const uint8_t* ahead,
                  const Prepared& in, const Output& out, int panel, int first) {
  typename Tile::Sum sums[Rows][2];
#pragma GCC unroll 12
  for (int r = 0; r < Rows; ++r) sums[r][0] = sums[r][1] = Tile::zero();
  const int steps = step_count(linear);
  // one pointer for three rows, which addressing reaches as p, p + stride and p + 2 * stride:
  // a pointer per row would not fit the registers
  const size_t stride = in.stride;
  const uint8_t* rows_0 = in.rows + first * stride;
  const uint8_t *rows_3 = rows_0 + 3 * stride, *rows_6 = rows_0 + 6 * stride;
  const uint8_t* rows_9 = rows_0 + 9 * stride;
  for (int step = 0; step < steps; ++step, columns += kStepBytes, ahead += kStepBytes) {
    ask_for(ahead);
    ask_for(ahead + 64);
    const Ints low = _mm512_load_si512(columns), high = _mm512_load_si512(columns + 64);
#pragma GCC unroll 12
    for (int r = 0; r < Rows; ++r) {
      const uint8_t* trio = r < 3 ? rows_0 : r < 6 ? rows_3 : r < 9 ? rows_6 : rows_9;
      int32_t value;
      std::memcpy(&value, trio + r % 3 * stride, sizeof value);
      const Ints row = _mm512_set1_epi32(value);
      Tile::add(sums[r][0], row, low);
      Tile::add(sums[r][1], row, high);
    }
    rows_0 += kRowStepBytes, rows_3 += kRowStepBytes;
    rows_6 += kRowStepBytes, rows_9 += kRowStepBytes;
    // else the compiler makes a pointer per row of them again
    asm("" : "+r"(rows_0), "+r"(rows_3), "+r"(rows_6), "+r"(rows_9));
  }
  const int column = panel * kPanel;
#pragma GCC unroll 12
  for (int r = 0; r < Rows; ++r) {
    const float scale = in.scales != nullptr ? in.scales[first + r] : 1.0f;
    put_row(linear, out, panel, first + r, Tile::value(sums[r][0], linear, column, scale),
            Tile::value(sums[r][1], linear, column + kLanes, scale));
  }
}

}  // namespace baton

// 4-bit weights times 8-bit activations, in exact integers.
//
// A weight is an 8-bit level of its column's scale, as in int8, but what is kept of it is a number of
// 4 bits: 32 inputs of a column share a step and a start, in 256ths of a level, and
//   level = (number * step + start) / 256, rounded down; the start has a half added.
// Any 4-bit grid comes through with the error of int8, in five eighths of its memory. An activation
// row has a scale for every stretch of 64 inputs: few channels are far larger than the others, and
// cost only their own stretch its small values. A stretch's sums are integers, so it does not matter
// whether levels are made in registers, for few rows, or once for many.
//
// Half a panel, 16 columns: [stretches][2 groups of 32 inputs][
//   [16 columns][step, start]      int16 and uint16; the start has 128 levels more: unsigned levels
//   [4][16 columns][8 numbers]     4 bits each: two quads, see `Number`
// ]
#pragma once

#include <array>

#include "panel.h"
#include "weight_only.h"

namespace baton {

constexpr int kStretchInputs = 64;  // inputs of a row that share a scale
constexpr int kStretchQuads = kStretchInputs / 4;
constexpr int kVectorBytes = 64;  // of 16 columns: a quad of levels, or eight numbers, or factors
constexpr int kGroupVectors = 1 + kGroupInputs / 8;
constexpr int kStretchVectors = kStretchInputs / kGroupInputs * kGroupVectors;
constexpr int kLevelPart = 256;    // parts of a level that steps and starts count
constexpr int kLevelOffset = 128;  // makes levels unsigned

inline int stretch_count(const Linear& linear) {
  return (linear.inner + kStretchInputs - 1) / kStretchInputs;
}

inline size_t int4_half_bytes(const Linear& linear) {
  return static_cast<size_t>(stretch_count(linear)) * kStretchVectors * kVectorBytes;
}

// Of half a panel once its levels are made.
inline size_t level_half_bytes(const Linear& linear) {
  return static_cast<size_t>(stretch_count(linear)) * kStretchQuads * kVectorBytes;
}

// A row: quads of levels, then of each stretch its scale, then what its sums start from.
inline int int4_row_bytes(const Linear& linear) {
  return stretch_count(linear) * (kStretchQuads * kQuadBytes + 8);
}

struct StretchRow {
  uint8_t* quads;
  float* scales;
  int32_t* starts;

  StretchRow(const Linear& linear, uint8_t* row)
      : quads(row),
        scales(reinterpret_cast<float*>(row + stretch_count(linear) * kStretchQuads * kQuadBytes)),
        starts(reinterpret_cast<int32_t*>(scales + stretch_count(linear))) {}

  // A stretch with NaN gets the scale NaN, so that the row's products stay NaN.
  void put(const Linear& linear, const float* x) const {
    for (int s = 0; s < stretch_count(linear); ++s) {
      constexpr int kVectors = kStretchInputs / kLanes;
      Floats v[kVectors];
      Extent extent;
#pragma GCC unroll 4
      for (int n = 0; n < kVectors; ++n) {
        const int i = s * kStretchInputs + n * kLanes;
        v[n] = load_floats(x + i, linear.inner - i);
        extent.see(v[n]);
      }
      const float most = extent.most();
      const Floats factor = repeat(kLevels / most);
      uint8_t* out = quads + s * kStretchQuads * kQuadBytes;
      Ints excess = zero_ints();
#pragma GCC unroll 4
      for (int n = 0; n < kVectors; ++n, out += kLanes / 4 * kQuadBytes) {
        const Ints levels = to_ints(v[n] * factor);
        excess = add_ints(excess, query_excess(levels));
        put_query_quads(out, to_int8(levels));
      }
      scales[s] = most / kLevels;
      starts[s] = -sum_of(excess);
    }
  }
};

// The factors of 16 columns in a group, each in both 16-bit lanes of its column.
struct GroupFactors {
  Ints steps, starts;

  explicit GroupFactors(const uint8_t* packed) { split_pairs(load_line(packed), &steps, &starts); }
};

// Two quads of levels from eight numbers of each column.
inline void make_levels(const uint8_t* numbers, const GroupFactors& factors, Quads* two) {
  widen_numbers(load_line(numbers), factors.steps, factors.starts, two);
}

// All levels of a panel, half by half.
inline const uint8_t* widen_int4_levels(const Linear& linear, const uint8_t* packed, uint8_t* out) {
  const uint8_t* const begin = out;
  for (int group = 0; group < 2 * stretch_count(linear) * 2; ++group) {
    const GroupFactors factors(packed);
    packed += kVectorBytes;
#pragma GCC unroll 4
    for (int i = 0; i < kGroupVectors - 1; ++i, packed += kVectorBytes, out += 2 * kVectorBytes) {
      ask_for(packed + kAheadBytes);
      Quads two[2];
      make_levels(packed, factors, two);
      store_line(out, two[0]);
      store_line(out + kVectorBytes, two[1]);
    }
  }
  return begin;
}

// The products of rows with Halves halves of a panel, of which `levels` are made: those of row r
// and half h go to sums[r][half + h].
template <int Rows, int Halves>
inline void multiply_levels(const Linear& linear, const uint8_t* levels, const uint8_t* ahead,
                            int half, const StretchRow* rows, Floats (*sums)[2]) {
  constexpr int kSums = Rows * Halves;
  constexpr int kAheadLines = Halves * kStretchVectors;  // of a stretch
  if (ahead != nullptr) ahead += half * int4_half_bytes(linear);
  const size_t half_bytes = level_half_bytes(linear);
  levels += half * half_bytes;
  Floats totals[kSums];
#pragma GCC unroll 20
  for (int n = 0; n < kSums; ++n) totals[n] = zero_floats();
  for (int s = 0; s < stretch_count(linear); ++s) {
    Ints exact[kSums];
#pragma GCC unroll 20
    for (int n = 0; n < kSums; ++n) exact[n] = repeat_int(rows[n / Halves].starts[s]);
    if (ahead != nullptr) {
      for (int line = 0; line < kAheadLines; ++line, ahead += kVectorBytes) ask_for(ahead);
    }
    for (int i = 0; i < kStretchQuads; ++i, levels += kVectorBytes) {
      Quads own[Halves];
#pragma GCC unroll 2
      for (int h = 0; h < Halves; ++h) own[h] = load_quads(levels + h * half_bytes);
#pragma GCC unroll 20
      for (int n = 0; n < kSums; ++n) {
        const uint8_t* quads = rows[n / Halves].quads + (s * kStretchQuads + i) * kQuadBytes;
        add_quads(exact[n], own[n % Halves], repeat_quad(quads));
      }
    }
#pragma GCC unroll 20
    for (int n = 0; n < kSums; ++n) {
      totals[n] = fused(to_floats(exact[n]), repeat(rows[n / Halves].scales[s]), totals[n]);
    }
  }
#pragma GCC unroll 20
  for (int n = 0; n < kSums; ++n) sums[n / Halves][half + n % Halves] = totals[n];
}

// The same of one half, of which the levels are made on the way.
template <int Rows>
inline void multiply_numbers(const Linear& linear, const uint8_t* packed, int half,
                             const StretchRow* rows, Floats (*sums)[2]) {
  packed += half * int4_half_bytes(linear);
  Floats totals[Rows];
#pragma GCC unroll 4
  for (int r = 0; r < Rows; ++r) totals[r] = zero_floats();
  for (int s = 0; s < stretch_count(linear); ++s) {
    Ints exact[Rows];
#pragma GCC unroll 4
    for (int r = 0; r < Rows; ++r) exact[r] = repeat_int(rows[r].starts[s]);
    int place = s * kStretchQuads * kQuadBytes;
    for (int group = 0; group < kStretchInputs / kGroupInputs; ++group) {
      const GroupFactors factors(packed);
      ask_for(packed + kAheadBytes);
      packed += kVectorBytes;
#pragma GCC unroll 4
      for (int i = 0; i < kGroupVectors - 1; ++i) {
        ask_for(packed + kAheadBytes);
        Quads two[2];
        make_levels(packed, factors, two);
        packed += kVectorBytes;
#pragma GCC unroll 4
        for (int r = 0; r < Rows; ++r) {
          add_quads(exact[r], two[0], repeat_quad(rows[r].quads + place));
          add_quads(exact[r], two[1], repeat_quad(rows[r].quads + place + kQuadBytes));
        }
        place += 2 * kQuadBytes;
      }
    }
#pragma GCC unroll 4
    for (int r = 0; r < Rows; ++r) {
      totals[r] = fused(to_floats(exact[r]), repeat(rows[r].scales[s]), totals[r]);
    }
  }
#pragma GCC unroll 4
  for (int r = 0; r < Rows; ++r) sums[r][half] = totals[r];
}

constexpr int kNumberRows = 4;  // up to so many rows, levels are made on the way
constexpr int kLevelRows = kTileHalves == 2 ? 10 : 6;  // sums of more leave the registers

// Rows first .. first + Rows - 1 of a panel; `columns`: its levels, or its numbers.
template <int Rows, bool Made>
[[gnu::noinline]] inline void compute_int4_tile(const Linear& linear, const uint8_t* columns,
                                                const uint8_t* ahead, const Prepared& in,
                                                const Output& out, int panel, int first) {
  constexpr int kHalves = Made ? kTileHalves : 1;
  Floats sums[Rows][2];
  uint8_t* begin = const_cast<uint8_t*>(in.rows) + first * in.stride;
  const auto row = [&](int r) { return StretchRow(linear, begin + r * in.stride); };
  const auto rows = [&]<int... Index>(std::integer_sequence<int, Index...>) {
    return std::array<StretchRow, Rows>{row(Index)...};
  }(std::make_integer_sequence<int, Rows>{});
  for (int half = 0; half < 2; half += kHalves) {
    if constexpr (Made) {
      multiply_levels<Rows, kHalves>(linear, columns, ahead, half, rows.data(), sums);
    } else {
      multiply_numbers<Rows>(linear, columns, half, rows.data(), sums);
    }
  }
  const int column = panel * kPanel;
  for (int r = 0; r < Rows; ++r) {
    put_row(linear, out, panel, first + r, sums[r][0] * load_floats(linear.scales + column),
            sums[r][1] * load_floats(linear.scales + column + kLanes));
  }
}

template <bool Made, int... Rows>
TileFunction int4_tile_of(int rows, std::integer_sequence<int, Rows...>) {
  constexpr TileFunction kTiles[] = {compute_int4_tile<Rows + 1, Made>...};
  return kTiles[rows - 1];
}

// Rows first .. end - 1 of a panel. The first tile asks for the thread's next panel meanwhile, if
// `next` is one.
inline void compute_int4_panel(const Linear& linear, const Prepared& in, const Output& out,
                               int panel, int next, int first, int end, float* scratch) {
  const uint8_t* columns = linear.weights + panel * 2 * int4_half_bytes(linear);
  if (end - first <= kNumberRows) {
    constexpr auto kSizes = std::make_integer_sequence<int, kNumberRows>{};
    int4_tile_of<false>(end - first, kSizes)(linear, columns, columns, in, out, panel, first);
    return;
  }
  const uint8_t* ahead =
      next < 0 ? nullptr : linear.weights + next * 2 * int4_half_bytes(linear);
  columns = widen_int4_levels(linear, columns, reinterpret_cast<uint8_t*>(scratch));
  for (int tiles = (end - first + kLevelRows - 1) / kLevelRows; tiles > 0; --tiles) {
    const int rows = (end - first + tiles - 1) / tiles;
    constexpr auto kSizes = std::make_integer_sequence<int, kLevelRows>{};
    int4_tile_of<true>(rows, kSizes)(linear, columns, ahead, in, out, panel, first);
    ahead = nullptr;
    first += rows;
  }
}

}  // namespace baton

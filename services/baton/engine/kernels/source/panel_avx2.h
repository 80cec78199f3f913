// Rows times a panel in AVX2: 16 registers hold the sums of two rows and all 32 columns, or of six
// rows and half of them; more than two rows go over the panel twice, the second time from the cache.
#pragma once

#include "panel.h"

namespace baton {

constexpr int kTileRows = 6;   // 12 sums, 2 vectors of weights, 1 of a row, 1 product: all of 16
constexpr int kWholeRows = 2;  // up to so many rows take the whole panel at once
constexpr int kTileHalves = 1;  // of a panel, that a tile of levels takes at once
constexpr int kVectors = 4;    // of 8 columns in a panel

// Whether a panel is widened to bfloat16 before it is multiplied.
inline bool is_widened(const Linear& linear) { return linear.scheme == kInt4Weight; }

// A row's quads and what they add too much; or its floats, of bfloat16 too: they are widened once,
// not for every panel.
inline int row_bytes(const Linear& linear) {
  if (linear.scheme != kInt8) return round_up(linear.inner, kBf16Inputs) * 4;
  return round_up(linear.inner, kLanes) / kInt8Inputs * kQuadBytes + int{sizeof(int32_t)};
}

// Levels of a row, of which `most` is the largest magnitude.
inline void put_row_levels(const Linear& linear, const float* x, float most, uint8_t* out) {
  const Floats factor = repeat(kLevels / most);
  Ints excess = zero_ints();
  for (int i = 0; i < linear.inner; i += kLanes, out += kLanes / kInt8Inputs * kQuadBytes) {
    const Ints levels = to_ints(load_floats(x + i, linear.inner - i) * factor);
    excess = add_ints(excess, flipped_ones(levels));
    put_quads(out, to_int8(levels), 0);
  }
  const int sum = sum_of(excess);
  std::memcpy(out, &sum, sizeof sum);
}

inline void put_row_bf16(uint8_t* out, int i, Floats v) {
  store_floats(reinterpret_cast<float*>(out) + i, widen_bf16(narrow_bf16(v)));
}

inline __m256 repeat_8(const uint8_t* x) {
  float value;
  std::memcpy(&value, x, sizeof value);
  return _mm256_set1_ps(value);
}

// A tile multiplies one part of a step: parts with a row and vectors of columns each.
struct Float32Tile {
  using Sum = __m256;
  using Row = __m256;
  using Columns = __m256;
  static constexpr int kParts = 1, kPartBytes = 4, kColumnBytes = kStepBytes;
  static Sum zero() { return _mm256_setzero_ps(); }
  static Row row(const uint8_t* x) { return repeat_8(x); }
  template <int Part>
  static Columns columns(const uint8_t* x, int vector) {
    return _mm256_loadu_ps(reinterpret_cast<const float*>(x) + 8 * vector);
  }
  static void add(Sum& sum, Row row, Columns columns) { sum = _mm256_fmadd_ps(row, columns, sum); }
  static Floats value(Sum low, Sum high, const Linear&, int, const uint8_t*, float) {
    return {low, high};
  }
};

struct Bfloat16Tile : Float32Tile {
  static constexpr int kParts = kBf16Inputs;
  template <int Part>
  static Columns columns(const uint8_t* x, int vector) {
    const __m256i pairs = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(x) + vector);
    return _mm256_castsi256_ps(Part == 0
                                   ? _mm256_slli_epi32(pairs, 16)
                                   : _mm256_and_si256(pairs, _mm256_set1_epi32(-0x10000)));
  }
};

// Levels, widened as they are read.
struct Int8WeightTile : Bfloat16Tile {
  static constexpr int kColumnBytes = kLevelStepBytes;
  template <int Part>
  static Columns columns(const uint8_t* x, int vector) {
    const __m256i pairs =
        _mm256_cvtepi16_epi32(_mm_load_si128(reinterpret_cast<const __m128i*>(x) + vector));
    const __m256i own = Part == 0 ? _mm256_slli_epi32(pairs, 24) : pairs;
    return _mm256_cvtepi32_ps(_mm256_srai_epi32(own, Part == 0 ? 24 : 8));
  }
  static Floats value(Sum low, Sum high, const Linear& linear, int column, const uint8_t*, float) {
    return int8_weight_value({low, high}, linear, column);
  }
};

struct Int8Tile {
  using Sum = __m256i;
  using Row = Quad;
  using Columns = __m256i;
  static constexpr int kParts = 1, kPartBytes = kQuadBytes, kColumnBytes = kStepBytes;
  static Sum zero() { return _mm256_setzero_si256(); }
  static Row row(const uint8_t* x) { return repeat_quad(x); }
  template <int Part>
  static Columns columns(const uint8_t* x, int vector) {
    return _mm256_load_si256(reinterpret_cast<const __m256i*>(x) + vector);
  }
  static void add(Sum& sum, Row row, Columns columns) { sum = add_quad(sum, row, columns); }
  [[gnu::always_inline]] static Floats value(Sum low, Sum high, const Linear& linear, int column,
                                             const uint8_t* row, float row_scale) {
    int32_t excess;
    std::memcpy(&excess, row + row_bytes(linear) - sizeof excess, sizeof excess);
    const Ints exact = subtract_ints({low, high}, repeat_int(excess));
    return int8_value(exact, linear, column, row_scale);
  }
};

template <class Tile, int Part, int Rows, int Vectors>
inline void add_part(const uint8_t* columns, int vector, const uint8_t* rows_0,
                     const uint8_t* rows_3, size_t stride, typename Tile::Sum (*sums)[Vectors]) {
  typename Tile::Columns own[Vectors];
#pragma GCC unroll 4
  for (int v = 0; v < Vectors; ++v) own[v] = Tile::template columns<Part>(columns, vector + v);
#pragma GCC unroll 6
  for (int r = 0; r < Rows; ++r) {
    const uint8_t* x = (r < 3 ? rows_0 : rows_3) + r % 3 * stride;
    const typename Tile::Row row = Tile::row(x + Part * Tile::kPartBytes);
#pragma GCC unroll 4
    for (int v = 0; v < Vectors; ++v) Tile::add(sums[r][v], row, own[v]);
  }
}

// The products of rows `first` and on with Vectors vectors of columns, from `vector` on.
template <class Tile, int Rows, int Vectors>
inline void multiply_rows(const uint8_t* columns, const uint8_t* ahead, int steps,
                          const Prepared& in, int first, int vector,
                          typename Tile::Sum (*out)[kVectors]) {
  typename Tile::Sum sums[Rows][Vectors];
#pragma GCC unroll 6
  for (int r = 0; r < Rows; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < Vectors; ++v) sums[r][v] = Tile::zero();
  }
  const size_t stride = in.stride;
  const uint8_t *rows_0 = in.rows + first * stride, *rows_3 = rows_0 + 3 * stride;
  constexpr int kRowStep = Tile::kParts * Tile::kPartBytes;
  for (int step = 0; step < steps; ++step, columns += Tile::kColumnBytes) {
    if (vector == 0) {
#pragma GCC unroll 2
      for (int line = 0; line < Tile::kColumnBytes; line += 64) {
        ask_for(ahead + line);
      }
      ahead += Tile::kColumnBytes;
    }
    add_part<Tile, 0, Rows, Vectors>(columns, vector, rows_0, rows_3, stride, sums);
    if constexpr (Tile::kParts == 2) {
      add_part<Tile, 1, Rows, Vectors>(columns, vector, rows_0, rows_3, stride, sums);
    }
    rows_0 += kRowStep, rows_3 += kRowStep;
    asm("" : "+r"(rows_0), "+r"(rows_3));  // else the compiler makes a pointer per row of them
  }
#pragma GCC unroll 6
  for (int r = 0; r < Rows; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < Vectors; ++v) out[r][vector + v] = sums[r][v];
  }
}

template <class Tile, int Rows>
void compute_tile(const Linear& linear, const uint8_t* columns, const uint8_t* ahead,
                  const Prepared& in, const Output& out, int panel, int first) {
  typename Tile::Sum sums[Rows][kVectors];
  constexpr int kTogether = Rows <= kWholeRows ? kVectors : kVectors / 2;
  for (int vector = 0; vector < kVectors; vector += kTogether) {
    multiply_rows<Tile, Rows, kTogether>(columns, ahead, step_count(linear), in, first, vector,
                                         sums);
  }
  const int column = panel * kPanel;
  for (int r = 0; r < Rows; ++r) {
    const float scale = in.scales != nullptr ? in.scales[first + r] : 1.0f;
    const uint8_t* row = in.rows + (first + r) * in.stride;
    put_row(linear, out, panel, first + r,
            Tile::value(sums[r][0], sums[r][1], linear, column, row, scale),
            Tile::value(sums[r][2], sums[r][3], linear, column + kLanes, row, scale));
  }
}

}  // namespace baton

// Linear layers on packed panels: rows of prepared activations times 32 columns at a time.
//
// One register tile of up to 12 rows serves all schemes: every step multiplies four bytes of a row
// (one float32, two bfloat16 or four 8-bit levels) with four bytes of each column. A row's result
// does not depend on the rows it is computed with: integers are exact, and floats are added in the
// order of the inputs, always.
#pragma once

#include <algorithm>

#include "abi.h"
#include "vec.h"
#include "weight_only.h"

namespace baton {

constexpr int kTileRows = 12;   // 24 sums, 2 vectors of weights and 1 of a row: 27 of 32 registers
constexpr int kStepBytes = 4;   // of a row or a column that one multiplication takes
constexpr int kAheadBytes = 1536;  // weights are asked for so far ahead of their use

// Inputs per step of the tile.
inline int step_inputs(int scheme) { return scheme == kInt8 ? 4 : scheme == kFloat32 ? 1 : 2; }

inline int step_count(const Linear& linear) {
  const int inputs = step_inputs(linear.scheme);
  return (linear.inner + inputs - 1) / inputs;
}

inline int panel_count(const Linear& linear) {
  const int width = linear.paired ? kPanel / 2 : kPanel;
  return (linear.outer + width - 1) / width;
}

// Bytes of a panel in memory.
inline size_t panel_bytes(const Linear& linear) {
  const int steps = step_count(linear);
  if (linear.scheme == kInt8Weight) return static_cast<size_t>(steps) * kInt8StepBytes;
  if (linear.scheme == kInt4Weight) return static_cast<size_t>(int4_groups(steps)) * kInt4GroupBytes;
  return static_cast<size_t>(steps) * kPanelStepBytes;
}

// Floats of scratch that a thread needs for a panel: of the weight-only schemes it is widened there.
inline size_t panel_scratch(const Linear& linear) {
  const bool widened = linear.scheme == kInt8Weight || linear.scheme == kInt4Weight;
  return widened ? static_cast<size_t>(step_count(linear)) * kPanel : 0;
}

// Bytes of one prepared row: whole cache lines.
inline int prepared_bytes(const Linear& linear) {
  return round_up(step_count(linear) * kStepBytes, 64);
}

// Activations as the tile reads them.
struct Prepared {
  const uint8_t* rows;  // [count][stride]
  const float* scales;  // [count], int8 only
  size_t stride;        // bytes
};

enum class Target { kStore, kAdd };

struct Output {
  float* rows;  // [count][stride]
  size_t stride;
  Target target;
};

// The instructions are written out: compilers copy the sums around them otherwise, at half the speed.
struct Float32Tile {
  using Sum = __m512;
  static Sum zero() { return _mm512_setzero_ps(); }
  static void add(Sum& sum, __m512i row, __m512i columns) {
    asm("vfmadd231ps %2, %1, %0" : "+v"(sum) : "v"(row), "v"(columns));
  }
  static __m512 value(Sum sum, const Linear&, int, float) { return sum; }
};

#ifdef __AVX512BF16__
struct Bfloat16Tile {
  using Sum = __m512;
  static Sum zero() { return _mm512_setzero_ps(); }
  static void add(Sum& sum, __m512i row, __m512i columns) {
    asm("vdpbf16ps %2, %1, %0" : "+v"(sum) : "v"(row), "v"(columns));
  }
  static __m512 value(Sum sum, const Linear&, int, float) { return sum; }
};

// The columns are levels, exact in bfloat16.
struct Int8WeightTile : Bfloat16Tile {
  static __m512 value(Sum sum, const Linear& linear, int column, float) {
    return _mm512_mul_ps(sum, _mm512_loadu_ps(linear.scales + column));
  }
};
#endif

#ifdef __AVX512VNNI__
struct Int8Tile {
  using Sum = __m512i;
  static Sum zero() { return _mm512_setzero_si512(); }
  // Levels of the row are stored plus 128, as the instruction wants them unsigned.
  static void add(Sum& sum, __m512i row, __m512i columns) {
    asm("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(row), "v"(columns));
  }
  static __m512 value(Sum sum, const Linear& linear, int column, float row_scale) {
    const __m512i exact = _mm512_sub_epi32(sum, _mm512_loadu_si512(linear.sums + column));
    const __m512 scale = _mm512_loadu_ps(linear.scales + column);
    return _mm512_mul_ps(_mm512_mul_ps(_mm512_cvtepi32_ps(exact), scale),
                         _mm512_set1_ps(row_scale));
  }
};
#endif

inline void put(float* y, __m512 value, __mmask16 mask, Target target) {
  if (target == Target::kAdd) value = _mm512_add_ps(_mm512_maskz_loadu_ps(mask, y), value);
  _mm512_mask_storeu_ps(y, mask, value);
}

// Rows first .. first + Rows - 1 of a panel, of which `columns` are the weights.
template <class Tile, int Rows>
void compute_tile(const Linear& linear, const uint8_t* columns, const Prepared& in,
                  const Output& out, int panel, int first) {
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
  for (int step = 0; step < steps; ++step, columns += kPanelStepBytes) {
    _mm_prefetch(reinterpret_cast<const char*>(columns + kAheadBytes), _MM_HINT_T0);
    _mm_prefetch(reinterpret_cast<const char*>(columns + kAheadBytes + 64), _MM_HINT_T0);
    const __m512i low = _mm512_load_si512(columns), high = _mm512_load_si512(columns + 64);
#pragma GCC unroll 12
    for (int r = 0; r < Rows; ++r) {
      const uint8_t* trio = r < 3 ? rows_0 : r < 6 ? rows_3 : r < 9 ? rows_6 : rows_9;
      int32_t value;
      std::memcpy(&value, trio + r % 3 * stride, sizeof value);
      const __m512i row = _mm512_set1_epi32(value);
      Tile::add(sums[r][0], row, low);
      Tile::add(sums[r][1], row, high);
    }
    rows_0 += kStepBytes, rows_3 += kStepBytes, rows_6 += kStepBytes, rows_9 += kStepBytes;
    // else the compiler makes a pointer per row of them again
    asm("" : "+r"(rows_0), "+r"(rows_3), "+r"(rows_6), "+r"(rows_9));
  }
  const int column = panel * kPanel;
#pragma GCC unroll 12
  for (int r = 0; r < Rows; ++r) {
    const float scale = in.scales != nullptr ? in.scales[first + r] : 1.0f;
    __m512 low = Tile::value(sums[r][0], linear, column, scale);
    __m512 high = Tile::value(sums[r][1], linear, column + kLanes, scale);
    if (linear.bias != nullptr) {
      low = _mm512_add_ps(low, _mm512_loadu_ps(linear.bias + column));
      high = _mm512_add_ps(high, _mm512_loadu_ps(linear.bias + column + kLanes));
    }
    float* y = out.rows + (first + r) * out.stride;
    if (linear.paired) {
      const int place = panel * kLanes;
      put(y + place, gated(low, high), first_lanes(linear.outer - place), out.target);
    } else {
      put(y + column, low, first_lanes(linear.outer - column), out.target);
      put(y + column + kLanes, high, first_lanes(linear.outer - column - kLanes), out.target);
    }
  }
}

using TileFunction = void (*)(const Linear&, const uint8_t*, const Prepared&, const Output&, int,
                              int);

template <class Tile, int... Rows>
TileFunction tile_of(int rows, std::integer_sequence<int, Rows...>) {
  static constexpr TileFunction kTiles[] = {compute_tile<Tile, Rows + 1>...};
  return kTiles[rows - 1];
}

// Null where this processor, or this build, lacks the scheme's instructions.
inline TileFunction tile_for(int scheme, int rows) {
  constexpr auto kSizes = std::make_integer_sequence<int, kTileRows>{};
  if (scheme == kFloat32) return tile_of<Float32Tile>(rows, kSizes);
#ifdef __AVX512BF16__
  if (scheme == kBfloat16 || scheme == kInt4Weight) return tile_of<Bfloat16Tile>(rows, kSizes);
  if (scheme == kInt8Weight) return tile_of<Int8WeightTile>(rows, kSizes);
#endif
#ifdef __AVX512VNNI__
  if (scheme == kInt8) return tile_of<Int8Tile>(rows, kSizes);
#endif
  return nullptr;
}

// The weights of a panel as the tile reads them: where they lie, or widened into `scratch`.
inline const uint8_t* panel_columns(const Linear& linear, int panel, float* scratch) {
  const uint8_t* packed = linear.weights + panel * panel_bytes(linear);
#ifdef __AVX512BF16__
  auto* wide = reinterpret_cast<uint8_t*>(scratch);
  if (linear.scheme == kInt8Weight) return widen_int8_panel(packed, step_count(linear), wide);
  if (linear.scheme == kInt4Weight) return widen_int4_panel(packed, step_count(linear), wide);
#endif
  return packed;
}

// Rows first .. end - 1 of a panel, in tiles of nearly equal size.
inline void compute_panel(const Linear& linear, const Prepared& in, const Output& out, int panel,
                          int first, int end, float* scratch) {
  const uint8_t* columns = panel_columns(linear, panel, scratch);
  for (int tiles = (end - first + kTileRows - 1) / kTileRows; tiles > 0; --tiles) {
    const int rows = (end - first + tiles - 1) / tiles;
    tile_for(linear.scheme, rows)(linear, columns, in, out, panel, first);
    first += rows;
  }
}

// A linear layer as tasks: panels times blocks of rows small enough to stay in the second cache.
struct LinearTasks {
  static constexpr int kBlockRows = 96;

  // own: `panel_scratch` floats of the thread that computes these.
  LinearTasks(const Linear& layer, const Prepared& in, const Output& out, int row_count, float* own)
      : linear(layer), prepared(in), output(out), rows(row_count),
        blocks((row_count + kBlockRows - 1) / kBlockRows), scratch(own) {}

  int count() const { return panel_count(linear) * blocks; }

  void operator()(int task) const {
    const int first = task % blocks * kBlockRows;
    compute_panel(linear, prepared, output, task / blocks, first,
                  std::min(rows, first + kBlockRows), scratch);
  }

  const Linear& linear;
  const Prepared prepared;
  const Output output;
  const int rows, blocks;
  float* const scratch;
};

// Turns rows of floats into what the tile reads. `x` has room for whole vectors and is spoilt.
struct Preparation {
  const Linear& linear;

  void row(float* x, uint8_t* out, float* scale) const {
    if (linear.scheme == kInt8) {
      levels(x, out, scale);
    } else if (linear.scheme == kFloat32) {
      std::memcpy(out, x, sizeof(float) * linear.inner);
    } else {
      for (int i = 0; i < linear.inner; i += kLanes) {
        const __m512 v = _mm512_maskz_loadu_ps(first_lanes(linear.inner - i), x + i);
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + 2 * i), narrow_bf16(v));
      }
    }
  }

 private:
  // Symmetric levels, a scale per row. A row with NaN gets the scale NaN, so that it stays NaN.
  void levels(float* x, uint8_t* out, float* scale) const {
    const int count = linear.inner;
    rotate(x, count, linear.rotated);
    const float most = largest_magnitude(x, count);
    *scale = most / 127.0f;
    const __m512 factor = _mm512_set1_ps(127.0f / most);
    const __m128i offset = _mm_set1_epi8(static_cast<char>(0x80));
    for (int i = 0; i < count; i += kLanes) {
      const __m512 v = _mm512_maskz_loadu_ps(first_lanes(count - i), x + i);
      const __m512i level = _mm512_cvtps_epi32(_mm512_mul_ps(v, factor));
      const __m128i bytes = _mm_xor_si128(_mm512_cvtsepi32_epi8(level), offset);
      _mm_storeu_si128(reinterpret_cast<__m128i*>(out + i), bytes);
    }
  }
};

}  // namespace baton

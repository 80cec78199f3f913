// Linear layers: rows of prepared activations times packed panels, as tasks for the threads.
#pragma once

#ifdef __AVX512F__
#include "panel_avx512.h"
#else
#include "panel_avx2.h"
#endif
#ifdef __AMX_TILE__
#include "matrix_int4.h"
#else
#include "matrix_none.h"
#endif
#include "int4.h"
#include "weight_only.h"

namespace baton {

template <class Tile, int... Rows>
TileFunction tile_of(int rows, std::integer_sequence<int, Rows...>) {
  constexpr TileFunction kTiles[] = {compute_tile<Tile, Rows + 1>...};
  return kTiles[rows - 1];
}

inline TileFunction tile_for(int scheme, int rows) {
  constexpr auto kSizes = std::make_integer_sequence<int, kTileRows>{};
  if (scheme == kFloat32) return tile_of<Float32Tile>(rows, kSizes);
  if (scheme == kInt8) return tile_of<Int8Tile>(rows, kSizes);
  if (scheme == kInt8Weight) return tile_of<Int8WeightTile>(rows, kSizes);
  return tile_of<Bfloat16Tile>(rows, kSizes);
}

// Bytes of a panel in memory.
inline size_t panel_bytes(const Linear& linear) {
  const int steps = step_count(linear);
  if (linear.scheme == kInt8Weight) return static_cast<size_t>(steps) * kLevelStepBytes;
  if (linear.scheme == kInt4) return 2 * int4_half_bytes(linear);
  if (linear.scheme == kInt4Weight) return static_cast<size_t>(int4_groups(steps)) * kInt4GroupBytes;
  return static_cast<size_t>(steps) * kStepBytes;
}

// Floats of scratch that a thread needs for a panel: weights of less than 8 bits, or of the weight-only
// schemes, are widened there.
inline size_t panel_scratch(const Linear& linear) {
  if (linear.scheme == kInt4) return 2 * level_half_bytes(linear) / sizeof(float);
  return is_widened(linear) ? static_cast<size_t>(step_count(linear)) * kPanel : 0;
}

// Bytes of one prepared row: whole cache lines.
inline int prepared_bytes(const Linear& linear) {
  return round_up(linear.scheme == kInt4 ? int4_row_bytes(linear) : row_bytes(linear), 64);
}

// The weights of a panel as the tile reads them: where they lie, or widened into `scratch`.
inline const uint8_t* panel_columns(const Linear& linear, int panel, float* scratch) {
  const uint8_t* packed = linear.weights + panel * panel_bytes(linear);
  if (!is_widened(linear)) return packed;
  auto* wide = reinterpret_cast<uint8_t*>(scratch);
  return linear.scheme == kInt8Weight ? widen_int8_panel(packed, step_count(linear), wide)
                                      : widen_int4_panel(packed, step_count(linear), wide);
}

// Rows first .. end - 1 of a panel: with matrix registers, or in tiles of nearly equal size. The first
// tile reads the panel from memory, the second asks for the thread's next panel meanwhile, if `next`
// is one.
inline void compute_panel(const Linear& linear, const Prepared& in, const Output& out, int panel,
                          int next, int first, int end, float* scratch) {
  const bool matrices = takes_matrices(linear, end - first);
  if (linear.scheme == kInt4) {
    const auto compute = matrices ? compute_int4_matrix_panel : compute_int4_panel;
    return compute(linear, in, out, panel, next, first, end, scratch);
  }
  const uint8_t* columns = panel_columns(linear, panel, scratch);
  const bool known = next >= 0 && !is_widened(linear);
  const uint8_t* const following = known ? linear.weights + next * panel_bytes(linear) : columns;
  if (matrices) {
    return compute_matrix_panel(linear, columns, following, in, out, panel, first, end);
  }
  const uint8_t* ahead = columns + kAheadBytes;
  for (int tiles = (end - first + kTileRows - 1) / kTileRows; tiles > 0; --tiles) {
    const int rows = (end - first + tiles - 1) / tiles;
    tile_for(linear.scheme, rows)(linear, columns, ahead, in, out, panel, first);
    ahead = ahead == columns + kAheadBytes ? following : columns;
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

  // `next`: this thread's next task, or -1.
  void operator()(int task, int next) const {
    const int first = task % blocks * kBlockRows, panel = task / blocks;
    const int next_panel = next / blocks;
    compute_panel(linear, prepared, output, panel,
                  next < 0 || next_panel == panel ? -1 : next_panel, first,
                  std::min(rows, first + kBlockRows), scratch);
  }

  const Linear& linear;
  const Prepared prepared;
  const Output output;
  const int rows, blocks;
  float* const scratch;
};

// Turns rows of floats into what the tile reads.
struct Preparation {
  const Linear& linear;

  // `scratch` has room for whole vectors; it may be x.
  void row(const float* x, float* scratch, uint8_t* out, float* scale) const {
    if (linear.scheme == kInt8) {
      // Symmetric levels, a scale per row. A row with NaN gets the scale NaN, so that it stays NaN.
      const float most = rotate(x, linear.inner, linear.rotated, scratch);
      *scale = most / kLevels;
      put_row_levels(linear, scratch, most, out);
    } else if (linear.scheme == kInt4) {
      StretchRow(linear, out).put(linear, x);
    } else if (linear.scheme == kFloat32) {
      std::memcpy(out, x, sizeof(float) * linear.inner);
    } else {
      for (int i = 0; i < linear.inner; i += kLanes) {
        put_row_bf16(out, i, load_floats(x + i, linear.inner - i));
      }
    }
  }
};

}  // namespace baton

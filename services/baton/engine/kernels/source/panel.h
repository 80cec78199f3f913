// Packed panels: 32 columns of a linear layer, how they lie in memory, and what is made of them.
//
// A row's result does not depend on the rows it is computed with: integers are exact, and floats
// are added in the order of the inputs, always. panel_avx512.h and panel_avx2.h multiply.
#pragma once

#include "abi.h"
#include "vec.h"

namespace baton {

constexpr int kAheadBytes = 4096;  // weights are asked for so far ahead of their use

// A step: the inputs of a column, and of a row, that are multiplied together. Levels of weights
// alone are widened before, in pairs as bfloat16 has them.
constexpr int kInt8Inputs = 4;
constexpr int kBf16Inputs = 2;
// Of a panel: a float32, two bfloat16 or four levels of each column.
constexpr int kStepBytes = kPanel * 4;
constexpr int kLevelStepBytes = kPanel * kBf16Inputs;  // of a panel of 8-bit weights alone

inline int step_inputs(int scheme) {
  return scheme == kInt8 ? kInt8Inputs : scheme == kFloat32 ? 1 : kBf16Inputs;
}

inline int step_count(const Linear& linear) {
  const int inputs = step_inputs(linear.scheme);
  return (linear.inner + inputs - 1) / inputs;
}

inline int panel_count(const Linear& linear) {
  const int width = linear.paired ? kPanel / 2 : kPanel;
  return (linear.outer + width - 1) / width;
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

[[gnu::always_inline]] inline void put(float* y, Floats value, int count, Target target) {
  if (count <= 0) return;
  if (target == Target::kAdd) value = load_floats(y, count) + value;
  store_floats(y, value, count);
}

// What a row's sums of a panel's two halves become: with their bias, gated, in their place. Always
// inline, else the sums would be kept in memory.
[[gnu::always_inline]] inline void put_row(const Linear& linear, const Output& out, int panel,
                                           int row, Floats low, Floats high) {
  const int column = panel * kPanel;
  if (linear.bias != nullptr) {
    low = low + load_floats(linear.bias + column);
    high = high + load_floats(linear.bias + column + kLanes);
  }
  float* y = out.rows + row * out.stride;
  if (linear.paired) {
    const int place = panel * kLanes;
    put(y + place, gated(low, high), linear.outer - place, out.target);
  } else {
    put(y + column, low, linear.outer - column, out.target);
    put(y + column + kLanes, high, linear.outer - column - kLanes, out.target);
  }
}

// Sums of 16 columns as values. `row_scale`: of int8.
inline Floats int8_value(Ints exact, const Linear& linear, int column, float row_scale) {
  return to_floats(exact) * load_floats(linear.scales + column) * repeat(row_scale);
}

inline Floats int8_weight_value(Floats sum, const Linear& linear, int column) {
  return sum * load_floats(linear.scales + column);
}

// Rows first .. first + (its number of them) - 1 of a panel, of which `columns` are the weights.
// `ahead`: as many bytes as these are asked for meanwhile.
using TileFunction = void (*)(const Linear&, const uint8_t* columns, const uint8_t* ahead,
                              const Prepared&, const Output&, int panel, int first);

}  // namespace baton

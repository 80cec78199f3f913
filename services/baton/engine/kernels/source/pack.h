// Packs float32 weights [outer, inner] into panels, rounding them as the scheme says.
#pragma once

#include <vector>

#include "linear.h"

namespace baton {

// Where a packed layer is written; the arrays of `Linear`, writable.
struct PackTarget {
  uint8_t* weights;
  float* scales;
  int32_t* sums;
};

// The row of the weights that column `index` of a panel holds, or -1 past the end.
inline int source_row(const Linear& linear, int panel, int index) {
  if (!linear.paired) {
    const int row = panel * kPanel + index;
    return row < linear.outer ? row : -1;
  }
  const int row = panel * kLanes + index % kLanes;
  if (row >= linear.outer) return -1;
  return index < kLanes ? row : linear.outer + row;
}

inline void pack_int8_column(float* x, const Linear& linear, uint8_t* out, float* scale,
                             int32_t* sum) {
  const int count = linear.inner;
  const float most = rotate(x, count, linear.rotated, x);
  *scale = most / kLevels;
  int32_t total = 0;
  for (int i = 0; i < count; ++i) {
    const auto level = static_cast<int8_t>(std::nearbyintf(x[i] * (kLevels / most)));
    total += level;
    out[i / kInt8Inputs * kStepBytes + i % kInt8Inputs] = static_cast<uint8_t>(level);
  }
  *sum = 128 * total;
}

inline void pack_bf16_column(const float* x, int count, uint8_t* out) {
  for (int i = 0; i < count; i += kLanes) {
    uint8_t narrow[2 * kLanes];
    store_bf16(narrow, load_floats(x + i, count - i));
    for (int j = i; j < std::min(i + kLanes, count); ++j) {
      std::memcpy(out + j / 2 * kStepBytes + j % 2 * 2, narrow + 2 * (j - i), 2);
    }
  }
}

// Symmetric levels in a panel of 8-bit weights.
inline void pack_int8_weight_column(const float* x, int count, int index, uint8_t* panel,
                                    float* scale) {
  float most = 1e-30f;
  for (int i = 0; i < count; ++i) most = std::max(most, std::fabs(x[i]));
  *scale = most / kLevels;
  for (int i = 0; i < count; ++i) {
    const auto level = static_cast<int8_t>(std::nearbyintf(x[i] / *scale));
    panel[i / 2 * kLevelStepBytes + index * 2 + i % 2] = static_cast<uint8_t>(level);
  }
}

inline float through_half(float value) { return _cvtsh_ss(_cvtss_sh(value, 0)); }

// A scale and a minimum, both as float16 holds them.
struct Grid {
  float scale, minimum;

  Grid(float step, float low)
      : scale(through_half(step)), minimum(through_half(low)) {}

  // The nearest level's number.
  int level(float x) const {
    if (scale == 0.0f) return 0;
    const float steps = std::nearbyintf((x - minimum) / scale);
    return static_cast<int>(std::min(std::max(steps, 0.0f), float(kLevelMax)));
  }

  // What the nearest level stands for.
  float value(float x) const { return static_cast<float>(level(x)) * scale + minimum; }

  float error(const float* x, int count) const {
    float sum = 0.0f;
    for (int i = 0; i < count; ++i) {
      const float off = value(x[i]) - x[i];
      sum += off * off;
    }
    return sum;
  }
};

// The better of two grids: from the lowest to the highest value, as Q4_1 has it, or eight steps to
// the value of largest size, as Q4_0. Either comes through as it was written.
inline Grid grid_of(const float* x, int count) {
  float low = x[0], high = x[0];
  for (int i = 1; i < count; ++i) low = std::min(low, x[i]), high = std::max(high, x[i]);
  const Grid whole((high - low) / kLevelMax, low);
  const float largest = -low > high ? low : high;
  const Grid centred(largest / -8.0f, largest);
  return centred.error(x, count) < whole.error(x, count) ? centred : whole;
}

inline void pack_int4_column(const float* x, int count, int index, uint8_t* panel) {
  for (int first = 0; first < count; first += kGroupInputs, panel += kInt4GroupBytes) {
    const int inputs = std::min(kGroupInputs, count - first);
    const Grid grid = grid_of(x + first, inputs);
    const uint16_t scale = _cvtss_sh(grid.scale, 0), minimum = _cvtss_sh(grid.minimum, 0);
    std::memcpy(panel + index * 2, &scale, 2);
    std::memcpy(panel + kPanel * 2 + index * 2, &minimum, 2);
    for (int i = 0; i < inputs; ++i) {
      const Nibble place(index, i);
      panel[kInt4HeadBytes + i / 2 * kInt4StepBytes + place.byte] |=
          static_cast<uint8_t>(grid.level(x[first + i]) << place.shift);
    }
  }
}

// Where one of eight numbers lies in four bytes: see `widen_numbers`.
struct Number {
  int byte, shift;

  explicit Number(int input)
      : byte(input % 4 / 2 * 2 + input / 4), shift(input % 2 * 4) {}
};

// Numbers, steps and starts of a column in a panel of int4.
inline void pack_int4_level_column(const float* x, const Linear& linear, int index, uint8_t* panel,
                                   float* scale) {
  std::vector<Grid> grids;
  float most = 1e-30f;
  for (int first = 0; first < linear.inner; first += kGroupInputs) {
    const int count = std::min(kGroupInputs, linear.inner - first);
    const Grid& grid = grids.emplace_back(grid_of(x + first, count));
    for (int i = first; i < first + count; ++i) most = std::max(most, std::fabs(grid.value(x[i])));
  }
  *scale = most / kLevels;
  const float parts = kLevelPart * kLevels / most;
  uint8_t* group = panel + index / kLanes * int4_half_bytes(linear) + index % kLanes * 4;
  for (size_t g = 0; g < grids.size(); ++g, group += kGroupVectors * kVectorBytes) {
    const auto step = static_cast<int16_t>(std::nearbyintf(grids[g].scale * parts));
    const auto start = static_cast<uint16_t>(
        static_cast<int>(std::nearbyintf(grids[g].minimum * parts)) + kLevelPart / 2 +
        kLevelOffset * kLevelPart);
    std::memcpy(group, &step, 2);
    std::memcpy(group + 2, &start, 2);
    const int first = static_cast<int>(g) * kGroupInputs;
    for (int i = 0; i < std::min(kGroupInputs, linear.inner - first); ++i) {
      const Number place(i % 8);
      group[(1 + i / 8) * kVectorBytes + place.byte] |=
          static_cast<uint8_t>(grids[g].level(x[first + i]) << place.shift);
    }
  }
}

inline void pack_column(float* x, const Linear& linear, const PackTarget& target, int panel,
                        int index) {
  uint8_t* begin = target.weights + panel * panel_bytes(linear);
  uint8_t* out = begin + index * 4;
  const int column = panel * kPanel + index;
  if (linear.scheme == kInt8) {
    pack_int8_column(x, linear, out, target.scales + column, target.sums + column);
  } else if (linear.scheme == kInt8Weight) {
    pack_int8_weight_column(x, linear.inner, index, begin, target.scales + column);
  } else if (linear.scheme == kInt4Weight) {
    pack_int4_column(x, linear.inner, index, begin);
  } else if (linear.scheme == kInt4) {
    pack_int4_level_column(x, linear, index, begin, target.scales + column);
  } else if (linear.scheme == kBfloat16) {
    pack_bf16_column(x, linear.inner, out);
  } else {
    for (int i = 0; i < linear.inner; ++i) std::memcpy(out + i * kStepBytes, x + i, 4);
  }
}

// The target's memory is zeroed by the caller: the padding of columns and inputs stays zero.
inline void pack_panel(const Linear& linear, const float* weight, const PackTarget& target,
                       int panel) {
  std::vector<float> x(round_up(linear.inner, 64));
  for (int index = 0; index < kPanel; ++index) {
    const int row = source_row(linear, panel, index);
    if (row < 0) continue;
    std::memcpy(x.data(), weight + static_cast<size_t>(row) * linear.inner,
                sizeof(float) * linear.inner);
    pack_column(x.data(), linear, target, panel, index);
  }
}

// One row of the weights as floats, from float32 or bfloat16 panels.
inline void unpack_row(const Linear& linear, int row, float* out) {
  const uint8_t* column =
      linear.weights + row / kPanel * panel_bytes(linear) + row % kPanel * 4;
  for (int i = 0; i < linear.inner; ++i) {
    if (linear.scheme == kFloat32) {
      std::memcpy(out + i, column + static_cast<size_t>(i) * kStepBytes, 4);
    } else {
      uint16_t half;
      std::memcpy(&half, column + static_cast<size_t>(i / 2) * kStepBytes + i % 2 * 2, 2);
      const uint32_t bits = static_cast<uint32_t>(half) << 16;
      std::memcpy(out + i, &bits, 4);
    }
  }
}

}  // namespace baton

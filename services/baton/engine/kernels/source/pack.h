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
  rotate(x, count, linear.rotated);
  float most = 1e-30f;
  for (int i = 0; i < count; ++i) most = std::max(most, std::fabs(x[i]));
  *scale = most / 127.0f;
  int32_t total = 0;
  for (int i = 0; i < count; ++i) {
    const auto level = static_cast<int8_t>(std::nearbyintf(x[i] * (127.0f / most)));
    total += level;
    out[i / 4 * kPanelStepBytes + i % 4] = static_cast<uint8_t>(level);
  }
  *sum = 128 * total;
}

inline void pack_bf16_column(const float* x, int count, uint8_t* out) {
  for (int i = 0; i < count; i += kLanes) {
    const __mmask16 mask = first_lanes(count - i);
    uint16_t narrow[kLanes];
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(narrow),
                        narrow_bf16(_mm512_maskz_loadu_ps(mask, x + i)));
    for (int j = i; j < std::min(i + kLanes, count); ++j) {
      std::memcpy(out + j / 2 * kPanelStepBytes + j % 2 * 2, narrow + (j - i), 2);
    }
  }
}

inline void pack_column(float* x, const Linear& linear, const PackTarget& target, int panel,
                        int index) {
  const size_t panel_bytes = static_cast<size_t>(step_count(linear)) * kPanelStepBytes;
  uint8_t* out = target.weights + panel * panel_bytes + index * kStepBytes;
  const int column = panel * kPanel + index;
  if (linear.scheme == kInt8) {
    pack_int8_column(x, linear, out, target.scales + column, target.sums + column);
  } else if (linear.scheme == kBfloat16) {
    pack_bf16_column(x, linear.inner, out);
  } else {
    for (int i = 0; i < linear.inner; ++i) std::memcpy(out + i * kPanelStepBytes, x + i, 4);
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
  const size_t panel_bytes = static_cast<size_t>(step_count(linear)) * kPanelStepBytes;
  const uint8_t* column =
      linear.weights + row / kPanel * panel_bytes + row % kPanel * kStepBytes;
  for (int i = 0; i < linear.inner; ++i) {
    if (linear.scheme == kFloat32) {
      std::memcpy(out + i, column + static_cast<size_t>(i) * kPanelStepBytes, 4);
    } else {
      uint16_t half;
      std::memcpy(&half, column + static_cast<size_t>(i / 2) * kPanelStepBytes + i % 2 * 2, 2);
      const uint32_t bits = static_cast<uint32_t>(half) << 16;
      std::memcpy(out + i, &bits, 4);
    }
  }
}

}  // namespace baton

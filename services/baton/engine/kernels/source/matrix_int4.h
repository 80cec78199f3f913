// Rows times a panel of 4-bit weights in AMX, once the weights' levels are made: a stretch of 64 inputs
// is what one instruction takes, and its sums are exact, as everywhere.
#pragma once

#include "matrix_amx.h"

namespace baton {

static_assert(kStretchInputs == kMatrixBytes && kQuadBytes == kRowStepBytes);

// Sums of one stretch in turn with the next one's.
struct StretchSums {
  alignas(64) int32_t of[2][kMatrixRows][kLanes];  // [half of the panel]

  // rows [kMatrixRows], `stride` bytes apart; levels of both halves, `half_bytes` apart
  void multiply(const uint8_t* rows, size_t stride, const uint8_t* levels, size_t half_bytes) {
    _tile_zero(0);
    _tile_zero(1);
    _tile_loadd(4, rows, stride);
    _tile_loadd(6, levels, kMatrixBytes);
    _tile_dpbsud(0, 4, 6);
    _tile_loadd(7, levels + half_bytes, kMatrixBytes);
    _tile_dpbsud(1, 4, 7);
    _tile_stored(0, of[0], kMatrixBytes);
    _tile_stored(1, of[1], kMatrixBytes);
  }
};

// Rows first .. end - 1 of a panel, at most kMatrixRows. With each stretch one of the next panel is
// asked for, if `ahead` is one.
inline void compute_int4_matrix(const Linear& linear, const uint8_t* levels, const uint8_t* ahead,
                                const Prepared& in, const Output& out, int panel, int first,
                                int end) {
  constexpr int kAheadLines = 2 * kStretchVectors;
  const size_t half_bytes = level_half_bytes(linear);
  uint8_t* const rows = const_cast<uint8_t*>(in.rows) + first * in.stride;
  const int count = end - first;
  StretchSums sums[2];
  Floats totals[kMatrixRows][2];
  for (int r = 0; r < count; ++r) totals[r][0] = totals[r][1] = zero_floats();
  finish_stores();
  for (int s = 0; s < stretch_count(linear); ++s) {
    StretchSums& exact = sums[s % 2];
    exact.multiply(rows + s * kMatrixBytes, in.stride, levels, half_bytes);
    levels += kStretchQuads * kVectorBytes;
    if (ahead != nullptr) {
      for (int line = 0; line < kAheadLines; ++line, ahead += kVectorBytes) ask_for(ahead);
    }
    for (int r = 0; r < count; ++r) {
      const StretchRow row(linear, rows + r * in.stride);
      const Ints start = repeat_int(row.starts[s]);
      const Floats scale = repeat(row.scales[s]);
      for (int h = 0; h < 2; ++h) {
        const Ints sum = add_ints(load_ints(exact.of[h][r]), start);
        totals[r][h] = fused(to_floats(sum), scale, totals[r][h]);
      }
    }
  }
  const int column = panel * kPanel;
  for (int r = 0; r < count; ++r) {
    put_row(linear, out, panel, first + r, totals[r][0] * load_floats(linear.scales + column),
            totals[r][1] * load_floats(linear.scales + column + kLanes));
  }
}

// Rows first .. end - 1 of a panel; `next`: the thread's next one, or -1.
inline void compute_int4_matrix_panel(const Linear& linear, const Prepared& in, const Output& out,
                                      int panel, int next, int first, int end, float* scratch) {
  const size_t bytes = 2 * int4_half_bytes(linear);
  const uint8_t* ahead = next < 0 ? nullptr : linear.weights + next * bytes;
  const uint8_t* levels = widen_int4_levels(linear, linear.weights + panel * bytes,
                                            reinterpret_cast<uint8_t*>(scratch));
  for (; first < end; first += kMatrixRows, ahead = nullptr) {
    compute_int4_matrix(linear, levels, ahead, in, out, panel, first,
                        std::min(end, first + kMatrixRows));
  }
}

}  // namespace baton

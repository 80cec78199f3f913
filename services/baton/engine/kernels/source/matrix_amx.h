// Rows times a panel in AMX: one instruction multiplies 16 rows with 16 columns, 64 bytes of each.
// Panels lie as it reads them. Sums of levels are exact: int8 has the bits of every other build.
//
// A system gives a process the registers when asked, or not: then AVX-512 does their work.
#pragma once

#include <sys/syscall.h>
#include <unistd.h>

#include "int4.h"
#include "panel_avx512.h"

namespace baton {

constexpr int kMatrixRows = 16;   // of a register
constexpr int kMatrixBytes = 64;  // of each row or column in it
constexpr int kMatrixSteps = kMatrixBytes / kRowStepBytes;
constexpr int kMatrixPair = 2 * kMatrixRows;  // rows that share what is read of a panel
// Whole registers are read: so many rows behind the last one of a step have to be readable.
constexpr int kSpareRows = kMatrixPair - 1;
constexpr size_t kChunkBytes = kMatrixSteps * kStepBytes;  // of a panel, that is multiplied at once

inline bool ask_for_matrices() {
  constexpr int kRequestPermission = 0x1023, kTileData = 18;  // of arch_prctl(2)
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
}

inline bool has_matrices() {
  static const bool given = ask_for_matrices();
  return given;
}

// Fewer rows wait for the weights, or for their levels to be made, and AVX-512 does that in less time.
// bfloat16 takes any number: its sums have another order here, and a row's must not change.
inline bool takes_matrices(const Linear& linear, int rows) {
  if (linear.scheme == kFloat32 || !has_matrices()) return false;
  if (linear.scheme == kInt4) return rows > kLevelRows;  // its stretches are whole chunks
  return step_count(linear) % kMatrixSteps == 0 && (linear.scheme != kInt8 || rows > kTileRows);
}

// A thread may use the registers, all in full size, for as long as it has one of these.
// Where a layer does not take them for so many rows, it does not for fewer either.
class MatrixUse {
 public:
  MatrixUse(const Linear& linear, int rows) : used_(takes_matrices(linear, rows)) {
    struct alignas(64) {
      uint8_t palette = 1, start_row = 0, reserved[14] = {};
      uint16_t bytes[16] = {};
      uint8_t rows[16] = {};
    } sizes;
    for (int i = 0; i < 8; ++i) sizes.bytes[i] = kMatrixBytes, sizes.rows[i] = kMatrixRows;
    if (used_) _tile_loadconfig(&sizes);
  }
  MatrixUse(const MatrixUse&) = delete;
  MatrixUse& operator=(const MatrixUse&) = delete;
  ~MatrixUse() {
    if (used_) _tile_release();
  }

 private:
  const bool used_;
};

// Sums are in registers 0 to 3, rows in 4 and 5, columns in 6 and 7.
struct Int8Matrix : Int8Tile {
  static void add_upper() {
    _tile_dpbusd(0, 4, 6);
    _tile_dpbusd(1, 4, 7);
  }
  static void add_lower() {
    _tile_dpbusd(2, 5, 6);
    _tile_dpbusd(3, 5, 7);
  }
};

template <class Tile>
struct Bfloat16Matrix : Tile {
  static void add_upper() {
    _tile_dpbf16ps(0, 4, 6);
    _tile_dpbf16ps(1, 4, 7);
  }
  static void add_lower() {
    _tile_dpbf16ps(2, 5, 6);
    _tile_dpbf16ps(3, 5, 7);
  }
};

// Compilers are not told that registers are loaded from memory: what was stored has to be there.
inline void finish_stores() { asm volatile("" ::: "memory"); }

// Sums [kMatrixPair][kPanel] of rows from `rows` on; the second half of them with `Lower` only.
// `ahead`: of each chunk so many bytes are asked for.
template <class Matrix, bool Lower>
inline void multiply_matrices(const Linear& linear, const uint8_t* columns, const uint8_t* ahead,
                              size_t ahead_bytes, const uint8_t* rows, size_t stride,
                              uint8_t* sums) {
  constexpr int kSumStride = kPanel * 4;
  finish_stores();
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  for (int steps = step_count(linear); steps > 0; steps -= kMatrixSteps) {
    for (const uint8_t* const end = ahead + ahead_bytes; ahead < end; ahead += 64) ask_for(ahead);
    _tile_loadd(6, columns, kStepBytes);
    _tile_loadd(4, rows, stride);
    _tile_loadd(7, columns + kStepBytes / 2, kStepBytes);
    Matrix::add_upper();
    if (Lower) {
      _tile_loadd(5, rows + kMatrixRows * stride, stride);
      Matrix::add_lower();
    }
    columns += kChunkBytes, rows += kMatrixBytes;
  }
  _tile_stored(0, sums, kSumStride);
  _tile_stored(1, sums + kSumStride / 2, kSumStride);
  if (!Lower) return;
  _tile_stored(2, sums + kMatrixRows * kSumStride, kSumStride);
  _tile_stored(3, sums + kMatrixRows * kSumStride + kSumStride / 2, kSumStride);
}

// Rows first .. end - 1 of a panel, at most kMatrixPair.
template <class Matrix>
void compute_matrix(const Linear& linear, const uint8_t* columns, const uint8_t* ahead,
                    size_t ahead_bytes, const Prepared& in, const Output& out, int panel, int first,
                    int end) {
  alignas(64) typename Matrix::Sum sums[kMatrixPair][2];
  const bool lower = end - first > kMatrixRows;
  const auto multiply =
      lower ? multiply_matrices<Matrix, true> : multiply_matrices<Matrix, false>;
  multiply(linear, columns, ahead, ahead_bytes, in.rows + first * in.stride, in.stride,
           reinterpret_cast<uint8_t*>(sums));
  // copies: no store of a row can change them, and what depends on them alone is decided once
  const Linear layer = linear;
  const Output place = out;
  const float* const scales = in.scales;
  const int column = panel * kPanel;
  for (int row = first; row < end; ++row) {
    const float scale = scales != nullptr ? scales[row] : 1.0f;
    const auto* own = sums[row - first];
    put_row(layer, place, panel, row, Matrix::value(own[0], layer, column, scale),
            Matrix::value(own[1], layer, column + kLanes, scale));
  }
}

// Rows first .. end - 1 of a panel. `next`: the thread's next one, or this one. A lone pair of rows
// waits for its panel and asks for that; of more, each asks for a part of the next one meanwhile.
inline void compute_matrix_panel(const Linear& linear, const uint8_t* columns, const uint8_t* next,
                                 const Prepared& in, const Output& out, int panel, int first,
                                 int end) {
  auto compute = compute_matrix<Bfloat16Matrix<Bfloat16Tile>>;
  if (linear.scheme == kInt8) compute = compute_matrix<Int8Matrix>;
  if (linear.scheme == kInt8Weight) compute = compute_matrix<Bfloat16Matrix<Int8WeightTile>>;
  const int pairs = (end - first + kMatrixPair - 1) / kMatrixPair;
  const uint8_t* ahead = pairs == 1 ? columns + kAheadBytes : next;
  const size_t part = round_up(static_cast<int>(kChunkBytes) / pairs, 64);
  const size_t bytes = ahead == columns ? 0 : part;
  const size_t chunks = step_count(linear) / kMatrixSteps;
  for (; first < end; first += kMatrixPair, ahead += chunks * bytes) {
    compute(linear, columns, ahead, bytes, in, out, panel, first,
            std::min(end, first + kMatrixPair));
  }
}

}  // namespace baton

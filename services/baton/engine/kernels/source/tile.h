// Up to four rows against a tile of keys of one head: scores, running softmax, weighted values.
//
// Each score and each sum has one order of additions, whatever rows are computed beside it.
#pragma once

#include <algorithm>
#include <limits>

#include "kv.h"

namespace baton {

constexpr int kTileKeys = 64;  // keys between two looks at the running maximum
constexpr float kNothing = -std::numeric_limits<float>::infinity();

// Running softmax of one row over some keys: [0] maximum, [1] sum, then the weighted values from
// kStateHead on, in whole vectors. Scores are in powers of two.
constexpr int kStateHead = kLanes;

// How a tile's keys and values lie in memory: 16 of them, from element `i` on.
struct FloatVector {
  static __m512 load(const uint8_t* x, int i) {
    return _mm512_loadu_ps(reinterpret_cast<const float*>(x) + i);
  }
};

struct Bfloat16Vector {
  static __m512 load(const uint8_t* x, int i) {
    return widen_bf16(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(x + 2 * i)));
  }
};

// Up to kTileKeys consecutive keys and values of one head.
struct KeyTile {
  const uint8_t* keys[kTileKeys];
  const uint8_t* values[kTileKeys];
  int first;  // position of entry 0, a multiple of kTileKeys

  // Makes entries low .. high - 1 readable: in place, or copied as whole vectors of floats to
  // `space`, which takes 2 * kTileKeys * width of them.
  void read(const KvLayer& kv, const int32_t* table, int head, int low, int high, float* space) {
    gather(kv.keys, table, head, low, high, space, keys);
    if (space != nullptr) space += kTileKeys * round_up(kv.keys.head_size, kLanes);
    gather(kv.values, table, head, low, high, space, values);
    // whole vectors of keys are multiplied: the others repeat a readable one and are masked
    for (int i = low / kLanes * kLanes; i < low; ++i) keys[i] = keys[low];
    for (int i = high; i < round_up(high, kLanes); ++i) keys[i] = keys[low];
  }

  // Asks for keys and values of some positions, of `heads` heads from `head` on, ahead of their
  // use: their distances are beyond what processors guess.
  static void prefetch(const KvLayer& kv, const int32_t* table, int head, int heads, int begin,
                       int end) {
    const int bytes = heads * kv.keys.head_size * kv_bytes(kv.keys.kv_type);
    if (heads == 0) return;
    const auto ask = [&](int, const uint8_t* place) {
      for (int i = 0; i < bytes; i += 64) {
        _mm_prefetch(reinterpret_cast<const char*>(place + i), _MM_HINT_T1);
      }
    };
    kv.keys.each(table, begin, end, head, ask);
    kv.values.each(table, begin, end, head, ask);
  }

 private:
  void gather(const KvSide& side, const int32_t* table, int head, int low, int high, float* space,
              const uint8_t** out) const {
    const int width = round_up(side.head_size, kLanes);
    side.each(table, first + low, first + high, head, [&](int position, const uint8_t* place) {
      const int i = position - first;
      out[i] = place;
      if (space == nullptr) return;
      side.load(place, space + i * width);
      out[i] = reinterpret_cast<const uint8_t*>(space + i * width);
    });
  }
};

template <int Count>
struct TileRows {
  alignas(64) float weights[Count][kTileKeys];  // scores, then their powers
  const float* q[Count];
  float* states[Count];
  float kept[Count];           // factor for what the row had before this tile
  int low[Count], high[Count];  // entries the row sees; none if low >= high

  bool sees(int r) const { return low[r] < high[r]; }
};

// Adds the products of Vectors vectors, from `place` on, of 16 keys to `sums` [Count][16].
template <class Vector, int Count, int Vectors>
inline void multiply_keys(const float* const* q, const uint8_t* const* keys, int place,
                          __m512 (*sums)[kLanes]) {
  __m512 own[Count][Vectors];
#pragma GCC unroll 4
  for (int r = 0; r < Count; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < Vectors; ++v) own[r][v] = _mm512_load_ps(q[r] + place + v * kLanes);
  }
  for (int j = 0; j < kLanes; ++j) {
    __m512 key[Vectors];
#pragma GCC unroll 4
    for (int v = 0; v < Vectors; ++v) key[v] = Vector::load(keys[j], place + v * kLanes);
#pragma GCC unroll 4
    for (int r = 0; r < Count; ++r) {
      __m512 sum = place == 0 ? _mm512_setzero_ps() : sums[r][j];
#pragma GCC unroll 4
      for (int v = 0; v < Vectors; ++v) sum = _mm512_fmadd_ps(own[r][v], key[v], sum);
      sums[r][j] = sum;
    }
  }
}

// Scores of all rows with the vectors of keys from entry `begin` to `end`, unseen ones included.
template <class Vector, int Count>
inline void score(const KeyTile& tile, TileRows<Count>& rows, int begin, int end, int width) {
  for (int i = begin / kLanes * kLanes; i < end; i += kLanes) {
    __m512 sums[Count][kLanes];
    int place = 0;
    for (; place + 4 * kLanes <= width; place += 4 * kLanes) {
      multiply_keys<Vector, Count, 4>(rows.q, tile.keys + i, place, sums);
    }
    for (; place < width; place += kLanes) {
      multiply_keys<Vector, Count, 1>(rows.q, tile.keys + i, place, sums);
    }
    for (int r = 0; r < Count; ++r) _mm512_store_ps(rows.weights[r] + i, sums_of_16(sums[r]));
  }
}

// Scores of one row to weights; updates its maximum and sum.
template <int Count>
inline void weigh(TileRows<Count>& rows, int r) {
  const int low = rows.low[r], high = rows.high[r], begin = low / kLanes * kLanes;
  float *weights = rows.weights[r], *state = rows.states[r];
  const auto seen = [&](int i) {
    return static_cast<__mmask16>(first_lanes(high - i) &
                                  ~static_cast<unsigned>(first_lanes(low - i)));
  };
  __m512 most = _mm512_set1_ps(kNothing);
  for (int i = begin; i < high; i += kLanes) {
    most = _mm512_mask_max_ps(most, seen(i), most, _mm512_load_ps(weights + i));
  }
  const float before = state[0];
  state[0] = std::max(before, _mm512_reduce_max_ps(most));
  const __m512 now = _mm512_set1_ps(state[0]);
  __m512 sum = _mm512_setzero_ps();
  for (int i = begin; i < high; i += kLanes) {
    const __m512 weight = exp2_ps(_mm512_sub_ps(_mm512_load_ps(weights + i), now));
    _mm512_store_ps(weights + i, weight);
    sum = _mm512_mask_add_ps(sum, seen(i), sum, weight);
  }
  const float factor = _mm512_cvtss_f32(exp2_ps(_mm512_sub_ps(_mm512_set1_ps(before), now)));
  rows.kept[r] = before == kNothing ? 0.0f : before == state[0] ? 1.0f : factor;
  state[1] = state[1] * rows.kept[r] + _mm512_reduce_add_ps(sum);
}

// Adds the values of entries begin .. end - 1 to one row's sums.
template <class Vector, int Vectors>
inline void add_entries(const KeyTile& tile, int begin, int end, const float* weights, int place,
                        __m512* sums) {
  for (int i = begin; i < end; ++i) {
    const __m512 weight = _mm512_set1_ps(weights[i]);
#pragma GCC unroll 4
    for (int v = 0; v < Vectors; ++v) {
      sums[v] = _mm512_fmadd_ps(Vector::load(tile.values[i], place + v * kLanes), weight, sums[v]);
    }
  }
}

// Adds the tile's weighted values to each row, `Vectors` vectors of them from `place` on. Entries
// that all rows see are read once for all; each row still adds in order.
template <class Vector, int Vectors, int Count>
inline void add_values(const KeyTile& tile, const TileRows<Count>& rows, int place) {
  __m512 sums[Count][Vectors];
#pragma GCC unroll 4
  for (int r = 0; r < Count; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < Vectors; ++v) {
      const __m512 old = _mm512_load_ps(rows.states[r] + kStateHead + place + v * kLanes);
      sums[r][v] = _mm512_mul_ps(old, _mm512_set1_ps(rows.kept[r]));
    }
  }
  const int begin = *std::max_element(rows.low, rows.low + Count);
  const int end = std::max(begin, *std::min_element(rows.high, rows.high + Count));
#pragma GCC unroll 4
  for (int r = 0; r < Count; ++r) {
    add_entries<Vector, Vectors>(tile, rows.low[r], std::min(begin, rows.high[r]), rows.weights[r],
                                 place, sums[r]);
  }
  for (int i = begin; i < end; ++i) {
    __m512 value[Vectors];
#pragma GCC unroll 4
    for (int v = 0; v < Vectors; ++v) value[v] = Vector::load(tile.values[i], place + v * kLanes);
#pragma GCC unroll 4
    for (int r = 0; r < Count; ++r) {
      const __m512 weight = _mm512_set1_ps(rows.weights[r][i]);
#pragma GCC unroll 4
      for (int v = 0; v < Vectors; ++v) sums[r][v] = _mm512_fmadd_ps(value[v], weight, sums[r][v]);
    }
  }
#pragma GCC unroll 4
  for (int r = 0; r < Count; ++r) {
    add_entries<Vector, Vectors>(tile, std::max(end, rows.low[r]), rows.high[r], rows.weights[r],
                                 place, sums[r]);
#pragma GCC unroll 4
    for (int v = 0; v < Vectors; ++v) {
      _mm512_store_ps(rows.states[r] + kStateHead + place + v * kLanes, sums[r][v]);
    }
  }
}

// Brings the rows' states up to date with a tile. q and states are whole vectors.
template <class Vector, int Count>
inline void attend(const KeyTile& tile, TileRows<Count>& rows, int width) {
  int begin = kTileKeys, end = 0;
  for (int r = 0; r < Count; ++r) {
    if (!rows.sees(r)) continue;
    begin = std::min(begin, rows.low[r]);
    end = std::max(end, rows.high[r]);
  }
  if (begin >= end) return;
  score<Vector>(tile, rows, begin, end, width);
  for (int r = 0; r < Count; ++r) {
    rows.kept[r] = 1.0f;
    if (rows.sees(r)) weigh(rows, r);
  }
  int place = 0;
  for (; place + 4 * kLanes <= width; place += 4 * kLanes) {
    add_values<Vector, 4>(tile, rows, place);
  }
  for (; place < width; place += kLanes) add_values<Vector, 1>(tile, rows, place);
}

}  // namespace baton

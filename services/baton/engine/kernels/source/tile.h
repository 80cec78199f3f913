// Up to kFloatRows rows against a tile of keys of one head: scores, running softmax, weighted values.
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
  static Floats load(const uint8_t* x, int i) {
    return load_floats(reinterpret_cast<const float*>(x) + i);
  }
};

struct Bfloat16Vector {
  static Floats load(const uint8_t* x, int i) { return load_bf16(x + 2 * i); }
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
                          Floats (*sums)[kLanes]) {
  Floats own[Count][Vectors];
#pragma GCC unroll 4
  for (int r = 0; r < Count; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < Vectors; ++v) own[r][v] = load_floats(q[r] + place + v * kLanes);
  }
  for (int j = 0; j < kLanes; ++j) {
    Floats key[Vectors];
#pragma GCC unroll 4
    for (int v = 0; v < Vectors; ++v) key[v] = Vector::load(keys[j], place + v * kLanes);
#pragma GCC unroll 4
    for (int r = 0; r < Count; ++r) {
      Floats sum = place == 0 ? zero_floats() : sums[r][j];
#pragma GCC unroll 4
      for (int v = 0; v < Vectors; ++v) sum = fused(own[r][v], key[v], sum);
      sums[r][j] = sum;
    }
  }
}

// Scores of all rows with the vectors of keys from entry `begin` to `end`, unseen ones included.
template <class Vector, int Count>
inline void score(const KeyTile& tile, TileRows<Count>& rows, int begin, int end, int width) {
  for (int i = begin / kLanes * kLanes; i < end; i += kLanes) {
    Floats sums[Count][kLanes];
    int place = 0;
    for (; place + kFloatVectors * kLanes <= width; place += kFloatVectors * kLanes) {
      multiply_keys<Vector, Count, kFloatVectors>(rows.q, tile.keys + i, place, sums);
    }
    for (; place < width; place += kLanes) {
      multiply_keys<Vector, Count, 1>(rows.q, tile.keys + i, place, sums);
    }
    for (int r = 0; r < Count; ++r) store_floats(rows.weights[r] + i, sums_of_16(sums[r]));
  }
}

// Takes a tile's largest score into a row's maximum, which is returned, and notes what that makes of
// the weights before.
template <int Count>
inline float raise_maximum(TileRows<Count>& rows, int r, float largest) {
  float* state = rows.states[r];
  const float before = state[0];
  state[0] = std::max(before, largest);
  const float factor = first_of(exp2_of(repeat(before) - repeat(state[0])));
  rows.kept[r] = before == kNothing ? 0.0f : before == state[0] ? 1.0f : factor;
  return state[0];
}

// Scores of one row to weights; updates its maximum and sum.
template <int Count>
inline void weigh(TileRows<Count>& rows, int r) {
  const int low = rows.low[r], high = rows.high[r], begin = low / kLanes * kLanes;
  float *weights = rows.weights[r], *state = rows.states[r];
  Floats most = repeat(kNothing);
  for (int i = begin; i < high; i += kLanes) {
    most = pick(lanes(low - i, high - i), larger(most, load_floats(weights + i)), most);
  }
  const Floats now = repeat(raise_maximum(rows, r, largest_of(most)));
  Floats sum = zero_floats();
  for (int i = begin; i < high; i += kLanes) {
    const Floats weight = exp2_of(load_floats(weights + i) - now);
    store_floats(weights + i, weight);
    sum = pick(lanes(low - i, high - i), sum + weight, sum);
  }
  state[1] = state[1] * rows.kept[r] + sum_of(sum);
}

// Adds the values of entries begin .. end - 1 to one row's sums.
template <class Vector, int Vectors>
inline void add_entries(const KeyTile& tile, int begin, int end, const float* weights, int place,
                        Floats* sums) {
  for (int i = begin; i < end; ++i) {
    const Floats weight = repeat(weights[i]);
#pragma GCC unroll 4
    for (int v = 0; v < Vectors; ++v) {
      sums[v] = fused(Vector::load(tile.values[i], place + v * kLanes), weight, sums[v]);
    }
  }
}

// Adds the tile's weighted values to each row, `Vectors` vectors of them from `place` on. Entries
// that all rows see are read once for all; each row still adds in order.
template <class Vector, int Vectors, int Count>
inline void add_values(const KeyTile& tile, const TileRows<Count>& rows, int place) {
  Floats sums[Count][Vectors];
#pragma GCC unroll 4
  for (int r = 0; r < Count; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < Vectors; ++v) {
      const Floats old = load_floats(rows.states[r] + kStateHead + place + v * kLanes);
      sums[r][v] = old * repeat(rows.kept[r]);
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
    Floats value[Vectors];
#pragma GCC unroll 4
    for (int v = 0; v < Vectors; ++v) value[v] = Vector::load(tile.values[i], place + v * kLanes);
#pragma GCC unroll 4
    for (int r = 0; r < Count; ++r) {
      const Floats weight = repeat(rows.weights[r][i]);
#pragma GCC unroll 4
      for (int v = 0; v < Vectors; ++v) sums[r][v] = fused(value[v], weight, sums[r][v]);
    }
  }
#pragma GCC unroll 4
  for (int r = 0; r < Count; ++r) {
    add_entries<Vector, Vectors>(tile, std::max(end, rows.low[r]), rows.high[r], rows.weights[r],
                                 place, sums[r]);
#pragma GCC unroll 4
    for (int v = 0; v < Vectors; ++v) {
      store_floats(rows.states[r] + kStateHead + place + v * kLanes, sums[r][v]);
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
  for (; place + kFloatVectors * kLanes <= width; place += kFloatVectors * kLanes) {
    add_values<Vector, kFloatVectors>(tile, rows, place);
  }
  for (; place < width; place += kLanes) add_values<Vector, 1>(tile, rows, place);
}

}  // namespace baton

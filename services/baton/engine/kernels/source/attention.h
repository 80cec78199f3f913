// Attention over block tables, without gathering: tiles of keys, softmax as they come.
//
// A row's keys are taken in tiles and spans that start at fixed positions of its sequence, and all
// sums have a fixed order. So a row's result is a function of its query and its keys alone: the
// same bits in any chunk, beside any other row, on any number of threads. Query heads that share a
// key head are computed together, so that its keys and values are read once.
#pragma once

#include <algorithm>
#include <limits>

#include "kv.h"

namespace baton {

constexpr int kTileKeys = 64;    // keys between two looks at the running maximum
constexpr int kSpanKeys = 256;   // keys of one partial result; long contexts are split by spans
constexpr float kNothing = -std::numeric_limits<float>::infinity();

// Running softmax of one row over some keys: [0] maximum, [1] sum, then the weighted values from
// kStateHead on, in whole vectors. Scores are in powers of two.
constexpr int kStateHead = kLanes;

inline void clear_state(float* state, int width) {
  std::memset(state, 0, sizeof(float) * (kStateHead + width));
  state[0] = kNothing;
}

// Adds a later span's state to an earlier one's.
inline void merge_state(float* state, const float* later, int width) {
  if (later[0] == kNothing && later[1] == 0.0f) return;
  if (state[0] == kNothing && state[1] == 0.0f) {
    std::memcpy(state, later, sizeof(float) * (kStateHead + width));
    return;
  }
  const __m512 a = _mm512_set1_ps(state[0]), b = _mm512_set1_ps(later[0]);
  const __m512 most = _mm512_max_ps(a, b);
  const __m512 keep = exp2_ps(_mm512_sub_ps(a, most)), add = exp2_ps(_mm512_sub_ps(b, most));
  state[0] = _mm512_cvtss_f32(most);
  state[1] = state[1] * _mm512_cvtss_f32(keep) + later[1] * _mm512_cvtss_f32(add);
  for (int i = kStateHead; i < kStateHead + width; i += kLanes) {
    const __m512 scaled = _mm512_mul_ps(_mm512_load_ps(state + i), keep);
    _mm512_store_ps(state + i, _mm512_fmadd_ps(_mm512_load_ps(later + i), add, scaled));
  }
}

// The weighted mean of a finished state.
inline void write_mean(const float* state, float* out, int head_size) {
  const __m512 share = _mm512_set1_ps(1.0f / state[1]);
  for (int i = 0; i < head_size; i += kLanes) {
    _mm512_mask_storeu_ps(out + i, first_lanes(head_size - i),
                          _mm512_mul_ps(_mm512_load_ps(state + kStateHead + i), share));
  }
}

// Up to kTileKeys consecutive keys and values of one head, as whole vectors of floats.
struct KeyTile {
  const float* keys[kTileKeys];
  const float* values[kTileKeys];
  int first;  // position of entry 0, a multiple of kTileKeys

  // Entries low .. high - 1 are made readable; `space` takes 2 * kTileKeys * width floats.
  void read(const KvLayer& kv, const int32_t* table, int head, int low, int high, float* space) {
    const int width = round_up(kv.keys.head_size, kLanes);
    const bool in_place = kv.keys.readable_in_place();
    for (int i = low; i < high; ++i) {
      const uint8_t* key = kv.keys.at(table, first + i, head);
      const uint8_t* value = kv.values.at(table, first + i, head);
      if (in_place) {
        keys[i] = reinterpret_cast<const float*>(key);
        values[i] = reinterpret_cast<const float*>(value);
        continue;
      }
      float* copy = space + 2 * i * width;
      kv.keys.load(key, copy);
      kv.values.load(value, copy + width);
      keys[i] = copy;
      values[i] = copy + width;
    }
    // whole vectors of keys are multiplied: the others repeat a readable one and are masked
    for (int i = low / kLanes * kLanes; i < low; ++i) keys[i] = keys[low];
    for (int i = high; i < round_up(high, kLanes); ++i) keys[i] = keys[low];
  }
};

// Scores of 16 keys. q and the keys are whole vectors.
inline __m512 scores_of_16(const float* q, const float* const* keys, int width) {
  __m512 sums[kLanes];
#pragma GCC unroll 16
  for (int j = 0; j < kLanes; ++j) sums[j] = _mm512_setzero_ps();
  for (int i = 0; i < width; i += kLanes) {
    const __m512 part = _mm512_load_ps(q + i);
#pragma GCC unroll 16
    for (int j = 0; j < kLanes; ++j) {
      sums[j] = _mm512_fmadd_ps(part, _mm512_loadu_ps(keys[j] + i), sums[j]);
    }
  }
  return sums_of_16(sums);
}

// One row against entries low .. high - 1 of a tile: updates maximum and sum, leaves the weights
// in `weights` [kTileKeys] and returns the factor for what was added before.
inline float weigh(const float* q, const KeyTile& tile, int low, int high, int width, float* state,
                   float* weights) {
  __m512 most = _mm512_set1_ps(kNothing);
  const int begin = low / kLanes * kLanes;
  for (int i = begin; i < high; i += kLanes) {
    const auto mask =
        static_cast<__mmask16>(first_lanes(high - i) & ~static_cast<unsigned>(first_lanes(low - i)));
    const __m512 scores = _mm512_mask_mov_ps(_mm512_set1_ps(kNothing), mask,
                                             scores_of_16(q, tile.keys + i, width));
    _mm512_store_ps(weights + i, scores);
    most = _mm512_max_ps(most, scores);
  }
  const float before = state[0];
  state[0] = std::max(before, _mm512_reduce_max_ps(most));
  const __m512 now = _mm512_set1_ps(state[0]);
  __m512 sum = _mm512_setzero_ps();
  for (int i = begin; i < high; i += kLanes) {
    const __m512 weight = exp2_ps(_mm512_sub_ps(_mm512_load_ps(weights + i), now));
    _mm512_store_ps(weights + i, weight);
    sum = _mm512_add_ps(sum, weight);
  }
  const float factor = _mm512_cvtss_f32(exp2_ps(_mm512_sub_ps(_mm512_set1_ps(before), now)));
  const float kept = before == kNothing ? 0.0f : factor;
  state[1] = state[1] * kept + _mm512_reduce_add_ps(sum);
  return kept;
}

// Adds the weighted values of a tile to `Rows` rows, Vectors vectors of them from `place` on.
template <int Rows, int Vectors>
void add_values(const KeyTile& tile, const int* low, const int* high, const float* kept,
                const float (*weights)[kTileKeys], float* const* states, int place) {
  __m512 sums[Rows][Vectors];
  for (int r = 0; r < Rows; ++r) {
    for (int v = 0; v < Vectors; ++v) {
      const __m512 old = _mm512_load_ps(states[r] + kStateHead + place + v * kLanes);
      sums[r][v] = _mm512_mul_ps(old, _mm512_set1_ps(kept[r]));
    }
  }
  const int begin = *std::min_element(low, low + Rows), end = *std::max_element(high, high + Rows);
  for (int i = begin; i < end; ++i) {
    for (int r = 0; r < Rows; ++r) {
      if (Rows > 1 && (i < low[r] || i >= high[r])) continue;
      const __m512 weight = _mm512_set1_ps(weights[r][i]);
      for (int v = 0; v < Vectors; ++v) {
        const __m512 value = _mm512_loadu_ps(tile.values[i] + place + v * kLanes);
        sums[r][v] = _mm512_fmadd_ps(value, weight, sums[r][v]);
      }
    }
  }
  for (int r = 0; r < Rows; ++r) {
    for (int v = 0; v < Vectors; ++v) {
      _mm512_store_ps(states[r] + kStateHead + place + v * kLanes, sums[r][v]);
    }
  }
}

// Rows of one tile, one or two at a time: two keep more sums going than one has.
template <int Rows>
void attend_tile(const float* const* q, const KeyTile& tile, const int* low, const int* high,
                 int width, float* const* states) {
  alignas(64) float weights[Rows][kTileKeys];
  float kept[Rows];
  for (int r = 0; r < Rows; ++r) {
    kept[r] = weigh(q[r], tile, low[r], high[r], width, states[r], weights[r]);
  }
  int place = 0;
  for (; place + 4 * kLanes <= width; place += 4 * kLanes) {
    add_values<Rows, 4>(tile, low, high, kept, weights, states, place);
  }
  for (; place < width; place += kLanes) {
    add_values<Rows, 1>(tile, low, high, kept, weights, states, place);
  }
}

// Rows at consecutive positions of one sequence, and the query heads of one key head.
struct Rows {
  const KvLayer& kv;
  const int32_t* table;
  int kv_head;
  int group;      // query heads per key head
  int first;      // position of the first row
  int count;
  int window;     // 0: none
  const float* q;        // [rows][heads][width], at the first row's first head of the group
  size_t q_stride;       // floats from row to row

  int width() const { return round_up(kv.keys.head_size, kLanes); }
  size_t state_size() const { return kStateHead + width(); }
  int oldest(int position) const {
    return window > 0 ? std::max(0, position - window + 1) : 0;
  }

  // The state of every (row, head of the group) over the keys of one span. space: see KeyTile.
  void attend_span(int span, float* states, float* space) const {
    const int wide = width();
    const int pairs = count * group;
    for (int i = 0; i < pairs; ++i) clear_state(states + i * state_size(), wide);
    const int begin = std::max(span * kSpanKeys, oldest(first));
    const int end = std::min((span + 1) * kSpanKeys, first + count);
    KeyTile tile;
    for (tile.first = begin / kTileKeys * kTileKeys; tile.first < end; tile.first += kTileKeys) {
      const int low = std::max(begin - tile.first, 0);
      tile.read(kv, table, kv_head, low, std::min(end - tile.first, kTileKeys), space);
      for (int i = 0; i < pairs;) i += attend_some(i, pairs, tile, states);
    }
  }

 private:
  // One or two (row, head) pairs from `i` on; returns how many.
  int attend_some(int i, int pairs, const KeyTile& tile, float* states) const {
    const int number = i + 1 < pairs ? 2 : 1;
    const float* queries[2];
    float* own[2];
    int low[2], high[2];
    for (int r = 0; r < number; ++r) {
      const int row = (i + r) / group, position = first + row;
      queries[r] = q + row * q_stride + (i + r) % group * width();
      own[r] = states + (i + r) * state_size();
      low[r] = std::max(oldest(position) - tile.first, 0);
      high[r] = std::min(position + 1 - tile.first, kTileKeys);
    }
    const bool both = number == 2 && low[1] < high[1];
    if (low[0] >= high[0]) {
      if (both) attend_tile<1>(queries + 1, tile, low + 1, high + 1, width(), own + 1);
    } else if (both) {
      attend_tile<2>(queries, tile, low, high, width(), own);
    } else {
      attend_tile<1>(queries, tile, low, high, width(), own);
    }
    return number;
  }
};

}  // namespace baton

// Attention of rows of one sequence over its block table: spans of keys, softmax as they come.
//
// A row's keys are taken in tiles and spans that start at fixed positions of its sequence, and all
// sums have a fixed order. So a row's result is a function of its query and its keys alone: the
// same bits in any chunk, beside any other row, on any number of threads. Query heads that share a
// key head are computed together, so that its keys and values are read once.
#pragma once

#include <algorithm>

#include "tile.h"
#include "tile_int8.h"

namespace baton {

constexpr int kSpanKeys = 256;  // keys of one partial result; long contexts are split by spans
constexpr int kCopyPairs = 8;   // so many (row, head) pairs make a tile worth a copy as floats

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
  const Floats a = repeat(state[0]), b = repeat(later[0]);
  const Floats most = larger(a, b);
  const Floats keep = exp2_of(a - most), add = exp2_of(b - most);
  state[0] = first_of(most);
  state[1] = state[1] * first_of(keep) + later[1] * first_of(add);
  for (int i = kStateHead; i < kStateHead + width; i += kLanes) {
    store_floats(state + i, fused(load_floats(later + i), add, load_floats(state + i) * keep));
  }
}

// The weighted mean of a finished state.
inline void write_mean(const float* state, float* out, int head_size) {
  const Floats share = repeat(1.0f / state[1]);
  for (int i = 0; i < head_size; i += kLanes) {
    store_floats(out + i, load_floats(state + kStateHead + i) * share, head_size - i);
  }
}

// Keys that will be read soon, of up to one tile.
struct Upcoming {
  const int32_t* table;  // null: none are known
  int kv_head, begin, end;
};

// Rows at consecutive positions of one sequence, and the query heads of one key head.
struct Rows {
  const KvLayer& kv;
  const int32_t* table;
  int kv_head;
  int fetched;  // key heads to ask for ahead of use, from kv_head on
  int group;    // query heads per key head
  int first;  // position of the first row
  int count;
  int window;       // 0: none
  const float* q;   // [rows][heads][width], at the first row's first head of the group
  size_t q_stride;  // floats from row to row

  int width() const { return round_up(kv.keys.head_size, kLanes); }
  size_t state_size() const { return kStateHead + width(); }
  int oldest(int position) const { return window > 0 ? std::max(0, position - window + 1) : 0; }

  // The first key of a span that any row sees.
  int begin_of(int span) const { return std::max(span * kSpanKeys, oldest(first)); }

  // The state of every (row, head of the group) over the keys of one span. space: see KeyTile.
  // `upcoming`: what comes after it.
  void attend_span(int span, float* states, float* space, const Upcoming& upcoming = {}) const {
    const int pairs = count * group;
    for (int i = 0; i < pairs; ++i) clear_state(states + i * state_size(), width());
    const int begin = begin_of(span);
    const int end = std::min((span + 1) * kSpanKeys, first + count);
    if (kv.is_int8()) {
      attend_levels_of(begin, end, states, space, upcoming);
    } else {
      attend_floats_of(begin, end, states, space);
    }
  }

 private:
  // Keys begin .. end - 1, of one span.
  void attend_floats_of(int begin, int end, float* states, float* space) const {
    const int pairs = count * group;
    const bool copied = kv.keys.head_size % kLanes != 0 ||
                        (kv.keys.kv_type != kKvFloat32 && pairs >= kCopyPairs);
    KeyTile tile;
    KeyTile::prefetch(kv, table, kv_head, fetched, begin, std::min(end, begin + kTileKeys));
    for (tile.first = begin / kTileKeys * kTileKeys; tile.first < end; tile.first += kTileKeys) {
      const int low = std::max(begin - tile.first, 0), next = tile.first + kTileKeys;
      KeyTile::prefetch(kv, table, kv_head, fetched, next, std::min(end, next + kTileKeys));
      tile.read(kv, table, kv_head, low, std::min(end - tile.first, kTileKeys),
                copied ? space : nullptr);
      if (copied || kv.keys.kv_type == kKvFloat32) {
        attend_tile<FloatVector>(tile, pairs, states);
      } else {
        attend_tile<Bfloat16Vector>(tile, pairs, states);
      }
    }
  }

  void attend_levels_of(int begin, int end, float* states, float* space,
                        const Upcoming& upcoming) const {
    const int pairs = count * group;
    const QueryLevels queries(space, pairs);
    for (int i = 0; i < pairs; ++i) {
      queries.set(i, q + i / group * q_stride + i % group * width(), kv.keys.head_size);
    }
    Int8Tile4 tile, ahead;
    const int start = begin / kTileKeys * kTileKeys;
    const auto locate = [&](Int8Tile4& at, int tile_first) {
      at.locate(kv, table, kv_head, tile_first, std::max(begin - tile_first, 0),
                std::min(end - tile_first, kTileKeys));
    };
    locate(ahead, start);
    for (int tile_first = start; tile_first < end; tile_first += kTileKeys) {
      tile = ahead;
      if (tile_first + kTileKeys < end) {
        locate(ahead, tile_first + kTileKeys);
      } else if (upcoming.table != nullptr) {
        const int next = upcoming.begin / kTileKeys * kTileKeys;
        ahead.locate(kv, upcoming.table, upcoming.kv_head, next, upcoming.begin - next,
                     std::min(upcoming.end - next, kTileKeys));
      }
      for (int i = 0; i < pairs; i += 4) {
        switch (std::min(4, pairs - i)) {
          case 4: attend_level_pairs<4>(tile, ahead, queries, tile_first, i, states); break;
          case 3: attend_level_pairs<3>(tile, ahead, queries, tile_first, i, states); break;
          case 2: attend_level_pairs<2>(tile, ahead, queries, tile_first, i, states); break;
          default: attend_level_pairs<1>(tile, ahead, queries, tile_first, i, states);
        }
      }
    }
  }

  template <int Count>
  void attend_level_pairs(const Int8Tile4& tile, const Int8Tile4& ahead, const QueryLevels& queries,
                          int tile_first, int i, float* states) const {
    LevelRows<Count> rows;
    bool seen = false;
    for (int r = 0; r < Count; ++r) {
      place_row(rows, r, tile_first, i, states);
      rows.quads[r] = queries.of(i + r, kv.keys.head_size);
      rows.scales[r] = queries.scales[i + r];
      rows.excesses[r] = queries.excesses[i + r];
      seen |= rows.sees(r);
    }
    if (seen) attend_levels(tile, ahead, kv.keys.int8_block(), rows);
  }

  // Row `r` of a tile that begins at `tile_first` is pair i + r.
  template <class TileRows>
  void place_row(TileRows& rows, int r, int tile_first, int i, float* states) const {
    const int row = (i + r) / group, position = first + row;
    rows.q[r] = q + row * q_stride + (i + r) % group * width();
    rows.states[r] = states + (i + r) * state_size();
    rows.low[r] = std::max(oldest(position) - tile_first, 0);
    rows.high[r] = std::min(position + 1 - tile_first, kTileKeys);
    rows.kept[r] = 1.0f;
  }

  template <class Vector>
  void attend_tile(const KeyTile& tile, int pairs, float* states) const {
    for (int i = 0; i < pairs; i += kFloatRows) {
      switch (std::min(kFloatRows, pairs - i)) {
        case 4: attend_pairs<Vector, 4>(tile, i, states); break;
        case 3: attend_pairs<Vector, 3>(tile, i, states); break;
        case 2: attend_pairs<Vector, 2>(tile, i, states); break;
        default: attend_pairs<Vector, 1>(tile, i, states);
      }
    }
  }

  // (row, head) pairs i .. i + Count - 1.
  template <class Vector, int Count>
  void attend_pairs(const KeyTile& tile, int i, float* states) const {
    TileRows<Count> rows;
    for (int r = 0; r < Count; ++r) place_row(rows, r, tile.first, i, states);
    attend<Vector>(tile, rows, width());
  }
};

}  // namespace baton

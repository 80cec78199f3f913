// Divides a step's attention into tasks for the threads, and puts the parts together again.
//
// A task is a block of rows of one sequence and one key head. Where there are too few of those to
// keep the threads busy, lone rows are split further, by spans of keys; the parts are added in the
// same order either way, so the choice does not show in the result.
#pragma once

#include <vector>

#include "attention.h"
#include "buffer.h"

namespace baton {

class AttentionTasks {
 public:
  // Tasks per thread that even out their unlike lengths.
  static constexpr int kTasksPerThread = 4;
  // (row, head) pairs of a block: their states and a tile of keys stay in the second cache.
  static constexpr int kBlockPairs = 96;

  void plan(const Model& model, const Step& step, int threads) {
    group_ = model.heads / model.kv_heads;
    kv_heads_ = model.kv_heads;
    width_ = round_up(model.head_size, kLanes);
    state_size_ = kStateHead + width_;
    blocks_.clear();
    merges_.clear();
    first_blocks_.clear();
    const int rows_max = std::max(1, kBlockPairs / group_);
    for (int s = 0, row = 0; s < step.sequences; row += step.lengths[s++]) {
      first_blocks_.push_back(static_cast<int>(blocks_.size()));
      // the last rows see the most keys and go first
      for (int block = (step.lengths[s] - 1) / rows_max; block >= 0; --block) {
        const int first = block * rows_max;
        const int count = std::min(rows_max, step.lengths[s] - first);
        blocks_.push_back({s, row + first, step.starts[s] + first, count, kWhole, 0});
      }
    }
    first_blocks_.push_back(static_cast<int>(blocks_.size()));
    // all key heads of a token lie side by side: together they are read from memory best
    heads_together_ = kv_heads_;
    if (count() >= kTasksPerThread * threads) return;
    heads_together_ = 1;
    if (count() < kTasksPerThread * threads) split();
  }

  int count() const { return static_cast<int>(blocks_.size()) * kv_heads_ / heads_together_; }
  // The first task of a sequence, or behind the last one's; while nothing is to be merged.
  int first_of(int sequence) const { return first_blocks_[sequence] * kv_heads_ / heads_together_; }
  int merge_count() const { return static_cast<int>(merges_.size()); }

  // Computes one task. q [rows][heads][width]; out [rows][heads][head_size].
  void attend(int task, const Step& step, const KvLayer& kv, int window, const float* q, float* out,
              Buffer<float>& scratch) {
    const int shares = kv_heads_ / heads_together_;
    const Block& block = blocks_[task / shares];
    const int heads = group_ * kv_heads_, kv_head = task % shares * heads_together_;
    const size_t q_stride = static_cast<size_t>(heads) * width_;
    const Rows rows{kv, step.tables + step.table_offsets[block.sequence], kv_head, heads_together_,
                    group_, block.position, block.count, window,
                    q + block.row * q_stride + kv_head * group_ * width_, q_stride};
    const size_t states = block.count * group_ * state_size_;  // floats, of one key head
    float* totals = scratch.reserve((heads_together_ + 1) * states + 2 * kTileKeys * width_);
    float* span_states = totals + heads_together_ * states;
    float* space = span_states + states;
    if (block.span != kWhole) {
      float* part = parts_.data() + block.part + kv_head * group_ * state_size_;
      rows.attend_span(block.span, part, space);
      return;
    }
    attend_spans(rows, totals, states, span_states, space,
                 upcoming_after(task / shares, step, window));
    for (int head = 0; head < heads_together_ * group_; ++head) {
      const float* total = totals + head / group_ * states + head % group_ * state_size_;
      for (int row = 0; row < block.count; ++row, total += group_ * state_size_) {
        const size_t place = static_cast<size_t>(block.row + row) * heads + kv_head * group_ + head;
        write_mean(total, out + place * kv.keys.head_size, kv.keys.head_size);
      }
    }
  }

  // Puts the spans of one split row together.
  void merge(int index, int head_size, float* out) {
    const Merge& merge = merges_[index];
    const int heads = group_ * kv_heads_;
    for (int head = 0; head < heads; ++head) {
      float* total = parts_.data() + merge.part + head * state_size_;
      for (int span = 1; span < merge.spans; ++span) {
        merge_state(total, total + span * heads * state_size_, width_);
      }
      write_mean(total, out + (static_cast<size_t>(merge.row) * heads + head) * head_size,
                 head_size);
    }
  }

 private:
  static constexpr int kWhole = -1;
  struct Block {
    int sequence, row, position, count;
    int span;     // kWhole: all spans, one after the other
    size_t part;  // with a span: where its states lie, [heads][state_size]
  };
  struct Merge {
    int row, spans;
    size_t part;
  };

  // What the block after the one at `index` begins with: often this thread's next.
  Upcoming upcoming_after(size_t index, const Step& step, int window) const {
    if (index + 1 >= blocks_.size()) return {};
    const Block& next = blocks_[index + 1];
    const int oldest = window > 0 ? std::max(0, next.position - window + 1) : 0;
    return {step.tables + step.table_offsets[next.sequence], 0, oldest, next.position + next.count};
  }

  // All spans the rows see, of all key heads of the task. totals [heads][states].
  void attend_spans(const Rows& rows, float* totals, size_t states, float* span_states,
                    float* space, const Upcoming& after) {
    const int first = rows.oldest(rows.first) / kSpanKeys;
    const int last = (rows.first + rows.count - 1) / kSpanKeys;
    for (int span = first; span <= last; ++span) {
      for (int head = 0; head < heads_together_; ++head) {
        Rows one = rows;
        one.kv_head += head;
        one.q += head * group_ * width_;
        one.fetched = head == 0 ? heads_together_ : 0;  // the first asks for all of them
        float* total = totals + head * states;
        const int end = rows.first + rows.count;
        Upcoming upcoming = after;
        if (head + 1 < heads_together_) {
          upcoming = {rows.table, one.kv_head + 1, rows.begin_of(span), end};
        } else if (span < last) {
          upcoming = {rows.table, rows.kv_head, rows.begin_of(span + 1), end};
        }
        one.attend_span(span, span == first ? total : span_states, space, upcoming);
        if (span == first) continue;
        for (size_t i = 0; i < states; i += state_size_) {
          merge_state(total + i, span_states + i, width_);
        }
      }
    }
  }

  void split() {
    std::vector<Block> whole;
    whole.swap(blocks_);
    size_t used = 0;
    for (const Block& block : whole) {
      const int spans = block.position / kSpanKeys + 1;
      if (block.count > 1 || spans == 1) {
        blocks_.push_back(block);
        continue;
      }
      merges_.push_back({block.row, spans, used});
      for (int span = 0; span < spans; ++span, used += group_ * kv_heads_ * state_size_) {
        blocks_.push_back({block.sequence, block.row, block.position, 1, span, used});
      }
    }
    parts_.reserve(used);
  }

  int group_ = 1, kv_heads_ = 1, heads_together_ = 1, width_ = 0;
  size_t state_size_ = 0;
  std::vector<Block> blocks_;
  std::vector<int> first_blocks_;  // [sequences + 1]
  std::vector<Merge> merges_;
  Buffer<float> parts_;
};

}  // namespace baton

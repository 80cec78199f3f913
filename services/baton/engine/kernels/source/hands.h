// Who computes the rows of a step and the panels of its layers: a thread by itself, for some of the
// rows; or all threads for all of them, who then meet after each layer's part.
#pragma once

#include <algorithm>

#include "crew.h"
#include "linear.h"

namespace baton {

struct Block {
  int first, end;  // rows

  int count() const { return end - first; }

  // The one at `index` of `blocks` as alike as can be.
  Block part(int index, int blocks) const {
    const auto border = [&](int64_t i) { return first + static_cast<int>(count() * i / blocks); };
    return {border(index), border(index + 1)};
  }
};

// One thread, for the rows of a block.
struct OneHand {
  Crew::Member& member;
  const Block block;

  template <class Task>
  void rows(const Task& task) const {
    for (int row = block.first; row < block.end; ++row) task(row);
  }

  void expect(const Linear&) const {}  // it waits for nobody

  void multiply(const Linear& linear, const Prepared& in, const Output& out) const {
    float* scratch = member.scratch.reserve(panel_scratch(linear));
    const MatrixUse matrices(linear, block.count());
    for (int panel = 0, panels = panel_count(linear); panel < panels; ++panel) {
      const int next = panel + 1 < panels ? panel + 1 : -1;
      compute_panel(linear, in, out, panel, next, block.first, block.end, scratch);
    }
  }
};

// All threads, for the first `count` rows: one of them all.
struct AllHands {
  static constexpr int kRowTasks = 16, kRowsTogether = 8;

  Crew::Member& member;
  const int count;

  // Of many rows, some together, since the end of each task is told to all threads.
  template <class Task>
  void rows(const Task& task) const {
    const int together = std::clamp(count / kRowTasks, 1, kRowsTogether);
    member.share((count + together - 1) / together, [&](int index) {
      const int end = std::min(count, (index + 1) * together);
      for (int row = index * together; row < end; ++row) task(row);
    });
  }

  // Of all layers the next one to be multiplied, once this thread has no more to do for this one.
  void expect(const Linear& linear) const {
    member.expect(linear.weights, panel_bytes(linear), panel_count(linear));
  }

  void multiply(const Linear& linear, const Prepared& in, const Output& out) const {
    float* scratch = member.scratch.reserve(panel_scratch(linear));
    const MatrixUse matrices(linear, count);
    const LinearTasks tasks(linear, in, out, count, scratch);
    member.share(tasks.count(), tasks);
  }
};

}  // namespace baton

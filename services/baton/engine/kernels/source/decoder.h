// The whole decoder, all layers in one call: how a step is divided among the threads. The fewer
// rows, the finer: sequences, blocks of rows, panels of each layer. The result is the same.
#pragma once

#include <memory>

#include "attention_tasks.h"
#include "step_rows.h"

namespace baton {

class Decoder {
 public:
  // `nicer`: how far the threads of steps that stand back do so; 0: none does.
  Decoder(const Model& model, int threads, int nicer)
      : model_(model), crew_(threads, phases(model)), rows_(model) {
    if (nicer > 0) back_crew_ = std::make_unique<Crew>(threads, phases(model), nicer);
  }

  void step(const Step& step) {
    rows_.reserve(step);
    Crew& crew = step.stands_back && back_crew_ != nullptr ? *back_crew_ : crew_;
    attention_.plan(model_, step, crew.size());
    const int threads = step.alone ? 1 : crew.size();
    const bool few = step.rows < kBlockRowsMin * threads;
    groups_.clear();
    if (threads > 1 && !few && attention_.merge_count() == 0) plan_groups(step, threads);
    crew.run([&](Crew::Member& member) {
      Clock clock(member.clocked ? step.seconds : nullptr);
      if (!groups_.empty()) {
        member.share(threads, [&](int i) { compute_group(member, step, groups_[i], clock); });
        clock.spent(kPartRest);
      } else if (few) {
        compute_panels(member, step, clock);
      } else {
        compute_blocks(member, step, threads, clock);
      }
      if (step.drawn > 0) draw(member, step, clock);
    }, step.alone != 0);
  }

  // hidden [rows][hidden_size] -> out [rows][stride], vocab_size of each row written
  void logits(const float* hidden, int rows, float* out, size_t stride) {
    rows_.reserve_prepared(rows);
    crew_.run([&](Crew::Member& member) {
      const auto row = [&](int i) { return hidden + static_cast<size_t>(i) * model_.hidden_size; };
      rows_.logits(AllHands{member, rows}, row, out, stride);
    });
  }

 private:
  static constexpr int kLayerPhases = 11;  // calls of share per layer, at most
  static constexpr int kOtherPhases = 5;   // and besides, in a run

  static int phases(const Model& model) { return kLayerPhases * model.layer_count + kOtherPhases; }

  // Rows that a thread computes by itself: with fewer, reading each panel once for all of them is
  // worth the meetings; with more, they leave the second cache.
  static constexpr int kBlockRowsMin = 48, kBlockRowsMax = 128;
  static constexpr double kUnevenMax = 1.1;  // rows of the largest group, to those of all alike

  struct Group {
    int first, end;  // sequences
    Block rows;
  };

  static int blocks_of(int rows) { return (rows + kBlockRowsMax - 1) / kBlockRowsMax; }

  // Sequences divided among the threads, if each gets about as many rows.
  void plan_groups(const Step& step, int threads) {
    Group group{0, 0, {0, 0}};
    for (int i = 1; i <= threads; ++i) {
      group = {group.end, group.end, {group.rows.end, group.rows.end}};
      const int64_t border = int64_t(step.rows) * i / threads;
      while (group.end < step.sequences && group.rows.end + step.lengths[group.end] / 2 < border) {
        group.rows.end += step.lengths[group.end++];
      }
      groups_.push_back(group);
      if (group.rows.count() * threads > kUnevenMax * step.rows) return groups_.clear();
    }
  }

  // A thread's sequences, all the way: it meets nobody.
  void compute_group(Crew::Member& member, const Step& step, const Group& group, Clock& clock) {
    const int blocks = blocks_of(group.rows.count());
    const auto each = [&](const auto& task) {
      for (int i = 0; i < blocks; ++i) task(OneHand{member, group.rows.part(i, blocks)});
    };
    each([&](const OneHand& hand) { rows_.begin(hand, step, clock); });
    const int first = attention_.first_of(group.first), end = attention_.first_of(group.end);
    for (int i = 0; i < model_.layer_count; ++i) {
      for (int task = first; task < end; ++task) attend(member, step, i, task);
      clock.spent(kPartAttention);
      each([&](const OneHand& hand) { rows_.go_on(hand, step, i, clock); });
    }
  }

  // Blocks of rows, each by one thread from attention to attention, where all meet: twice a layer.
  void compute_blocks(Crew::Member& member, const Step& step, int threads, Clock& clock) {
    const int blocks = round_up(blocks_of(step.rows), threads);
    const auto each = [&](const auto& task) {
      member.share(blocks, [&](int i) {
        task(OneHand{member, Block{0, step.rows}.part(i, blocks)});
      });
    };
    each([&](const OneHand& hand) { rows_.begin(hand, step, clock); });
    for (int i = 0; i < model_.layer_count; ++i) {
      attend_all(member, step, i, clock);
      each([&](const OneHand& hand) { rows_.go_on(hand, step, i, clock); });
    }
  }

  // All rows at once, panel by panel: ten meetings a layer.
  void compute_panels(Crew::Member& member, const Step& step, Clock& clock) {
    const AllHands hands{member, step.rows};
    rows_.begin(hands, step, clock);
    for (int i = 0; i < model_.layer_count; ++i) {
      attend_all(member, step, i, clock);
      rows_.go_on(hands, step, i, clock);
    }
  }

  // The logits of the rows whose next tokens are wanted, and what they are at a glance.
  void draw(Crew::Member& member, const Step& step, Clock& clock) {
    const auto row = [&](int i) {
      return step.hidden + static_cast<size_t>(step.draws[i]) * model_.hidden_size;
    };
    const size_t stride = step.logits_stride;
    rows_.logits(AllHands{member, step.drawn}, row, step.logits, stride);
    clock.spent(kPartLinear);
    member.share(step.drawn, [&](int i) {
      const Best found = best_of(step.logits + i * stride, model_.vocab_size);
      step.likeliest[i] = found.index, step.finite[i] = found.finite;
    });
    clock.spent(kPartRest);
  }

  void attend_all(Crew::Member& member, const Step& step, int layer, Clock& clock) {
    member.share(attention_.count(), [&](int task) { attend(member, step, layer, task); });
    if (attention_.merge_count() > 0) {
      member.share(attention_.merge_count(), [&](int index) {
        attention_.merge(index, model_.head_size, rows_.attended());
      });
    }
    clock.spent(kPartAttention);
  }

  void attend(Crew::Member& member, const Step& step, int layer, int task) {
    const KvLayer kv = kv_layer(model_, step, layer);
    attention_.attend(task, step, kv, model_.layers[layer].window, rows_.q(), rows_.attended(),
                      member.scratch);
  }

  const Model model_;
  Crew crew_;
  std::unique_ptr<Crew> back_crew_;
  StepRows rows_;
  AttentionTasks attention_;
  std::vector<Group> groups_;
};

}  // namespace baton

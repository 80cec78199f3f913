// The threads of one decoder. Between steps they sleep; within a step they share the tasks of each
// phase one by one.
//
// A phase ends when its tasks are done, not when every thread has come by: a thread whose core was
// taken away delays at most the one task it holds, and passes the phases it missed when it is back.
#pragma once

#include <immintrin.h>

#include <atomic>
#include <functional>
#include <thread>
#include <type_traits>
#include <vector>

#include "buffer.h"

namespace baton {

class Crew {
 public:
  // A run has at most `phases` phases.
  Crew(int threads, int phases) : size_(threads), phases_(phases) {
    for (int i = 1; i < threads; ++i) {
      workers_.emplace_back([this] { work(); });
    }
  }

  ~Crew() {
    job_ = nullptr;
    runs_.fetch_add(1);
    runs_.notify_all();
    for (std::thread& worker : workers_) worker.join();
  }

  // What one thread sees of a run: every thread goes through the same phases in the same order.
  class Member {
   public:
    Member(Crew& crew, Buffer<float>& own, bool is_caller)
        : scratch(own), caller(is_caller), crew_(crew) {}

    Buffer<float>& scratch;  // of this thread, kept from run to run
    const bool caller;       // the thread that called run

    // The task function is called once per index below `tasks`, by whichever thread is free;
    // returns when all are done. What it reads of earlier phases is complete. A function of two
    // indices hears this thread's next task too, if it is known yet: -1 where not.
    template <class Task>
    void share(int tasks, const Task& task) {
      Phase& phase = crew_.phases_[phase_++];
      for (int i = phase.take(), next; i < tasks; i = next < 0 ? phase.take() : next) {
        next = -1;
        if constexpr (std::is_invocable_v<const Task&, int, int>) {
          // near the end, what is left is for who comes first
          if (i + 2 * crew_.size_ < tasks) next = phase.take();
          task(i, next);
        } else {
          task(i);
        }
        if (phase.done.fetch_add(1, std::memory_order_acq_rel) + 1 == tasks) {
          phase.done.notify_all();
        }
      }
      for (int done; (done = phase.done.load(std::memory_order_acquire)) < tasks;) {
        await_change(phase.done, done);
      }
    }

   private:
    Crew& crew_;
    size_t phase_ = 0;
  };

  int size() const { return size_; }

  // Runs `job` on this thread and on every other that comes in time; `alone`: the others sleep on.
  void run(const std::function<void(Member&)>& job, bool alone = false) {
    for (Phase& phase : phases_) {
      phase.next.store(0, std::memory_order_relaxed);
      phase.done.store(0, std::memory_order_relaxed);
    }
    Member member(*this, scratch_, true);
    if (alone) return job(member);
    job_ = &job;
    const int run = runs_.fetch_add(1) + 1;
    runs_.notify_all();
    job(member);
    ended_.store(run);
    for (int inside; (inside = inside_.load()) != 0;) await_change(inside_, inside);
  }

 private:
  struct alignas(64) Phase {
    std::atomic<int> next{0};  // the first task nobody has taken
    std::atomic<int> done{0};

    int take() { return next.fetch_add(1, std::memory_order_relaxed); }
  };

  void work() {
    Buffer<float> scratch;
    for (int seen = 0;;) {
      await_change(runs_, seen);
      seen = runs_.load();
      // First in, then a look: either the caller sees this thread and waits for it to leave, or
      // this thread sees that the run has ended.
      inside_.fetch_add(1);
      const bool leaving = job_ == nullptr;
      if (!leaving && ended_.load() != seen) {
        Member member(*this, scratch, false);
        (*job_.load())(member);
      }
      inside_.fetch_sub(1);
      inside_.notify_all();
      if (leaving) return;
    }
  }

  // Looks for some tens of microseconds, the length of a phase, before it sleeps: a longer look
  // would take the core from the thread that is waited for, or from another process.
  static constexpr int kLooks = 400;

  static void await_change(const std::atomic<int>& value, int known) {
    for (int i = 0; i < kLooks; ++i) {
      if (value.load(std::memory_order_acquire) != known) return;
      _mm_pause();
    }
    value.wait(known, std::memory_order_acquire);
  }

  const int size_;
  std::atomic<const std::function<void(Member&)>*> job_{nullptr};
  Buffer<float> scratch_;  // of the calling thread
  std::vector<Phase> phases_;
  alignas(64) std::atomic<int> inside_{0};  // workers that may touch the run
  alignas(64) std::atomic<int> runs_{0};    // runs begun
  alignas(64) std::atomic<int> ended_{0};   // the last run that is over
  std::vector<std::thread> workers_;
};

}  // namespace baton

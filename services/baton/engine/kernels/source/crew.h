// The threads of one decoder. Between steps they sleep; within a step they share the tasks of each
// phase one by one, so that a thread whose core is taken away delays at most one task.
#pragma once

#include <immintrin.h>

#include <atomic>
#include <functional>
#include <thread>
#include <vector>

#include "buffer.h"

namespace baton {

class Crew {
 public:
  explicit Crew(int threads) : size_(threads) {
    for (int i = 1; i < threads; ++i) {
      workers_.emplace_back([this] {
        Buffer<float> scratch;
        work(scratch);
      });
    }
  }

  ~Crew() {
    job_ = nullptr;
    start();
    for (std::thread& worker : workers_) worker.join();
  }

  // What one thread sees of a run: every thread goes through the same phases in the same order.
  class Member {
   public:
    Member(Crew& crew, Buffer<float>& own) : scratch(own), crew_(crew) {}

    Buffer<float>& scratch;  // of this thread, kept from run to run

    // The task function is called once per index below `tasks`, by whichever thread is free;
    // returns when all are done.
    template <class Task>
    void share(int tasks, const Task& task) {
      std::atomic<int>& next = crew_.next_[phase_ % 2].value;
      for (int i; (i = next.fetch_add(1, std::memory_order_relaxed)) < tasks;) task(i);
      crew_.meet(phase_++);
    }

   private:
    Crew& crew_;
    unsigned phase_ = 0;
  };

  int size() const { return size_; }
  const Buffer<float>* callers_scratch() const { return &scratch_; }

  // Runs `job` on every thread, the calling one included; returns when all have finished.
  void run(const std::function<void(Member&)>& job) {
    job_ = &job;
    start();
    Member member(*this, scratch_);
    job(member);
    finish();
  }

 private:
  struct alignas(64) Counter {
    std::atomic<int> value{0};
  };

  void start() {
    arrived_.store(0, std::memory_order_relaxed);
    runs_.fetch_add(1, std::memory_order_release);
    runs_.notify_all();
  }

  void work(Buffer<float>& scratch) {
    for (int seen = 0;; ++seen) {
      await_change(runs_, seen);
      if (job_ == nullptr) return;
      Member member(*this, scratch);
      (*job_)(member);
      finish();
    }
  }

  // A last meeting, so that nobody starts the next run while another is still in this one.
  void finish() { meet(0); }

  void meet(unsigned phase) {
    if (size_ == 1) {
      next_[0].value.store(0, std::memory_order_relaxed);
      next_[1].value.store(0, std::memory_order_relaxed);
      return;
    }
    const int turn = turn_.load(std::memory_order_acquire);
    if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 < size_) {
      await_change(turn_, turn);
      return;
    }
    arrived_.store(0, std::memory_order_relaxed);
    next_[phase % 2].value.store(0, std::memory_order_relaxed);
    turn_.fetch_add(1, std::memory_order_release);
    turn_.notify_all();
  }

  // Looks for some tens of microseconds, the length of a phase, before it sleeps: a longer look
  // would take the core from the thread that is waited for, or from another process.
  static constexpr int kLooks = 400;

  static void await_change(const std::atomic<int>& value, int known) {
    for (int i = 0; i < kLooks; ++i) {
      if (value.load(std::memory_order_acquire) != known) return;
      _mm_pause();
    }
    while (value.load(std::memory_order_acquire) == known) {
      value.wait(known, std::memory_order_acquire);
    }
  }

  const int size_;
  const std::function<void(Member&)>* job_ = nullptr;
  Buffer<float> scratch_;  // of the calling thread
  Counter next_[2];
  alignas(64) std::atomic<int> arrived_{0};
  alignas(64) std::atomic<int> turn_{0};
  alignas(64) std::atomic<int> runs_{0};
  std::vector<std::thread> workers_;
};

}  // namespace baton

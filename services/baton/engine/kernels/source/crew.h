// The threads of one decoder. Between steps they sleep; within a step they share the tasks of each
// phase: each thread those of a stretch of its own, one after the other, then what is left of others'.
// Two threads that took turns along one stretch of weights would each have the processor fetch ahead
// what the other one computes, and memory would give markedly less.
//
// A phase ends when its tasks are done, not when every thread has come by: a thread whose core was
// taken away delays at most the one task it holds, and passes the phases it missed when it is back.
//
// A crew that stands back is nicer than the thread that calls it, and does all by itself: a thread may
// always become nicer, and only by leave of the system ever become less so.
#pragma once

#include <immintrin.h>
#ifdef __linux__
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <functional>
#include <thread>
#include <type_traits>
#include <vector>

#include "buffer.h"

namespace baton {

// Values too small to be normal count as zero while a thread has one of these: some processors
// take more than a hundred cycles for each, and unseen keys leave many.
class TinyAsZero {
 public:
  TinyAsZero() : before_(_mm_getcsr()) { _mm_setcsr(before_ | kFlushResults | kFlushInputs); }
  TinyAsZero(const TinyAsZero&) = delete;
  TinyAsZero& operator=(const TinyAsZero&) = delete;
  ~TinyAsZero() { _mm_setcsr(before_); }

 private:
  static constexpr unsigned kFlushResults = 0x8000, kFlushInputs = 0x0040;
  const unsigned before_;
};

class Crew {
  // More than these threads share a lane: all of them are made ready before each run.
  static constexpr int kLanesMax = 8;

  // A stretch of a phase's tasks: its own threads take from the front, others from the back.
  struct alignas(64) Lane {
    std::atomic<uint64_t> taken{0};  // from the front, and times kBack from the back

    static constexpr uint64_t kBack = uint64_t{1} << 32;

    // Of `count` tasks, one that nobody has taken; -1: there is none.
    int take(int count, bool front) {
      if (count == 0) return -1;
      const uint64_t was = taken.fetch_add(front ? 1 : kBack, std::memory_order_relaxed);
      const auto first = static_cast<int64_t>(was % kBack), last = static_cast<int64_t>(was / kBack);
      if (first + last >= count) return -1;
      return static_cast<int>(front ? first : count - 1 - last);
    }
  };

  struct Phase {
    Lane lanes[kLanesMax];
    alignas(64) std::atomic<int> done{0};

    void reset(int used) {
      for (int i = 0; i < used; ++i) lanes[i].taken.store(0, std::memory_order_relaxed);
      done.store(0, std::memory_order_relaxed);
    }
  };

 public:
  // A run has at most `phases` phases. `nicer`: how far it stands back, as nice(1) counts; 0: the
  // thread that calls run is one of the crew. Elsewhere than on Linux threads are not nice by themselves.
  Crew(int threads, int phases, int nicer = 0)
      : size_(threads), nicer_(nicer), phases_(phases) {
    for (int i = caller_works() ? 1 : 0; i < threads; ++i) {
      workers_.emplace_back([this, i] { work(i); });
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
    // The one at `index` of `members` threads that share.
    Member(Crew& crew, Buffer<float>& own, int index, int members, bool first)
        : scratch(own), clocked(first), crew_(crew),
          lanes_(std::min(members, kLanesMax)), lane_(index * lanes_ / members) {}

    Buffer<float>& scratch;  // of this thread, kept from run to run
    const bool clocked;      // one of them, which is there from the first phase to the last

    // The task function is called once per index below `tasks`, by whichever thread is free;
    // returns when all are done. What it reads of earlier phases is complete. A function of two
    // indices hears this thread's next task too, most likely: -1 where nobody knows.
    template <class Task>
    void share(int tasks, const Task& task) {
      Phase& phase = crew_.phases_[phase_++];
      for (Taken taken; (taken = take(phase, tasks)).index >= 0;) {
        if constexpr (std::is_invocable_v<const Task&, int, int>) {
          task(taken.index, taken.next);
        } else {
          task(taken.index);
        }
        if (phase.done.fetch_add(1, std::memory_order_acq_rel) + 1 == tasks) {
          phase.done.notify_all();
        }
      }
      for (int done; (done = phase.done.load(std::memory_order_acquire)) < tasks;) {
        if (!fetch_expected()) await_change(phase.done, done);
      }
    }

    // What this thread will read first of some later phase's tasks, `task_bytes` for each from `begin`
    // on: it fetches that while it waits for others, and memory is not idle meanwhile.
    void expect(const uint8_t* begin, size_t task_bytes, int tasks) {
      const int first = border(lane_, tasks), end = border(lane_ + 1, tasks);
      expected_ = begin + first * task_bytes;
      expected_end_ = expected_ + std::min(kExpectedBytes, (end - first) * task_bytes);
    }

   private:
    // A few panels: in the second cache until they are read.
    static constexpr size_t kExpectedBytes = 32 * 1024;
    static constexpr size_t kFetchedBytes = 256;  // between two looks at what is waited for

    bool fetch_expected() {
      if (expected_ >= expected_end_) return false;
      for (const uint8_t* const end = expected_ + kFetchedBytes; expected_ < end; expected_ += 64) {
        _mm_prefetch(reinterpret_cast<const char*>(expected_), _MM_HINT_T1);
      }
      return true;
    }

    struct Taken {
      int index, next;
    };

    // A task of this thread's lane or, where none is left there, the last one of another; -1: of none.
    Taken take(Phase& phase, int tasks) {
      for (int i = 0; i < lanes_; ++i) {
        const int lane = (lane_ + i) % lanes_;
        const int first = border(lane, tasks), count = border(lane + 1, tasks) - first;
        const int index = phase.lanes[lane].take(count, i == 0);
        if (index >= 0) return {first + index, i == 0 && index + 1 < count ? first + index + 1 : -1};
      }
      return {-1, -1};
    }

    int border(int lane, int tasks) const {
      return static_cast<int>((static_cast<int64_t>(tasks) * lane + lanes_ - 1) / lanes_);
    }

    Crew& crew_;
    const int lanes_, lane_;
    size_t phase_ = 0;
    const uint8_t *expected_ = nullptr, *expected_end_ = nullptr;
  };

  int size() const { return size_; }

  // Runs `job` on this thread, unless the crew stands back, and on every other that comes in time;
  // `alone`: on this one, and the others sleep on.
  void run(const std::function<void(Member&)>& job, bool alone = false) {
    const int members = alone ? 1 : size_;
    for (Phase& phase : phases_) phase.reset(std::min(members, kLanesMax));
    clocked_.store(false);
    if (alone) return lead(job, members);
    job_ = &job;
    const int run = runs_.fetch_add(1) + 1;
    runs_.notify_all();
    if (caller_works()) {
      lead(job, members);
      ended_.store(run);
    }
    for (int ended; (ended = ended_.load()) != run;) await_change(ended_, ended);
    for (int inside; (inside = inside_.load()) != 0;) await_change(inside_, inside);
  }

 private:
  bool caller_works() const { return nicer_ == 0; }

  void lead(const std::function<void(Member&)>& job, int members) {
    const TinyAsZero tiny;
    Member member(*this, scratch_, 0, members, true);
    job(member);
  }

  void stand_back() const {
#ifdef __linux__
    const auto self = static_cast<id_t>(syscall(SYS_gettid));
    if (nicer_ > 0) setpriority(PRIO_PROCESS, self, getpriority(PRIO_PROCESS, self) + nicer_);
#endif
  }

  void work(int index) {
    stand_back();
    const TinyAsZero tiny;
    Buffer<float> scratch;
    for (int seen = 0;;) {
      await_change(runs_, seen);
      // First in, then a look: a run that had not ended by then does not return before this thread has
      // left, not even one that began since this thread was woken.
      inside_.fetch_add(1);
      const int ended = ended_.load();
      seen = runs_.load();
      const std::function<void(Member&)>* const job = job_;
      const bool leaving = job == nullptr;
      if (!leaving && seen != ended) {
        Member member(*this, scratch, index, size_, !caller_works() && !clocked_.exchange(true));
        (*job)(member);
        if (!caller_works()) {  // the first one through ends the run
          ended_.store(seen);
          ended_.notify_all();
        }
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

  const int size_, nicer_;
  std::atomic<bool> clocked_{false};  // whether a thread of a crew that stands back has the clock
  std::atomic<const std::function<void(Member&)>*> job_{nullptr};
  Buffer<float> scratch_;  // of the calling thread
  std::vector<Phase> phases_;
  alignas(64) std::atomic<int> inside_{0};  // workers that may touch the run
  alignas(64) std::atomic<int> runs_{0};    // runs begun
  alignas(64) std::atomic<int> ended_{0};   // the last run that is over
  std::vector<std::thread> workers_;
};

}  // namespace baton

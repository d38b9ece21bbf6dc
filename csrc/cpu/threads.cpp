// SPDX-License-Identifier: Apache-2.0
#include "cpu/threads.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <exception>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#if !defined(_WIN32)
#include <pthread.h>
#include <signal.h>
#endif
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "cpu/host_threads.h"
#include "cpu/processors.h"

namespace fusednn::cpu {
namespace {

void pause_processor() {
#if defined(__x86_64__)
  _mm_pause();
#elif defined(__aarch64__)
  __asm__ volatile("yield");
#endif
}

using Clock = std::chrono::steady_clock;
using Nanoseconds = int64_t;

Nanoseconds now() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(Clock::now().time_since_epoch())
      .count();
}

using Patience = std::atomic<Nanoseconds>;  // for how long a thread spins

// A thread that waits spins for about as long as it takes to wake a sleeping one: then it never waits
// twice as long as it had to. On a virtual machine that is more than 100 microseconds.
constexpr Nanoseconds kWakeAtLeast = 20'000, kWakeAtMost = 200'000;
// Where regions follow each other, workers spin from one to the next across such a gap: the next step
// of a loop in Python. After anything longer they are soon asleep, and an idle pool costs nothing.
constexpr Nanoseconds kSoon = 200'000;
constexpr int kYields = 20;

// A number that threads wait on: first spinning, then giving way to others, then asleep.
class alignas(64) Gate {
 public:
  uint32_t value() const { return value_.load(std::memory_order_acquire); }
  bool anybody_asleep() const { return sleepers_.load(std::memory_order_relaxed) > 0; }

  void advance() {
    value_.fetch_add(1);
    wake();
  }

  // Lets those who sleep spin again for a while.
  void rouse() {
    alarms_.fetch_add(1);
    wake();
  }

  // Spins for as long as `patience` says at the time. Returns what was waited beyond that.
  Nanoseconds wait_while(uint32_t old, const Patience& patience) {
    if (spin_while(old, patience)) return 0;
    const Nanoseconds begin = now();
    do {
      give_way_while(old);
    } while (!spin_while(old, patience));
    return now() - begin;
  }

 private:
  void wake() {
    // Sequential consistency: either this thread sees the sleeper, or the sleeper sees the change.
    if (sleepers_.load() > 0) {
      std::lock_guard<std::mutex> lock(mutex_);
      changed_.notify_all();
    }
  }

  // Whether the value has changed.
  bool spin_while(uint32_t old, const Patience& most) const {
    constexpr int kBetweenLooks = 64;  // at the clock
    if (value() != old) return true;
    const Nanoseconds patience = most.load(std::memory_order_relaxed);
    Nanoseconds end = 0;
    while (patience > 0) {
      for (int i = 0; i < kBetweenLooks; ++i) {
        if (value() != old) return true;
        pause_processor();
      }
      const Nanoseconds time = now();
      if (end == 0) end = time + patience;
      if (time >= end) break;
    }
    return value() != old;
  }

  void give_way_while(uint32_t old) {
    for (int i = 0; i < kYields; ++i) {
      if (value() != old) return;
      std::this_thread::yield();
    }
    std::unique_lock<std::mutex> lock(mutex_);
    sleepers_.fetch_add(1);
    const uint32_t alarm = alarms_.load();
    while (value_.load() == old && alarms_.load() == alarm) changed_.wait(lock);
    sleepers_.fetch_sub(1);
  }

  std::atomic<uint32_t> value_{0};
  std::atomic<int> sleepers_{0};
  std::atomic<uint32_t> alarms_{0};
  std::mutex mutex_;
  std::condition_variable changed_;
};

class Barrier {
 public:
  // Not while anybody waits.
  void set(int size, Nanoseconds patience) {
    size_ = size;
    patience_.store(patience, std::memory_order_relaxed);
    first_ = gate_.value();
  }

  void arrive_and_wait() {
    // Read first: once this thread has arrived, the others may go on and set() the next team.
    const int size = size_;
    const uint32_t before = gate_.value();
    const bool first = before == first_;
    if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 == size) {
      arrived_.store(0, std::memory_order_relaxed);
      gate_.advance();
    } else {
      const Nanoseconds waited = gate_.wait_while(before, patience_);
      // At the first barrier of a region one waits for threads that were asleep, which is no sign of
      // a busy machine.
      if (waited > 0 && !first) lost_.fetch_add(waited, std::memory_order_relaxed);
    }
  }

  // What all threads together have waited for too long since the last call.
  Nanoseconds take_lost() { return lost_.exchange(0, std::memory_order_relaxed); }

 private:
  Gate gate_;
  std::atomic<Nanoseconds> lost_{0};
  alignas(64) std::atomic<int> arrived_{0};
  int size_ = 1;
  Patience patience_{0};
  uint32_t first_ = 0;  // of the gate, before the first barrier of a region
};

// On a machine that is busy with other work, the system now and then puts a thread of the team aside,
// and the others wait for it at the next barrier: milliseconds, where a step takes microseconds. When
// regions in a row were mostly waiting, and 2 ms were lost that way, work goes on without a team for a
// while, at first 4 ms, and up to 64 ms while trying again shows no better. Less than that is lost
// while threads that slept come back. Results do not depend on it.
class Congestion {
 public:
  bool alone(Nanoseconds time) const { return time < until_; }

  void report(int size, Nanoseconds duration, Nanoseconds lost) {
    if (2 * lost < (size - 1) * duration) {
      lost_in_a_row_ = 0;
      backoff_ = kLeast;
      return;
    }
    lost_in_a_row_ += lost;
    if (lost_in_a_row_ < kTooMuch) return;
    lost_in_a_row_ = 0;
    until_ = now() + backoff_;
    backoff_ = std::min(2 * backoff_, kMost);
  }

 private:
  static constexpr Nanoseconds kTooMuch = 2'000'000, kLeast = 4'000'000, kMost = 64'000'000;
  Nanoseconds until_ = 0;
  Nanoseconds backoff_ = kLeast;
  Nanoseconds lost_in_a_row_ = 0;
};

// Workers are detached and the pool is never destroyed, so that the end of the process does not
// depend on the order of anybody's destructors.
class Pool {
 public:
  bool acquire() { return !taken_.exchange(true, std::memory_order_acquire); }
  void release() { taken_.store(false, std::memory_order_release); }

  void run(int threads, TeamBody body, void* data) {
    const Nanoseconds begin = now();
    note_gap(begin);
    lead(team_of(threads), body, data, begin);
  }

  // Alone, where that is likely to take less time than a team would.
  TeamRun run_if_it_pays(int threads, double alone, TeamBody body, void* data) {
    const Nanoseconds begin = now();
    const bool soon = note_gap(begin);
    if (congestion_.alone(begin)) return run_alone(body, data, begin);
    const int size = team_of(threads);
    const double saved = alone * (1 - 1.0 / size);
    const auto wake = static_cast<double>(wake_.load(std::memory_order_relaxed));
    // Of the host's threads nobody knows, but after a region they spin for longer than `soon`.
    if ((lent_ > 0 ? !soon : anybody_asleep(size)) && saved < wake) {
      if (soon && lent_ == 0) {
        // More of this is likely to come, and a team shall be there for it: awake until then.
        patience_.store(kSoon + static_cast<Nanoseconds>(2 * alone), std::memory_order_relaxed);
        rouse(size);
      }
      return run_alone(body, data, begin);
    }
    lead(size, body, data, begin);
    return {size > 1, static_cast<double>(end_ - begin)};
  }

 private:
  // Whether regions follow each other closely.
  bool note_gap(Nanoseconds begin) {
    const bool soon = begin - end_ < kSoon;
    patience_.store(soon ? kSoon : kWakeAtLeast, std::memory_order_relaxed);
    return soon;
  }

  bool anybody_asleep(int size) const {
    for (int rank = 1; rank < size; ++rank) {
      if (gates_[rank - 1]->anybody_asleep()) return true;
    }
    return false;
  }

  void rouse(int size) {
    for (int rank = 1; rank < size; ++rank) gates_[rank - 1]->rouse();
  }

  TeamRun run_alone(TeamBody body, void* data, Nanoseconds begin) {
    body(data, Context{});
    end_ = now();
    return {false, static_cast<double>(end_ - begin)};
  }

  void lead(int size, TeamBody body, void* data, Nanoseconds begin) {
    // Spinning helps only while every thread of the team has a processor.
    const bool spins = size <= available_processors();
    barrier_.set(size, spins ? wake_.load(std::memory_order_relaxed) : 0);
    if (!spins) patience_.store(0, std::memory_order_relaxed);
    body_ = body;
    data_ = data;
    size_ = size;
    begin_ = begin;
    if (lent_ > 0) {
      const auto as_rank = [](void* pool, int rank) { static_cast<Pool*>(pool)->work(rank); };
      if (!run_on_host(size, as_rank, this)) body(data, Context{});
    } else {
      for (int rank = 1; rank < size; ++rank) gates_[rank - 1]->advance();
      work(0);
    }
    end_ = now();
    congestion_.report(size, end_ - begin, barrier_.take_lost());
  }

  void work(int rank) {
    Context context;
    context.rank = rank;
    context.size = size_;
    context.barrier = [](void* barrier) { static_cast<Barrier*>(barrier)->arrive_and_wait(); };
    context.team = &barrier_;
    body_(data_, context);
    context.sync();
  }

  void serve(int rank, Gate& gate) {
    for (uint32_t seen = 0;; ++seen) {
      const Nanoseconds slept = gate.wait_while(seen, patience_);
      if (slept > 0) note_wake(now() - begin_);
      work(rank);
    }
  }

  // What it took to wake a thread, smoothed.
  void note_wake(Nanoseconds taken) {
    const Nanoseconds before = wake_.load(std::memory_order_relaxed);
    const Nanoseconds mean = before + (taken - before) / 4;
    wake_.store(std::clamp(mean, kWakeAtLeast, kWakeAtMost), std::memory_order_relaxed);
  }

  // The size of the team that there really is, of the host's threads or of our own.
  int team_of(int threads) {
    lent_ = lent_threads(threads);
    return lent_ > 0 ? lent_ : grow(threads);
  }

  // The system may refuse to start threads.
  int grow(int threads) {
    try {
      while (workers_ + 1 < threads) {
        if (static_cast<int>(gates_.size()) == workers_) gates_.push_back(std::make_unique<Gate>());
        start(workers_ + 1, *gates_[workers_]);
        ++workers_;
      }
    } catch (const std::exception&) {
      return workers_ + 1;
    }
    return threads;
  }

  void start(int rank, Gate& gate) {
#if defined(_WIN32)
    std::thread([this, rank, &gate] { serve(rank, gate); }).detach();
#else
    // Signals are for the threads of the host program.
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    try {
      std::thread([this, rank, &gate] { serve(rank, gate); }).detach();
    } catch (...) {
      pthread_sigmask(SIG_SETMASK, &before, nullptr);
      throw;
    }
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
#endif
  }

  std::atomic<bool> taken_{false};
  Patience patience_{kWakeAtLeast};  // of workers between regions
  std::atomic<Nanoseconds> wake_{2 * kWakeAtLeast};
  Nanoseconds begin_ = 0, end_ = 0;  // of the latest region
  Barrier barrier_;
  Congestion congestion_;
  std::vector<std::unique_ptr<Gate>> gates_;  // one per worker, which waits on it
  int workers_ = 0;
  TeamBody body_ = nullptr;
  void* data_ = nullptr;
  int size_ = 1;
  int lent_ = 0;  // threads of the host that the region runs on, 0: our own
};

std::atomic<Pool*> the_pool{nullptr};

// The child of a fork has no workers. The parent's pool stays behind, in a state that nobody knows.
void forget_pool() { the_pool.store(nullptr); }

Pool& pool() {
  Pool* now = the_pool.load(std::memory_order_acquire);
  if (now != nullptr) return *now;
#if !defined(_WIN32)
  static const int registered = pthread_atfork(nullptr, nullptr, &forget_pool);
  (void)registered;
#endif
  auto fresh = std::make_unique<Pool>();
  if (the_pool.compare_exchange_strong(now, fresh.get())) return *fresh.release();
  return *now;
}

std::atomic<int> team_limit{0};  // 0: not yet known

}  // namespace

int num_threads() {
  int threads = team_limit.load();
  if (threads > 0) return threads;
  threads = initial_threads();
  int unknown = 0;
  return team_limit.compare_exchange_strong(unknown, threads) ? threads : unknown;
}

void set_num_threads(int threads) {
  if (threads < 1 || threads > kMaxThreads) {
    throw std::invalid_argument("num_threads=" + std::to_string(threads) +
                                " is out of range; expected 1 to " + std::to_string(kMaxThreads));
  }
  team_limit.store(threads);
}

void run_team(int threads, TeamBody body, void* data) {
  if (threads > 1) {
    Pool& shared = pool();
    if (shared.acquire()) {
      shared.run(threads, body, data);
      shared.release();
      return;
    }
  }
  body(data, Context{});
}

TeamRun run_team_if_it_pays(int threads, double nanoseconds, TeamBody body, void* data) {
  if (threads > 1) {
    Pool& shared = pool();
    if (shared.acquire()) {
      const TeamRun run = shared.run_if_it_pays(threads, nanoseconds, body, data);
      shared.release();
      return run;
    }
  }
  const Nanoseconds begin = now();
  body(data, Context{});
  return {false, static_cast<double>(now() - begin)};
}

}  // namespace fusednn::cpu

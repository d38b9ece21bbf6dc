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

// Long enough to bridge the gap between two commands or two training steps, short enough that an
// idle pool costs nothing that anybody notices.
constexpr int kSpins = 2000;
constexpr int kYields = 50;

using Clock = std::chrono::steady_clock;
using Nanoseconds = int64_t;

Nanoseconds now() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(Clock::now().time_since_epoch())
      .count();
}

// A number that threads wait on: first spinning, then giving way to others, then asleep.
class alignas(64) Gate {
 public:
  uint32_t value() const { return value_.load(std::memory_order_acquire); }

  void advance() {
    value_.fetch_add(1);
    // Sequential consistency: either this thread sees the sleeper, or the sleeper sees the value.
    if (sleepers_.load() > 0) {
      std::lock_guard<std::mutex> lock(mutex_);
      changed_.notify_all();
    }
  }

  // Returns the time that was waited beyond spinning.
  Nanoseconds wait_while(uint32_t old, int spins) {
    for (int i = 0; i < spins; ++i) {
      if (value() != old) return 0;
      pause_processor();
    }
    const Nanoseconds begin = now();
    give_way_while(old);
    return now() - begin;
  }

 private:
  void give_way_while(uint32_t old) {
    for (int i = 0; i < kYields; ++i) {
      if (value() != old) return;
      std::this_thread::yield();
    }
    std::unique_lock<std::mutex> lock(mutex_);
    sleepers_.fetch_add(1);
    while (value_.load() == old) changed_.wait(lock);
    sleepers_.fetch_sub(1);
  }

  std::atomic<uint32_t> value_{0};
  std::atomic<int> sleepers_{0};
  std::mutex mutex_;
  std::condition_variable changed_;
};

class Barrier {
 public:
  // Not while anybody waits.
  void set(int size, int spins) {
    size_ = size;
    spins_ = spins;
    first_ = gate_.value();
  }

  void arrive_and_wait() {
    // Read first: once this thread has arrived, the others may go on and set() the next team.
    const int size = size_, spins = spins_;
    const uint32_t before = gate_.value();
    const bool first = before == first_;
    if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 == size) {
      arrived_.store(0, std::memory_order_relaxed);
      gate_.advance();
    } else {
      const Nanoseconds waited = gate_.wait_while(before, spins);
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
  int spins_ = 0;
  uint32_t first_ = 0;  // of the gate, before the first barrier of a region
};

// On a machine that is busy with other work, the system now and then puts a thread of the team aside,
// and the others wait for it at the next barrier: milliseconds, where a step takes microseconds. When
// regions in a row were mostly waiting, and 4 ms were lost that way, work goes on without a team for a
// while, at first 4 ms, and up to 64 ms while trying again shows no better. Less than that is lost
// while threads that slept come back. Results do not depend on it.
class Congestion {
 public:
  bool alone() const { return now() < until_.load(std::memory_order_relaxed); }

  void report(int size, Nanoseconds duration, Nanoseconds lost) {
    if (2 * lost < (size - 1) * duration) {
      lost_in_a_row_ = 0;
      backoff_ = kLeast;
      return;
    }
    lost_in_a_row_ += lost;
    if (lost_in_a_row_ < kTooMuch) return;
    lost_in_a_row_ = 0;
    until_.store(now() + backoff_, std::memory_order_relaxed);
    backoff_ = std::min(2 * backoff_, kMost);
  }

 private:
  static constexpr Nanoseconds kTooMuch = 4'000'000, kLeast = 4'000'000, kMost = 64'000'000;
  std::atomic<Nanoseconds> until_{0};
  Nanoseconds backoff_ = kLeast;
  Nanoseconds lost_in_a_row_ = 0;
};

// Workers are detached and the pool is never destroyed, so that the end of the process does not
// depend on the order of anybody's destructors.
class Pool {
 public:
  bool acquire() { return !taken_.exchange(true, std::memory_order_acquire); }
  void release() { taken_.store(false, std::memory_order_release); }
  bool congested() const { return congestion_.alone(); }

  void run(int threads, TeamBody body, void* data) {
    const int size = grow(threads);
    // Spinning helps only while every thread of the team has a processor.
    barrier_.set(size, size <= available_processors() ? kSpins : 0);
    body_ = body;
    data_ = data;
    size_ = size;
    const Nanoseconds begin = now();
    for (int rank = 1; rank < size; ++rank) gates_[rank - 1]->advance();
    work(0);
    congestion_.report(size, now() - begin, barrier_.take_lost());
  }

 private:
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
      gate.wait_while(seen, kSpins);
      work(rank);
    }
  }

  // The size of the team that there really is: the system may refuse to start threads.
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
  Barrier barrier_;
  Congestion congestion_;
  std::vector<std::unique_ptr<Gate>> gates_;  // one per worker, which waits on it
  int workers_ = 0;
  TeamBody body_ = nullptr;
  void* data_ = nullptr;
  int size_ = 1;
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

void run_team_if_it_pays(int threads, TeamBody body, void* data) {
  run_team(threads > 1 && pool().congested() ? 1 : threads, body, data);
}

}  // namespace fusednn::cpu

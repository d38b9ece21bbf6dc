// SPDX-License-Identifier: Apache-2.0
// The pool: every rank runs exactly once, barriers hold, more threads than processors make progress,
// concurrent and nested callers are served, a forked child has a pool of its own.
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <stdexcept>
#include <thread>
#include <vector>

#include "cpu/backend.h"

// The thread sanitizer refuses threads in a forked child.
#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define FNN_NO_FORK 1
#endif
#endif
#if defined(_WIN32) || defined(__SANITIZE_THREAD__)
#define FNN_NO_FORK 1
#endif

#if !defined(FNN_NO_FORK)
#include <sys/wait.h>
#include <unistd.h>
#endif

using namespace fusednn;
using cpu::Context;

namespace {

void check(bool holds, const char* what) {
  if (holds) return;
  std::printf("FAILED: %s\n", what);
  std::exit(1);
}

// Each thread writes its cell, waits, and reads everybody's: wrong if a barrier lets one through.
struct Round {
  static constexpr int kBarriers = 20;
  std::vector<int> cells =
      std::vector<int>(64, 0);  // not atomic on purpose, for the thread sanitizer
  std::atomic<int> ranks{0};
  std::atomic<int> wrong{0};
  int size = 0;
};

void take_part(void* data, const Context& context) {
  Round& round = *static_cast<Round*>(data);
  round.ranks += 1 << (4 * context.rank);
  if (context.rank == 0) round.size = context.size;
  for (int i = 1; i <= Round::kBarriers; ++i) {
    round.cells[static_cast<size_t>(context.rank)] = i;
    context.sync();
    for (int r = 0; r < context.size; ++r) {
      if (round.cells[static_cast<size_t>(r)] != i) ++round.wrong;
    }
    context.sync();
  }
}

void run_round(int threads) {
  Round round;
  cpu::run_team(threads, &take_part, &round);
  check(round.wrong == 0, "a barrier let a thread through");
  check(round.size >= 1 && round.size <= threads, "size of the team");
  int expected = 0;
  for (int r = 0; r < round.size; ++r) expected += 1 << (4 * r);
  check(round.ranks == expected, "every rank once");
}

void many_regions() {
  for (int i = 0; i < 400; ++i) run_round(1 + i % 4);
}

void many_callers() {
  std::vector<std::thread> callers;
  for (int c = 0; c < 4; ++c) {
    callers.emplace_back([c] {
      for (int i = 0; i < 100; ++i) run_round(2 + (c + i) % 3);
    });
  }
  for (std::thread& caller : callers) caller.join();
}

void nested(void* data, const Context&) {
  cpu::run_team(
      4,
      [](void* inner, const Context& context) {
        check(context.size == 1, "a nested team has one thread");
        ++*static_cast<std::atomic<int>*>(inner);
      },
      data);
}

void nested_regions() {
  std::atomic<int> count{0};
  for (int i = 0; i < 50; ++i) cpu::run_team(3, &nested, &count);
  check(count == 150, "nested regions run once per thread");
}

void settings() {
  const int before = cpu::num_threads();
  check(before >= 1, "at least one thread");
  check(cpu::available_processors() >= 1, "at least one processor");
  cpu::set_num_threads(3);
  check(cpu::num_threads() == 3, "set_num_threads");
  for (int bad : {0, -1, cpu::kMaxThreads + 1}) {
    bool refused = false;
    try {
      cpu::set_num_threads(bad);
    } catch (const std::invalid_argument&) {
      refused = true;
    }
    check(refused && cpu::num_threads() == 3, "a bad number of threads is refused");
  }
  cpu::set_num_threads(before);
}

void sleepers_wake() {
  for (int i = 0; i < 5; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    run_round(4);
  }
}

void forked_child() {
#if !defined(FNN_NO_FORK)
  run_round(4);
  const pid_t child = fork();
  check(child >= 0, "fork");
  if (child == 0) {
    run_round(4);
    run_round(2);
    _exit(0);
  }
  run_round(4);
  int status = -1;
  waitpid(child, &status, 0);
  check(WIFEXITED(status) && WEXITSTATUS(status) == 0, "the pool works in a forked child");
#endif
}

}  // namespace

int main() {
  settings();
  many_regions();
  nested_regions();
  sleepers_wake();
  forked_child();
  many_callers();
  std::printf("threads: done\n");
  return 0;
}

// SPDX-License-Identifier: Apache-2.0
#include "cpu/backend.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <new>
#include <stdexcept>

#if defined(__linux__)
#include <sys/mman.h>
#endif

#include "cpu/cpuid.h"
#include "cpu/kernels/table.h"
#include "cpu/pace.h"
#include "cpu/parts.h"
#include "cpu/subnormal.h"

namespace fusednn {

// Defined by kernels/table.cpp, once per instruction set.
namespace x86_64_v2 {
extern const cpu::KernelTable kernel_table;
}
namespace x86_64_v3 {
extern const cpu::KernelTable kernel_table;
}
namespace x86_64_v4 {
extern const cpu::KernelTable kernel_table;
}
namespace neon {
extern const cpu::KernelTable kernel_table;
}
namespace generic {
extern const cpu::KernelTable kernel_table;
}

namespace cpu {
namespace {

struct Isa {
  const char* name;
  const KernelTable* table;
};

// The fastest last.
constexpr Isa kIsas[] = {
#if defined(FNN_HAVE_GENERIC)
    {"generic",   &generic::kernel_table  },
#endif
#if defined(FNN_HAVE_NEON)
    {"neon",      &neon::kernel_table     },
#endif
#if defined(FNN_HAVE_X86_64_V2)
    {"x86-64-v2", &x86_64_v2::kernel_table},
#endif
#if defined(FNN_HAVE_X86_64_V3)
    {"x86-64-v3", &x86_64_v3::kernel_table},
#endif
#if defined(FNN_HAVE_X86_64_V4)
    {"x86-64-v4", &x86_64_v4::kernel_table},
#endif
};

std::string join(const std::vector<std::string>& names) {
  std::string text;
  for (const std::string& name : names) text += (text.empty() ? "" : ", ") + name;
  return text.empty() ? "none" : text;
}

const Isa* find_supported(const std::string& name) {
  for (const Isa& isa : kIsas) {
    if (name == isa.name && processor_runs(isa.name)) return &isa;
  }
  return nullptr;
}

std::string choices() {
  return "expected one of those that this processor runs: " + join(supported_isas()) +
         " (compiled: " + join(compiled_isas()) + ")";
}

std::atomic<const Isa*> the_isa{nullptr};

const Isa& isa() {
  const Isa* now = the_isa.load(std::memory_order_acquire);
  if (now != nullptr) return *now;
  const char* wanted = std::getenv("FUSEDNN_ISA");
  const Isa* found = nullptr;
  if (wanted != nullptr && *wanted != '\0') {
    found = find_supported(wanted);
    if (found == nullptr) {
      throw std::runtime_error("environment variable FUSEDNN_ISA='" + std::string(wanted) +
                               "' cannot be used; " + choices());
    }
  } else {
    for (const Isa& each : kIsas) {
      if (processor_runs(each.name)) found = &each;
    }
    if (found == nullptr) {
      throw std::runtime_error("this processor runs none of the compiled instruction sets: " +
                               join(compiled_isas()));
    }
  }
  return the_isa.compare_exchange_strong(now, found) ? *found : *now;
}

std::atomic<bool> bf16_allowed{true};

// Kernels for older instruction sets do not ask.
bool bf16_ready() {
  static const bool has = processor_has_bf16();
  return has && bf16_allowed.load(std::memory_order_relaxed);
}

// ---- the contract ------------------------------------------------------------------------------

constexpr size_t kAlignment = 64;

#if defined(__linux__)

// Large memory comes in pages of 2 MB where the system has them: a product of 1024 x 1024 matrices
// gains 4 to 6 %, and times vary less from one process to the next. It is only a wish, so the answer
// of madvise() does not matter. Before the memory is first touched, or it comes too late.
void* allocate_raw(size_t bytes) {
  constexpr size_t kHugePage = 2 << 20, kWorthIt = 1 << 20;
  const size_t unit = bytes >= kWorthIt ? kHugePage : kAlignment;
  const size_t whole = (std::max<size_t>(bytes, 1) + unit - 1) / unit * unit;
  void* memory = std::aligned_alloc(unit, whole);
  if (memory == nullptr) throw std::bad_alloc();
  if (unit == kHugePage) (void)madvise(memory, whole, MADV_HUGEPAGE);
  return memory;
}

void release(void* memory) { std::free(memory); }

#else

void* allocate_raw(size_t bytes) {
  return ::operator new(std::max<size_t>(bytes, 1), std::align_val_t{kAlignment});
}

void release(void* memory) { ::operator delete(memory, std::align_val_t{kAlignment}); }

#endif

void* allocate(size_t bytes) {
  void* memory = allocate_raw(bytes);
  std::memset(memory, 0, bytes);
  return memory;
}

Demand ask(const KernelTable& table, const Command& command, const unsigned char* arguments,
           int threads) {
  return table.demand[static_cast<int>(command.dtype)][command.operation](arguments, threads);
}

Demand ask(const KernelTable& table, const Command& command, int threads) {
  return ask(table, command, command.arguments, threads);
}

// A thread joins the team for each so many nanoseconds of work. Two threads that wait once or twice in
// a step, and read what the other one has written, gain nothing below twice that.
constexpr double kNanosecondsPerThread = 5000;

Schedule prepare(const Command* commands, int n, int max_threads) {
  const KernelTable& table = *isa().table;
  double total = 0;
  for (int i = 0; i < n; ++i) total += ask(table, commands[i], 1).nanoseconds;

  const int most = max_threads > 0 ? std::min(max_threads, kMaxThreads) : num_threads();
  const double worth = std::clamp(total / kNanosecondsPerThread, 1.0, 1.0 * most);
  Schedule schedule = prepare_for_team(commands, n, static_cast<int>(worth));
  schedule.nanoseconds = total;
  return schedule;
}

struct Work {
  const KernelTable& table;
  const Command* commands;
  int n;
  char* workspace;
  const Schedule& schedule;
  bool has_bf16;
};

// The moments of a unit that has died shrink towards zero from step to step, and would stay among the
// subnormal numbers for good: an update then takes three times as long. What is stored
// narrower is converted to the bit, small numbers as well.
bool may_flush(const Command& command, const unsigned char* arguments) {
  if (command.operation != PlaceIn<OptimizerStep, Operations>::value) return false;
  return reinterpret_cast<const OptimizerStep*>(arguments)->storage == Storage::native;
}

void run_command(const KernelTable& table, const Command& command, const unsigned char* arguments,
                 const Context& context) {
  const auto run = table.run[static_cast<int>(command.dtype)][command.operation];
  if (may_flush(command, arguments)) {
    const SubnormalsAsZero zero;
    return run(arguments, context);
  }
  run(arguments, context);
}

void run_part(const Work& work, const Command& command, const Cut& cut, const Context& team) {
  const Part part(command, cut, team.rank, team.size);
  Context alone;
  alone.has_bf16 = work.has_bf16;
  alone.workspace = team.workspace + static_cast<size_t>(team.rank) * work.schedule.part_bytes;
  run_command(work.table, command, part.arguments, alone);
}

// Whether threads may go from one command to the next without waiting, because both are cut alike.
bool stays_apart(const Command& command, const Command& next, int threads) {
  const Cut cut = cut_for(command, threads);
  return cut.any() && cut == cut_for(next, threads);
}

// What every thread of the team does: all commands, waiting for the others between them, except where
// two may run side by side, or where both are cut into the same parts. Commands side by side have
// workspaces of their own.
void walk(void* data, const Context& team) {
  const Work& work = *static_cast<const Work*>(data);
  const bool parts = work.schedule.parts && team.size == work.schedule.threads;
  const auto cut = [&](int i) { return parts ? cut_for(work.commands[i], team.size) : Cut{}; };
  Context context = team;
  context.workspace = work.workspace;
  context.has_bf16 = work.has_bf16;
  Cut now = cut(0);
  for (int i = 0; i < work.n; ++i) {
    const Command& command = work.commands[i];
    if (now.any()) {
      run_part(work, command, now, context);
    } else {
      run_command(work.table, command, command.arguments, context);
    }
    if (i + 1 == work.n) break;
    const Cut next = cut(i + 1);
    if (command.beside_next) {
      context.workspace += work.schedule.command_bytes;
    } else if (!(now.any() && now == next)) {
      context.sync();
      context.workspace = work.workspace;
    }
    now = next;
  }
}

void execute_once(Work& work) {
  const Schedule& schedule = work.schedule;
  if (schedule.threads == 1) return walk(&work, Context{});
  Pace* pace = schedule.pace;
  const int threads = pace == nullptr || wants_team(*pace) ? schedule.threads : 1;
  const TeamRun run = run_team_if_it_pays(threads, schedule.nanoseconds, &walk, &work);
  if (pace != nullptr) note_run(*pace, schedule.nanoseconds, run);
}

void execute(const Command* commands, int n, const Schedule& schedule, void* workspace, int times) {
  Work work{*isa().table, commands, n, static_cast<char*>(workspace), schedule, bf16_ready()};
  for (int k = 0; k < times; ++k) execute_once(work);
}

// Both copies: there is only one memory.
void copy(void* to, const void* from, size_t bytes) {
  if (bytes > 0 && to != from) std::memcpy(to, from, bytes);
}

void settle() {}
size_t free_bytes() { return SIZE_MAX; }
uint64_t remember() { return 0; }
void forget(uint64_t) {}
bool owns(const void*) { return false; }  // it has no memory but the host's
uint64_t use_queue(uint64_t) { return 0; }

}  // namespace

const Backend& backend() {
  static constexpr Backend cpu{"cpu",    true,     &allocate, &release, &free_bytes, &num_threads,
                               &prepare, &execute, &copy,     &copy,    &allocate,   &copy,
                               &settle,  &copy,    &remember, &forget,  &owns,       &use_queue};
  return cpu;
}

// The workspace is enough for a team of one, which is what a caller gets while another one has the
// pool, and for every instruction set, because set_isa() may come between prepare and execute.
Schedule prepare_for_team(const Command* commands, int n, int threads) {
  const auto aligned = [](size_t bytes) {
    return (bytes + kAlignment - 1) / kAlignment * kAlignment;
  };
  Schedule schedule;
  schedule.nanoseconds = HUGE_VAL;  // the caller wants a team, whatever it takes to wake it
  schedule.threads = threads;
  schedule.parts = threads > 1;
  size_t bytes = 0;
  for (const Isa& each : kIsas) {
    if (!processor_runs(each.name)) continue;
    for (int i = 0; i < n; ++i) {
      for (int size : {1, threads}) {
        bytes = std::max(bytes, ask(*each.table, commands[i], size).workspace_bytes);
      }
      const Cut cut = schedule.parts ? cut_for(commands[i], threads) : Cut{};
      for (int rank = 0; cut.any() && rank < threads; ++rank) {
        const Part part(commands[i], cut, rank, threads);
        const Demand demand = ask(*each.table, commands[i], part.arguments, 1);
        schedule.part_bytes = std::max(schedule.part_bytes, aligned(demand.workspace_bytes));
      }
    }
  }
  bytes = std::max(bytes, schedule.part_bytes * static_cast<size_t>(threads));
  size_t longest = 1, beside = 1;  // rows of commands side by side, as walk() goes through them
  for (int i = 0; i + 1 < n; ++i) {
    if (commands[i].beside_next) {
      ++beside;
    } else if (!(schedule.parts && stays_apart(commands[i], commands[i + 1], threads))) {
      beside = 1;
    }
    longest = std::max(longest, beside);
  }
  schedule.command_bytes = aligned(bytes);
  schedule.workspace_bytes = longest * schedule.command_bytes;
  return schedule;
}

std::vector<std::string> compiled_isas() {
  std::vector<std::string> names;
  for (const Isa& each : kIsas) names.push_back(each.name);
  return names;
}

std::vector<std::string> supported_isas() {
  std::vector<std::string> names;
  for (const Isa& each : kIsas) {
    if (processor_runs(each.name)) names.push_back(each.name);
  }
  return names;
}

std::string chosen_isa() { return isa().name; }

bool uses_bf16() { return bf16_ready() && chosen_isa() == "x86-64-v4"; }

void allow_bf16(bool allowed) { bf16_allowed.store(allowed, std::memory_order_relaxed); }

const KernelTable& chosen_kernels() { return *isa().table; }

void set_isa(const std::string& name) {
  const Isa* found = find_supported(name);
  if (found == nullptr) {
    throw std::invalid_argument("isa='" + name + "' cannot be used; " + choices());
  }
  the_isa.store(found, std::memory_order_release);
}

}  // namespace cpu
}  // namespace fusednn

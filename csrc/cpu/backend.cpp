// SPDX-License-Identifier: Apache-2.0
#include "cpu/backend.h"

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <new>
#include <stdexcept>

#if defined(__linux__)
#include <sys/mman.h>
#endif

#include "cpu/cpuid.h"
#include "cpu/kernels/table.h"

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

Demand ask(const KernelTable& table, const Command& command, int threads) {
  return table.demand[static_cast<int>(command.dtype)][command.operation](command.arguments,
                                                                          threads);
}

// A thread joins the team for each so many nanoseconds of work: to wake a sleeping one costs about 5
// microseconds and every command ends with a barrier, so a smaller share would hardly pay.
constexpr double kNanosecondsPerThread = 15000;

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
  size_t command_bytes;
};

// What every thread of the team does: all commands, waiting for the others between them, except where
// two may run side by side. Those have workspaces of their own.
void walk(void* data, const Context& team) {
  const Work& work = *static_cast<const Work*>(data);
  Context context = team;
  context.workspace = work.workspace;
  for (int i = 0; i < work.n; ++i) {
    const Command& command = work.commands[i];
    work.table.run[static_cast<int>(command.dtype)][command.operation](command.arguments, context);
    if (i + 1 == work.n) break;
    if (command.beside_next) {
      context.workspace += work.command_bytes;
    } else {
      context.sync();
      context.workspace = work.workspace;
    }
  }
}

void execute(const Command* commands, int n, const Schedule& schedule, void* workspace) {
  Work work{*isa().table, commands, n, static_cast<char*>(workspace), schedule.command_bytes};
  run_team_if_it_pays(schedule.threads, &walk, &work);
}

void download(void* host, const void* device, size_t bytes) {
  if (bytes > 0) std::memcpy(host, device, bytes);
}

}  // namespace

const Backend& backend() {
  static constexpr Backend cpu{"cpu", &allocate, &release, &prepare, &execute, &download};
  return cpu;
}

// The workspace is enough for a team of one, which is what a caller gets while another one has the
// pool, and for every instruction set, because set_isa() may come between prepare and execute.
Schedule prepare_for_team(const Command* commands, int n, int threads) {
  Schedule schedule;
  schedule.threads = threads;
  size_t bytes = 0;
  for (const Isa& each : kIsas) {
    if (!processor_runs(each.name)) continue;
    for (int i = 0; i < n; ++i) {
      for (int size : {1, threads}) {
        bytes = std::max(bytes, ask(*each.table, commands[i], size).workspace_bytes);
      }
    }
  }
  size_t longest = 1, beside = 1;  // rows of commands side by side
  for (int i = 0; i + 1 < n; ++i) {
    beside = commands[i].beside_next ? beside + 1 : 1;
    longest = std::max(longest, beside);
  }
  schedule.command_bytes = (bytes + kAlignment - 1) / kAlignment * kAlignment;
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

// SPDX-License-Identifier: Apache-2.0
#include "fibers.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <numeric>
#include <random>
#include <stdexcept>
#include <vector>

#if !defined(__x86_64__)
#error "the emulator changes between fibers with a few instructions of x86-64"
#endif

// Saves what a called function must preserve on the present stack, and takes it from another one.
extern "C" void fnn_change_stack(void** save, void* load);
asm(R"(
.text
.globl fnn_change_stack
.hidden fnn_change_stack
.type fnn_change_stack, @function
fnn_change_stack:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size fnn_change_stack, .-fnn_change_stack
)");

// The static shared memory of all kernels, where the linker has gathered it (see shared_memory.ld).
extern "C" unsigned char fnn_shared_begin[] __attribute__((weak));
extern "C" unsigned char fnn_shared_end[] __attribute__((weak));

emulator::Extent threadIdx, blockIdx, blockDim, gridDim;

namespace emulator {

unsigned linear_thread = 0;

namespace {

constexpr size_t kStackBytes = 64 << 10;
constexpr unsigned kMostThreads = 1024;
constexpr size_t kMostShared = 227 << 10;
constexpr uint64_t kCanary = 0x5ca1ab1e0ddba11ULL;
constexpr unsigned kPoison = 0xff;  // bytes of a NaN, and of an index that leads nowhere

// Threads that wait for each other. A thread is at most one meeting ahead of another one.
struct Meeting {
  unsigned generation = 0;
  unsigned arrived = 0;  // a count for a block, a mask for a warp
  unsigned sum[2] = {0, 0};
  alignas(16) unsigned char slots[2][32][16];
};

struct Fiber {
  void* stack_pointer = nullptr;
  bool done = false;
  const Meeting* waits_for = nullptr;
  unsigned generation = 0;

  bool ready() const { return !done && (!waits_for || waits_for->generation != generation); }
};

// The order in which fibers and blocks take their turns; a result must not depend on it.
enum class Order { forward, reverse, shuffled };

Order order_wanted() {
  const char* name = std::getenv("FUSEDNN_EMULATOR_ORDER");
  if (name == nullptr || *name == '\0' || std::strcmp(name, "forward") == 0) return Order::forward;
  if (std::strcmp(name, "reverse") == 0) return Order::reverse;
  if (std::strcmp(name, "shuffled") == 0) return Order::shuffled;
  throw std::invalid_argument("FUSEDNN_EMULATOR_ORDER: forward, reverse or shuffled");
}

void arrange(std::vector<unsigned>& turns, Order order, std::mt19937& random) {
  std::iota(turns.begin(), turns.end(), 0U);
  if (order == Order::reverse) std::reverse(turns.begin(), turns.end());
  if (order == Order::shuffled) std::shuffle(turns.begin(), turns.end(), random);
}

Extent at(unsigned long long linear, const Extent& within) {
  return {static_cast<unsigned>(linear % within.x),
          static_cast<unsigned>(linear / within.x % within.y),
          static_cast<unsigned>(linear / within.x / within.y)};
}

std::string text(const Extent& e) {
  return "(" + std::to_string(e.x) + ", " + std::to_string(e.y) + ", " + std::to_string(e.z) + ")";
}

class Machine {
 public:
  Machine()
      : stacks_(mmap(nullptr, kStackBytes * kMostThreads, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)) {
    if (stacks_ == MAP_FAILED) throw std::bad_alloc();
    const size_t whole = kMostShared + kRedZone;
    shared_ = static_cast<unsigned char*>(std::aligned_alloc(256, (whole + 255) / 256 * 256));
    if (shared_ == nullptr) throw std::bad_alloc();
  }

  void run(const Kernel& kernel) {
    kernel_ = &kernel;
    threads_ = static_cast<unsigned>(kernel.block.count());
    fibers_.assign(threads_, {});
    const Order order = order_wanted();
    std::mt19937 random(threads_);
    std::vector<unsigned> turns(threads_);
    arrange(turns, order, random);
    gridDim = kernel.grid;
    blockDim = kernel.block;
    const unsigned long long blocks = kernel.grid.count();
    for (unsigned long long i = 0; i < blocks; ++i) {
      if (order == Order::shuffled) arrange(turns, order, random);
      blockIdx = at(order == Order::forward ? i : blocks - 1 - i, kernel.grid);
      run_block(turns);
    }
  }

  unsigned char* shared() const { return shared_; }

  unsigned meet_block(unsigned value) {
    Meeting& meeting = of_block_;
    const unsigned generation = meeting.generation;
    unsigned& sum = meeting.sum[generation & 1];
    if (meeting.arrived == 0) sum = 0;
    sum += value;
    if (++meeting.arrived == threads_) {
      meeting.arrived = 0;
      ++meeting.generation;
    } else {
      wait(meeting);
    }
    return sum;
  }

  const unsigned char* meet_warp(unsigned mask, const void* mine, size_t bytes) {
    const unsigned lane = linear_thread % 32;
    if ((mask >> lane & 1) == 0) fail("a thread calls a warp function whose mask leaves it out");
    std::unique_ptr<Meeting>& found = of_warps_[{linear_thread / 32, mask}];
    if (!found) found = std::make_unique<Meeting>();
    Meeting& meeting = *found;
    unsigned char (*slots)[16] = meeting.slots[meeting.generation & 1];
    std::memcpy(slots[lane], mine, bytes);
    meeting.arrived |= 1U << lane;
    if (meeting.arrived == mask) {
      meeting.arrived = 0;
      ++meeting.generation;
    } else {
      wait(meeting);
    }
    return slots[0];
  }

 private:
  static constexpr size_t kRedZone = 4096;

  char* stack(unsigned thread) const { return static_cast<char*>(stacks_) + kStackBytes * thread; }

  void run_block(const std::vector<unsigned>& turns) {
    poison();
    of_block_ = {};
    of_warps_.clear();
    for (unsigned thread = 0; thread < threads_; ++thread) start(thread);
    unsigned left = threads_;
    while (left > 0) {
      bool moved = false;
      for (const unsigned thread : turns) {
        Fiber& fiber = fibers_[thread];
        if (!fiber.ready()) continue;
        moved = true;
        fiber.waits_for = nullptr;
        now_ = &fiber;
        linear_thread = thread;
        threadIdx = at(thread, blockDim);
        fnn_change_stack(&scheduler_, fiber.stack_pointer);
        if (fiber.done) --left;
      }
      if (!moved) report_deadlock(left);
    }
    check_zones();
  }

  void start(unsigned thread) {
    Fiber& fiber = fibers_[thread];
    fiber = {};
    char* bottom = stack(thread);
    std::memcpy(bottom, &kCanary, sizeof(kCanary));
    // As if it had called fnn_change_stack: six registers and the address where it goes on. A function
    // expects the stack to be aligned to 16 bytes before its return address is pushed.
    auto** top = reinterpret_cast<void**>(bottom + kStackBytes - 16);
    *--top = nullptr;
    *--top = reinterpret_cast<void*>(&Machine::enter);
    for (int i = 0; i < 6; ++i) *--top = nullptr;
    fiber.stack_pointer = top;
  }

  static void enter();

  void wait(const Meeting& meeting) {
    now_->waits_for = &meeting;
    now_->generation = meeting.generation;
    fnn_change_stack(&now_->stack_pointer, scheduler_);
  }

  void poison() const {
    std::memset(shared_, kPoison, kernel_->shared_bytes);
    std::memset(shared_ + kernel_->shared_bytes, kZone, kRedZone);
    if (fnn_shared_begin != nullptr) {
      std::memset(fnn_shared_begin, kPoison,
                  static_cast<size_t>(fnn_shared_end - fnn_shared_begin));
    }
  }

  void check_zones() const {
    for (size_t i = 0; i < kRedZone; ++i) {
      if (shared_[kernel_->shared_bytes + i] != kZone) {
        fail("kernel " + kernel_->name + " writes behind its dynamic shared memory of " +
             std::to_string(kernel_->shared_bytes) + " bytes");
      }
    }
    for (unsigned thread = 0; thread < threads_; ++thread) {
      if (std::memcmp(stack(thread), &kCanary, sizeof(kCanary)) != 0) {
        fail("kernel " + kernel_->name + " needs more than " + std::to_string(kStackBytes) +
             " bytes of stack per thread");
      }
    }
  }

  [[noreturn]] void report_deadlock(unsigned left) const {
    unsigned at_block = 0;
    for (const Fiber& fiber : fibers_) at_block += !fiber.done && fiber.waits_for == &of_block_;
    throw std::logic_error("emulator: block " + text(blockIdx) + " of kernel " + kernel_->name +
                           ": " + std::to_string(at_block) + " of " + std::to_string(threads_) +
                           " threads wait at __syncthreads(), " + std::to_string(left - at_block) +
                           " in warp functions, " + std::to_string(threads_ - left) + " have left");
  }

  static constexpr unsigned char kZone = 0xa5;
  void* stacks_;
  unsigned char* shared_;
  const Kernel* kernel_ = nullptr;
  unsigned threads_ = 0;
  std::vector<Fiber> fibers_;
  Fiber* now_ = nullptr;
  void* scheduler_ = nullptr;
  Meeting of_block_;
  std::map<std::pair<unsigned, unsigned>, std::unique_ptr<Meeting>> of_warps_;
};

Machine& machine() {
  static auto* the_machine = new Machine;  // lives to the end: threads of the host may outlive main
  return *the_machine;
}

void Machine::enter() {
  Machine& self = machine();
  self.kernel_->body();
  Fiber* fiber = self.now_;
  fiber->done = true;
  fnn_change_stack(&fiber->stack_pointer, self.scheduler_);
  std::abort();  // nobody comes back to a thread that has ended
}

}  // namespace

void run(const Kernel& kernel) {
  if (kernel.block.count() > kMostThreads || kernel.block.count() == 0) {
    throw std::logic_error("emulator: kernel " + kernel.name + ": block " + text(kernel.block));
  }
  if (kernel.shared_bytes > kMostShared) {
    throw std::logic_error("emulator: kernel " + kernel.name + ": dynamic shared memory of " +
                           std::to_string(kernel.shared_bytes) + " bytes");
  }
  machine().run(kernel);
}

void* dynamic_shared() { return machine().shared(); }

unsigned meet_block(unsigned value) { return machine().meet_block(value); }

const unsigned char* meet_warp(unsigned mask, const void* mine, size_t bytes) {
  return machine().meet_warp(mask, mine, bytes);
}

void fail(const std::string& what) {
  std::fprintf(stderr, "emulator: %s\n", what.c_str());
  std::abort();
}

}  // namespace emulator

// SPDX-License-Identifier: Apache-2.0
// The threads of a block as fibers: they run one at a time, and change at barriers only.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>

namespace emulator {

struct Extent {
  unsigned x = 1, y = 1, z = 1;
  constexpr unsigned long long count() const { return 1ULL * x * y * z; }
};

struct Kernel {
  Extent grid, block;
  size_t shared_bytes = 0;
  std::function<void()> body;  // what one thread does
  std::string name;
};

// Runs every block of a kernel. std::logic_error where its threads wait for each other in vain.
void run(const Kernel& kernel);

// ---- called by threads ---------------------------------------------------------------------------

void* dynamic_shared();

// Waits until every thread of the block has come here, and gives the sum of their values.
unsigned meet_block(unsigned value);

// Waits until every lane of the mask has come here. `mine` (at most 16 bytes) is what the others see at
// the returned address plus 16 times my lane, until the next meeting of these lanes.
const unsigned char* meet_warp(unsigned mask, const void* mine, size_t bytes);

extern unsigned linear_thread;  // of those of the block
inline unsigned lane() { return linear_thread % 32; }

// Stops the program: the kernel has done what is an error on a device.
[[noreturn]] void fail(const std::string& what);

}  // namespace emulator

// Who is running. One kernel runs at a time, whatever thread of the host it was started by.
extern emulator::Extent threadIdx, blockIdx, blockDim, gridDim;

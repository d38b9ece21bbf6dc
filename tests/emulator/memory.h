// SPDX-License-Identifier: Apache-2.0
// The memory of the emulated device.
#pragma once

#include <cstddef>

namespace emulator {

// Null where the device is full.
void* allocate(size_t bytes);
// False where nothing was allocated at that address. Stops the program where its fences were written to.
bool release(void* memory);

// Forgets what is at an address that was allocated.
void poison(void* memory);

size_t total_bytes();
size_t free_bytes();

// Whether an address belongs to the device; and whether so many bytes there are allocated.
bool on_device(const void* memory);
bool allocated(const void* memory, size_t bytes);

// While one of these lives, device memory can be touched.
class Open {
 public:
  Open();
  ~Open();
  Open(const Open&) = delete;
  Open& operator=(const Open&) = delete;
};

}  // namespace emulator

// SPDX-License-Identifier: Apache-2.0
#include "memory.h"

#include <sys/mman.h>

#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <stdexcept>

#include "fibers.h"

namespace emulator {
namespace {

constexpr size_t kPage = 4096;
constexpr size_t kAlignment = 256;
constexpr size_t kReserved = size_t{1} << 40;
constexpr unsigned char kPoison = 0xff;  // bytes of a NaN
constexpr unsigned char kFence = 0xa5;

size_t rounded(size_t bytes, size_t unit) { return (bytes + unit - 1) / unit * unit; }

// Addresses are used once, so that what is freed can never be reached again. Each block ends at a page
// that cannot be touched, and the rest of its pages is a fence.
struct Heap {
  struct Block {
    char* pages;
    size_t page_bytes;
    size_t bytes;
  };

  std::mutex mutex;
  char* base;
  size_t used = 0;   // of the reserved addresses
  size_t total;      // what the device pretends to have
  size_t taken = 0;  // of that
  std::map<char*, Block> blocks;
  int open = 0;

  Heap() {
    void* reserved =
        mmap(nullptr, kReserved, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (reserved == MAP_FAILED) throw std::bad_alloc();
    base = static_cast<char*>(reserved);
    const char* megabytes = std::getenv("FUSEDNN_EMULATOR_MEGABYTES");
    total = (megabytes != nullptr ? std::strtoull(megabytes, nullptr, 10) : 2048) << 20;
  }

  static void protect(const Block& block, bool reachable) {
    const int wish = reachable ? PROT_READ | PROT_WRITE : PROT_NONE;
    if (mprotect(block.pages, block.page_bytes, wish) != 0) fail("cannot protect device memory");
  }

  static void check_fences(const Block& block, const char* memory) {
    const char* end = block.pages + block.page_bytes;
    const auto intact = [](const char* from, const char* to) {
      for (; from < to; ++from) {
        if (static_cast<unsigned char>(*from) != kFence) return false;
      }
      return true;
    };
    if (!intact(block.pages, memory) || !intact(memory + block.bytes, end)) {
      fail("something was written beside an allocation of " + std::to_string(block.bytes) +
           " bytes of device memory");
    }
  }
};

Heap& heap() {
  static auto* the_heap = new Heap;
  return *the_heap;
}

}  // namespace

void* allocate(size_t bytes) {
  Heap& h = heap();
  const std::lock_guard<std::mutex> lock(h.mutex);
  if (bytes > h.total - h.taken) return nullptr;
  const size_t body = rounded(bytes, kAlignment);
  const size_t page_bytes = rounded(body, kPage);
  if (h.used + page_bytes + kPage > kReserved) fail("all addresses of the device are used up");
  const Heap::Block block{h.base + h.used, page_bytes, bytes};
  h.used += page_bytes + kPage;
  h.taken += bytes;
  char* memory = block.pages + page_bytes - body;
  Heap::protect(block, true);
  std::memset(block.pages, kFence, page_bytes);
  std::memset(memory, kPoison, bytes);
  if (h.open == 0) Heap::protect(block, false);
  h.blocks.emplace(memory, block);
  return memory;
}

bool release(void* memory) {
  Heap& h = heap();
  const std::lock_guard<std::mutex> lock(h.mutex);
  const auto found = h.blocks.find(static_cast<char*>(memory));
  if (found == h.blocks.end()) return false;
  const Heap::Block block = found->second;
  Heap::protect(block, true);
  Heap::check_fences(block, found->first);
  h.taken -= block.bytes;
  h.blocks.erase(found);
  (void)madvise(block.pages, block.page_bytes, MADV_DONTNEED);
  Heap::protect(block, false);
  return true;
}

void poison(void* memory) {
  Heap& h = heap();
  const std::lock_guard<std::mutex> lock(h.mutex);
  const auto found = h.blocks.find(static_cast<char*>(memory));
  if (found == h.blocks.end()) fail("memory is forgotten that was not allocated");
  std::memset(memory, kPoison, found->second.bytes);
}

size_t total_bytes() { return heap().total; }

size_t free_bytes() {
  Heap& h = heap();
  const std::lock_guard<std::mutex> lock(h.mutex);
  return h.total - h.taken;
}

bool on_device(const void* memory) {
  const auto* address = static_cast<const char*>(memory);
  return address >= heap().base && address < heap().base + kReserved;
}

bool allocated(const void* memory, size_t bytes) {
  Heap& h = heap();
  const std::lock_guard<std::mutex> lock(h.mutex);
  auto* address = const_cast<char*>(static_cast<const char*>(memory));
  auto found = h.blocks.upper_bound(address);
  if (found == h.blocks.begin()) return false;
  --found;
  return address + bytes <= found->first + found->second.bytes;
}

Open::Open() {
  Heap& h = heap();
  const std::lock_guard<std::mutex> lock(h.mutex);
  if (h.open++ > 0) return;
  for (const auto& [memory, block] : h.blocks) Heap::protect(block, true);
}

Open::~Open() {
  Heap& h = heap();
  const std::lock_guard<std::mutex> lock(h.mutex);
  if (--h.open > 0) return;
  for (const auto& [memory, block] : h.blocks) Heap::protect(block, false);
}

}  // namespace emulator

// SPDX-License-Identifier: Apache-2.0
// Arenas: one allocation that holds many tensors.
#pragma once

#include <memory>
#include <vector>

#include "engine/backend.h"

namespace fusednn::engine {

constexpr size_t kAlignment = 64;  // bytes; a cache line, and the widest vector
constexpr size_t align(size_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }

// Owns one allocation of a backend.
class Arena {
 public:
  Arena() : memory_(nullptr, Release{nullptr}) {}
  Arena(const Backend& backend, size_t bytes);
  char* data() const { return memory_.get(); }
  size_t size() const { return bytes_; }

 private:
  struct Release {
    void (*release)(void*);
    void operator()(char* memory) const { release(memory); }
  };
  std::unique_ptr<char, Release> memory_;
  size_t bytes_ = 0;
};

// Something that needs memory from one tick to another; ticks count the nodes of a plan as they run.
struct Lifetime {
  size_t bytes = 0;
  int first = 0;
  int last = 0;
};

struct Layout {
  std::vector<size_t> offsets;  // one per lifetime
  size_t bytes = 0;             // of the whole arena
};

// Places lifetimes so that those which overlap in time never overlap in memory, largest first, each
// at the lowest offset that is free during its whole life.
Layout lay_out(const std::vector<Lifetime>& lifetimes);

}  // namespace fusednn::engine

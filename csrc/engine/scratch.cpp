// SPDX-License-Identifier: Apache-2.0
#include "engine/scratch.h"

namespace fusednn::engine {
namespace {

char* kept_memory(const Backend& backend, Scratch use, size_t bytes) {
  struct Kept {
    const Backend* backend = nullptr;
    Arena arena;
  };
  static thread_local Kept all[static_cast<int>(Scratch::count)];
  Kept& kept = all[static_cast<int>(use)];
  if (kept.backend != &backend || kept.arena.data() == nullptr || kept.arena.size() < bytes) {
    kept.arena = Arena();  // first, so that the old one and the new one are never there together
    kept.arena = Arena(backend, bytes);
    kept.backend = &backend;
  }
  return kept.arena.data();
}

}  // namespace

ScratchMemory::ScratchMemory(const Backend& backend, Scratch use, size_t bytes) {
  if (queue_in_use(backend) != 0) own_ = Arena(backend, bytes);
  data_ = own_.data() != nullptr ? own_.data() : kept_memory(backend, use, bytes);
}

}  // namespace fusednn::engine

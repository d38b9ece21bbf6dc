// SPDX-License-Identifier: Apache-2.0
#include "engine/memory.h"

#include <algorithm>
#include <numeric>

namespace fusednn::engine {

Arena::Arena(const Backend& backend, size_t bytes, Side side)
    : memory_(nullptr, Release{backend.release}), bytes_(bytes) {
  const auto allocate = side == Side::device ? backend.allocate : backend.allocate_staging;
  memory_.reset(static_cast<char*>(allocate(std::max<size_t>(bytes, kAlignment))));
}

char* Window::show() {
  if (backend_.host_memory || arena_.data() == nullptr) return arena_.data();
  if (!shown_) {
    copy_.resize(
        std::max<size_t>(arena_.size(), 1));  // arrays point into it: the size never changes
    backend_.download(copy_.data(), arena_.data(), arena_.size());
    shown_ = true;
  }
  return copy_.data();
}

void Window::hide() {
  if (shown_) backend_.upload(arena_.data(), copy_.data(), arena_.size());
  shown_ = false;
}

Layout lay_out(const std::vector<Lifetime>& lifetimes) {
  std::vector<size_t> by_size(lifetimes.size());
  std::iota(by_size.begin(), by_size.end(), size_t{0});
  std::stable_sort(by_size.begin(), by_size.end(),
                   [&](size_t a, size_t b) { return lifetimes[a].bytes > lifetimes[b].bytes; });

  Layout layout;
  layout.offsets.resize(lifetimes.size());
  std::vector<size_t> placed;  // sorted by offset
  for (const size_t now : by_size) {
    const Lifetime& life = lifetimes[now];
    size_t offset = 0;
    for (const size_t other : placed) {
      const Lifetime& theirs = lifetimes[other];
      const bool overlap = life.first <= theirs.last && theirs.first <= life.last;
      if (!overlap) continue;
      if (offset + align(life.bytes) <= layout.offsets[other]) break;
      offset = std::max(offset, layout.offsets[other] + align(theirs.bytes));
    }
    layout.offsets[now] = offset;
    layout.bytes = std::max(layout.bytes, offset + align(life.bytes));
    placed.insert(
        std::upper_bound(placed.begin(), placed.end(), now,
                         [&](size_t a, size_t b) { return layout.offsets[a] < layout.offsets[b]; }),
        now);
  }
  return layout;
}

}  // namespace fusednn::engine

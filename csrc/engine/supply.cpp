// SPDX-License-Identifier: Apache-2.0
#include "engine/supply.h"

#include <algorithm>
#include <cstring>

#include "core/philox.h"

namespace fusednn::engine {

// A larger arena only where the old one is too small; the two are never there together.
void Supply::need(Arena& arena, size_t bytes, Side side) {
  if (arena.data() != nullptr && arena.size() >= bytes) return;
  arena = Arena();
  arena = Arena(*backend_, bytes, side);
}

void Supply::hold(const std::vector<const void*>& arrays) {
  held_.clear();
  if (backend_->host_memory) return;
  for (const void* array : arrays) held_[array];
}

void Supply::begin(std::vector<SupplyArray> arrays, Index rows, const Index* order, Index batch) {
  arrays_ = std::move(arrays);
  rows_ = rows;
  order_ = order;
  if (backend_->host_memory) return;
  if (part_ >= 0) backend_->settle();  // a run that was stopped
  part_ = -1;

  const auto n = static_cast<size_t>(rows);
  copies_.resize(std::max(copies_.size(), arrays_.size()));
  places_.resize(arrays_.size());
  size_t row_bytes = 0, known = 0, there = order_copy_.size();
  for (const SupplyArray& each : arrays_) {
    row_bytes += each.row_bytes;
    const auto held = held_.find(each.data);
    if (held != held_.end()) known += std::min(held->second.size(), n * each.row_bytes);
  }
  for (const Arena& each : copies_) there += each.size();
  for (const auto& [array, copy] : held_) there += copy.size();
  const size_t order_bytes = order != nullptr ? n * sizeof(Index) : 0;
  // Three quarters of what is left, because plans that are still to be made need some as well.
  const size_t budget = (backend_->free_bytes() + there) / 4 * 3;
  const size_t needed = n * row_bytes + order_bytes;

  whole_ = needed <= budget;
  if (needed - known + there > budget) {  // what is held gives way
    for (auto& [array, copy] : held_) copy = Arena();
  }
  if (whole_) {
    for (size_t i = 0; i < arrays_.size(); ++i) bring(i);
    if (order_bytes > 0) {
      need(order_copy_, order_bytes);
      backend_->upload(order_copy_.data(), order, order_bytes);
    }
    return;
  }
  // Two parts, large enough that a copy is worth its beginning, small enough that steps which are on
  // their way keep the device busy while the next one is gathered.
  constexpr size_t kPartBytes = 16 << 20;
  const auto fitting =
      static_cast<Index>(std::min(budget / 2, kPartBytes) / std::max<size_t>(row_bytes, 1));
  part_rows_ = std::max<Index>(fitting / batch, 1) * batch;
  for (size_t i = 0; i < arrays_.size(); ++i) {
    need(copies_[i], 2 * static_cast<size_t>(part_rows_) * arrays_[i].row_bytes);
    places_[i] = copies_[i].data();
  }
  need(staging_, static_cast<size_t>(part_rows_) * row_bytes, Side::staging);
}

// The whole of an array, unless it is held and has come before.
void Supply::bring(size_t i) {
  const SupplyArray& array = arrays_[i];
  const size_t bytes = static_cast<size_t>(rows_) * array.row_bytes;
  const auto held = held_.find(array.data);
  if (held == held_.end()) {
    need(copies_[i], bytes);
    backend_->upload(copies_[i].data(), array.data, bytes);
    places_[i] = copies_[i].data();
    return;
  }
  if (held->second.size() < bytes) {
    Arena copy(*backend_, bytes);
    backend_->upload(copy.data(), array.data, bytes);
    held->second = std::move(copy);
  }
  places_[i] = held->second.data();
}

const void* Supply::array(size_t i) const {
  return backend_->host_memory ? arrays_[i].data : places_[i];
}

const Index* Supply::order() const {
  if (backend_->host_memory) return order_;
  const bool ordered = whole_ && order_ != nullptr;  // parts lie as they are visited
  return ordered ? reinterpret_cast<const Index*>(order_copy_.data()) : nullptr;
}

Index Supply::there(Index first) const {
  if (backend_->host_memory || whole_) return rows_ - first;
  return std::min(rows_, (first / part_rows_ + 1) * part_rows_) - first;
}

Index Supply::fetch(Index first) {
  if (backend_->host_memory || whole_) return first;
  const Index part = first / part_rows_;
  if (part != part_) {
    if (part_ < 0) stage(part);
    backend_->settle();
    part_ = part;
    // Before any step of this part, so that the copy waits for those of the last one alone.
    if ((part + 1) * part_rows_ < rows_) stage(part + 1);
  }
  return first % (2 * part_rows_);
}

void Supply::stage(Index part) {
  const Index first = part * part_rows_, n = std::min(part_rows_, rows_ - first);
  const Index place = first % (2 * part_rows_);
  char* to = staging_.data();
  for (size_t i = 0; i < arrays_.size(); ++i) {
    const size_t row = arrays_[i].row_bytes, bytes = static_cast<size_t>(n) * row;
    const auto* from = static_cast<const char*>(arrays_[i].data);
    if (order_ == nullptr) std::memcpy(to, from + static_cast<size_t>(first) * row, bytes);
    for (Index k = 0; order_ != nullptr && k < n; ++k) {
      std::memcpy(to + static_cast<size_t>(k) * row,
                  from + static_cast<size_t>(order_[first + k]) * row, row);
    }
    backend_->stage(copies_[i].data() + static_cast<size_t>(place) * row, to, bytes);
    to += bytes;
  }
}

std::vector<Index> shuffled(Index n, uint64_t seed, uint64_t epoch) {
  std::vector<Index> order(static_cast<size_t>(n));
  for (Index i = 0; i < n; ++i) order[i] = i;
  const auto key0 = static_cast<uint32_t>(seed);
  const auto key1 = static_cast<uint32_t>(seed >> 32);
  // Fisher-Yates from the top. A stream number no layer can have keeps it apart from dropout masks.
  for (Index i = n - 1; i > 0; --i) {
    const PhiloxBlock<uint32_t> words = philox<uint32_t>(
        {
            {static_cast<uint32_t>(i), static_cast<uint32_t>(i >> 32), static_cast<uint32_t>(epoch),
             UINT32_MAX}
    },
        key0, key1);
    const uint64_t random = static_cast<uint64_t>(words.word[1]) << 32 | words.word[0];
    const auto bound = static_cast<uint64_t>(i) + 1;
    // The high half of random * bound is uniform on [0, bound) to within bound / 2^64.
    const auto j = static_cast<Index>((static_cast<unsigned __int128>(random) * bound) >> 64);
    std::swap(order[i], order[j]);
  }
  return order;
}

}  // namespace fusednn::engine

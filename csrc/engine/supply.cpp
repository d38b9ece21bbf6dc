// SPDX-License-Identifier: Apache-2.0
#include "engine/supply.h"

#include <algorithm>
#include <cstring>

#include "core/philox.h"

namespace fusednn::engine {

// A larger arena only where the old one is too small; the two are never there together.
void Supply::need(Arena& arena, size_t bytes) {
  if (arena.data() != nullptr && arena.size() >= bytes) return;
  arena = Arena();
  arena = Arena(*backend_, bytes);
}

void Supply::begin(std::vector<SupplyArray> arrays, Index rows, const Index* order, Index batch) {
  arrays_ = std::move(arrays);
  rows_ = rows;
  order_ = order;
  if (backend_->host_memory) return;

  const auto n = static_cast<size_t>(rows);
  copies_.resize(std::max(copies_.size(), arrays_.size()));
  size_t row_bytes = 0, held = order_copy_.size();
  for (const SupplyArray& each : arrays_) row_bytes += each.row_bytes;
  for (const Arena& each : copies_) held += each.size();
  const size_t order_bytes = order != nullptr ? n * sizeof(Index) : 0;
  // Three quarters of what is left, because plans that are still to be made need some as well.
  const size_t budget = (backend_->free_bytes() + held) / 4 * 3;

  whole_ = n * row_bytes + order_bytes <= budget;
  if (whole_) {
    for (size_t i = 0; i < arrays_.size(); ++i) {
      const size_t bytes = n * arrays_[i].row_bytes;
      need(copies_[i], bytes);
      backend_->upload(copies_[i].data(), arrays_[i].data, bytes);
    }
    if (order_bytes > 0) {
      need(order_copy_, order_bytes);
      backend_->upload(order_copy_.data(), order, order_bytes);
    }
    return;
  }
  const auto fitting = static_cast<Index>(budget / std::max<size_t>(row_bytes, 1));
  part_rows_ = std::min(rows, std::max<Index>(fitting / batch, 1) * batch);
  part_first_ = part_end_ = 0;
  for (size_t i = 0; i < arrays_.size(); ++i) {
    need(copies_[i], static_cast<size_t>(part_rows_) * arrays_[i].row_bytes);
  }
}

const void* Supply::array(size_t i) const {
  return backend_->host_memory ? arrays_[i].data : copies_[i].data();
}

const Index* Supply::order() const {
  if (backend_->host_memory) return order_;
  const bool ordered = whole_ && order_ != nullptr;  // parts lie as they are visited
  return ordered ? reinterpret_cast<const Index*>(order_copy_.data()) : nullptr;
}

Index Supply::fetch(Index first) {
  if (backend_->host_memory || whole_) return first;
  if (first >= part_end_) {
    const Index n = std::min(part_rows_, rows_ - first);
    upload_rows(first, n);
    part_first_ = first;
    part_end_ = first + n;
  }
  return first - part_first_;
}

void Supply::upload_rows(Index first, Index n) {
  for (size_t i = 0; i < arrays_.size(); ++i) {
    const size_t row = arrays_[i].row_bytes;
    const auto* from = static_cast<const char*>(arrays_[i].data);
    const size_t bytes = static_cast<size_t>(n) * row;
    const char* rows = from + static_cast<size_t>(first) * row;
    if (order_ != nullptr) {
      staging_.resize(std::max(staging_.size(), bytes));
      for (Index k = 0; k < n; ++k) {
        std::memcpy(staging_.data() + static_cast<size_t>(k) * row,
                    from + static_cast<size_t>(order_[first + k]) * row, row);
      }
      rows = staging_.data();
    }
    backend_->upload(copies_[i].data(), rows, bytes);
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

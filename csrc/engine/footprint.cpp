// SPDX-License-Identifier: Apache-2.0
#include "engine/footprint.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <utility>

#include "engine/memory.h"
#include "engine/pointers.h"

namespace fusednn::engine {
namespace {

class Lister : public PointerLister<Lister> {
 public:
  using PointerLister::PointerLister;

  std::vector<Footprint> all;

  template <class T>
  void add(T*& pointer, size_t bytes, bool written) {
    all.push_back({&pointer, bytes, written});
  }
  template <class T>
  T* entries(const T* table, Index) {
    return const_cast<T*>(table);
  }
  GatherReach reach(const GatherRows& op) {
    const Index first = *op.first;
    Index last = first + op.rows;
    for (Index i = 0; op.order != nullptr && i < op.rows; ++i) {
      last = std::max(last, op.order[first + i] + 1);
    }
    return {last, first + op.rows};
  }
  Index reach(const BeginStep& op) { return op.clock->row + 1; }
};

}  // namespace

const void* Footprint::memory() const {
  const void* value;
  std::memcpy(&value, pointer, sizeof(value));
  return value;
}

void Footprint::move_to(const void* memory) const { std::memcpy(pointer, &memory, sizeof(memory)); }

std::vector<Footprint> footprints(Command& command) {
  Lister lister(command.dtype);
  list_pointers(Operations{}, lister, command);
  return std::move(lister.all);
}

void run_with_copies(const Backend& backend, std::vector<Command> commands) {
  struct Block {
    size_t bytes = 0;
    bool written = false;
    Arena copy;
  };
  std::vector<Footprint> all;
  std::map<const void*, Block> blocks;
  for (Command& command : commands) {
    const std::vector<Footprint> own = footprints(command);
    all.insert(all.end(), own.begin(), own.end());
  }
  all.erase(std::remove_if(all.begin(), all.end(),
                           [&](const Footprint& each) { return backend.owns(each.memory()); }),
            all.end());
  for (const Footprint& each : all) {
    Block& block = blocks[each.memory()];
    block.bytes = std::max(block.bytes, each.bytes);
    block.written = block.written || each.written;
  }
  // Several commands may share a table: each pointer is moved once, and put back at the end.
  std::map<void*, std::pair<Footprint, const void*>> before;
  for (const Footprint& each : all) before.emplace(each.pointer, std::pair(each, each.memory()));
  for (auto& [host, block] : blocks) block.copy = Arena(backend, block.bytes);
  for (const auto& [place, was] : before) was.first.move_to(blocks.at(was.second).copy.data());
  for (auto& [host, block] : blocks) backend.upload(block.copy.data(), host, block.bytes);

  const int n = static_cast<int>(commands.size());
  const Schedule schedule = backend.prepare(commands.data(), n, 0);
  const Arena workspace(backend, schedule.workspace_bytes);
  backend.execute(commands.data(), n, schedule, workspace.data(), 1);
  for (const auto& [place, was] : before) was.first.move_to(was.second);
  for (auto& [host, block] : blocks) {
    if (block.written) backend.download(const_cast<void*>(host), block.copy.data(), block.bytes);
  }
}

}  // namespace fusednn::engine

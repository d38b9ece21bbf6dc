// SPDX-License-Identifier: Apache-2.0
// The whole contract between the engine and a device.
//
// The engine never computes: it records commands, each an operation with its arguments, and hands the
// list to a backend, which prepares it once (how many threads, how much workspace) and executes it as
// often as asked. All memory a command names is the device's and is there when it is recorded, so on a
// GPU the same list is captured once into a graph. What changes from step to step (learning rate,
// random position, place in the epoch) is read through a pointer when the command runs.
//
// No STL here: kernels that are compiled per instruction set include this header.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "core/dtype.h"
#include "core/type_list.h"
#include "engine/operations.h"

namespace fusednn {

template <class T, class List>
struct PlaceIn;
template <class T, class... Rest>
struct PlaceIn<T, TypeList<T, Rest...>> {
  static constexpr int value = 0;
};
template <class T, class First, class... Rest>
struct PlaceIn<T, TypeList<First, Rest...>> {
  static constexpr int value = 1 + PlaceIn<T, TypeList<Rest...>>::value;
};

// ---- commands and the backend ------------------------------------------------------------------

// An operation with its arguments, as plain bytes.
struct Command {
  static constexpr size_t kCapacity = 320;
  int32_t operation = 0;  // place in Operations
  DType dtype = DType::float32;
  // Whether this command and the next one may run side by side: neither writes memory that the other
  // touches. In a row of such commands, each must be independent of all others.
  bool beside_next = false;
  // The memory it writes serves nothing else in the list. Rows of a batch may then run ahead of each
  // other through all commands that treat them one by one.
  bool apart = false;
  // Of dense commands: what it writes for other layers is read by commands of this list alone, so that a
  // backend that has no need of it leaves it out.
  bool inner = false;
  alignas(8) unsigned char arguments[kCapacity] = {};

  Command() = default;
  template <class Op>
  Command(const Op& op, DType type) : operation(PlaceIn<Op, Operations>::value), dtype(type) {
    static_assert(sizeof(Op) <= kCapacity, "raise Command::kCapacity");
    static_assert(__is_trivially_copyable(Op), "arguments travel as bytes");
    __builtin_memcpy(arguments, &op, sizeof(Op));
  }
};

struct Pace;  // pace.h

// How a list of commands will run: decided once by prepare(), obeyed by execute().
struct Schedule {
  double nanoseconds = 0;  // rough time of one thread
  int threads = 1;
  bool parts = false;  // each thread computes parts of its own where commands can be cut
  size_t workspace_bytes = 0;
  size_t command_bytes = 0;  // of the workspace, for each of the commands that run side by side
  size_t part_bytes = 0;     // of that, for each part
  Pace* pace = nullptr;      // null: a team of so many threads wherever it is awake
  uint64_t recording = 0;    // of Backend::remember(), or 0
  int32_t method = 0;        // the backend's own choice between ways to run the list
  int in_a_row = 1;          // so many runs in one call of execute() are as good as any more
};

struct Backend {
  const char* name;
  // Whether its memory is the host's: then the host may read and write what commands name, as long as
  // none of them runs. Otherwise upload() and download() are the only ways in and out.
  bool host_memory;
  void* (*allocate)(size_t bytes);  // 64-byte aligned and zeroed; throws std::bad_alloc
  void (*release)(void* memory);
  size_t (*free_bytes)();  // about so much is left to allocate; SIZE_MAX where nobody knows
  int (*threads)();        // its own setting
  // The answer depends on the commands and the allowed number of threads (0: the backend's own
  // setting), never on the data.
  Schedule (*prepare)(const Command* commands, int n, int max_threads);
  // Runs the commands in order, so many times in a row, one list after the other. It may return before
  // they have run. Any number of callers at a time; each brings its own workspace.
  void (*execute)(const Command* commands, int n, const Schedule& schedule, void* workspace,
                  int times);
  // Copies, in order with what is executed. The host's memory may be used again, and has what was
  // wanted, as soon as they return.
  void (*upload)(void* device, const void* host, size_t bytes);
  void (*download)(void* host, const void* device, size_t bytes);
  // Memory of the host for stage(); release() takes it back.
  void* (*allocate_staging)(size_t bytes);
  // Copies from such memory, after what has been executed so far and beside what is executed later.
  void (*stage)(void* device, const void* staging, size_t bytes);
  // Returns when all that was staged is there.
  void (*settle)();
  // As upload(), but also in a graph of commands that somebody else captures: it repeats these numbers
  // each time it runs. For tables, not for data.
  void (*put)(void* device, const void* host, size_t bytes);
  // A list that runs often may be remembered as it is executed first: the caller puts the number into
  // Schedule::recording, and changes no command and no workspace until it has called forget(). 0 where
  // there is nothing to gain.
  uint64_t (*remember)();
  void (*forget)(uint64_t recording);
  // Whether memory is this device's and not the host's.
  bool (*owns)(const void* memory);
  // From now on what the calling thread executes, copies, allocates and releases goes in order to
  // somebody else's queue of work (of a CUDA device: a stream), or to our own again, which is 0. Returns
  // the one before.
  uint64_t (*use_queue)(uint64_t queue);
};

// ---- a backend in a library of its own -----------------------------------------------------------

// Two libraries understand each other if all that passes between them has the same size in both.
template <class... Ops>
constexpr uint64_t fingerprint_of(TypeList<Ops...>) {
  uint64_t hash = 0xcbf29ce484222325;
  constexpr size_t sizes[] = {sizeof(Backend),       sizeof(Schedule),    sizeof(Command),
                              sizeof(UpdateTensor),  sizeof(UpdateGroup), sizeof(UpdateRecipe),
                              sizeof(UpdateCounter), sizeof(Ops)...};
  for (const size_t size : sizes) {
    hash = (hash ^ size) * 0x100000001b3;
  }
  return hash;
}

// What such a library hands over.
struct BackendExport {
  uint64_t fingerprint = fingerprint_of(Operations{});
  const char* version = nullptr;  // of fusednn
  const Backend* backend = nullptr;
};

}  // namespace fusednn

// SPDX-License-Identifier: Apache-2.0
// Lists of commands as CUDA graphs: the second time a list runs it is recorded, and from then on the
// graph runs in its place, which costs the host one call instead of one per kernel.
//
// The first time it runs as it is, because loading a kernel or a library for the first time may do what
// a recording does not allow.
#pragma once

#include <cuda_runtime.h>

#include <array>
#include <cstdint>
#include <functional>
#include <map>
#include <mutex>

#include "cuda/device.h"

namespace fusednn::cuda {

class Recordings {
 public:
  uint64_t remember();
  void forget(const Device& device, uint64_t number);

  // Puts `work`, which puts everything on the stream it is given, or its recording onto our stream.
  using Work = std::function<void(cudaStream_t)>;
  void run(const Device& device, uint64_t number, const Work& work);

  size_t graphs() const;
  uint64_t replays() const;

 private:
  struct Entry {
    bool has_run = false;
    cudaGraphExec_t graph = nullptr;
  };
  static cudaGraphExec_t record(const Device& device, const Work& work);

  // Waits until few lists are on their way. They hide what it costs to put the next one there; more of
  // them would only be more to wait for when somebody presses Ctrl-C.
  void let_go_on(const Device& device);
  static constexpr size_t kOnTheirWay = 4;

  mutable std::mutex mutex_;
  uint64_t last_ = 0;
  std::array<cudaEvent_t, kOnTheirWay> ends_ = {};
  size_t next_end_ = 0;
  uint64_t replays_ = 0;
  std::map<uint64_t, Entry> entries_;  // those that have run
};

}  // namespace fusednn::cuda

// SPDX-License-Identifier: Apache-2.0
// Lists of commands as CUDA graphs: the second time a list runs it is recorded, and from then on the
// graph runs in its place, which costs the host one call instead of one per kernel. A list that runs
// several times in a row is recorded as often within one graph.
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

  // Puts a list onto the stream it is given, so many times in a row.
  using Work = std::function<void(cudaStream_t, int times)>;
  // Puts a list onto our stream so many times, itself or its recordings, at most `most` times in one
  // graph.
  void run(const Device& device, uint64_t number, int times, int most, const Work& work);

  size_t graphs() const;
  uint64_t replays() const;

 private:
  // Graphs by the number of times that they run the list; null where so many were asked for once.
  using Entry = std::map<int, cudaGraphExec_t>;
  static constexpr size_t kKept = 8;  // graphs of a list: the last steps of epochs vary in number

  void run_row(const Device& device, Entry& entry, int times, int begun, const Work& work);
  void replay(const Device& device, Entry& entry, int times, const Work& work);
  static cudaGraphExec_t record(const Device& device, int times, const Work& work);

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

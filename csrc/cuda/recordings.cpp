// SPDX-License-Identifier: Apache-2.0
#include "cuda/recordings.h"

#include <algorithm>

#include "cuda/launch.cuh"

namespace fusednn::cuda {

uint64_t Recordings::remember() {
  const std::lock_guard<std::mutex> lock(mutex_);
  return ++last_;
}

void Recordings::forget(const Device& device, uint64_t number) {
  const std::lock_guard<std::mutex> lock(mutex_);
  const auto found = entries_.find(number);
  if (found == entries_.end()) return;
  // Errors do not matter: the graphs are gone in any case, or the whole process is about to be.
  (void)cudaStreamSynchronize(device.stream);
  for (const auto& [times, graph] : found->second) {
    if (graph != nullptr) (void)cudaGraphExecDestroy(graph);
  }
  (void)cudaGetLastError();
  entries_.erase(found);
}

cudaGraphExec_t Recordings::record(const Device& device, int times, const Work& work) {
  check(cudaStreamBeginCapture(device.recorder, cudaStreamCaptureModeThreadLocal),
        "beginning to record");
  cudaGraph_t graph = nullptr;
  try {
    work(device.recorder, times);
  } catch (...) {
    (void)cudaStreamEndCapture(device.recorder, &graph);
    if (graph != nullptr) (void)cudaGraphDestroy(graph);
    (void)cudaGetLastError();
    throw;
  }
  check(cudaStreamEndCapture(device.recorder, &graph), "recording");
  cudaGraphExec_t executable = nullptr;
  const cudaError_t status = cudaGraphInstantiate(&executable, graph, 0);
  (void)cudaGraphDestroy(graph);
  check(status, "making a graph");
  return executable;
}

void Recordings::run(const Device& device, uint64_t number, int times, int most, const Work& work) {
  if (number == 0) return work(device.stream, times);
  const std::lock_guard<std::mutex> lock(mutex_);
  Entry& entry = entries_[number];
  int begun = 0;
  if (entry.empty()) {
    work(device.stream, 1);
    entry[1] = nullptr;
    let_go_on(device);
    begun = 1;
  }
  for (; times > 0; times -= most, begun = 0) {
    run_row(device, entry, std::min(times, most), begun, work);
  }
}

// A number of times that was never asked for may never be again: the graph of one time does. So does it
// where some of them have run.
void Recordings::run_row(const Device& device, Entry& entry, int times, int begun,
                         const Work& work) {
  const bool known = entry.count(times) != 0;
  if (known && begun == 0) return replay(device, entry, times, work);
  if (!known && entry.size() < kKept) entry[times] = nullptr;
  for (int k = begun; k < times; ++k) replay(device, entry, 1, work);
}

void Recordings::replay(const Device& device, Entry& entry, int times, const Work& work) {
  cudaGraphExec_t& graph = entry[times];
  if (graph == nullptr) graph = record(device, times, work);
  check(cudaGraphLaunch(graph, device.stream), "running a graph");
  ++replays_;
  let_go_on(device);
}

void Recordings::let_go_on(const Device& device) {
  cudaEvent_t& end = ends_[next_end_];
  if (end == nullptr) {
    check(cudaEventCreateWithFlags(&end, cudaEventDisableTiming), "making an event");
  }
  check(cudaEventRecord(end, device.stream), "recording an event");
  next_end_ = (next_end_ + 1) % kOnTheirWay;
  if (ends_[next_end_] != nullptr) {
    check(cudaEventSynchronize(ends_[next_end_]), "waiting for the device");
  }
}

size_t Recordings::graphs() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  size_t n = 0;
  for (const auto& [number, entry] : entries_) {
    for (const auto& [times, graph] : entry) n += graph != nullptr;
  }
  return n;
}

uint64_t Recordings::replays() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return replays_;
}

}  // namespace fusednn::cuda

// SPDX-License-Identifier: Apache-2.0
#include "cuda/recordings.h"

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
  if (found->second.graph != nullptr) {
    // Errors do not matter: the graph is gone in any case, or the whole process is about to be.
    (void)cudaStreamSynchronize(device.stream);
    (void)cudaGraphExecDestroy(found->second.graph);
    (void)cudaGetLastError();
  }
  entries_.erase(found);
}

cudaGraphExec_t Recordings::record(const Device& device, const Work& work) {
  check(cudaStreamBeginCapture(device.recorder, cudaStreamCaptureModeThreadLocal),
        "beginning to record");
  cudaGraph_t graph = nullptr;
  try {
    work(device.recorder);
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

void Recordings::run(const Device& device, uint64_t number, const Work& work) {
  if (number == 0) return work(device.stream);
  const std::lock_guard<std::mutex> lock(mutex_);
  Entry& entry = entries_[number];
  if (!entry.has_run) {
    work(device.stream);
    entry.has_run = true;
  } else {
    if (entry.graph == nullptr) entry.graph = record(device, work);
    check(cudaGraphLaunch(entry.graph, device.stream), "running a graph");
    ++replays_;
  }
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
  for (const auto& [number, entry] : entries_) n += entry.graph != nullptr;
  return n;
}

uint64_t Recordings::replays() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return replays_;
}

}  // namespace fusednn::cuda

// SPDX-License-Identifier: Apache-2.0
// Whether the emulated device finds the faults that it is said to find: each is made on purpose, in a
// process of its own, beside the same thing without the fault.
#include <sys/wait.h>
#include <unistd.h>

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <vector>

#include "faulty_kernels.h"

namespace {

constexpr int kElements = 50;  // so that some of the threads have none

void need(cudaError_t status, const char* what) {
  if (status == cudaSuccess) return;
  std::fprintf(stderr, "%s: %s\n", what, cudaGetErrorName(status));
  std::_Exit(3);
}

struct Device {
  cudaStream_t stream = nullptr, other = nullptr;
  float *x = nullptr, *y = nullptr;
  std::vector<float> host = std::vector<float>(kElements);

  Device() {
    for (int i = 0; i < kElements; ++i) host[static_cast<size_t>(i)] = float(i + 1);
    need(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "stream");
    need(cudaStreamCreateWithFlags(&other, cudaStreamNonBlocking), "stream");
    need(cudaMalloc(reinterpret_cast<void**>(&x), bytes()), "malloc");
    need(cudaMalloc(reinterpret_cast<void**>(&y), bytes()), "malloc");
    need(cudaMemcpyAsync(x, host.data(), bytes(), cudaMemcpyHostToDevice, stream), "upload");
  }
  static size_t bytes() { return kElements * sizeof(float); }

  void start(const char* name, bool right, cudaStream_t on) {
    cudaLaunchConfig_t config = {};
    config.gridDim = dim3(1);
    config.blockDim = dim3(faulty::kThreads);
    config.stream = on;
    need(cudaLaunchKernelEx(&config, faulty::kernel(name), static_cast<const float*>(x), y,
                            int(kElements), right),
         name);
  }
  // Whether y holds numbers, when all is done on this stream.
  bool finish(cudaStream_t on) {
    std::vector<float> found(kElements);
    need(cudaMemcpyAsync(found.data(), y, bytes(), cudaMemcpyDeviceToHost, on), "download");
    need(cudaStreamSynchronize(on), "waiting");
    need(cudaFree(y), "free");
    for (const float value : found) {
      if (std::isnan(value)) return false;
    }
    return true;
  }
};

// Runs in a process of its own; whether it ends as it should.
bool survives(const std::function<bool()>& body) {
  std::fflush(stdout);
  const pid_t child = fork();
  if (child == 0) {
    (void)!std::freopen("/dev/null", "w", stderr);
    std::_Exit(body() ? 0 : 1);
  }
  int status = 0;
  waitpid(child, &status, 0);
  return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

int failures = 0;

void check(const char* name, const std::function<bool(bool right)>& body) {
  const bool right = survives([&] { return body(true); });
  const bool wrong = survives([&] { return body(false); });
  if (right && !wrong) return std::printf("%s: found\n", name), void();
  std::printf("%s: %s\n", name, right ? "NOT FOUND" : "found where there is none");
  ++failures;
}

// One stream reads what another one writes.
bool streams(bool right) {
  Device device;
  device.start("copies", true, device.stream);
  if (right) {
    cudaEvent_t event;
    need(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), "event");
    need(cudaEventRecord(event, device.stream), "event");
    need(cudaStreamWaitEvent(device.other, event), "event");
  }
  return device.finish(device.other);
}

// Memory that goes in the order of a stream is used on another one.
bool ordered_memory(bool right) {
  Device device;
  void* memory = nullptr;
  need(cudaMallocAsync(&memory, Device::bytes(), device.stream), "malloc");
  need(cudaMemcpyAsync(memory, device.x, Device::bytes(), cudaMemcpyDeviceToDevice, device.stream),
       "copy");
  if (!right) need(cudaFreeAsync(memory, device.stream), "free");
  need(cudaStreamSynchronize(device.stream), "waiting");
  const cudaError_t status =
      cudaMemcpyAsync(device.y, memory, Device::bytes(), cudaMemcpyDeviceToDevice, device.other);
  return status == cudaSuccess && device.finish(device.other);
}

// The host reads device memory.
bool host_access(bool right) {
  Device device;
  need(cudaStreamSynchronize(device.stream), "waiting");
  const volatile float* place = right ? device.host.data() : device.x;
  return place[0] == 1;
}

// A graph reads memory of the host that is something else by the time it runs.
bool forgotten_memory(bool right) {
  Device device;
  auto* numbers = new std::vector<float>(kElements, 1.0F);
  cudaGraph_t graph;
  cudaGraphExec_t executable;
  need(cudaStreamSynchronize(device.stream), "waiting");
  need(cudaStreamBeginCapture(device.stream, cudaStreamCaptureModeThreadLocal), "capture");
  need(cudaMemcpyAsync(device.y, numbers->data(), Device::bytes(), cudaMemcpyHostToDevice,
                       device.stream),
       "upload");
  need(cudaStreamEndCapture(device.stream, &graph), "capture");
  need(cudaGraphInstantiate(&executable, graph), "graph");
  if (!right) numbers->assign(kElements, NAN);
  need(cudaGraphLaunch(executable, device.stream), "graph");
  return device.finish(device.stream);
}

}  // namespace

int main() {
  for (const char* name :
       {"writes_behind", "needs_barrier", "leaves_early", "forgets_lanes", "adds_to_nothing"}) {
    check(name, [name](bool right) {
      Device device;
      device.start(name, right, device.stream);
      return device.finish(device.stream);
    });
  }
  check("streams", &streams);
  check("ordered memory", &ordered_memory);
  check("host access", &host_access);
  check("forgotten memory", &forgotten_memory);
  return failures == 0 ? 0 : 1;
}

// SPDX-License-Identifier: Apache-2.0
#include "cuda/backend.h"

#include <algorithm>
#include <map>
#include <mutex>
#include <stdexcept>

#include "cuda/cublaslt.h"
#include "cuda/device.h"
#include "cuda/kernels/put.h"
#include "cuda/kernels/table.h"
#include "cuda/launch.cuh"
#include "cuda/recordings.h"

namespace fusednn::cuda {
namespace {

constexpr size_t kAlignment = 256;

Recordings& recordings() {
  static auto* all = new Recordings;  // lives to the end, as the device does
  return *all;
}

// The stream of somebody else that the calling thread works on, or null.
thread_local cudaStream_t borrowed = nullptr;

cudaStream_t stream_of(const Device& device) {
  return borrowed != nullptr ? borrowed : device.stream;
}

// Memory that came in the order of a stream, and goes in that order.
class OrderedMemory {
 public:
  void add(void* memory, cudaStream_t stream) {
    const std::lock_guard<std::mutex> lock(mutex_);
    streams_[memory] = stream;
  }
  bool release(void* memory) {
    cudaStream_t stream = nullptr;
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      const auto found = streams_.find(memory);
      if (found == streams_.end()) return false;
      stream = found->second;
      streams_.erase(found);
    }
    if (cudaFreeAsync(memory, stream) == cudaSuccess) return true;
    (void)cudaGetLastError();  // the stream is gone, and with it all that waited there
    return cudaFree(memory) == cudaSuccess;
  }

 private:
  std::mutex mutex_;
  std::map<void*, cudaStream_t> streams_;
};

OrderedMemory& ordered_memory() {
  static auto* all = new OrderedMemory;
  return *all;
}

// Errors do not matter here: at the end of a process CUDA may be gone before its memory.
void release(void* memory) {
  if (!ordered_memory().release(memory)) (void)cudaFree(memory);
  (void)cudaGetLastError();
}

void* allocate(size_t bytes) {
  const Device& device = Device::get();
  const OnDevice here(device);
  void* memory = nullptr;
  const size_t room = std::max<size_t>(bytes, 1);
  if (borrowed == nullptr) {
    check(cudaMalloc(&memory, room), "allocating memory");
  } else {
    check(cudaMallocAsync(&memory, room, borrowed), "allocating memory");
    ordered_memory().add(memory, borrowed);
  }
  const cudaError_t status = cudaMemsetAsync(memory, 0, bytes, stream_of(device));
  if (status != cudaSuccess) release(memory);
  check(status, "clearing memory");
  return memory;
}

bool owns(const void* memory) {
  cudaPointerAttributes attributes = {};
  const bool known = cudaPointerGetAttributes(&attributes, memory) == cudaSuccess;
  (void)cudaGetLastError();
  return known && attributes.type == cudaMemoryTypeDevice &&
         attributes.device == Device::get().ordinal;
}

uint64_t use_queue(uint64_t queue) {
  const auto before = reinterpret_cast<uintptr_t>(borrowed);
  borrowed = reinterpret_cast<cudaStream_t>(static_cast<uintptr_t>(queue));
  return before;
}

size_t free_bytes() {
  const OnDevice here(Device::get());
  size_t free = 0, total = 0;
  check(cudaMemGetInfo(&free, &total), "asking for free memory");
  return free;
}

int threads() { return 1; }

Schedule prepare(const Command* commands, int n, int) {
  Schedule schedule;
  for (int i = 0; i < n; ++i) {
    const Command& command = commands[i];
    const size_t bytes = kernel_table.workspace[static_cast<int>(command.dtype)][command.operation](
        command.arguments);
    schedule.workspace_bytes =
        std::max({schedule.workspace_bytes, bytes, product_demand(command).workspace});
  }
  schedule.workspace_bytes = (schedule.workspace_bytes + kAlignment - 1) / kAlignment * kAlignment;
  return schedule;
}

void execute(const Command* commands, int n, const Schedule& schedule, void* workspace) {
  const Device& device = Device::get();
  const OnDevice here(device);
  const auto work = [&](cudaStream_t stream) {
    Context context;
    context.stream = stream;
    context.workspace = workspace;
    context.multiprocessors = device.multiprocessors;
    for (int i = 0; i < n; ++i) {
      const Command& command = commands[i];
      const ProductDemand product = product_demand(command);
      if (product.taken && product.workspace <= schedule.workspace_bytes) {
        run_product(command, context);
        continue;
      }
      kernel_table.run[static_cast<int>(command.dtype)][command.operation](command.arguments,
                                                                           context);
    }
  };
  if (borrowed != nullptr) return work(borrowed);
  recordings().run(device, schedule.recording, work);
}

bool is_capturing(cudaStream_t stream) {
  cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
  check(cudaStreamIsCapturing(stream, &status), "asking about a graph");
  return status != cudaStreamCaptureStatusNone;
}

// Ordinary host memory has been read when the copy has been put on the stream; pinned memory has not.
void upload(void* to, const void* host, size_t bytes) {
  if (bytes == 0) return;
  const Device& device = Device::get();
  const OnDevice here(device);
  const cudaStream_t stream = stream_of(device);
  // The graph would read the host's memory when it runs, long after we have forgotten it.
  if (is_capturing(stream)) {
    throw std::runtime_error(
        "cuda: this call takes numbers from the host, which cannot be part of a graph that is "
        "being "
        "captured");
  }
  check(cudaMemcpyAsync(to, host, bytes, cudaMemcpyHostToDevice, stream), "uploading");
  cudaPointerAttributes attributes = {};
  const bool known = cudaPointerGetAttributes(&attributes, host) == cudaSuccess;
  (void)cudaGetLastError();
  if (known && attributes.type != cudaMemoryTypeUnregistered) {
    check(cudaStreamSynchronize(stream), "uploading");
  }
}

void put(void* to, const void* host, size_t bytes) {
  const Device& device = Device::get();
  const OnDevice here(device);
  const cudaStream_t stream = stream_of(device);
  // A few bytes take the same way in any case: a graph must not be the first to load the kernel.
  if (bytes > kPutAtOnce && !is_capturing(stream)) return upload(to, host, bytes);
  put_by_kernels(to, host, bytes, stream);
}

void download(void* host, const void* from, size_t bytes) {
  if (bytes == 0) return;
  const Device& device = Device::get();
  const OnDevice here(device);
  const cudaStream_t stream = stream_of(device);
  check(cudaMemcpyAsync(host, from, bytes, cudaMemcpyDeviceToHost, stream), "downloading");
  check(cudaStreamSynchronize(stream), "waiting for the device");
}

uint64_t remember() { return recordings().remember(); }

void forget(uint64_t recording) { recordings().forget(Device::get(), recording); }

}  // namespace

const Backend& backend() {
  static constexpr Backend cuda{"cuda",   false,     &allocate, &release, &free_bytes,
                                &threads, &prepare,  &execute,  &upload,  &download,
                                &put,     &remember, &forget,   &owns,    &use_queue};
  return cuda;
}

DeviceInfo device_info() {
  const Device& device = Device::get();
  const OnDevice here(device);
  cudaDeviceProp properties;
  check(cudaGetDeviceProperties(&properties, device.ordinal), "cudaGetDeviceProperties");
  DeviceInfo info;
  info.name = properties.name;
  info.ordinal = device.ordinal;
  info.capability_major = properties.major;
  info.capability_minor = properties.minor;
  info.multiprocessors = device.multiprocessors;
  info.memory_bytes = properties.totalGlobalMem;
  info.free_bytes = free_bytes();
  check(cudaDriverGetVersion(&info.driver), "cudaDriverGetVersion");
  check(cudaRuntimeGetVersion(&info.runtime), "cudaRuntimeGetVersion");
#if defined(FNN_CUDA_EMULATOR)
  info.emulated = true;
#endif
  return info;
}

RecordingCounts recording_counts() { return {recordings().graphs(), recordings().replays()}; }

}  // namespace fusednn::cuda

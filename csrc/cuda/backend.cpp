// SPDX-License-Identifier: Apache-2.0
#include "cuda/backend.h"

#include <algorithm>

#include "cuda/cublaslt.h"
#include "cuda/device.h"
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

void* allocate(size_t bytes) {
  const Device& device = Device::get();
  const OnDevice here(device);
  void* memory = nullptr;
  check(cudaMalloc(&memory, std::max<size_t>(bytes, 1)), "allocating memory");
  const cudaError_t status = cudaMemsetAsync(memory, 0, bytes, device.stream);
  if (status != cudaSuccess) (void)cudaFree(memory);
  check(status, "clearing memory");
  return memory;
}

// Errors do not matter here: at the end of a process CUDA may be gone before its memory.
void release(void* memory) {
  (void)cudaFree(memory);
  (void)cudaGetLastError();
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
  recordings().run(device, schedule.recording, [&](cudaStream_t stream) {
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
  });
}

// Ordinary host memory has been read when the copy has been put on the stream; pinned memory has not.
void upload(void* to, const void* host, size_t bytes) {
  if (bytes == 0) return;
  const Device& device = Device::get();
  const OnDevice here(device);
  check(cudaMemcpyAsync(to, host, bytes, cudaMemcpyHostToDevice, device.stream), "uploading");
  cudaPointerAttributes attributes = {};
  const bool known = cudaPointerGetAttributes(&attributes, host) == cudaSuccess;
  (void)cudaGetLastError();
  if (known && attributes.type != cudaMemoryTypeUnregistered) {
    check(cudaStreamSynchronize(device.stream), "uploading");
  }
}

void download(void* host, const void* from, size_t bytes) {
  if (bytes == 0) return;
  const Device& device = Device::get();
  const OnDevice here(device);
  check(cudaMemcpyAsync(host, from, bytes, cudaMemcpyDeviceToHost, device.stream), "downloading");
  check(cudaStreamSynchronize(device.stream), "waiting for the device");
}

uint64_t remember() { return recordings().remember(); }

void forget(uint64_t recording) { recordings().forget(Device::get(), recording); }

}  // namespace

const Backend& backend() {
  static constexpr Backend cuda{"cuda",   false,    &allocate, &release,  &free_bytes, &threads,
                                &prepare, &execute, &upload,   &download, &remember,   &forget};
  return cuda;
}

DeviceInfo device_info() {
  const Device& device = Device::get();
  const OnDevice here(device);
  cudaDeviceProp properties;
  check(cudaGetDeviceProperties(&properties, device.ordinal), "cudaGetDeviceProperties");
  DeviceInfo info;
  info.name = properties.name;
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

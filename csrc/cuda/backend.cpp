// SPDX-License-Identifier: Apache-2.0
#include "cuda/backend.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <map>
#include <mutex>
#include <stdexcept>

#include "cuda/cublaslt.h"
#include "cuda/device.h"
#include "cuda/fusion.h"
#include "cuda/kernels/put.h"
#include "cuda/kernels/table.h"
#include "cuda/launch.cuh"
#include "cuda/recordings.h"
#include "cuda/resident.h"

namespace fusednn::cuda {
namespace {

constexpr size_t kAlignment = 256;

Recordings& recordings() {
  static auto* all = new Recordings;  // lives to the end, as the device does
  return *all;
}

Residents& residents() {
  static auto* all = new Residents;
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

cudaPointerAttributes attributes_of(const void* memory) {
  cudaPointerAttributes attributes = {};
  if (cudaPointerGetAttributes(&attributes, memory) != cudaSuccess) attributes = {};
  (void)cudaGetLastError();
  return attributes;
}

// Errors do not matter here: at the end of a process CUDA may be gone before its memory.
void release(void* memory) {
  if (ordered_memory().release(memory)) {
    // in the order of its stream
  } else if (attributes_of(memory).type == cudaMemoryTypeHost) {
    (void)cudaStreamSynchronize(Device::get().copier);
    (void)cudaFreeHost(memory);
  } else {
    (void)cudaFree(memory);
  }
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
  const cudaPointerAttributes attributes = attributes_of(memory);
  return attributes.type == cudaMemoryTypeDevice && attributes.device == Device::get().ordinal;
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

// A kernel in a graph takes so long, whatever it does. Of what takes longer the products and the update
// are by far the most; how fast they run need only be roughly right.
constexpr double kLaunchNanoseconds = 2500, kOperationsPerNanosecond = 1e4,
                 kUpdatedPerNanosecond = 100;

template <class Dense>
double product_nanoseconds(const Command& command) {
  Dense op;
  std::memcpy(&op, command.arguments, sizeof(op));
  return 2.0 * double(op.rows) * double(op.in) * double(op.out) / kOperationsPerNanosecond;
}

double estimate(const Command& command) {
  double work = 0;
  switch (command.operation) {
    case PlaceIn<DenseForward, Operations>::value:
      work = product_nanoseconds<DenseForward>(command);
      break;
    case PlaceIn<DenseBackwardInput, Operations>::value:
      work = product_nanoseconds<DenseBackwardInput>(command);
      break;
    case PlaceIn<DenseBackwardWeights, Operations>::value:
      work = product_nanoseconds<DenseBackwardWeights>(command);
      break;
    case PlaceIn<OptimizerStep, Operations>::value:
      work = double(reinterpret_cast<const OptimizerStep*>(command.arguments)->elements) /
             kUpdatedPerNanosecond;
      break;
  }
  return std::max(work, kLaunchNanoseconds);
}

// A graph is so long that starting it is nothing beside running it, and short enough to be waited for.
constexpr double kGraphNanoseconds = 1e6;
// Between two looks at the host. On the way may be some graphs more.
constexpr double kRowNanoseconds = 10 * kGraphNanoseconds;

int times_within(double nanoseconds, const Schedule& schedule) {
  return std::max(static_cast<int>(nanoseconds / std::max(schedule.nanoseconds, 1.0)), 1);
}

// Schedule::method of a list that one block may run.
constexpr int32_t kResident = 1;

Schedule prepare(const Command* commands, int n, int) {
  Schedule schedule;
  for (int i = 0; i < n; ++i) {
    const Command& command = commands[i];
    const size_t bytes = kernel_table.workspace[static_cast<int>(command.dtype)][command.operation](
        command.arguments);
    schedule.workspace_bytes =
        std::max({schedule.workspace_bytes, bytes, product_demand(command).workspace});
  }
  const Fusion fusion(commands, n, Device::get().shared_bytes);
  for (const Fusion::Step& step : fusion.steps()) {
    schedule.nanoseconds +=
        step.command < 0 ? fusion.nanoseconds(step) : estimate(commands[step.command]);
  }
  schedule.workspace_bytes = std::max(schedule.workspace_bytes, fusion.workspace());
  if (const double resident = resident_nanoseconds(commands, n, schedule.nanoseconds)) {
    schedule.nanoseconds = resident;
    schedule.method = kResident;
  }
  const int in_a_graph = times_within(kGraphNanoseconds, schedule);
  schedule.in_a_row = times_within(kRowNanoseconds, schedule) / in_a_graph * in_a_graph;
  schedule.workspace_bytes = (schedule.workspace_bytes + kAlignment - 1) / kAlignment * kAlignment;
  return schedule;
}

// Puts a list on the stream of the context, once.
void run_list(const Command* commands, const Fusion& fusion, const Schedule& schedule,
              const Context& context) {
  for (const Fusion::Step& step : fusion.steps()) {
    if (step.command < 0) {
      fusion.run(step, context);
      continue;
    }
    const Command& command = commands[step.command];
    const ProductDemand product = product_demand(command);
    if (product.taken && product.workspace <= schedule.workspace_bytes) {
      run_product(command, context);
      continue;
    }
    kernel_table.run[static_cast<int>(command.dtype)][command.operation](command.arguments,
                                                                         context);
  }
}

void execute(const Command* commands, int n, const Schedule& schedule, void* workspace, int times) {
  const Device& device = Device::get();
  const OnDevice here(device);
  const bool may_reside =
      schedule.method == kResident && schedule.recording != 0 && borrowed == nullptr;
  const Resident* resident =
      may_reside ? residents().get(device, schedule.recording, commands, n) : nullptr;
  const auto work = [&](cudaStream_t stream, int in_a_row) {
    if (resident != nullptr) return resident->run(stream, in_a_row);
    Context context;
    context.stream = stream;
    context.workspace = workspace;
    context.multiprocessors = device.multiprocessors;
    const Fusion fusion(commands, n, device.shared_bytes, schedule.workspace_bytes);
    for (int k = 0; k < in_a_row; ++k) run_list(commands, fusion, schedule, context);
  };
  if (borrowed != nullptr) return work(borrowed, times);
  recordings().run(device, schedule.recording, times, times_within(kGraphNanoseconds, schedule),
                   work);
}

bool is_capturing(cudaStream_t stream) {
  cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
  check(cudaStreamIsCapturing(stream, &status), "asking about a graph");
  return status != cudaStreamCaptureStatusNone;
}

std::atomic<uint64_t> uploads{0};

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
  if (attributes_of(host).type != cudaMemoryTypeUnregistered) {
    check(cudaStreamSynchronize(stream), "uploading");
  }
  uploads.fetch_add(1, std::memory_order_relaxed);
}

void* allocate_staging(size_t bytes) {
  const OnDevice here(Device::get());
  void* memory = nullptr;
  check(cudaMallocHost(&memory, std::max<size_t>(bytes, 1)), "allocating memory of the host");
  return memory;
}

void stage(void* to, const void* staging, size_t bytes) {
  const Device& device = Device::get();
  const OnDevice here(device);
  check(cudaEventRecord(device.executed, stream_of(device)), "recording an event");
  check(cudaStreamWaitEvent(device.copier, device.executed, 0), "waiting for an event");
  check(cudaMemcpyAsync(to, staging, bytes, cudaMemcpyHostToDevice, device.copier), "staging");
}

void settle() {
  const Device& device = Device::get();
  const OnDevice here(device);
  check(cudaStreamSynchronize(device.copier), "waiting for what was staged");
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

void forget(uint64_t recording) {
  recordings().forget(Device::get(), recording);
  residents().forget(recording);
}

}  // namespace

const Backend& backend() {
  static constexpr Backend cuda{
      "cuda",    false,   &allocate, &release,          &free_bytes, &threads, &prepare,
      &execute,  &upload, &download, &allocate_staging, &stage,      &settle,  &put,
      &remember, &forget, &owns,     &use_queue};
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

RecordingCounts recording_counts() {
  return {recordings().graphs(), residents().size(), recordings().replays(),
          uploads.load(std::memory_order_relaxed)};
}

}  // namespace fusednn::cuda

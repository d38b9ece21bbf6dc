// SPDX-License-Identifier: Apache-2.0
// The functions of the CUDA runtime that csrc/cuda calls, for the device made of nothing.
#include <dlfcn.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <vector>

#include "cuda_runtime.h"
#include "memory.h"

namespace emulator {

using Work = std::function<void()>;

struct Stream {
  std::deque<Work> waiting;
  unsigned long long put = 0, done = 0;  // pieces of work, counted from the beginning
  Graph* capturing = nullptr;
};

struct Event {
  Stream* stream = nullptr;
  unsigned long long place = 0;  // that much of the stream's work comes before it
};

struct Graph {
  std::vector<Work> work;
};

struct GraphExec {
  std::vector<Work> work;
};

namespace {

// Everything below is called with the lock held. Recursive, because waiting for one stream may mean
// waiting for another one.
struct State {
  std::recursive_mutex mutex;
  Stream legacy;
  std::set<Stream*> streams;
  std::set<GraphExec*> executables;
  std::map<char*, size_t> pinned;
  std::map<const void*, int> shared_allowed;
  int captures = 0;
};

State& state() {
  static auto* the_state = [] {
    auto* made = new State;
    made->streams.insert(&made->legacy);
    return made;
  }();
  return *the_state;
}

// The stream behind a handle: the number 1 stands for the one that is always there.
Stream* found(cudaStream_t stream) { return stream == cudaStreamLegacy ? &state().legacy : stream; }

thread_local cudaError_t last_error = cudaSuccess;

// Streams that this thread is capturing: meanwhile it may do nothing that a graph cannot hold.
thread_local int captures_here = 0;

cudaError_t report(cudaError_t error) {
  if (error != cudaSuccess) last_error = error;
  return error;
}

void drain(Stream& stream, unsigned long long up_to) {
  if (stream.done >= up_to) return;
  const Open memory;
  while (stream.done < up_to) {
    const Work work = std::move(stream.waiting.front());
    stream.waiting.pop_front();
    ++stream.done;
    work();
  }
}

void drain_all() {
  for (Stream* stream : state().streams) drain(*stream, stream->put);
}

cudaError_t put(Stream* stream, Work work) {
  stream = found(stream);
  if (state().streams.count(stream) == 0) return report(cudaErrorInvalidResourceHandle);
  if (stream->capturing != nullptr) {
    stream->capturing->work.push_back(std::move(work));
  } else {
    stream->waiting.push_back(std::move(work));
    ++stream->put;
  }
  return cudaSuccess;
}

bool is_pinned(const void* memory) {
  const auto& pinned = state().pinned;
  auto* address = const_cast<char*>(static_cast<const char*>(memory));
  auto found = pinned.upper_bound(address);
  if (found == pinned.begin()) return false;
  --found;
  return address < found->first + found->second;
}

const char* wanted_failure() {
  const char* name = std::getenv("FUSEDNN_EMULATOR_FAIL");
  return name != nullptr ? name : "";
}

cudaError_t start_failure() {
  if (std::strcmp(wanted_failure(), "old_driver") == 0) return cudaErrorInsufficientDriver;
  if (std::strcmp(wanted_failure(), "no_device") == 0) return cudaErrorNoDevice;
  return cudaSuccess;
}

// Where a kernel is in the module, which `nm` and `addr2line` turn into its name.
std::string name_of(const void* function) {
  Dl_info info;
  if (dladdr(function, &info) == 0) return "?";
  char text[32];
  std::snprintf(text, sizeof(text), "at %#zx",
                static_cast<size_t>(static_cast<const char*>(function) -
                                    static_cast<const char*>(info.dli_fbase)));
  return text;
}

constexpr size_t kSharedWithoutAsking = 48 << 10;

}  // namespace

cudaError_t start(const cudaLaunchConfig_t& config, Launch launch) {
  const std::lock_guard<std::recursive_mutex> lock(state().mutex);
  const Extent grid = config.gridDim, block = config.blockDim;
  const bool fits = grid.count() > 0 && block.count() > 0 && block.count() <= 1024 &&
                    block.z <= 64 && grid.x < 1U << 31 && grid.y < 1U << 16 && grid.z < 1U << 16;
  if (!fits) return report(cudaErrorInvalidValue);
  if (config.dynamicSmemBytes > kSharedWithoutAsking) {
    const auto allowed = state().shared_allowed.find(launch.function);
    if (allowed == state().shared_allowed.end() ||
        static_cast<size_t>(allowed->second) < config.dynamicSmemBytes) {
      return report(cudaErrorInvalidValue);
    }
  }
  launch.kernel.grid = grid;
  launch.kernel.block = block;
  launch.kernel.shared_bytes = config.dynamicSmemBytes;
  launch.kernel.name = name_of(launch.function);
  return put(config.stream, [kernel = std::move(launch.kernel)] { run(kernel); });
}

}  // namespace emulator

using namespace emulator;

namespace {
using Lock = std::lock_guard<std::recursive_mutex>;
}

// ---- errors --------------------------------------------------------------------------------------------

cudaError_t cudaGetLastError() { return std::exchange(last_error, cudaSuccess); }

const char* cudaGetErrorName(cudaError_t error) {
  switch (error) {
    case cudaSuccess:
      return "cudaSuccess";
    case cudaErrorInvalidValue:
      return "cudaErrorInvalidValue";
    case cudaErrorMemoryAllocation:
      return "cudaErrorMemoryAllocation";
    case cudaErrorInsufficientDriver:
      return "cudaErrorInsufficientDriver";
    case cudaErrorNoDevice:
      return "cudaErrorNoDevice";
    case cudaErrorInvalidResourceHandle:
      return "cudaErrorInvalidResourceHandle";
    case cudaErrorStreamCaptureUnsupported:
      return "cudaErrorStreamCaptureUnsupported";
    default:
      return "cudaErrorUnknown";
  }
}

const char* cudaGetErrorString(cudaError_t error) { return cudaGetErrorName(error); }

// ---- devices -------------------------------------------------------------------------------------------

cudaError_t cudaDriverGetVersion(int* version) {
  const bool old = std::strcmp(wanted_failure(), "old_driver") == 0;
  const bool none = std::strcmp(wanted_failure(), "no_driver") == 0;
  *version = none ? 0 : old ? 11040 : 13000;
  return cudaSuccess;
}

cudaError_t cudaRuntimeGetVersion(int* version) {
  *version = CUDART_VERSION;
  return cudaSuccess;
}

cudaError_t cudaGetDeviceCount(int* count) {
  *count = 0;
  if (std::strcmp(wanted_failure(), "no_driver") == 0) return report(cudaErrorInsufficientDriver);
  if (const cudaError_t failure = start_failure()) return report(failure);
  *count = 1;
  return cudaSuccess;
}

cudaError_t cudaGetDevice(int* device) {
  *device = 0;
  return report(start_failure());
}

cudaError_t cudaSetDevice(int device) {
  return report(device == 0 ? start_failure() : cudaErrorInvalidDevice);
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device) {
  if (device != 0) return report(cudaErrorInvalidDevice);
  *properties = {};
  std::snprintf(properties->name, sizeof(properties->name), "emulated device (no GPU)");
  properties->totalGlobalMem = total_bytes();
  properties->major = std::strcmp(wanted_failure(), "old_device") == 0 ? 7 : 8;
  properties->multiProcessorCount = 4;
  return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device) {
  cudaDeviceProp properties;
  if (const cudaError_t error = cudaGetDeviceProperties(&properties, device)) return error;
  switch (attribute) {
    case cudaDevAttrMultiProcessorCount:
      *value = properties.multiProcessorCount;
      break;
    case cudaDevAttrComputeCapabilityMajor:
      *value = properties.major;
      break;
    case cudaDevAttrComputeCapabilityMinor:
      *value = properties.minor;
      break;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin:
      *value = 227 << 10;
      break;
  }
  return cudaSuccess;
}

cudaError_t cudaDeviceSynchronize() {
  const Lock lock(state().mutex);
  if (state().captures > 0) return report(cudaErrorStreamCaptureUnsupported);
  drain_all();
  return cudaSuccess;
}

// ---- memory --------------------------------------------------------------------------------------------

cudaError_t cudaMalloc(void** memory, size_t bytes) {
  const Lock lock(state().mutex);
  if (captures_here > 0) return report(cudaErrorStreamCaptureUnsupported);
  *memory = bytes > 0 ? allocate(bytes) : nullptr;
  return report(bytes > 0 && *memory == nullptr ? cudaErrorMemoryAllocation : cudaSuccess);
}

// As on a device, all work that was put anywhere is done before the memory goes.
cudaError_t cudaFree(void* memory) {
  const Lock lock(state().mutex);
  if (captures_here > 0) return report(cudaErrorStreamCaptureUnsupported);
  drain_all();
  const bool fine = memory == nullptr || release(memory);
  return report(fine ? cudaSuccess : cudaErrorInvalidValue);
}

// The memory is there at once, because nothing can tell; it goes in the order of the stream. What is
// allocated within a graph is there for all its runs, and forgotten between them.
cudaError_t cudaMallocAsync(void** memory, size_t bytes, cudaStream_t stream) {
  const Lock lock(state().mutex);
  if (state().streams.count(found(stream)) == 0) return report(cudaErrorInvalidResourceHandle);
  *memory = bytes > 0 ? allocate(bytes) : nullptr;
  return report(bytes > 0 && *memory == nullptr ? cudaErrorMemoryAllocation : cudaSuccess);
}

cudaError_t cudaFreeAsync(void* memory, cudaStream_t stream) {
  const Lock lock(state().mutex);
  if (!allocated(memory, 1)) return report(cudaErrorInvalidValue);
  if (found(stream)->capturing != nullptr) return put(stream, [memory] { poison(memory); });
  return put(stream, [memory] { release(memory); });
}

cudaError_t cudaMallocHost(void** memory, size_t bytes) {
  const Lock lock(state().mutex);
  *memory = std::malloc(bytes > 0 ? bytes : 1);
  if (*memory == nullptr) return report(cudaErrorMemoryAllocation);
  state().pinned.emplace(static_cast<char*>(*memory), bytes);
  return cudaSuccess;
}

cudaError_t cudaFreeHost(void* memory) {
  const Lock lock(state().mutex);
  drain_all();
  if (state().pinned.erase(static_cast<char*>(memory)) == 0) return report(cudaErrorInvalidValue);
  std::free(memory);
  return cudaSuccess;
}

cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* attributes, const void* memory) {
  const Lock lock(state().mutex);
  attributes->type = on_device(memory)   ? cudaMemoryTypeDevice
                     : is_pinned(memory) ? cudaMemoryTypeHost
                                         : cudaMemoryTypeUnregistered;
  attributes->device = 0;
  return cudaSuccess;
}

cudaError_t cudaMemGetInfo(size_t* free, size_t* total) {
  *free = free_bytes();
  *total = total_bytes();
  return cudaSuccess;
}

// Memory of the host that is not pinned is read at once where it is the source, and written before the
// call returns where it is the destination; pinned memory is touched when the stream gets there. In a
// graph all memory is touched then.
cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream) {
  const Lock lock(state().mutex);
  stream = found(stream);
  if (state().streams.count(stream) == 0) return report(cudaErrorInvalidResourceHandle);
  if (bytes == 0) return cudaSuccess;
  const bool to_device = on_device(to), from_device = on_device(from);
  const bool told =
      kind == cudaMemcpyDefault ||
      (to_device == (kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice) &&
       from_device == (kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice));
  if (!told || (to_device && !allocated(to, bytes)) || (from_device && !allocated(from, bytes))) {
    return report(cudaErrorInvalidValue);
  }
  if (stream->capturing == nullptr && !from_device && !is_pinned(from)) {
    auto staged = std::make_shared<std::vector<char>>(static_cast<const char*>(from),
                                                      static_cast<const char*>(from) + bytes);
    return put(stream, [to, staged] { std::memcpy(to, staged->data(), staged->size()); });
  }
  const cudaError_t error = put(stream, [=] { std::memcpy(to, from, bytes); });
  if (stream->capturing == nullptr && !to_device && !is_pinned(to)) drain(*stream, stream->put);
  return error;
}

cudaError_t cudaMemsetAsync(void* to, int value, size_t bytes, cudaStream_t stream) {
  const Lock lock(state().mutex);
  if (bytes > 0 && !allocated(to, bytes)) return report(cudaErrorInvalidValue);
  return put(stream, [=] { std::memset(to, value, bytes); });
}

// ---- streams -------------------------------------------------------------------------------------------

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
  const Lock lock(state().mutex);
  *stream = new Stream;
  state().streams.insert(*stream);
  return cudaSuccess;
}

cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  const Lock lock(state().mutex);
  if (state().streams.count(stream) == 0) return report(cudaErrorInvalidResourceHandle);
  drain(*stream, stream->put);
  state().streams.erase(stream);
  delete stream;
  return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  const Lock lock(state().mutex);
  stream = found(stream);
  if (state().streams.count(stream) == 0) return report(cudaErrorInvalidResourceHandle);
  if (stream->capturing != nullptr) return report(cudaErrorStreamCaptureUnsupported);
  drain(*stream, stream->put);
  return cudaSuccess;
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
  const Lock lock(state().mutex);
  if (event->stream == nullptr) return cudaSuccess;
  return put(stream, [before = event->stream, place = event->place] { drain(*before, place); });
}

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode) {
  const Lock lock(state().mutex);
  stream = found(stream);
  if (stream->capturing != nullptr) return report(cudaErrorStreamCaptureUnsupported);
  stream->capturing = new Graph;
  ++state().captures;
  ++captures_here;
  return cudaSuccess;
}

cudaError_t cudaStreamIsCapturing(cudaStream_t stream, cudaStreamCaptureStatus* status) {
  const Lock lock(state().mutex);
  if (state().streams.count(found(stream)) == 0) return report(cudaErrorInvalidResourceHandle);
  *status = found(stream)->capturing != nullptr ? cudaStreamCaptureStatusActive
                                                : cudaStreamCaptureStatusNone;
  return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  const Lock lock(state().mutex);
  stream = found(stream);
  *graph = std::exchange(stream->capturing, nullptr);
  if (*graph == nullptr) return report(cudaErrorStreamCaptureInvalidated);
  --state().captures;
  --captures_here;
  return cudaSuccess;
}

// ---- events and graphs -----------------------------------------------------------------------------------

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
  *event = new Event;
  return cudaSuccess;
}

cudaError_t cudaEventDestroy(cudaEvent_t event) {
  delete event;
  return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  const Lock lock(state().mutex);
  stream = found(stream);
  event->stream = stream;
  event->place = stream->put;
  return cudaSuccess;
}

cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  const Lock lock(state().mutex);
  if (event->stream != nullptr) drain(*event->stream, event->place);
  return cudaSuccess;
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t* executable, cudaGraph_t graph,
                                 unsigned long long) {
  const Lock lock(state().mutex);
  *executable = new GraphExec{graph->work};
  state().executables.insert(*executable);
  return cudaSuccess;
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t stream) {
  const Lock lock(state().mutex);
  if (state().executables.count(executable) == 0) return report(cudaErrorInvalidResourceHandle);
  return put(stream, [work = executable->work] {
    for (const Work& each : work) each();
  });
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  delete graph;
  return cudaSuccess;
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable) {
  const Lock lock(state().mutex);
  if (state().executables.erase(executable) == 0) return report(cudaErrorInvalidResourceHandle);
  delete executable;
  return cudaSuccess;
}

cudaError_t cudaFuncSetAttribute(const void* function, cudaFuncAttribute, int value) {
  const Lock lock(state().mutex);
  if (value > 227 << 10) return report(cudaErrorInvalidValue);
  state().shared_allowed[function] = value;
  return cudaSuccess;
}

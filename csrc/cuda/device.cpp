// SPDX-License-Identifier: Apache-2.0
#include "cuda/device.h"

#include <cstdlib>
#include <stdexcept>

#include "cuda/launch.cuh"

namespace fusednn::cuda {
namespace {

std::string version(int number) {
  return std::to_string(number / 1000) + "." + std::to_string(number % 1000 / 10);
}

// Where in the list of devices nothing is left, this is the usual reason.
std::string visible_devices() {
  const char* names = std::getenv("CUDA_VISIBLE_DEVICES");
  return names != nullptr ? " (CUDA_VISIBLE_DEVICES='" + std::string(names) + "')" : "";
}

const Device* make_device() {
  const std::string reason = problem();
  if (!reason.empty()) throw std::runtime_error("device 'cuda' cannot be used: " + reason);
  auto* device = new Device;  // lives to the end: memory may be given back after main
  check(cudaGetDevice(&device->ordinal), "cudaGetDevice");
  check(cudaDeviceGetAttribute(&device->multiprocessors, cudaDevAttrMultiProcessorCount,
                               device->ordinal),
        "cudaDeviceGetAttribute");
  check(cudaDeviceGetAttribute(&device->shared_bytes, cudaDevAttrMaxSharedMemoryPerBlockOptin,
                               device->ordinal),
        "cudaDeviceGetAttribute");
  check(cudaStreamCreateWithFlags(&device->stream, cudaStreamNonBlocking), "making a stream");
  check(cudaStreamCreateWithFlags(&device->copier, cudaStreamNonBlocking), "making a stream");
  check(cudaEventCreateWithFlags(&device->executed, cudaEventDisableTiming), "making an event");
  check(cudaStreamCreateWithFlags(&device->recorder, cudaStreamNonBlocking), "making a stream");
  return device;
}

}  // namespace

std::string problem() {
  int driver = 0, runtime = 0, count = 0, ordinal = 0, major = 0, minor = 0;
  (void)cudaDriverGetVersion(&driver);
  (void)cudaRuntimeGetVersion(&runtime);
  if (driver == 0) return "no NVIDIA driver was found on this machine";
  const cudaError_t counted = cudaGetDeviceCount(&count);
  (void)cudaGetLastError();
  if (counted == cudaErrorInsufficientDriver) {
    return "the NVIDIA driver knows CUDA " + version(driver) +
           ", and this build of fusednn needs " + version(runtime / 1000 * 1000) +
           ": install a newer driver";
  }
  if (counted == cudaErrorNoDevice || (counted == cudaSuccess && count == 0)) {
    return "the NVIDIA driver is there, but it shows no device" + visible_devices();
  }
  cudaError_t status = counted;
  if (status == cudaSuccess) status = cudaGetDevice(&ordinal);
  if (status == cudaSuccess) {
    status = cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, ordinal);
  }
  if (status == cudaSuccess) {
    status = cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, ordinal);
  }
  if (status != cudaSuccess) {
    (void)cudaGetLastError();
    return std::string("CUDA does not start: ") + cudaGetErrorString(status) + " (" +
           cudaGetErrorName(status) + ")";
  }
  if (10 * major + minor < kLeastCapability) {
    return "device " + std::to_string(ordinal) + " has compute capability " +
           std::to_string(major) + "." + std::to_string(minor) + ", and fusednn needs " +
           std::to_string(kLeastCapability / 10) + "." + std::to_string(kLeastCapability % 10) +
           " or newer";
  }
  return "";
}

const Device& Device::get() {
  static const Device* device = make_device();  // an exception leaves it to the next call
  return *device;
}

OnDevice::OnDevice(const Device& device) {
  check(cudaGetDevice(&before_), "cudaGetDevice");
  changed_ = before_ != device.ordinal;
  if (changed_) check(cudaSetDevice(device.ordinal), "cudaSetDevice");
}

OnDevice::~OnDevice() {
  if (changed_) (void)cudaSetDevice(before_);
}

}  // namespace fusednn::cuda

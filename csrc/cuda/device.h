// SPDX-License-Identifier: Apache-2.0
// The device that everything runs on, and its stream.
#pragma once

#include <cuda_runtime.h>

#include <string>

namespace fusednn::cuda {

constexpr int kLeastCapability = 80;  // 10 * major + minor

struct Device {
  int ordinal = 0;
  int multiprocessors = 1;
  int shared_bytes = 0;  // that a block may have at most
  cudaStream_t stream = nullptr;
  cudaStream_t copier = nullptr;    // for copies beside what runs,
  cudaEvent_t executed = nullptr;   // which come after this
  cudaStream_t recorder = nullptr;  // work is recorded here, so that nobody else's gets in between

  // The one in use: the first call takes the calling thread's current device. Throws
  // std::runtime_error where there is none that can be used.
  static const Device& get();
};

// Makes our device the calling thread's current one while it lives.
class OnDevice {
 public:
  explicit OnDevice(const Device& device);
  ~OnDevice();
  OnDevice(const OnDevice&) = delete;
  OnDevice& operator=(const OnDevice&) = delete;

 private:
  int before_ = 0;
  bool changed_ = false;
};

// See backend.h.
std::string problem();

}  // namespace fusednn::cuda

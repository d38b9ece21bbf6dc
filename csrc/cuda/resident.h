// SPDX-License-Identifier: Apache-2.0
// Lists of small networks that one block runs many times in a row, with what they work on in its shared
// memory (kernels/resident.h). The results are those of the commands one by one.
#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>

#include "cuda/device.h"
#include "cuda/kernels/resident.h"

namespace fusednn::cuda {

// How long one run by one block will take, if it can do all commands and is then much better than
// launches that take `launched` nanoseconds; else 0.
double resident_nanoseconds(const Command* commands, int n, double launched);

// A list that is ready.
class Resident {
 public:
  // Reads the tables that the commands name, and so waits for the device; the addresses in them must
  // stay as they are. Null where what must be in shared memory does not fit.
  static std::unique_ptr<Resident> make(const Device& device, const Command* commands, int n);
  ~Resident();
  Resident(const Resident&) = delete;
  Resident& operator=(const Resident&) = delete;

  void run(cudaStream_t stream, int times) const;

  size_t shared_bytes() const { return shared_bytes_; }
  size_t bytes_outside() const { return bytes_outside_; }  // that did not fit

 private:
  Resident() = default;

  void* memory_ = nullptr;  // of the device: the commands, and what goes where
  ResidentWork work_;
  size_t shared_bytes_ = 0, bytes_outside_ = 0;
};

// All that are ready, by the number of their recording.
class Residents {
 public:
  // Made at the first call. Null where it cannot be.
  const Resident* get(const Device& device, uint64_t recording, const Command* commands, int n);
  void forget(uint64_t recording);
  size_t size() const;

 private:
  mutable std::mutex mutex_;
  std::map<uint64_t, std::unique_ptr<Resident>> lists_;
};

}  // namespace fusednn::cuda

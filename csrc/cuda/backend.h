// SPDX-License-Identifier: Apache-2.0
// A CUDA device as a backend, and what there is to know about it.
//
// All work goes to one stream, so that whatever one thread puts there sees what was put there before.
#pragma once

#include <string>

#include "engine/backend.h"

namespace fusednn::cuda {

// Its functions throw std::runtime_error with the reason where problem() would give one.
const Backend& backend();

// Why no device can be used, or nothing where one can. Asked anew each time.
std::string problem();

struct DeviceInfo {
  std::string name;
  int ordinal = 0;
  int capability_major = 0, capability_minor = 0;
  int multiprocessors = 0;
  size_t memory_bytes = 0, free_bytes = 0;
  int driver = 0, runtime = 0;  // versions of CUDA: 1000 * major + 10 * minor
  bool emulated = false;
};
DeviceInfo device_info();

// Graphs that there are, how often graphs have run, and how often the host has sent numbers: for tests.
struct RecordingCounts {
  size_t graphs = 0;
  size_t residents = 0;  // lists that one block runs
  uint64_t replays = 0;
  uint64_t uploads = 0;
};
RecordingCounts recording_counts();

// Whether one block may run the lists of small networks many times in a row; it may unless somebody
// forbids it. Lists that are prepared already stay as they are.
void allow_resident(bool allowed);

}  // namespace fusednn::cuda

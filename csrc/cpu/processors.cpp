// SPDX-License-Identifier: Apache-2.0
#include "cpu/processors.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <fstream>
#include <stdexcept>
#include <string>
#include <thread>

#if defined(__linux__)
#include <sched.h>
#endif

namespace fusednn::cpu {
namespace {

#if defined(__linux__)

int processors_in_mask() {
  // The mask may have more bits than cpu_set_t where a machine has more than 1024 processors.
  for (int bits = CPU_SETSIZE; bits <= 1 << 20; bits *= 2) {
    cpu_set_t* mask = CPU_ALLOC(bits);
    if (mask == nullptr) break;
    const size_t size = CPU_ALLOC_SIZE(bits);
    const bool known = sched_getaffinity(0, size, mask) == 0;
    const int count = known ? CPU_COUNT_S(size, mask) : 0;
    CPU_FREE(mask);
    if (known) return count;
  }
  return 0;
}

// Processors that one cgroup may keep busy; infinity where it does not say.
double quota_of_group(const std::string& directory, bool second_version) {
  double quota = -1, period = 0;
  if (second_version) {
    std::ifstream(directory + "/cpu.max") >> quota >> period;  // "max" is no number: no limit
  } else {
    std::ifstream(directory + "/cpu.cfs_quota_us") >> quota;
    std::ifstream(directory + "/cpu.cfs_period_us") >> period;
  }
  return quota > 0 && period > 0 ? quota / period : HUGE_VAL;
}

// The tightest quota from this process's cgroup up to the root of what it can see.
double quota() {
  double least = HUGE_VAL;
  std::ifstream groups("/proc/self/cgroup");
  for (std::string line; std::getline(groups, line);) {  // hierarchy:controllers:path
    const size_t first = line.find(':');
    const size_t second = first == std::string::npos ? first : line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string controllers = "," + line.substr(first + 1, second - first - 1) + ",";
    const bool second_version = controllers == ",,";
    if (!second_version && controllers.find(",cpu,") == std::string::npos) continue;
    const std::string root = second_version ? "/sys/fs/cgroup" : "/sys/fs/cgroup/cpu";
    std::string path = line.substr(second + 1);
    for (;;) {
      while (!path.empty() && path.back() == '/') path.pop_back();
      least = std::min(least, quota_of_group(root + path, second_version));
      if (path.empty()) break;
      path.resize(std::min(path.rfind('/'), path.size()));
    }
  }
  return least;
}

#else

int processors_in_mask() { return 0; }
double quota() { return HUGE_VAL; }

#endif

int count_processors() {
  int count = processors_in_mask();
  if (count < 1) count = static_cast<int>(std::thread::hardware_concurrency());
  count = std::clamp(count, 1, kMaxThreads);
  const double paid = quota();
  return paid < count ? std::max(1, static_cast<int>(std::ceil(paid))) : count;
}

// The number that a text begins with ("4" and, of OpenMP's lists, "4,2"), or 0.
long leading_number(const char* text, bool list) {
  char* end = nullptr;
  const long value = std::strtol(text, &end, 10);
  const bool ends = *end == '\0' || (list && *end == ',');
  return end != text && ends ? value : 0;
}

}  // namespace

int available_processors() {
  static const int count = count_processors();
  return count;
}

int initial_threads() {
  if (const char* ours = std::getenv("FUSEDNN_NUM_THREADS"); ours != nullptr && *ours != '\0') {
    const long threads = leading_number(ours, false);
    if (threads < 1 || threads > kMaxThreads) {
      throw std::invalid_argument("environment variable FUSEDNN_NUM_THREADS='" + std::string(ours) +
                                  "' is not a number of threads; expected 1 to " +
                                  std::to_string(kMaxThreads));
    }
    return static_cast<int>(threads);
  }
  if (const char* openmp = std::getenv("OMP_NUM_THREADS"); openmp != nullptr) {
    const long threads = leading_number(openmp, true);
    if (threads >= 1) return static_cast<int>(std::min<long>(threads, kMaxThreads));
  }
  return available_processors();
}

}  // namespace fusednn::cpu

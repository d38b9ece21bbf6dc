// SPDX-License-Identifier: Apache-2.0
// One operation on the CPU and on the device: the same numbers but for rounding, and the same bits when
// it runs again.
#pragma once

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <random>
#include <string>
#include <vector>

#include "cpu/backend.h"
#include "cuda/backend.h"
#include "engine/footprint.h"
#include "rules/activations.h"
#include "rules/losses.h"
#include "rules/optimizers.h"

namespace fusednn::kernel_check {

inline int failures = 0;
inline int cases = 0;
inline std::mt19937 generator(7);

// Memory that an operation reads or writes, with room behind rows that nothing may touch.
template <class T>
class Numbers {
 public:
  Numbers() = default;
  Numbers(Index n, double low, double high, Index offset = 0) : offset_(offset) {
    std::uniform_real_distribution<double> draw(low, high);
    values_.resize(static_cast<size_t>(n + offset));
    for (T& v : values_) v = static_cast<T>(draw(generator));
  }
  T* data() { return values_.data() + offset_; }
  const std::vector<T>& values() const { return values_; }
  std::vector<T>& values() { return values_; }

 private:
  std::vector<T> values_;
  Index offset_ = 0;
};

struct Tolerance {
  double relative, absolute;
};

template <class T>
Tolerance tolerance(double factor = 1) {
  const double unit = sizeof(T) == 4 ? 1.2e-7 : 2.3e-16;
  return {factor * 16 * unit, factor * 16 * unit};
}

inline Storage halves = Storage::native;  // what 16 bits are at present

inline double value_of(double x) { return x; }
inline double value_of(uint16_t bits) {
  if (halves == Storage::float16) {
    _Float16 half;
    std::memcpy(&half, &bits, 2);
    return double(half);
  }
  const uint32_t wide = uint32_t(bits) << 16;
  float x;
  std::memcpy(&x, &wide, 4);
  return x;
}

template <class T>
void compare(const std::string& name, const std::vector<T>& want, const std::vector<T>& got,
             Tolerance tolerance) {
  for (size_t i = 0; i < want.size(); ++i) {
    const double a = value_of(want[i]), b = value_of(got[i]);
    const bool same = (std::isnan(a) && std::isnan(b)) || a == b ||
                      std::abs(a - b) <= tolerance.absolute + tolerance.relative * std::abs(a);
    if (same) continue;
    std::printf("%s: [%zu] cpu %.9g, device %.9g\n", name.c_str(), i, a, b);
    ++failures;
    return;
  }
}

template <class Op>
void on_cpu(const Op& op, DType dtype) {
  const Command command(op, dtype);
  const Backend& backend = cpu::backend();
  const Schedule schedule = backend.prepare(&command, 1, 1);
  void* workspace = backend.allocate(schedule.workspace_bytes);
  backend.execute(&command, 1, schedule, workspace, 1);
  backend.release(workspace);
}

// `memory` is everything that build(memory) points to. It is copied for each run.
template <class T, class Memory, class Build>
void check(const std::string& name, const Memory& memory, Tolerance tolerance, Build build) {
  ++cases;
  if (std::getenv("VERBOSE")) std::printf("# %s\n", name.c_str());
  Memory host = memory, device = memory, again = memory;
  on_cpu(build(host), dtype_of<T>());
  engine::run_with_copies(cuda::backend(), {Command(build(device), dtype_of<T>())});
  engine::run_with_copies(cuda::backend(), {Command(build(again), dtype_of<T>())});
  host.each(device, [&](const char* part, const auto& want, const auto& got) {
    compare(name + " " + part + (sizeof(T) == 4 ? " float32" : " float64"), want.values(),
            got.values(), tolerance);
  });
  device.each(again, [&](const char* part, const auto& first, const auto& second) {
    const auto& a = first.values();
    if (std::memcmp(a.data(), second.values().data(), a.size() * sizeof(a[0])) == 0) return;
    std::printf("%s %s: other bits when it ran again\n", name.c_str(), part);
    ++failures;
  });
}

inline std::string text(const char* format, long long a = 0, long long b = 0, long long c = 0,
                        long long d = 0, long long e = 0) {
  char line[200];
  std::snprintf(line, sizeof(line), format, a, b, c, d, e);
  return line;
}

// The groups of operations, each in a file of its own.
template <class T>
void products();
template <class T>
void rows();
template <class T>
void losses();
template <class T>
void elements();
template <class T>
void optimizers();
template <class T>
void updates();
void fused();      // float32 only
void residents();  // likewise

// The device as the engine knows it.
const Backend& device_backend();

}  // namespace fusednn::kernel_check

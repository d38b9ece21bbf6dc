// SPDX-License-Identifier: Apache-2.0
#include "cpu/ceiling.h"

#include <algorithm>
#include <chrono>
#include <memory>
#include <stdexcept>
#include <string>

#include "cpu/backend.h"
#include "cpu/kernels/table.h"
#include "cpu/threads.h"

namespace fusednn::cpu {
namespace {

constexpr size_t kArrayBytes = size_t{64} << 20;
// About a millisecond: long beside the waking of threads, short enough to find a quiet moment.
constexpr Index kMultiplyAdds = kMultiplyAddsUnit << 17;
constexpr int kTries = 5;  // at least

class Arrays {
 public:
  explicit Arrays(size_t bytes) {
    for (auto& array : arrays_) array.reset(backend().allocate(bytes));
  }
  void* operator[](int i) const { return arrays_[i].get(); }

 private:
  struct Release {
    void operator()(void* memory) const { backend().release(memory); }
  };
  std::unique_ptr<void, Release> arrays_[3];
};

struct Job {
  KernelTable::RunStrain run;
  Strain strain;
};

void strain_team(void* data, const Context& context) {
  const Job& job = *static_cast<const Job*>(data);
  job.run(job.strain, context);
}

double seconds_of(int threads, TeamBody body, void* data) {
  using Clock = std::chrono::steady_clock;
  const Clock::time_point start = Clock::now();
  run_team(threads, body, data);
  return std::chrono::duration<double>(Clock::now() - start).count();
}

constexpr int kHandovers = 1000;

void hand_over(void*, const Context& context) {
  for (int i = 0; i < kHandovers; ++i) context.sync();
}

void need_threads(int threads, int least) {
  if (threads < least || threads > kMaxThreads) {
    throw std::invalid_argument("threads=" + std::to_string(threads) + " must be in [" +
                                std::to_string(least) + ", " + std::to_string(kMaxThreads) + "]");
  }
}

// What one run of the job amounts to: operations, or bytes.
double amount(const Strain& strain, DType dtype) {
  switch (strain.ceiling) {
    case Ceiling::fma:
      return 2.0 * double(strain.n);
    case Ceiling::read:
      return double(strain.n) * double(size_of(dtype));
    case Ceiling::copy:
      return 2.0 * double(strain.n) * double(size_of(dtype));
    case Ceiling::triad:
      return 3.0 * double(strain.n) * double(size_of(dtype));
  }
  return 0;
}

}  // namespace

double measure_ceiling(Ceiling ceiling, DType dtype, int threads, double seconds) {
  need_threads(threads, 1);
  if (!(seconds > 0)) {
    throw std::invalid_argument("seconds=" + std::to_string(seconds) + " must be above 0");
  }
  const bool computes = ceiling == Ceiling::fma;
  const Arrays arrays(computes ? 64 * size_t(threads) : kArrayBytes);
  const Index n = computes ? kMultiplyAdds * threads : Index(kArrayBytes / size_of(dtype));
  Job job{
      chosen_kernels().strain[static_cast<int>(dtype)],
      {ceiling, n, arrays[0], arrays[1], arrays[2]}
  };

  double fastest = seconds_of(threads, &strain_team, &job);  // and wakes the threads
  double spent = 0;
  for (int i = 0; i < kTries || spent < seconds; ++i) {
    const double taken = seconds_of(threads, &strain_team, &job);
    spent += taken;
    fastest = std::min(fastest, taken);
  }
  return amount(job.strain, dtype) / fastest;
}

void run_stream(const Strain& stream, DType dtype, int threads) {
  need_threads(threads, 1);
  Job job{chosen_kernels().strain[static_cast<int>(dtype)], stream};
  run_team(threads, &strain_team, &job);
}

double measure_handover(int threads) {
  need_threads(threads, 2);
  double fastest = seconds_of(threads, &hand_over, nullptr);  // and wakes the threads
  for (int i = 0; i < kTries; ++i) {
    fastest = std::min(fastest, seconds_of(threads, &hand_over, nullptr));
  }
  return fastest / kHandovers;
}

}  // namespace fusednn::cpu

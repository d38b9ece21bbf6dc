// SPDX-License-Identifier: Apache-2.0
// A loss writes its gradient and nothing beside it, however far the rows of the gradient lie apart.
#include <cassert>
#include <cstdio>
#include <vector>

#include "cpu/backend.h"
#include "engine/catalog.h"
#include "engine/memory.h"

namespace {

using namespace fusednn;

constexpr Index kRows = 37;  // more than two vectors of rows, and a rest

// The gradient with `gap` numbers between its rows, all of which were `mark`.
template <class T>
std::vector<T> gradient_of(const char* rule, Index cols, Index gap, T mark) {
  std::vector<T> x(kRows * cols), values(kRows), gradient(kRows * (cols + gap), mark);
  std::vector<int32_t> labels(kRows);
  for (size_t i = 0; i < x.size(); ++i) x[i] = T(i * 7 % 23) / 23;
  for (Index i = 0; i < kRows; ++i) labels[i] = static_cast<int32_t>(i % cols);
  Loss op;
  op.rule = engine::find_loss(rule);
  op.x = {x.data(), cols};
  op.target.labels = labels.data();
  op.gradient = {gradient.data(), cols + gap};
  op.values = values.data();
  op.rows = kRows;
  op.cols = cols;
  const Command command(op, sizeof(T) == 4 ? DType::float32 : DType::float64);
  const Schedule schedule = cpu::backend().prepare(&command, 1, 1);
  const engine::Arena workspace(cpu::backend(), schedule.workspace_bytes);
  cpu::backend().execute(&command, 1, schedule, workspace.data(), 1);
  return gradient;
}

template <class T>
void check() {
  const T mark = -77;
  for (Index cols = 1; cols <= 40; ++cols) {
    const std::vector<T> close = gradient_of<T>("softmax_cross_entropy", cols, 0, mark);
    for (const Index gap : {1, 3, 16}) {
      const std::vector<T> apart = gradient_of<T>("softmax_cross_entropy", cols, gap, mark);
      for (Index i = 0; i < kRows; ++i) {
        for (Index j = 0; j < cols + gap; ++j) {
          const T got = apart[i * (cols + gap) + j];
          assert(got == (j < cols ? close[i * cols + j] : mark));
        }
      }
    }
  }
}

}  // namespace

int main() {
  check<float>();
  check<double>();
  std::puts("test_loss_rows: all passed");
  return 0;
}

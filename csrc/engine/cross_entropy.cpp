// SPDX-License-Identifier: Apache-2.0
#include "engine/cross_entropy.h"

#include <stdexcept>
#include <string>

#include "engine/memory.h"
#include "engine/scratch.h"

namespace fusednn::engine {
namespace {

constexpr int32_t kIgnored = -1;

double weight_of(const CrossEntropy& what, int64_t label) {
  if (what.class_weight == nullptr) return 1;
  return what.dtype == DType::float32 ? static_cast<const float*>(what.class_weight)[label]
                                      : static_cast<const double*>(what.class_weight)[label];
}

// Labels as the kernel reads them. Returns the sum of their weights.
double read_labels(const CrossEntropy& what, int32_t* labels) {
  double total = 0;
  for (Index i = 0; i < what.rows; ++i) {
    const int64_t label = what.labels[i];
    if (label == what.ignore_index) {
      labels[i] = kIgnored;
      continue;
    }
    if (label < 0 || label >= what.classes) {
      throw std::out_of_range("Target " + std::to_string(label) + " is out of bounds.");
    }
    labels[i] = static_cast<int32_t>(label);
    total += weight_of(what, label);
  }
  return total;
}

void write(const CrossEntropy& what, double loss) {
  if (what.dtype == DType::float32) {
    *static_cast<float*>(what.loss) = static_cast<float>(loss);
  } else {
    *static_cast<double*>(what.loss) = loss;
  }
}

}  // namespace

void evaluate(const Backend& backend, const CrossEntropy& what) {
  const bool reduces = what.reduction != Reduction::none;
  const size_t label_bytes = align(static_cast<size_t>(what.rows) * sizeof(int32_t));
  const size_t value_bytes = reduces ? static_cast<size_t>(what.rows) * size_of(what.dtype) : 0;
  const ScratchMemory values(backend, Scratch::values, label_bytes + value_bytes);
  char* memory = values.data();
  int32_t* labels = reinterpret_cast<int32_t*>(memory);

  double divisor = static_cast<double>(what.rows);
  if (what.labels != nullptr) divisor = read_labels(what, labels);
  const double scale = what.reduction == Reduction::mean ? 1 / divisor : 1;
  double total = 0;

  Loss loss;
  loss.rule = what.rule;
  loss.parameters[0] = what.label_smoothing;
  loss.x = what.logits;
  loss.target.dense = what.probabilities;
  if (what.labels != nullptr) loss.target.labels = labels;
  loss.class_weight = what.class_weight;
  loss.ignore_index = kIgnored;
  loss.gradient = {what.gradient, what.classes};
  loss.values = reduces ? memory + label_bytes : what.loss;
  loss.scale = &scale;
  loss.rows = what.rows;
  loss.cols = what.classes;
  const Command commands[] = {
      {loss,                                what.dtype},
      {Sum{loss.values, what.rows, &total}, what.dtype}
  };
  const int n = reduces ? 2 : 1;
  if (what.rows > 0) {
    const Schedule plan = backend.prepare(commands, n, 0);
    const ScratchMemory workspace(backend, Scratch::workspace, plan.workspace_bytes);
    backend.execute(commands, n, plan, workspace.data(), 1);
  }
  if (reduces) write(what, what.reduction == Reduction::mean ? total / divisor : total);
}

}  // namespace fusednn::engine

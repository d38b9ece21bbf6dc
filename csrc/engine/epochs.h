// SPDX-License-Identifier: Apache-2.0
// Epoch after epoch without a return to the caller, until the loss no longer falls.
#pragma once

#include <functional>
#include <vector>

#include "engine/network.h"

namespace fusednn::engine {

// When more epochs are of no use: after more than `patience` in a row that did not bring the loss `tol`
// below the best one so far. What it has seen is kept in it, so that a later run can go on.
struct Plateau {
  double tol = 0;
  double patience = 0;  // may be infinite
  double best = 0;      // lowest loss so far
  Index stalls = 0;

  void note(double loss) {
    stalls = loss > best - tol ? stalls + 1 : 0;
    if (loss < best) best = loss;
  }
  bool reached() const { return stalls > patience; }
};

// The loss of an epoch as the plateau sees it: (factor x sum of the losses + penalty + offset) / rows.
struct EpochLoss {
  double factor = 1, offset = 0;

  double of(const EpochReport& report) const {
    const double sum = factor * report.losses[0] + report.penalty + offset;
    return sum / static_cast<double>(report.rows);
  }
};

// Epochs in a row, beyond what each of them is told.
struct Epochs {
  Index most = 0;
  // Asked before each epoch: its order, which stays as it is until the next question.
  std::function<const Index*()> next_order;
  EpochLoss loss;
};

// At most so many epochs, each with the same options but for its order. Appends the loss of each that was
// finished to `losses`.
void train_epochs(Network& network, const Dataset& data, const RunOptions& options,
                  const Epochs& epochs, Plateau& plateau, std::vector<double>& losses);

}  // namespace fusednn::engine

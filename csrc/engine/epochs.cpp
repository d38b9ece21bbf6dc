// SPDX-License-Identifier: Apache-2.0
#include "engine/epochs.h"

#include <chrono>

namespace fusednn::engine {
namespace {

// Holds the arrays of a data set while it lives.
class Held {
 public:
  Held(Network& network, const Dataset& data) : network_(network) {
    std::vector<const void*> arrays = data.inputs;
    arrays.insert(arrays.end(), data.targets.begin(), data.targets.end());
    network_.hold(arrays);
  }
  ~Held() { network_.hold({}); }
  Held(const Held&) = delete;
  Held& operator=(const Held&) = delete;

 private:
  Network& network_;
};

}  // namespace

void train_epochs(Network& network, const Dataset& data, const RunOptions& options,
                  const Epochs& epochs, Plateau& plateau, std::vector<double>& losses) {
  using Clock = std::chrono::steady_clock;
  RunOptions one = options;
  // An epoch may be over long before it is time to look.
  Clock::time_point looked = Clock::now();
  const auto go_on = [&](const EpochReport& report) {
    if (!options.watcher.look) return true;
    const Clock::time_point now = Clock::now();
    if (std::chrono::duration<double>(now - looked).count() < options.watcher.interval) return true;
    looked = now;
    return options.watcher.look(report);
  };
  const Held held(network, data);
  for (Index epoch = 0; epoch < epochs.most; ++epoch) {
    one.order = epochs.next_order();
    const EpochReport report = network.train(data, one);
    if (report.rows < data.rows) break;
    losses.push_back(epochs.loss.of(report));
    plateau.note(losses.back());
    if (plateau.reached() || report.stopped || !go_on(report)) break;
  }
}

}  // namespace fusednn::engine

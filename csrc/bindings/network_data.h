// SPDX-License-Identifier: Apache-2.0
// The arrays that a run of a network reads, each checked against what the network expects.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "bindings/array.h"
#include "engine/network.h"

namespace fusednn::bindings {

// The arrays of one run, checked, with what keeps them alive.
struct Data {
  engine::Dataset set;
  std::vector<View> held;

  const View& hold(View view) {
    held.push_back(std::move(view));
    return held.back();
  }
};

Data read_inputs(const engine::Network& network, const py::list& inputs);
Data read_data(const engine::Network& network, const py::list& inputs, const py::list& targets,
               const py::object& sample_weight);
// The rows of an epoch, one after another; null for None.
const Index* read_order(Data& data, const py::object& order);
// Of each hyper-parameter named, a value for each of so many steps.
std::vector<std::pair<std::string, const double*>> read_schedules(Data& data, const py::dict& given,
                                                                  Index steps);
std::vector<const void*> addresses_of(const py::list& arrays);
// What `train` and `evaluate` have reported of an epoch that goes on; nothing of None.
engine::EpochReport read_begun(Data& data, const engine::Network& network, const py::object& given);

}  // namespace fusednn::bindings

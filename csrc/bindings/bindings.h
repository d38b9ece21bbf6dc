// SPDX-License-Identifier: Apache-2.0
// One function per subject; module.cpp calls them all.
#pragma once

#include <pybind11/pybind11.h>

namespace fusednn::bindings {

void bind_info(pybind11::module_& m);
void bind_rules(pybind11::module_& m);
void bind_device(pybind11::module_& m);
void bind_ops(pybind11::module_& m);
void bind_normalization(pybind11::module_& m);
void bind_loss(pybind11::module_& m);
void bind_optimizer(pybind11::module_& m);
void bind_updater(pybind11::module_& m);
void bind_network(pybind11::module_& m);
void bind_bench(pybind11::module_& m);
void bind_epochs(pybind11::module_& m);
void bind_chain(pybind11::module_& m);
void bind_tensors(pybind11::module_& m);

}  // namespace fusednn::bindings

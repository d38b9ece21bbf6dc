// SPDX-License-Identifier: Apache-2.0
#include "bindings/bindings.h"

PYBIND11_MODULE(_core, m, pybind11::mod_gil_not_used()) {
  using namespace fusednn::bindings;
  m.doc() =
      "The compiled part of fusednn. Its Python side checks nothing twice: arrays are checked "
      "here.";
  m.attr("__version__") = FNN_VERSION;
  bind_info(m);
  bind_rules(m);
  bind_device(m);
  bind_ops(m);
  bind_normalization(m);
  bind_loss(m);
  bind_optimizer(m);
  bind_updater(m);
  bind_epochs(m);  // before the network, whose signatures name what it binds
  bind_network(m);
  bind_bench(m);
  bind_chain(m);
  bind_tensors(m);
}

// SPDX-License-Identifier: Apache-2.0
// Expands the list of operations into this instruction set's table of kernels.
#include "cpu/kernels/table.h"

namespace fusednn::FNN_ISA {
namespace {

template <class T, class Op>
void run_bytes(const void* arguments, const Context& context) {
  run<T>(*static_cast<const Op*>(arguments), context);
}

template <class T, class Op>
Demand ask_bytes(const void* arguments, int threads) {
  return demand<T>(*static_cast<const Op*>(arguments), threads);
}

template <class... Ops>
constexpr cpu::KernelTable table_of(TypeList<Ops...>) {
  return {
      {{&run_bytes<float, Ops>...}, {&run_bytes<double, Ops>...}},
      {{&ask_bytes<float, Ops>...}, {&ask_bytes<double, Ops>...}},
      {&strain<float>,              &strain<double>             }
  };
}

}  // namespace

extern const cpu::KernelTable kernel_table = table_of(Operations{});

}  // namespace fusednn::FNN_ISA

// SPDX-License-Identifier: Apache-2.0
// Expands the list of operations into the table of kernels.
#include "cuda/kernels/table.h"

namespace fusednn::cuda {
namespace {

template <class T, class Op>
void run_bytes(const void* arguments, const Context& context) {
  run<T>(*static_cast<const Op*>(arguments), context);
}

template <class T, class Op>
size_t ask_bytes(const void* arguments) {
  return workspace<T>(*static_cast<const Op*>(arguments));
}

template <class... Ops>
constexpr KernelTable table_of(TypeList<Ops...>) {
  return {
      {{&run_bytes<float, Ops>...}, {&run_bytes<double, Ops>...}},
      {{&ask_bytes<float, Ops>...}, {&ask_bytes<double, Ops>...}}
  };
}

}  // namespace

extern const KernelTable kernel_table = table_of(Operations{});

}  // namespace fusednn::cuda

// SPDX-License-Identifier: Apache-2.0
// A list of types. Each file of rules ends with one; backends expand it into tables of kernels.
// No STL: files that are compiled per instruction set include this.
#pragma once

namespace fusednn {

template <class... Ts>
struct TypeList {
  static constexpr int size = sizeof...(Ts);
};

}  // namespace fusednn

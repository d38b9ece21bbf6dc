// SPDX-License-Identifier: Apache-2.0
// The elementary functions, as rules: what fusednn.ops offers on arrays. How exact they are is stated
// by those who compute them (cpu/kernels/simd_math.h).
#pragma once

#include "core/hd.h"
#include "core/math.h"
#include "core/type_list.h"

namespace fusednn::rules {
namespace elementary {  // Tanh is also the name of an activation

struct Exp {
  static constexpr char name[] = "exp";
  template <class V>
  FNN_HD static V forward(V x) {
    return exp(x);
  }
};

struct Log {
  static constexpr char name[] = "log";
  template <class V>
  FNN_HD static V forward(V x) {
    return log(x);
  }
};

struct Log1p {
  static constexpr char name[] = "log1p";
  template <class V>
  FNN_HD static V forward(V x) {
    return log1p(x);
  }
};

struct Expm1 {
  static constexpr char name[] = "expm1";
  template <class V>
  FNN_HD static V forward(V x) {
    return expm1(x);
  }
};

struct Tanh {
  static constexpr char name[] = "tanh";
  template <class V>
  FNN_HD static V forward(V x) {
    return tanh(x);
  }
};

struct Erf {
  static constexpr char name[] = "erf";
  template <class V>
  FNN_HD static V forward(V x) {
    return erf(x);
  }
};

struct Sqrt {
  static constexpr char name[] = "sqrt";
  template <class V>
  FNN_HD static V forward(V x) {
    return sqrt(x);
  }
};

}  // namespace elementary

using ElementaryFunctions =
    TypeList<elementary::Exp, elementary::Log, elementary::Log1p, elementary::Expm1,
             elementary::Tanh, elementary::Erf, elementary::Sqrt>;

}  // namespace fusednn::rules

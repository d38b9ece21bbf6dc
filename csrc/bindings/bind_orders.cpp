// SPDX-License-Identifier: Apache-2.0
// Orders of rows, drawn from a bit generator of NumPy's with the numbers that NumPy would draw.
#include <cstdint>
#include <numeric>
#include <stdexcept>
#include <utility>
#include <vector>

#include "bindings/array.h"
#include "bindings/bindings.h"

namespace fusednn::bindings {
namespace {

// What the capsule of a bit generator holds: numpy/random/bitgen.h, which NumPy promises not to change.
struct BitGenerator {
  void* state;
  uint64_t (*next_uint64)(void* state);
  uint32_t (*next_uint32)(void* state);
  double (*next_double)(void* state);
  uint64_t (*next_raw)(void* state);

  // A number from 0 to most, as RandomState draws it for its shuffle.
  uint64_t up_to(uint64_t most) const {
    uint64_t mask = most;
    for (int shift = 1; shift < 64; shift *= 2) mask |= mask >> shift;
    const bool small = most <= UINT32_MAX;
    for (;;) {
      const uint64_t value = (small ? next_uint32(state) : next_uint64(state)) & mask;
      if (value <= most) return value;
    }
  }
};

// Each row of the result is the one before it, the first of them `order`, with its places shuffled.
py::array shuffled_orders(const py::capsule& generator, const py::object& order, Index n) {
  auto* const bits =
      static_cast<BitGenerator*>(PyCapsule_GetPointer(generator.ptr(), "BitGenerator"));
  if (bits == nullptr) throw py::error_already_set();
  if (n < 0) throw std::invalid_argument("n=" + std::to_string(n) + " must not be negative");
  const Index rows = static_cast<Index>(py::len(order));
  const View given = places(order, "order", rows, rows);
  py::array_t<int64_t> drawn({n, rows});
  const auto* before = reinterpret_cast<const int64_t*>(given.data);
  int64_t* now = drawn.mutable_data();
  {
    const py::gil_scoped_release without_gil;
    std::vector<int64_t> shuffled(static_cast<size_t>(rows));
    for (Index epoch = 0; epoch < n; ++epoch) {
      std::iota(shuffled.begin(), shuffled.end(), int64_t{0});
      for (size_t i = shuffled.size(); i-- > 1;) {
        std::swap(shuffled[i], shuffled[static_cast<size_t>(bits->up_to(i))]);
      }
      for (size_t i = 0; i < shuffled.size(); ++i) now[i] = before[shuffled[i]];
      before = now;
      now += rows;
    }
  }
  return drawn;
}

}  // namespace

void bind_orders(py::module_& m) {
  using namespace py::literals;
  m.def(
      "shuffled_orders", &shuffled_orders, "generator"_a, "order"_a, "n"_a,
      "n orders, each the one before with its places shuffled as numpy.random.RandomState.shuffle "
      "does it. generator: the capsule of its bit generator, whose lock the caller holds.");
}

}  // namespace fusednn::bindings

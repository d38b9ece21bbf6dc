// SPDX-License-Identifier: Apache-2.0
// What goes through epochs: the orders of their rows, and when more of them are of no use.
#include <numeric>
#include <stdexcept>
#include <string>
#include <utility>

#include "bindings/array.h"
#include "bindings/bindings.h"
#include "bindings/orders.h"
#include "engine/epochs.h"

namespace fusednn::bindings {

Orders::Orders(Index rows, py::object generator, bool shared) : generator_(std::move(generator)) {
  if (rows < 0) {
    throw std::invalid_argument("rows=" + std::to_string(rows) + " must not be negative");
  }
  const py::object capsule = generator_.attr("capsule");
  bits_ = static_cast<BitGenerator*>(PyCapsule_GetPointer(capsule.ptr(), "BitGenerator"));
  if (bits_ == nullptr) throw py::error_already_set();
  if (shared) lock_ = generator_.attr("lock");
  order_.resize(static_cast<size_t>(rows));
  std::iota(order_.begin(), order_.end(), Index{0});
}

const Index* Orders::next() {
  if (!lock_) {
    shuffle();
  } else {
    const py::gil_scoped_acquire gil;
    lock_.attr("acquire")();
    shuffle();
    lock_.attr("release")();
  }
  return order_.data();
}

// From the last place to the second: swap it with one that is drawn from those up to it. NumPy draws
// numbers of as many bits as the place needs until one is not beyond it. Nobody can foresee whether it is,
// so that is not a branch: a place is swapped with itself then, and drawn for once more.
void Orders::shuffle() {
  for (uint64_t place = order_.empty() ? 0 : order_.size() - 1; place > 0;) {
    uint64_t mask = place;
    for (int shift = 1; shift < 64; shift *= 2) mask |= mask >> shift;
    const bool small = mask <= UINT32_MAX;
    while (place > mask / 2) {
      const uint64_t bits =
          small ? bits_->next_uint32(bits_->state) : bits_->next_uint64(bits_->state);
      const uint64_t drawn = bits & mask;
      const bool fits = drawn <= place;
      std::swap(order_[place], order_[fits ? drawn : place]);
      place -= fits ? 1 : 0;
    }
  }
}

void bind_epochs(py::module_& m) {
  using namespace py::literals;
  py::class_<Orders> orders(
      m, "Orders",
      "Orders of rows, each the one before with its places shuffled as "
      "numpy.random.RandomState.shuffle does it with this bit generator. shared: others may draw "
      "from it meanwhile.");
  orders.def(py::init<Index, py::object, bool>(), "rows"_a, "generator"_a, "shared"_a = true);
  orders.def(
      "draw", [](Orders& self) { return py::array_t<Index>(self.rows(), self.next()); },
      "The next one.");

  using engine::Plateau;
  py::class_<Plateau> plateau(m, "Plateau",
                              "More epochs are of no use when the loss has not fallen by tol for "
                              "more than `patience` in a row.");
  plateau.def(py::init([](double tol, double patience, double best, Index stalls) {
                return Plateau{tol, patience, best, stalls};
              }),
              "tol"_a, "patience"_a, "best"_a, "stalls"_a);
  plateau.def_readonly("best", &Plateau::best, "The lowest loss so far.");
  plateau.def_readwrite("stalls", &Plateau::stalls, "Epochs of no use, in a row.");
  plateau.def("note", &Plateau::note, "loss"_a);
  plateau.def_property_readonly("reached", &Plateau::reached);
}

}  // namespace fusednn::bindings

// SPDX-License-Identifier: Apache-2.0
// Tensors of a library that offers DLPack's exchange by C functions (PyTorch does), read without linking
// to it and in a few nanoseconds each, so that a caller can afford to look at all of them in each step.
#include <pybind11/stl.h>

#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "bindings/bindings.h"
#include "bindings/dlpack.h"
#include "bindings/parameters.h"
#include "engine/backend.h"

namespace fusednn::bindings {
namespace {

namespace py = pybind11;

// What there is to know of a tensor; shapes and strides of all of them lie in one list.
struct Layout {
  PyTypeObject* type;
  uintptr_t address;
  dlpack::Device device;
  dlpack::ElementType element;
  size_t first, rank;  // in the list: shape, then strides
};

bool same(const dlpack::ElementType& a, const dlpack::ElementType& b) {
  return a.code == b.code && a.bits == b.bits && a.lanes == b.lanes;
}

uintptr_t address_of(const dlpack::Tensor& tensor) {
  return reinterpret_cast<uintptr_t>(tensor.data) + tensor.byte_offset;
}

// What a list of tensors looked like when it was read. It keeps no reference to them.
class TensorList {
 public:
  TensorList(const py::type& type, const py::list& tensors) : type_(type) {
    const py::object capsule = py::getattr(type, "__dlpack_c_exchange_api__", py::none());
    if (!py::isinstance<py::capsule>(capsule)) {
      throw py::type_error("type: " + std::string(py::str(type)) +
                           " offers no __dlpack_c_exchange_api__");
    }
    api_ = static_cast<dlpack::ExchangeApi*>(
        PyCapsule_GetPointer(capsule.ptr(), "dlpack_exchange_api"));
    if (api_ == nullptr) throw py::error_already_set();
    while (api_ != nullptr && api_->version.major > 1) api_ = api_->previous;
    if (api_ == nullptr || api_->version.major != 1 || api_->describe == nullptr) {
      throw py::type_error("type: its DLPack exchange is not of version 1");
    }
    for (const py::handle& each : tensors) add(each.ptr());
  }

  std::vector<uintptr_t> addresses() const {
    std::vector<uintptr_t> list;
    for (const Layout& layout : layouts_) list.push_back(layout.address);
    return list;
  }

  // Whether these are still tensors of the same types at the same addresses, with the same layout.
  bool unchanged(const py::list& tensors) const {
    if (tensors.size() != layouts_.size()) return false;
    for (size_t i = 0; i < layouts_.size(); ++i) {
      PyObject* object = PyList_GET_ITEM(tensors.ptr(), static_cast<Py_ssize_t>(i));
      dlpack::Tensor tensor;
      if (Py_TYPE(object) != layouts_[i].type || !describe(object, &tensor)) return false;
      if (!like(layouts_[i], tensor) || address_of(tensor) != layouts_[i].address) return false;
    }
    return true;
  }

  // Other tensors with the same layouts, or None. Nothing if one has another layout, or is not of
  // exactly the type given first.
  std::optional<Gradients> gradients_like(const py::list& others) const {
    // An empty tensor has no address; it gets that of a byte which nobody reads.
    static char nothing = 0;
    if (others.size() != layouts_.size()) return std::nullopt;
    Gradients found;
    found.addresses.resize(layouts_.size());
    for (size_t i = 0; i < layouts_.size(); ++i) {
      PyObject* object = PyList_GET_ITEM(others.ptr(), static_cast<Py_ssize_t>(i));
      if (object == Py_None) continue;
      dlpack::Tensor tensor;
      if (reinterpret_cast<PyObject*>(Py_TYPE(object)) != type_.ptr()) return std::nullopt;
      if (!describe(object, &tensor) || !like(layouts_[i], tensor)) return std::nullopt;
      void* address = reinterpret_cast<void*>(address_of(tensor));
      if (address == nullptr) {
        if (!is_empty(tensor)) return std::nullopt;
        address = &nothing;
      }
      found.addresses[i] = address;
    }
    return found;
  }

 private:
  bool describe(PyObject* object, dlpack::Tensor* tensor) const {
    if (api_->describe(object, tensor) == 0) return true;
    PyErr_Clear();
    return false;
  }

  void add(PyObject* object) {
    if (PyObject_IsInstance(object, type_.ptr()) != 1) {
      throw py::type_error("tensors: all must be of the type " + std::string(py::str(type_)));
    }
    dlpack::Tensor tensor;
    if (api_->describe(object, &tensor) != 0) throw py::error_already_set();
    Layout layout{Py_TYPE(object), address_of(tensor), tensor.device,
                  tensor.type,     numbers_.size(),    static_cast<size_t>(tensor.rank)};
    numbers_.insert(numbers_.end(), tensor.shape, tensor.shape + tensor.rank);
    numbers_.insert(numbers_.end(), tensor.strides, tensor.strides + tensor.rank);
    layouts_.push_back(layout);
  }

  static bool is_empty(const dlpack::Tensor& tensor) {
    for (int32_t axis = 0; axis < tensor.rank; ++axis) {
      if (tensor.shape[axis] == 0) return true;
    }
    return false;
  }

  // Along an axis of one element, strides mean nothing.
  bool like(const Layout& layout, const dlpack::Tensor& tensor) const {
    if (layout.rank != static_cast<size_t>(tensor.rank) || !same(layout.element, tensor.type) ||
        layout.device.type != tensor.device.type || layout.device.id != tensor.device.id) {
      return false;
    }
    const int64_t* shape = numbers_.data() + layout.first;
    const int64_t* strides = shape + layout.rank;
    for (size_t axis = 0; axis < layout.rank; ++axis) {
      if (shape[axis] != tensor.shape[axis]) return false;
      if (shape[axis] > 1 && strides[axis] != tensor.strides[axis]) return false;
    }
    return true;
  }

  py::type type_;
  dlpack::ExchangeApi* api_ = nullptr;
  std::vector<Layout> layouts_;
  std::vector<int64_t> numbers_;
};

// Whether lists, or the values of dictionaries, hold exactly these objects, one after the other.
bool same_objects(const py::list& containers, const py::list& objects) {
  const auto n = static_cast<Py_ssize_t>(objects.size());
  Py_ssize_t i = 0;
  const auto next_is = [&](PyObject* object) {
    return i < n && object == PyList_GET_ITEM(objects.ptr(), i++);
  };
  for (const py::handle& container : containers) {
    PyObject* const held = container.ptr();
    if (PyDict_Check(held)) {
      PyObject *key, *value;
      for (Py_ssize_t place = 0; PyDict_Next(held, &place, &key, &value);) {
        if (!next_is(value)) return false;
      }
    } else if (PyList_Check(held)) {
      for (Py_ssize_t k = 0; k < PyList_GET_SIZE(held); ++k) {
        if (!next_is(PyList_GET_ITEM(held, k))) return false;
      }
    } else {
      throw py::type_error("containers: must be lists and dictionaries");
    }
  }
  return i == n;
}

}  // namespace

void bind_tensors(py::module_& m) {
  using namespace py::literals;
  py::class_<TensorList>(
      m, "TensorList",
      "What a list of tensors looked like when it was read, through the DLPack exchange of `type`. "
      "It keeps no reference to them.")
      .def(py::init<const py::type&, const py::list&>(), "type"_a, "tensors"_a)
      .def_property_readonly("addresses", &TensorList::addresses)
      .def("unchanged", &TensorList::unchanged, "tensors"_a,
           "Whether these lie at the same addresses with the same layouts.")
      .def("gradients_like", &TensorList::gradients_like, "others"_a,
           "Other tensors with the same layouts, or None, as the gradients of a step; None if one "
           "has another layout. Keep them until then.");
  m.def("same_objects", &same_objects, "containers"_a, "objects"_a,
        "Whether lists and values of dictionaries hold exactly these objects, in this order.");
}

}  // namespace fusednn::bindings

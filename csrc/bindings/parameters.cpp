// SPDX-License-Identifier: Apache-2.0
#include "bindings/parameters.h"

#include <algorithm>
#include <stdexcept>
#include <utility>

#include "bindings/device_array.h"

namespace fusednn::bindings {
namespace {

using engine::to_string;

// Where the gradient of an empty parameter lies; null would say that there is none.
char nowhere[1];

std::string place(const char* list, size_t i) {
  return std::string(list) + "[" + std::to_string(i) + "]";
}

bool aligned(const void* data, int bytes) {
  return reinterpret_cast<uintptr_t>(data) % static_cast<uintptr_t>(bytes) == 0;
}

// Every byte between the first and the last belongs to an element.
bool dense(const View& view) {
  if (view.size() == 0) return true;
  std::vector<std::pair<Index, Index>> axes;  // stride, length
  for (size_t k = 0; k < view.shape.size(); ++k) {
    if (view.shape[k] != 1) axes.emplace_back(view.strides[k], view.shape[k]);
  }
  std::sort(axes.begin(), axes.end());
  Index stride = view.type.bytes;
  for (const auto& [given, length] : axes) {
    if (given != stride) return false;
    stride *= length;
  }
  return true;
}

bool same_strides(const View& a, const View& b) {
  for (size_t k = 0; k < a.shape.size(); ++k) {
    if (a.shape[k] != 1 && a.strides[k] != b.strides[k]) return false;
  }
  return true;
}

View parameter_view(py::handle object, const std::string& argument) {
  if (PyList_Check(object.ptr()) || PyTuple_Check(object.ptr()) || PyFloat_Check(object.ptr()) ||
      PyLong_Check(object.ptr())) {
    throw py::type_error(argument + ": " + shown(object) +
                         " cannot be changed in place, expected an array");
  }
  View result = view(object, argument);
  const int bytes = result.type.bytes;
  const bool known = result.type.kind == 'f' && (bytes == 2 || bytes == 4 || bytes == 8);
  if (!known && result.type.name != "bfloat16") {
    throw py::type_error(argument + ": has elements " + result.type.name +
                         ", expected float32, float64, bfloat16 or float16");
  }
  if (result.read_only) {
    throw std::invalid_argument(argument + ": is read-only, expected an array to write to");
  }
  const bool whole = result.on_device ? result.contiguous() : dense(result);
  if (!whole || !aligned(result.data, bytes)) {
    throw std::invalid_argument(argument + ": has shape " + to_string(result.shape) +
                                " and strides " + to_string(result.strides) +
                                " bytes, expected an array without gaps or repetition");
  }
  return result;
}

void need_place(const View& view, const std::string& argument, const View& other,
                const std::string& name) {
  if (bool(view.on_device) == bool(other.on_device)) return;
  const char* memory = other.on_device ? "a device" : "the host";
  throw std::invalid_argument(argument + ": does not lie in the memory of " + memory + ", as " +
                              name + " does");
}

const char* end_of(const View& view) { return view.data + view.size() * view.type.bytes; }

}  // namespace

bool Gradients::complete() const {
  return std::find(addresses.begin(), addresses.end(), nullptr) == addresses.end();
}

Gradients Gradients::take(const std::vector<size_t>& places) const {
  Gradients taken;
  for (const size_t i : places) taken.addresses.push_back(addresses.at(i));
  return taken;
}

Parameters::Parameters(const py::list& given) {
  for (size_t i = 0; i < given.size(); ++i) {
    const py::object item = given[i];
    View seen = parameter_view(item, place("parameters", i));
    py::object array = seen.on_device ? py::cast(DeviceArray(seen)) : as_numpy(seen);
    if (i > 0) need_place(seen, place("parameters", i), parameters_[0].view, "parameters[0]");
    if (seen.size() > 0) by_address_.push_back(i);
    parameters_.push_back({std::move(seen), std::move(array)});
  }
  std::sort(by_address_.begin(), by_address_.end(), [&](size_t a, size_t b) {
    return parameters_[a].view.data < parameters_[b].view.data;
  });
  for (size_t k = 1; k < by_address_.size(); ++k) {
    const size_t a = by_address_[k - 1], b = by_address_[k];
    if (end_of(parameters_[a].view) > parameters_[b].view.data) {
      throw std::invalid_argument(place("parameters", std::min(a, b)) + " and " +
                                  place("parameters", std::max(a, b)) + " share memory");
    }
  }
}

py::list Parameters::arrays() const {
  py::list list;
  for (const Parameter& each : parameters_) list.append(each.array);
  return list;
}

std::vector<uintptr_t> Parameters::addresses() const {
  std::vector<uintptr_t> list;
  for (const Parameter& each : parameters_) {
    list.push_back(reinterpret_cast<uintptr_t>(each.view.data));
  }
  return list;
}

void* Parameters::read(py::handle given, size_t i, bool writable,
                       std::vector<py::object>& owners) const {
  const View& like = parameters_[i].view;
  const std::string argument = place("gradients", i);
  View seen = view(given, argument);
  need_place(seen, argument, like, place("parameters", i));
  if (seen.type.name != like.type.name) {
    throw py::type_error(argument + ": has elements " + seen.type.name + ", expected " +
                         like.type.name + " as " + place("parameters", i));
  }
  expect_shape(seen, argument, like.shape);
  if (writable && seen.read_only) {
    throw std::invalid_argument(argument + ": is read-only and cannot be cleared");
  }
  if (same_strides(seen, like) && aligned(seen.data, like.type.bytes)) {
    owners.push_back(std::move(seen.owner));
    return seen.data;
  }
  if (like.on_device || writable) {
    throw std::invalid_argument(
        argument + ": has strides " + to_string(seen.strides) + " bytes, expected those of " +
        place("parameters", i) +
        (writable ? ": a copy would be cleared in its place" : ": on a device nothing is copied"));
  }
  const py::module_ numpy = py::module_::import("numpy");
  py::array copy = numpy.attr("empty_like")(parameters_[i].array);
  numpy.attr("copyto")(copy, as_numpy(seen));
  void* data = copy.mutable_data();
  owners.push_back(std::move(copy));
  return data;
}

void Parameters::need_apart(const void* gradient, size_t i) const {
  const auto* begin = static_cast<const char*>(gradient);
  const View& like = parameters_[i].view;
  const auto* end = begin + like.size() * like.type.bytes;
  // Parameters do not overlap, so of those that begin before the gradient ends, the last one is the
  // one that reaches farthest.
  const auto after = std::partition_point(by_address_.begin(), by_address_.end(),
                                          [&](size_t k) { return parameters_[k].view.data < end; });
  if (after != by_address_.begin() && end_of(parameters_[*(after - 1)].view) > begin) {
    throw std::invalid_argument(place("gradients", i) + " shares memory with " +
                                place("parameters", *(after - 1)));
  }
}

Gradients Parameters::gradients(const py::list& given, bool writable) {
  if (given.size() != parameters_.size()) {
    throw std::invalid_argument("gradients: got " + std::to_string(given.size()) + ", expected " +
                                std::to_string(parameters_.size()) +
                                ", one array or None per parameter");
  }
  Gradients result;
  result.addresses.reserve(parameters_.size());
  for (size_t i = 0; i < parameters_.size(); ++i) {
    PyObject* item = PyList_GET_ITEM(given.ptr(), static_cast<Py_ssize_t>(i));
    Parameter& like = parameters_[i];
    void* data = nullptr;
    if (item != Py_None && like.view.size() == 0) {
      read(item, i, writable, result.owners);  // is it one?
      data = nowhere;
    } else if (item != Py_None) {
      if (!like.view.on_device) {
        data = data_like(item, static_cast<const py::array&>(like.array).dtype(), like.view,
                         writable ? Access::write : Access::read);
      }
      if (data == nullptr) data = read(item, i, writable, result.owners);
      if (data != like.checked) need_apart(data, i);
      like.checked = data;
    }
    result.addresses.push_back(data);
  }
  return result;
}

}  // namespace fusednn::bindings

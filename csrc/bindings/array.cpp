// SPDX-License-Identifier: Apache-2.0
#include "bindings/array.h"

#include <pybind11/stl.h>

#include <algorithm>
#include <cstring>
#include <limits>
#include <stdexcept>
#include <utility>

namespace fusednn::bindings {
namespace {

using engine::to_string;

py::object numpy(const char* name) { return py::module_::import("numpy").attr(name); }

// ---- copies, which are NumPy's work ------------------------------------------------------------

View view_of_numpy(const py::object& array) { return view(array, "an array"); }

View copied(const View& view) {
  using namespace py::literals;
  if (view.on_device) {
    throw std::invalid_argument("an array of shape " + to_string(view.shape) + " and strides " +
                                to_string(view.strides) +
                                " bytes would have to be copied, which is not done on a device: "
                                "give a C-contiguous one that shares no memory with out");
  }
  return view_of_numpy(numpy("array")(as_numpy(view), "order"_a = "C", "copy"_a = true));
}

bool is_python_number_or_list(py::handle object) {
  return PyList_Check(object.ptr()) || PyTuple_Check(object.ptr()) || PyFloat_Check(object.ptr()) ||
         PyLong_Check(object.ptr());
}

void expect_place(const View& given, const std::string& argument, bool on_device,
                  const std::string& like) {
  if (on_device == bool(given.on_device)) return;
  const auto memory = [](bool device) { return device ? "a device" : "the host"; };
  throw std::invalid_argument(argument + ": lies in the memory of " + memory(!on_device) +
                              ", expected that of " + memory(on_device) + like);
}

View view_of_real(py::handle object, const std::string& argument,
                  const std::optional<Expected>& expected) {
  View result = view(object, argument);
  // Python's own numbers have no dtype that could be lost.
  if (is_python_number_or_list(object) && std::strchr("fiub", result.type.kind)) {
    const DType dtype = expected ? expected->dtype : DType::float64;
    result = view_of_numpy(as_numpy(result).attr("astype")(numpy_dtype(dtype)));
  }
  const bool known = result.type.kind == 'f' && (result.type.bytes == 4 || result.type.bytes == 8);
  if (!known || (expected && result.dtype() != expected->dtype)) {
    throw py::type_error(argument + ": has elements " + result.type.name + ", expected " +
                         (expected ? name_of(expected->dtype) + " as " + expected->like
                                   : std::string("float32 or float64")));
  }
  if (expected) {
    expect_place(result, argument, bool(expected->on_device), " as " + expected->like);
  }
  return result;
}

// One integer per row, of any integer dtype; on a device, where nothing is converted, of the kernels'.
View integers(py::handle object, const std::string& argument, Index rows, const char* what,
              int bytes_on_device = 0) {
  View given = view(object, argument);
  expect_place(given, argument, bytes_on_device > 0, "");
  if (given.type.kind != 'i' && given.type.kind != 'u') {
    throw py::type_error(argument + ": has elements " + given.type.name +
                         ", expected integers, one " + what + " per row");
  }
  expect_shape(given, argument, {rows});
  const bool ready = given.type.kind == 'i' && given.type.bytes == bytes_on_device;
  if (given.on_device && !(ready && given.contiguous())) {
    throw py::type_error(argument + ": has elements " + given.type.name +
                         ", expected contiguous int" + std::to_string(8 * bytes_on_device) +
                         " where they lie on a device");
  }
  return given;
}

void expect_range(const py::array& array, const std::string& argument, Index end) {
  if (array.size() == 0) return;
  const py::int_ low = array.attr("min")();
  const py::int_ high = array.attr("max")();
  if (low < py::int_(0) || high >= py::int_(end)) {
    throw std::invalid_argument(argument + ": has values from " + py::str(low).cast<std::string>() +
                                " to " + py::str(high).cast<std::string>() +
                                ", expected them in [0, " + std::to_string(end) + ")");
  }
}

// Whether a view can be passed on as contiguous Ts in [0, end). NumPy's own minimum and maximum take
// longer than a step of a small network.
template <class T>
bool lies_ready(const View& view, Index end) {
  if (view.type.kind != 'i' || view.type.bytes != sizeof(T) || !view.contiguous()) return false;
  const T* first = reinterpret_cast<const T*>(view.data);
  return std::all_of(first, first + view.size(), [end](T i) { return i >= 0 && i < end; });
}

// The first byte of a view and the byte after its last.
std::pair<const char*, const char*> extent(const View& view) {
  const char* low = view.data;
  const char* high = view.data + view.type.bytes;
  for (size_t i = 0; i < view.shape.size(); ++i) {
    const Index reach = (view.shape[i] - 1) * view.strides[i];
    (reach < 0 ? low : high) += reach;
  }
  return {low, high};
}

}  // namespace

// ---- views -------------------------------------------------------------------------------------

void need_host(const View& view, const std::string& argument) {
  if (!view.on_device) return;
  throw std::invalid_argument(argument +
                              ": lies in the memory of a device, expected that of the host");
}

py::array as_numpy(const View& view) {
  return py::array(numpy_dtype(view.type), view.shape, view.strides, view.data, view.owner);
}

Expected like(const View& view, const std::string& argument) {
  return {view.dtype(), argument, view.on_device};
}

View real(py::handle object, const std::string& argument, const std::optional<Expected>& expected) {
  View result = view_of_real(object, argument, expected);
  return result.contiguous() ? result : copied(result);
}

View real_matrix(py::handle object, const std::string& argument,
                 const std::optional<Expected>& expected) {
  View result = view_of_real(object, argument, expected);
  return result.is_matrix() ? result : copied(result);
}

std::optional<View> optional_real(py::handle object, const std::string& argument,
                                  const Shape& shape, const Expected& expected) {
  if (object.is_none()) return std::nullopt;
  View result = real(object, argument, expected);
  expect_shape(result, argument, shape);
  return result;
}

View as_it_lies(py::handle object, const std::string& argument,
                const std::optional<Expected>& expected) {
  View result = view_of_real(object, argument, expected);
  if (!result.contiguous()) {
    throw std::invalid_argument(argument + ": has strides " + to_string(result.strides) +
                                " bytes, expected a C-contiguous array");
  }
  return result;
}

View as_bytes_lie(const py::array& array, const std::string& argument) {
  View result = view(array, argument);
  if (!result.contiguous()) {
    throw std::invalid_argument(argument + ": has strides " + to_string(result.strides) +
                                " bytes, expected a C-contiguous array");
  }
  return result;
}

View in_place(py::handle object, const std::string& argument,
              const std::optional<Expected>& expected) {
  if (is_python_number_or_list(object)) {
    throw py::type_error(argument + ": " + shown(object) +
                         " cannot be changed in place, expected an array");
  }
  View result = as_it_lies(object, argument, expected);
  if (result.read_only) {
    throw std::invalid_argument(argument + ": is read-only, expected an array to write to");
  }
  return result;
}

Output output(py::handle out, const std::string& argument, const Shape& shape,
              const Expected& expected) {
  if (out.is_none()) return fresh(shape, expected.dtype, expected.on_device);
  if (is_python_number_or_list(out)) {
    throw py::type_error(argument + ": " + shown(out) + " cannot be written to, expected an array");
  }
  View result = view_of_real(out, argument, expected);
  expect_shape(result, argument, shape);
  if (result.read_only) {
    throw std::invalid_argument(argument + ": is read-only, expected an array to write to");
  }
  if (!result.is_matrix()) {
    throw std::invalid_argument(argument + ": has strides " + to_string(result.strides) +
                                " bytes, expected rows that are contiguous");
  }
  return {result, py::reinterpret_borrow<py::object>(out)};
}

Output fresh(const Shape& shape, const View& like) {
  return fresh(shape, like.dtype(), like.on_device);
}

Output fresh(const Shape& shape, DType dtype, const py::object& on_device) {
  if (on_device) {
    const py::tuple lengths(py::cast(shape));
    const py::object made = py::module_::import("fusednn.device")
                                .attr("empty_like")(on_device, lengths, name_of(dtype));
    return {view(made, "a new array"), made};
  }
  py::array array(numpy_dtype(dtype), shape);
  return {view_of_numpy(array), array};
}

View labels(py::handle object, const std::string& argument, Index rows, Index classes,
            const std::optional<int32_t>& ignore_index, const py::object& on_device) {
  View given = integers(object, argument, rows, "class number", on_device ? 4 : 0);
  if (given.on_device) return given;
  if (!ignore_index && lies_ready<int32_t>(given, classes)) return given;
  const py::array array = as_numpy(given);
  py::array kept = array;
  if (ignore_index) kept = array[array.attr("__ne__")(*ignore_index)];
  expect_range(kept, argument, classes);
  if (given.type.kind == 'i' && given.type.bytes == 4 && given.contiguous()) return given;
  return view_of_numpy(array.attr("astype")(py::dtype::of<int32_t>()));
}

View places(py::handle object, const std::string& argument, Index n, Index rows) {
  View given = integers(object, argument, n, "row number");
  if (lies_ready<int64_t>(given, rows)) return given;
  const py::array array = as_numpy(given);
  expect_range(array, argument, rows);
  if (given.type.kind == 'i' && given.type.bytes == 8 && given.contiguous()) return given;
  return view_of_numpy(array.attr("astype")(py::dtype::of<int64_t>()));
}

bool overlap(const View& a, const View& b) {
  if (a.size() == 0 || b.size() == 0) return false;
  const auto [a_low, a_high] = extent(a);
  const auto [b_low, b_high] = extent(b);
  return a_low < b_high && b_low < a_high;
}

void keep_apart(View& input, const View& output, Same same) {
  if (!overlap(input, output)) return;
  const bool identical = input.data == output.data && input.shape == output.shape &&
                         input.matrix().stride == output.matrix().stride;
  if (!(identical && same == Same::allowed)) input = copied(input);
}

void expect_shape(const View& view, const std::string& argument, const Shape& shape) {
  if (view.shape != shape) {
    throw std::invalid_argument(argument + ": has shape " + to_string(view.shape) + ", expected " +
                                to_string(shape));
  }
}

py::dtype numpy_dtype(const ElementType& type) {
  if (type.name != "bfloat16") {
    return py::dtype(std::string(1, type.kind) + std::to_string(type.bytes));
  }
  try {
    return py::dtype::from_args(py::module_::import("ml_dtypes").attr("bfloat16"));
  } catch (const py::error_already_set& error) {
    if (!error.matches(PyExc_ImportError)) throw;
    throw py::type_error("NumPy has no bfloat16 of its own; pip install ml_dtypes adds it");
  }
}

py::dtype numpy_dtype(DType dtype) {
  return dtype == DType::float32 ? py::dtype::of<float>() : py::dtype::of<double>();
}

std::string name_of(DType dtype) { return dtype == DType::float32 ? "float32" : "float64"; }

DType dtype_named(const std::string& name) {
  if (name == "float32") return DType::float32;
  if (name == "float64") return DType::float64;
  throw std::invalid_argument("dtype='" + name + "' is unknown; choose float32 or float64");
}

Precision precision_named(const std::string& name, const Backend& backend) {
  if (name == "float32") return DType::float32;
  if (name == "float64") return DType::float64;
  if (name == "bfloat16") return {DType::float32, true};
  if (name == "float16") {
    if (!backend.host_memory) return {DType::float32, true, true};
    throw std::invalid_argument(
        "precision='float16' needs a CUDA device; on the processor there is 'bfloat16', which has "
        "more range");
  }
  throw std::invalid_argument("precision='" + name +
                              "' is unknown; choose float32, float64, bfloat16 or float16");
}

std::string shown(py::handle object) {
  std::string text;
  try {
    text = py::repr(object).cast<std::string>();
  } catch (const std::exception&) {  // an object may fail at that, too
    text = std::string("an object of type ") + Py_TYPE(object.ptr())->tp_name;
  }
  if (text.size() > 60) text = text.substr(0, 57) + "...";
  return text;
}

}  // namespace fusednn::bindings

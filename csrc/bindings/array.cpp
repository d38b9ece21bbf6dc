// SPDX-License-Identifier: Apache-2.0
#include "bindings/array.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <stdexcept>
#include <utility>

#include "bindings/dlpack.h"

namespace fusednn::bindings {
namespace {

using engine::to_string;

py::object numpy(const char* name) { return py::module_::import("numpy").attr(name); }

// ---- the buffer protocol ---------------------------------------------------------------------

// One native element in the notation of Python's struct module, '?' kind for all else.
ElementType type_of_format(const char* format, Index bytes) {
  const std::string whole = format ? format : "B";
  const bool prefixed = !whole.empty() && std::strchr("@=<", whole[0]);
  const std::string code = whole.substr(prefixed ? 1 : 0);
  const auto sized = [&](char kind, const char* name) {
    return ElementType{kind, static_cast<int>(bytes), name + std::to_string(8 * bytes)};
  };
  if (code.size() == 1) {
    if (std::strchr("efdg", code[0])) return sized('f', "float");
    if (std::strchr("bhilqn", code[0])) return sized('i', "int");
    if (std::strchr("BHILQN", code[0])) return sized('u', "uint");
    if (code[0] == '?') return {'b', 1, "bool"};
    if (code[0] == 'O') return {'?', 0, "object"};
  }
  return {'?', static_cast<int>(bytes), "of format '" + whole + "'"};
}

View view_of_memory(py::object memory) {
  const Py_buffer& buffer = *PyMemoryView_GET_BUFFER(memory.ptr());
  View result;
  result.data = static_cast<char*>(buffer.buf);
  result.type = type_of_format(buffer.format, buffer.itemsize);
  result.shape.assign(buffer.shape, buffer.shape + buffer.ndim);
  result.strides.assign(buffer.strides, buffer.strides + buffer.ndim);
  result.read_only = buffer.readonly != 0;
  if (buffer.suboffsets != nullptr) result.type = {'?', 0, "behind pointers"};
  result.owner = std::move(memory);
  return result;
}

// A NumPy array of native numbers, without the way through the protocol.
std::optional<View> view_of_plain_array(py::handle object) {
  if (Py_TYPE(object.ptr()) != py::detail::npy_api::get().PyArray_Type_) return std::nullopt;
  const auto array = py::reinterpret_borrow<py::array>(object);
  const py::dtype dtype = array.dtype();
  const char kind = dtype.kind();
  const char* name = kind == 'f' ? "float" : kind == 'i' ? "int" : kind == 'u' ? "uint" : nullptr;
  if (name == nullptr || dtype.byteorder() != '=') return std::nullopt;  // or of one byte
  const auto bytes = static_cast<int>(dtype.itemsize());
  View result;
  result.data = static_cast<char*>(const_cast<void*>(array.data()));
  result.shape.assign(array.shape(), array.shape() + array.ndim());
  result.strides.assign(array.strides(), array.strides() + array.ndim());
  result.type = {kind, bytes, name + std::to_string(8 * bytes)};
  result.read_only = !array.writeable();
  result.owner = array;
  return result;
}

// ---- DLPack ----------------------------------------------------------------------------------

std::string device_name(int32_t type) {
  static const std::pair<int, const char*> names[] = {
      {2,  "cuda"        },
      {4,  "opencl"      },
      {7,  "vulkan"      },
      {8,  "metal"       },
      {9,  "vpi"         },
      {10, "rocm"        },
      {12, "ext_dev"     },
      {13, "cuda_managed"},
      {14, "oneapi"      },
      {15, "webgpu"      }
  };
  for (const auto& [number, name] : names) {
    if (number == type) return name;
  }
  return "number " + std::to_string(type);
}

ElementType type_of_dlpack(const dlpack::ElementType& type) {
  static const std::pair<int, std::pair<char, const char*>> kinds[] = {
      {dlpack::kInt,     {'i', "int"}    },
      {dlpack::kUInt,    {'u', "uint"}   },
      {dlpack::kFloat,   {'f', "float"}  },
      {dlpack::kBool,    {'b', "bool"}   },
      {dlpack::kBfloat,  {'?', "bfloat"} },
      {dlpack::kComplex, {'?', "complex"}}
  };
  for (const auto& [code, kind] : kinds) {
    if (code == type.code && type.lanes == 1) {
      return {kind.first, type.bits / 8, kind.second + std::to_string(type.bits)};
    }
  }
  return {'?', 0, "of DLPack code " + std::to_string(type.code)};
}

py::object ask_for_capsule(py::handle object) {
  try {
    return object.attr("__dlpack__")(py::arg("max_version") = py::make_tuple(1, 0));
  } catch (const py::error_already_set& error) {
    if (!error.matches(PyExc_TypeError)) throw;
  }
  return object.attr("__dlpack__")();  // written before versions were
}

// The capsule is borrowed, not consumed: it frees the memory itself once the view lets go of it.
View view_of_dlpack(py::handle object, const std::string& argument) {
  py::object capsule;
  try {
    const int32_t device = object.attr("__dlpack_device__")().cast<py::tuple>()[0].cast<int32_t>();
    if (device != dlpack::kCpu && device != dlpack::kCudaHost && device != dlpack::kRocmHost) {
      throw std::invalid_argument(argument + ": lies on the device " + device_name(device) +
                                  ", expected one in the memory of the CPU");
    }
    capsule = ask_for_capsule(object);
  } catch (const py::error_already_set& error) {
    throw std::invalid_argument(argument +
                                ": could not be read through __dlpack__: " + error.what());
  } catch (const py::cast_error&) {
    throw std::invalid_argument(argument + ": __dlpack_device__ did not return two numbers");
  }

  View result;
  const dlpack::Tensor* tensor = nullptr;
  if (PyCapsule_IsValid(capsule.ptr(), "dltensor_versioned")) {
    const auto* managed = static_cast<const dlpack::ManagedTensorVersioned*>(
        PyCapsule_GetPointer(capsule.ptr(), "dltensor_versioned"));
    if (managed->version.major != 1) {
      throw std::invalid_argument(argument + ": speaks DLPack " +
                                  std::to_string(managed->version.major) + ", expected 1");
    }
    // What is written into a copy would be lost.
    result.read_only = (managed->flags & (dlpack::kReadOnly | dlpack::kIsCopied)) != 0;
    tensor = &managed->tensor;
  } else if (PyCapsule_IsValid(capsule.ptr(), "dltensor")) {
    tensor =
        &static_cast<const dlpack::ManagedTensor*>(PyCapsule_GetPointer(capsule.ptr(), "dltensor"))
             ->tensor;
  } else {
    throw std::invalid_argument(argument + ": __dlpack__ returned no unused capsule");
  }

  result.type = type_of_dlpack(tensor->type);
  result.data = static_cast<char*>(tensor->data) + tensor->byte_offset;
  result.shape.assign(tensor->shape, tensor->shape + tensor->rank);
  result.strides.assign(result.shape.size(), result.type.bytes);
  if (tensor->strides != nullptr) {
    for (int i = 0; i < tensor->rank; ++i) result.strides[i] *= tensor->strides[i];
  } else {
    for (int i = tensor->rank - 2; i >= 0; --i) {
      result.strides[i] = result.strides[i + 1] * result.shape[i + 1];
    }
  }
  result.owner = std::move(capsule);
  return result;
}

// ---- copies, which are NumPy's work ------------------------------------------------------------

View view_of_numpy(const py::object& array) {
  PyObject* memory = PyMemoryView_FromObject(array.ptr());
  if (memory == nullptr) throw py::error_already_set();
  return view_of_memory(py::reinterpret_steal<py::object>(memory));
}

View copied(const View& view) {
  using namespace py::literals;
  return view_of_numpy(numpy("array")(as_numpy(view), "order"_a = "C", "copy"_a = true));
}

bool is_python_number_or_list(py::handle object) {
  return PyList_Check(object.ptr()) || PyTuple_Check(object.ptr()) || PyFloat_Check(object.ptr()) ||
         PyLong_Check(object.ptr());
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
  return result;
}

// One integer per row, of any integer dtype.
View integers(py::handle object, const std::string& argument, Index rows, const char* what) {
  View given = view(object, argument);
  if (given.type.kind != 'i' && given.type.kind != 'u') {
    throw py::type_error(argument + ": has elements " + given.type.name +
                         ", expected integers, one " + what + " per row");
  }
  expect_shape(given, argument, {rows});
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

bool aligned(const View& view) {
  const auto address = reinterpret_cast<uintptr_t>(view.data);
  return view.type.bytes > 0 && address % static_cast<uintptr_t>(view.type.bytes) == 0;
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

py::array as_numpy(const View& view) {
  return py::array(py::dtype(std::string(1, view.type.kind) + std::to_string(view.type.bytes)),
                   view.shape, view.strides, view.data, view.owner);
}

Index View::rows() const {
  Index product = 1;
  for (size_t i = 0; i + 1 < shape.size(); ++i) product *= shape[i];
  return product;
}

bool View::contiguous() const {
  if (size() == 0) return true;
  Index stride = type.bytes;
  for (size_t i = shape.size(); i-- > 0;) {
    if (shape[i] != 1 && strides[i] != stride) return false;
    stride *= shape[i];
  }
  return aligned(*this);
}

bool View::is_matrix() const {
  if (shape.size() != 2 || size() == 0) return contiguous();
  const bool rows_apart =
      shape[0] == 1 || (strides[0] >= shape[1] * type.bytes && strides[0] % type.bytes == 0);
  return aligned(*this) && rows_apart && (shape[1] == 1 || strides[1] == type.bytes);
}

Matrix View::matrix() const {
  const bool rows_apart = shape.size() == 2 && shape[0] > 1 && size() > 0;
  return {data, rows_apart ? strides[0] / type.bytes : columns()};
}

char* data_like(py::handle object, const py::dtype& dtype, const View& like, Access access) {
  const auto& numpy = py::detail::npy_api::get();
  if (Py_TYPE(object.ptr()) != numpy.PyArray_Type_) return nullptr;
  const auto* array = py::detail::array_proxy(object.ptr());
  if (array->descr != dtype.ptr()) return nullptr;
  if (static_cast<size_t>(array->nd) != like.shape.size()) return nullptr;
  for (size_t k = 0; k < like.shape.size(); ++k) {
    if (array->dimensions[k] != like.shape[k]) return nullptr;
    if (like.shape[k] != 1 && array->strides[k] != like.strides[k]) return nullptr;
  }
  const int needed = py::detail::npy_api::NPY_ARRAY_ALIGNED_ |
                     (access == Access::write ? py::detail::npy_api::NPY_ARRAY_WRITEABLE_ : 0);
  return (array->flags & needed) == needed ? array->data : nullptr;
}

View view(py::handle object, const std::string& argument) {
  if (std::optional<View> plain = view_of_plain_array(object)) return *std::move(plain);
  if (PyObject_CheckBuffer(object.ptr())) {
    if (PyObject* memory = PyMemoryView_FromObject(object.ptr())) {
      return view_of_memory(py::reinterpret_steal<py::object>(memory));
    }
    PyErr_Clear();  // dates and the like have no format in this protocol
    if (py::isinstance<py::array>(object)) {
      throw py::type_error(argument + ": has elements " + shown(object.attr("dtype")) +
                           ", expected numbers");
    }
  }
  if (py::hasattr(object, "__dlpack__")) return view_of_dlpack(object, argument);
  py::object array;
  try {
    array = numpy("asarray")(object);
  } catch (const py::error_already_set& error) {
    throw std::invalid_argument(argument + ": could not be made an array: " + error.what());
  }
  if (!py::isinstance<py::array>(array) || !PyObject_CheckBuffer(array.ptr())) {
    throw py::type_error(argument + ": " + shown(object) + " is not an array");
  }
  return view(array, argument);
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
  if (out.is_none()) return fresh(shape, expected.dtype);
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

Output fresh(const Shape& shape, DType dtype) {
  py::array array(numpy_dtype(dtype), shape);
  return {view_of_numpy(array), array};
}

View labels(py::handle object, const std::string& argument, Index rows, Index classes,
            const std::optional<int32_t>& ignore_index) {
  View given = integers(object, argument, rows, "class number");
  if (!ignore_index && lies_ready<int32_t>(given, classes)) return given;
  const py::array array = as_numpy(given);
  py::array kept = array;
  if (ignore_index) kept = array[array.attr("__ne__")(*ignore_index)];
  expect_range(kept, argument, classes);
  if (given.type.kind == 'i' && given.type.bytes == 4 && given.contiguous()) return given;
  return view_of_numpy(array.attr("astype")(py::dtype::of<int32_t>()));
}

View places(py::handle object, const std::string& argument, Index rows) {
  View given = integers(object, argument, rows, "row number");
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

py::dtype numpy_dtype(DType dtype) {
  return dtype == DType::float32 ? py::dtype::of<float>() : py::dtype::of<double>();
}

std::string name_of(DType dtype) { return dtype == DType::float32 ? "float32" : "float64"; }

DType dtype_named(const std::string& name) {
  if (name == "float32") return DType::float32;
  if (name == "float64") return DType::float64;
  throw std::invalid_argument("dtype='" + name + "' is unknown; choose float32 or float64");
}

Precision precision_named(const std::string& name) {
  if (name == "float32") return DType::float32;
  if (name == "float64") return DType::float64;
  if (name == "bfloat16") return {DType::float32, true};
  throw std::invalid_argument("precision='" + name +
                              "' is unknown; choose float32, float64 or bfloat16");
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

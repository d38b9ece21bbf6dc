// SPDX-License-Identifier: Apache-2.0
// Reading somebody else's memory: NumPy's arrays, the buffer protocol, DLPack, and what libraries for CUDA
// show of theirs.
#include <pybind11/stl.h>

#include <cstring>
#include <stdexcept>
#include <utility>

#include "bindings/array.h"
#include "bindings/dlpack.h"
#include "engine/registry.h"

namespace fusednn::bindings {
namespace {

using engine::to_string;

const ElementType kBfloat16{'?', 2, "bfloat16"};

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
  // What the package ml_dtypes adds to NumPy is of no kind that NumPy knows.
  const bool bfloat16 = kind == 'V' && dtype.attr("name").cast<std::string>() == "bfloat16";
  if (!(name || bfloat16) || dtype.byteorder() != '=') return std::nullopt;  // or of one byte
  const auto bytes = static_cast<int>(dtype.itemsize());
  View result;
  result.data = static_cast<char*>(const_cast<void*>(array.data()));
  result.shape.assign(array.shape(), array.shape() + array.ndim());
  result.strides.assign(array.strides(), array.strides() + array.ndim());
  result.type = bfloat16 ? kBfloat16 : ElementType{kind, bytes, name + std::to_string(8 * bytes)};
  result.read_only = !array.writeable();
  result.owner = array;
  return result;
}

// ---- DLPack ----------------------------------------------------------------------------------

std::string device_name(int32_t type) {
  static const std::pair<int, const char*> names[] = {
      {4,  "opencl" },
      {7,  "vulkan" },
      {8,  "metal"  },
      {9,  "vpi"    },
      {10, "rocm"   },
      {12, "ext_dev"},
      {14, "oneapi" },
      {15, "webgpu" }
  };
  for (const auto& [number, name] : names) {
    if (number == type) return name;
  }
  return "number " + std::to_string(type);
}

// Python's side knows the libraries, and why there may be no device.
py::object devices() { return py::module_::import("fusednn.device"); }

std::vector<Index> compact_strides(const Shape& shape, Index bytes) {
  std::vector<Index> strides(shape.size(), bytes);
  for (size_t i = shape.size(); i-- > 1;) strides[i - 1] = strides[i] * shape[i];
  return strides;
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

py::object ask_for_capsule(py::handle object, py::dict options) {
  try {
    return object.attr("__dlpack__")(py::arg("max_version") = py::make_tuple(1, 0), **options);
  } catch (const py::error_already_set& error) {
    if (!error.matches(PyExc_TypeError)) throw;
  }
  return object.attr("__dlpack__")(**options);  // written before versions were
}

// Notes where an array lies whose address a host cannot use.
void put_on_device(View& result, py::handle object, uint64_t queue, const std::string& argument) {
  result.on_device = py::reinterpret_borrow<py::object>(object);
  result.queue = queue;
  if (result.size() > 0 && !engine::find_backend("cuda").owns(result.data)) {
    throw std::invalid_argument(argument + ": lies on another device than the one in use");
  }
}

// The stream on which the library of an array on a device works.
uint64_t queue_of(py::handle object, const std::string& argument) {
  try {
    return devices().attr("queue_of")(object).cast<uint64_t>();
  } catch (const py::error_already_set& error) {
    if (!error.matches(PyExc_ValueError)) throw;
    throw std::invalid_argument(argument + ": lies on the device cuda; " +
                                py::str(error.value()).cast<std::string>());
  }
}

// What libraries without DLPack show (numba): a dictionary.
View view_of_cuda_interface(py::handle object, const std::string& argument) {
  const uint64_t queue = queue_of(object, argument);
  const auto interface = object.attr("__cuda_array_interface__").cast<py::dict>();
  const auto data = interface["data"].cast<py::tuple>();
  const py::dtype dtype = py::dtype::from_args(interface["typestr"]);
  const auto name = dtype.attr("name").cast<std::string>();
  View result;
  result.data = reinterpret_cast<char*>(data[0].cast<uintptr_t>());
  result.read_only = data[1].cast<bool>();
  result.type = {dtype.kind(), static_cast<int>(dtype.itemsize()), name};
  result.shape = interface["shape"].cast<Shape>();
  const py::object strides = interface.attr("get")("strides");
  if (strides.is_none()) {
    result.strides = compact_strides(result.shape, result.type.bytes);
  } else {
    result.strides = strides.cast<std::vector<Index>>();
  }
  result.owner = py::reinterpret_borrow<py::object>(object);
  put_on_device(result, object, queue, argument);
  return result;
}

// The capsule is borrowed, not consumed: it frees the memory itself once the view lets go of it.
View view_of_dlpack(py::handle object, const std::string& argument) {
  py::object capsule;
  std::optional<uint64_t> queue;  // of an array on a device
  try {
    const int32_t device = object.attr("__dlpack_device__")().cast<py::tuple>()[0].cast<int32_t>();
    py::dict options;
    if (device == dlpack::kCuda || device == dlpack::kCudaManaged) {
      queue = queue_of(object, argument);
      options["stream"] = *queue;
    } else if (device != dlpack::kCpu && device != dlpack::kCudaHost &&
               device != dlpack::kRocmHost) {
      throw std::invalid_argument(argument + ": lies on the device " + device_name(device) +
                                  ", expected the memory of the CPU or of a CUDA device");
    }
    capsule = ask_for_capsule(object, options);
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
  if (tensor->strides != nullptr) {
    result.strides.assign(tensor->strides, tensor->strides + tensor->rank);
    for (Index& stride : result.strides) stride *= result.type.bytes;
  } else {
    result.strides = compact_strides(result.shape, result.type.bytes);
  }
  result.owner = std::move(capsule);
  if (queue) put_on_device(result, object, *queue, argument);
  return result;
}

bool aligned(const View& view) {
  const auto address = reinterpret_cast<uintptr_t>(view.data);
  return view.type.bytes > 0 && address % static_cast<uintptr_t>(view.type.bytes) == 0;
}

}  // namespace

// ---- views -------------------------------------------------------------------------------------

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
  if (py::hasattr(object, "__cuda_array_interface__")) {
    return view_of_cuda_interface(object, argument);
  }
  py::object array;
  try {
    array = py::module_::import("numpy").attr("asarray")(object);
  } catch (const py::error_already_set& error) {
    throw std::invalid_argument(argument + ": could not be made an array: " + error.what());
  }
  if (!py::isinstance<py::array>(array) || !PyObject_CheckBuffer(array.ptr())) {
    throw py::type_error(argument + ": " + shown(object) + " is not an array");
  }
  return view(array, argument);
}

}  // namespace fusednn::bindings

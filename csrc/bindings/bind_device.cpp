// SPDX-License-Identifier: Apache-2.0
#include <pybind11/stl.h>

#include <cstring>
#include <map>
#include <string>

#include "bindings/bindings.h"
#include "bindings/device_array.h"
#include "bindings/dlpack.h"
#include "engine/registry.h"

namespace fusednn::bindings {
namespace {

const Backend& device() { return engine::find_backend("cuda"); }

// What was put on the present queue is done when this has come.
void wait_for(const DeviceArray& array) {
  char last;
  device().download(&last, array.data, 1);
}

}  // namespace

DeviceArray::DeviceArray(const View& view)
    : shape(view.shape),
      dtype(numpy_dtype(view.type)),
      data(view.data),
      queue(view.queue),
      owner(view.on_device) {}

DeviceArray::DeviceArray(const Shape& lengths, const py::dtype& type)
    : shape(lengths), dtype(type) {
  for (const Index length : shape) {
    if (length < 0) throw std::invalid_argument("shape: " + engine::to_string(shape));
  }
  memory = std::make_shared<engine::Arena>(device(), bytes());
  data = memory->data();
  wait_for(*this);
}

size_t DeviceArray::bytes() const {
  return static_cast<size_t>(engine::size_of(shape) * dtype.itemsize());
}

py::array DeviceArray::to_host() const {
  py::array result(dtype, shape);
  const engine::OnQueue here(device(), queue);
  device().download(result.mutable_data(), data, bytes());
  return result;
}

namespace {

DeviceArray from_host(const py::object& given) {
  const py::array source =
      py::module_::import("numpy").attr("asarray")(given, py::arg("order") = "C");
  DeviceArray array(Shape(source.shape(), source.shape() + source.ndim()), source.dtype());
  const engine::OnQueue queue(device(), kCommonStream);
  device().upload(array.data, source.data(), array.bytes());
  wait_for(array);  // for whoever uses it on another stream
  return array;
}

py::dict interface(const DeviceArray& array) {
  py::dict result;
  result["shape"] = py::tuple(py::cast(array.shape));
  result["typestr"] = array.dtype.attr("str");
  result["data"] = py::make_tuple(reinterpret_cast<uintptr_t>(array.data), false);
  result["strides"] = py::none();
  result["stream"] = array.queue;
  result["version"] = 3;
  return result;
}

// What a capsule of ours holds.
struct Exported {
  dlpack::ManagedTensor managed;
  Shape shape;
  DeviceArray array;  // keeps the memory
};

void release_unused(PyObject* capsule) {
  if (PyCapsule_IsValid(capsule, "dltensor") == 0) return;  // somebody took it over
  auto* managed = static_cast<dlpack::ManagedTensor*>(PyCapsule_GetPointer(capsule, "dltensor"));
  managed->deleter(managed);
}

// What a consumer may ask for changes nothing: it is told where the memory is.
py::object to_dlpack(const DeviceArray& array, const py::object&, const py::object&,
                     const py::object&, const py::object&) {
  static const std::map<char, uint8_t> codes = {
      {'f', dlpack::kFloat },
      {'i', dlpack::kInt   },
      {'u', dlpack::kUInt  },
      {'V', dlpack::kBfloat}
  };
  const auto name = py::str(array.dtype).cast<std::string>();
  const auto code = codes.find(array.dtype.kind());
  if (code == codes.end() || (code->first == 'V' && name != "bfloat16")) {
    throw py::type_error("an array of " + name + " cannot be exchanged through DLPack");
  }
  auto* exported = new Exported{{}, array.shape, array};
  dlpack::Tensor& tensor = exported->managed.tensor;
  tensor.data = array.data;
  tensor.device = {dlpack::kCuda, 0};
  tensor.rank = static_cast<int32_t>(array.shape.size());
  tensor.type = {code->second, static_cast<uint8_t>(8 * array.dtype.itemsize()), 1};
  tensor.shape = exported->shape.data();
  exported->managed.context = exported;
  exported->managed.deleter = [](dlpack::ManagedTensor* managed) {
    const py::gil_scoped_acquire gil;
    delete static_cast<Exported*>(managed->context);
  };
  return py::reinterpret_steal<py::object>(
      PyCapsule_New(&exported->managed, "dltensor", &release_unused));
}

}  // namespace

void bind_device(py::module_& m) {
  using namespace py::literals;
  py::class_<DeviceArray>(m, "DeviceArray", "An array in the memory of the device \"cuda\".")
      .def(py::init(&from_host), "array"_a, "A copy of a NumPy array.")
      .def_static(
          "empty",
          [](const Shape& shape, const py::dtype& dtype) { return DeviceArray(shape, dtype); },
          "shape"_a, "dtype"_a, "Filled with zeros.")
      .def("to_numpy", &DeviceArray::to_host,
           "A copy in the memory of the host, when all work on it is done.")
      .def_property_readonly(
          "shape", [](const DeviceArray& array) { return py::tuple(py::cast(array.shape)); })
      .def_property_readonly("size",
                             [](const DeviceArray& array) { return engine::size_of(array.shape); })
      .def_property_readonly("dtype", [](const DeviceArray& array) { return array.dtype; })
      .def_property_readonly("__cuda_array_interface__", &interface)
      .def("__dlpack__", &to_dlpack, py::kw_only(), "stream"_a = py::none(),
           "max_version"_a = py::none(), "dl_device"_a = py::none(), "copy"_a = py::none())
      .def("__dlpack_device__",
           [](const DeviceArray&) { return py::make_tuple(int(dlpack::kCuda), 0); })
      .def("__repr__", [](const DeviceArray& array) {
        return "DeviceArray(shape=" + engine::to_string(array.shape) +
               ", dtype=" + std::string(py::str(array.dtype)) + ")";
      });
}

}  // namespace fusednn::bindings

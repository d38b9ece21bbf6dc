// SPDX-License-Identifier: Apache-2.0
// The only place that turns somebody else's memory (NumPy, DLPack, the buffer protocol) into something
// a kernel may touch, and that decides what is passed on as it lies, what is copied and what refused.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <optional>
#include <string>
#include <vector>

#include "engine/backend.h"
#include "engine/config.h"

namespace fusednn::bindings {

namespace py = pybind11;
using engine::Shape;

// kind: 'f' floating point, 'i' signed, 'u' unsigned, 'b' bool, '?' anything else.
struct ElementType {
  char kind = '?';
  int bytes = 0;
  std::string name;  // for messages: "float32"
};

// An array in memory that belongs to `owner`; a view lives no longer than the call that made it.
struct View {
  char* data = nullptr;
  Shape shape;
  std::vector<Index> strides;  // in bytes
  ElementType type;
  bool read_only = false;
  py::object owner;
  // In the memory of the device "cuda": the array itself, for whoever has to make one like it, and the
  // stream that its library works on.
  py::object on_device;
  uint64_t queue = 0;

  Index size() const { return engine::size_of(shape); }
  // As a matrix: the last axis is a row, all others count rows.
  Index columns() const { return shape.empty() ? 1 : shape.back(); }
  Index rows() const;
  DType dtype() const { return type.bytes == 4 ? DType::float32 : DType::float64; }
  bool contiguous() const;  // row-major, without gaps, aligned
  bool is_matrix() const;   // rows may lie apart, but each is contiguous
  Matrix matrix() const;    // of a view for which is_matrix() holds
};

// The memory of an object as it is, in the memory of the host or of the device. ValueError where neither
// can read it.
View view(py::handle object, const std::string& argument);

// ValueError where that is the memory of a device.
void need_host(const View& view, const std::string& argument);

// The same memory as a NumPy array; of the host's alone.
py::array as_numpy(const View& view);

// The data of a NumPy array that is aligned and has exactly this dtype, and the shape and the strides
// of `like`; null for all else. The short way for lists of arrays that are all alike.
enum class Access { read, write };
char* data_like(py::handle object, const py::dtype& dtype, const View& like, Access access);

// float32 or float64 (`expected` where given, the dtype of the argument `like`), contiguous: copied
// where it is not. Python lists and numbers take the expected dtype, or float64.
struct Expected {
  DType dtype;
  std::string like;
  py::object on_device = {};  // as in View
};
Expected like(const View& view, const std::string& argument);
View real(py::handle object, const std::string& argument,
          const std::optional<Expected>& expected = std::nullopt);
// The same with is_matrix() instead of contiguous().
View real_matrix(py::handle object, const std::string& argument,
                 const std::optional<Expected>& expected = std::nullopt);
// The same of one given shape, and nothing for None.
std::optional<View> optional_real(py::handle object, const std::string& argument,
                                  const Shape& shape, const Expected& expected);

// A float array that is passed on as it lies: contiguous, or ValueError.
View as_it_lies(py::handle object, const std::string& argument,
                const std::optional<Expected>& expected = std::nullopt);

// Likewise an array of bytes.
View as_bytes_lie(const py::array& array, const std::string& argument);

// A float array that a kernel changes where it lies: writable and contiguous, or ValueError.
View in_place(py::handle object, const std::string& argument,
              const std::optional<Expected>& expected = std::nullopt);

// Where a result goes: the caller's `out` where it is not None, else a new array. An `out` that cannot
// be written as it lies, or has another shape or dtype, is an error.
struct Output {
  View view;
  py::object object;  // what the caller gets back
};
Output output(py::handle out, const std::string& argument, const Shape& shape,
              const Expected& expected);
// A new array where `like` is, of its library.
Output fresh(const Shape& shape, const View& like);
Output fresh(const Shape& shape, DType dtype, const py::object& on_device = {});

// Class numbers as contiguous int32, each in [0, classes) or equal to ignore_index. On a device they must
// lie so already, and nobody looks at them: a number that is no class belongs to none.
View labels(py::handle object, const std::string& argument, Index rows, Index classes,
            const std::optional<int32_t>& ignore_index = std::nullopt,
            const py::object& on_device = {});

// Row numbers as contiguous int64: n of them, each in [0, rows).
View places(py::handle object, const std::string& argument, Index n, Index rows);

bool overlap(const View& a, const View& b);
// Copies an input whose memory the output would overwrite. Kernels that read an element before they
// write it can do with an output that is exactly the input.
enum class Same { refused, allowed };
void keep_apart(View& input, const View& output, Same same);

void expect_shape(const View& view, const std::string& argument, const Shape& shape);
py::dtype numpy_dtype(DType dtype);
// TypeError for bfloat16 where the package ml_dtypes is absent.
py::dtype numpy_dtype(const ElementType& type);
std::string name_of(DType dtype);
DType dtype_named(const std::string& name);
// Likewise; "bfloat16" and "float16" are float32 with rounded operands of dense products.
Precision precision_named(const std::string& name, const Backend& backend);
std::string shown(py::handle object);  // shortened, for messages

}  // namespace fusednn::bindings

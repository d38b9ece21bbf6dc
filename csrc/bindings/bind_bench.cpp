// SPDX-License-Identifier: Apache-2.0
// What the benchmark cannot see from Python: the limits of the machine, and the three matrix products
// of a dense layer by themselves.
#include <stdexcept>
#include <string>

#include "bindings/array.h"
#include "bindings/bindings.h"
#include "cpu/ceiling.h"
#include "engine/memory.h"
#include "engine/registry.h"

namespace fusednn::bindings {
namespace {

double measure_ceiling(const std::string& kind, const std::string& dtype, int threads,
                       double seconds) {
  constexpr const char* kKinds[] = {"fma", "read", "copy", "triad"};
  for (int i = 0; i < 4; ++i) {
    if (kind == kKinds[i]) {
      const DType type = dtype_named(dtype);
      const py::gil_scoped_release without_gil;
      return cpu::measure_ceiling(static_cast<cpu::Ceiling>(i), type, threads, seconds);
    }
  }
  throw std::invalid_argument("kind='" + kind + "' is unknown; known: fma, read, copy, triad");
}

constexpr size_t kLine = 64;

void run_stream(const py::object& x, const py::object& y, const py::object& z, int threads) {
  const View first = in_place(x, "x");
  const Expected expected{first.dtype(), "x"};
  cpu::Strain stream;
  stream.ceiling = z.is_none() ? cpu::Ceiling::copy : cpu::Ceiling::triad;
  stream.n = first.size();
  void** const places[] = {&stream.x, &stream.y, &stream.z};
  const py::object* const arrays[] = {&x, &y, &z};
  const char* const names[] = {"x", "y", "z"};
  for (int i = 0; i < (z.is_none() ? 2 : 3); ++i) {
    const View view = in_place(*arrays[i], names[i], expected);
    expect_shape(view, names[i], first.shape);
    *places[i] = view.data;
    if (reinterpret_cast<uintptr_t>(view.data) % kLine != 0 ||
        static_cast<size_t>(stream.n) * size_of(view.dtype()) % kLine != 0) {
      throw std::invalid_argument(std::string(names[i]) + " must be of whole lines of 64 bytes");
    }
  }
  const py::gil_scoped_release without_gil;
  cpu::run_stream(stream, first.dtype(), threads);
}

// One product, with the arrays in the order in which a layer has them: x (rows, in), w (in, out),
// y (rows, out). One of the three is the result.
Command product(const std::string& kind, const View& x, const View& w, const View& y,
                bool bfloat16) {
  const Index rows = x.rows(), in = x.columns(), out = w.columns();
  if (kind == "forward") {
    DenseForward op;
    op.bfloat16 = bfloat16;
    op.x = x.matrix();
    op.w = w.matrix();
    op.y = y.matrix();
    op.rows = rows;
    op.in = in;
    op.out = out;
    return Command(op, x.dtype());
  }
  if (kind == "dx") {
    DenseBackwardInput op;
    op.bfloat16 = bfloat16;
    op.dz = y.matrix();
    op.w = w.matrix();
    op.dx = x.matrix();
    op.rows = rows;
    op.in = in;
    op.out = out;
    return Command(op, x.dtype());
  }
  if (kind == "dw") {
    DenseBackwardWeights op;
    op.bfloat16 = bfloat16;
    op.x = x.matrix();
    op.dz = y.matrix();
    op.dw = w.matrix();
    op.rows = rows;
    op.in = in;
    op.out = out;
    return Command(op, x.dtype());
  }
  throw std::invalid_argument("kind='" + kind + "' is unknown; known: forward, dx, dw");
}

void run_product(const std::string& kind, const py::object& x, const py::object& w,
                 const py::object& y, int repeats, bool bfloat16) {
  const View first = in_place(x, "x");
  if (bfloat16 && first.dtype() != DType::float32) {
    throw std::invalid_argument("bfloat16=True needs float32 arrays, whose values are rounded");
  }
  const Expected expected{first.dtype(), "x"};
  const View second = in_place(w, "w", expected), third = in_place(y, "y", expected);
  expect_shape(second, "w", {first.columns(), second.columns()});
  expect_shape(third, "y", {first.rows(), second.columns()});
  const Command command = product(kind, first, second, third, bfloat16);
  const Backend& cpu = engine::find_backend("cpu");
  const Schedule schedule = cpu.prepare(&command, 1, 0);
  const engine::Arena workspace(cpu, schedule.workspace_bytes);
  const py::gil_scoped_release without_gil;
  cpu.execute(&command, 1, schedule, workspace.data(), repeats);
}

}  // namespace

void bind_bench(py::module_& m) {
  using namespace py::literals;
  m.def(
      "measure_ceiling", &measure_ceiling, "kind"_a, "dtype"_a, "threads"_a, "seconds"_a = 0.1,
      "Operations (fma) or bytes (read, copy, triad) a second that this machine reaches at most.");
  m.def("run_stream", &run_stream, "x"_a, "y"_a, "z"_a, "threads"_a,
        "The loop of a memory ceiling over arrays of whole lines: y = x, or z = x + y / 2.");
  m.def("measure_handover", &cpu::measure_handover, "threads"_a,
        py::call_guard<py::gil_scoped_release>(),
        "Seconds in which so many threads have waited for each other once.");
  m.def("run_product", &run_product, "kind"_a, "x"_a, "w"_a, "y"_a, "repeats"_a = 1,
        "bfloat16"_a = false,
        "y = x w (forward), x = y wᵀ (dx) or w = xᵀ y (dw), several times, each a run of its own.");
}

}  // namespace fusednn::bindings

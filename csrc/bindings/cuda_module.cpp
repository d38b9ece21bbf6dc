// SPDX-License-Identifier: Apache-2.0
// The module fusednn._cuda: what _core needs to use the CUDA backend, and what there is to know of it.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <stdexcept>
#include <string>

#include "cuda/backend.h"
#include "cuda/cublaslt.h"
#include "cuda/fusion.h"

namespace fusednn::bindings {
namespace {

namespace py = pybind11;

py::capsule backend() {
  static const BackendExport exported{fingerprint_of(Operations{}), FNN_VERSION, &cuda::backend()};
  return py::capsule(&exported, "fusednn.backend");
}

py::dict device() {
  const cuda::DeviceInfo info = cuda::device_info();
  py::dict result;
  result["name"] = info.name;
  result["ordinal"] = info.ordinal;
  result["capability"] = py::make_tuple(info.capability_major, info.capability_minor);
  result["multiprocessors"] = info.multiprocessors;
  result["memory_bytes"] = info.memory_bytes;
  result["free_bytes"] = info.free_bytes;
  result["driver"] = py::make_tuple(info.driver / 1000, info.driver % 1000 / 10);
  result["runtime"] = py::make_tuple(info.runtime / 1000, info.runtime % 1000 / 10);
  result["emulated"] = info.emulated;
  return result;
}

py::dict recordings() {
  const cuda::RecordingCounts counts = cuda::recording_counts();
  py::dict result;
  result["graphs"] = counts.graphs;
  result["residents"] = counts.residents;
  result["replays"] = counts.replays;
  result["uploads"] = counts.uploads;
  return result;
}

void set_fusing(const std::string& when) {
  const auto set = [](cuda::Fusing fusing) { cuda::set_fusing(fusing); };
  if (when == "never") return set(cuda::Fusing::never);
  if (when == "where_faster") return set(cuda::Fusing::where_faster);
  if (when == "always") return set(cuda::Fusing::always);
  throw std::invalid_argument("when='" + when + "': expected never, where_faster or always");
}

}  // namespace
}  // namespace fusednn::bindings

PYBIND11_MODULE(_cuda, m, pybind11::mod_gil_not_used()) {
  using namespace fusednn::bindings;
  m.doc() = "The CUDA backend of fusednn, imported when a device is asked for.";
  m.attr("__version__") = FNN_VERSION;
  m.def("backend", &backend, "What _core.register_backend takes.");
  m.def("problem", &fusednn::cuda::problem, "Why no device can be used, or ''.");
  m.def("device", &device, "The device in use.");
  m.def("load_cublaslt", &fusednn::cuda::load_cublaslt, pybind11::arg("paths"),
        "Loads the first that can be loaded and returns its name.");
  m.def("cublaslt_version", &fusednn::cuda::cublaslt_version, "0 where it is not loaded.");
  m.def("cublaslt_plans", &fusednn::cuda::cublaslt_plans, "How many products it knows.");
  m.def("allow_resident", &fusednn::cuda::allow_resident, pybind11::arg("allowed"),
        "Whether one block may run the lists of small networks; for lists prepared from now on.");
  m.def("set_product_way", &fusednn::cuda::set_product_way, pybind11::arg("way"),
        "Who multiplies: 'own', 'bare' or 'epilogue', or 'auto', by the table of shapes.");
  m.def("product_class", &fusednn::cuda::product_class, pybind11::arg("m"), pybind11::arg("n"),
        pybind11::arg("k"), "The line of that table for a product.");
  m.def("allow_tf32", &fusednn::cuda::allow_tf32, pybind11::arg("allowed"),
        "Whether cuBLASLt may round operands of float32 products to TF32.");
  m.def("set_fusing", &set_fusing, pybind11::arg("when"),
        "Whether rows of dense layers in 16 bits run as one launch: 'never', 'where_faster' (the "
        "default) "
        "or 'always'. It counts for what is prepared from then on.");
  m.def("fused_launches", &fusednn::cuda::fused_launches,
        "How many such launches the host has made.");
  m.def("recordings", &recordings, "How many lists of commands run as graphs, and how often.");
}

// SPDX-License-Identifier: Apache-2.0
// What this build is and how it runs here: instruction sets, threads, devices.
#include <pybind11/stl.h>

#include <algorithm>
#include <stdexcept>

#include "bindings/bindings.h"
#include "cpu/backend.h"
#include "engine/registry.h"

namespace fusednn::bindings {
namespace {

namespace py = pybind11;

py::list isas() {
  const std::vector<std::string> supported = cpu::supported_isas();
  py::list result;
  for (const std::string& name : cpu::compiled_isas()) {
    py::dict entry;
    entry["name"] = name;
    entry["supported"] = std::find(supported.begin(), supported.end(), name) != supported.end();
    result.append(entry);
  }
  return result;
}

// Empty where the device is there, else the sentence that says why it is not.
std::string why_not(const std::string& device) {
  try {
    engine::find_backend(device);
  } catch (const std::invalid_argument& error) {
    return error.what();
  }
  return "";
}

py::dict build_info() {
  py::dict info;
#if defined(__clang__)
  info["compiler"] = "Clang " __clang_version__;
#else
  info["compiler"] = "GCC " __VERSION__;
#endif
  info["isas"] = cpu::compiled_isas();
  info["devices"] = engine::backend_names();
  info["cuda"] = why_not("cuda");
  return info;
}

}  // namespace

void bind_info(py::module_& m) {
  using namespace py::literals;
  m.def("isas", &isas,
        "The instruction sets compiled, the fastest last, and whether each runs here.");
  m.def("isa", &cpu::chosen_isa, "The instruction set in use.");
  m.def("set_isa", &cpu::set_isa, "name"_a, "Changes it for all that runs from now on.");
  m.def("uses_bf16", &cpu::uses_bf16,
        "Whether bfloat16 products run on AVX512-BF16; otherwise they are emulated.");
  m.def("allow_bf16", &cpu::allow_bf16, "allowed"_a, "Without it, emulated everywhere; for tests.");
  m.def("available_processors", &cpu::available_processors,
        "Processors that the affinity mask and the cgroup leave to this process.");
  m.def("num_threads", &cpu::num_threads, "How many threads a run may use.");
  m.def("set_num_threads", &cpu::set_num_threads, "n"_a);
  m.def("build_info", &build_info,
        "Compiler, instruction sets, devices, and why CUDA is not among them (or '').");
}

}  // namespace fusednn::bindings

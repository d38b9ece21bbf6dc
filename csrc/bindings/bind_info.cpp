// SPDX-License-Identifier: Apache-2.0
// What this build is and how it runs here: instruction sets, threads, devices.
#include <pybind11/stl.h>

#include <algorithm>
#include <stdexcept>
#include <vector>

#include "bindings/bindings.h"
#include "bindings/run.h"
#include "cpu/backend.h"
#include "cpu/host_threads.h"
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

void register_backend(const py::capsule& capsule) {
  if (std::string(capsule.name() != nullptr ? capsule.name() : "") != "fusednn.backend") {
    throw std::invalid_argument("register_backend: the capsule holds no backend");
  }
  engine::register_backend(*capsule.get_pointer<const BackendExport>(), FNN_VERSION);
}

void set_array_device(const std::string& name) {
  (void)engine::find_backend(name);  // or an error
  Run::array_device() = name;
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
  return info;
}

// A function of another library by its address.
template <class Function>
void find(uintptr_t address, Function*& function) {
  if (address == 0) throw std::invalid_argument("functions: an address is 0");
  function = reinterpret_cast<Function*>(address);
}

void borrow_threads(const std::vector<uintptr_t>& functions) {
  if (functions.size() != 5) throw std::invalid_argument("functions: expected 5 addresses");
  cpu::HostRuntime runtime;
  find(functions[0], runtime.parallel);
  find(functions[1], runtime.max_threads);
  find(functions[2], runtime.team_size);
  find(functions[3], runtime.rank);
  find(functions[4], runtime.in_parallel);
  cpu::borrow_threads(runtime);
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
  m.def("borrow_threads", &borrow_threads, "functions"_a,
        "Runs teams on the threads of an OpenMP runtime in this process, given by the addresses of "
        "GOMP_parallel, omp_get_max_threads, omp_get_num_threads, omp_get_thread_num and "
        "omp_in_parallel.");
  m.def("build_info", &build_info, "Compiler, instruction sets, and the devices known so far.");
  m.def("register_backend", &register_backend, "backend"_a,
        "Makes a device known that comes from a module of its own.");
  m.def("set_array_device", &set_array_device, "name"_a,
        "Where single operations on arrays run; for tests: another device costs a copy each way.");
}

}  // namespace fusednn::bindings

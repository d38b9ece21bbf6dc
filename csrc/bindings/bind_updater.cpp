// SPDX-License-Identifier: Apache-2.0
// engine::Updater for Python: tensors by their addresses, which the Python layers have checked.
#include <pybind11/stl.h>

#include <memory>
#include <stdexcept>
#include <utility>

#include "bindings/array.h"
#include "bindings/bindings.h"
#include "bindings/parameters.h"
#include "bindings/specs.h"
#include "engine/updater.h"

namespace fusednn::bindings {
namespace {

using engine::OptimizerSpec;
using engine::UpdaterStep;
using engine::UpdaterTensor;
using Addresses = std::vector<uintptr_t>;

template <class T>
T* pointer(uintptr_t address) {
  return reinterpret_cast<T*>(address);
}

void need_count(const char* argument, size_t got, size_t expected, const char* of_what) {
  if (got != expected) {
    throw std::invalid_argument(std::string(argument) + ": got " + std::to_string(got) +
                                ", expected " + std::to_string(expected) + ", one per " + of_what);
  }
}

// An address that must be there, unless the tensor is empty.
void* existing(const std::string& argument, size_t i, uintptr_t address, Index size) {
  if (address == 0 && size > 0) {
    throw std::invalid_argument(argument + "[" + std::to_string(i) + "]: is null");
  }
  return pointer<void>(address);
}

// Gradients are many and come anew in each step, so this takes the short way through the list.
Gradients gradients_at(const py::list& given) {
  Gradients gradients;
  gradients.addresses.resize(given.size());
  for (size_t i = 0; i < given.size(); ++i) {
    void* address = PyLong_AsVoidPtr(PyList_GET_ITEM(given.ptr(), static_cast<Py_ssize_t>(i)));
    if (address == nullptr && PyErr_Occurred() != nullptr) throw py::error_already_set();
    gradients.addresses[i] = address;
  }
  return gradients;
}

// number_list() names what is wrong, but takes its time.
std::vector<double> rates(const py::list& given) {
  std::vector<double> list(given.size());
  for (size_t i = 0; i < list.size(); ++i) {
    PyObject* item = PyList_GET_ITEM(given.ptr(), static_cast<Py_ssize_t>(i));
    if (!PyFloat_CheckExact(item)) return number_list(given, "lr");
    list[i] = PyFloat_AS_DOUBLE(item);
  }
  return list;
}

Storage storage_named(const std::string& dtype) {
  if (dtype == "float32" || dtype == "float64") return Storage::native;
  if (dtype == "bfloat16") return Storage::bfloat16;
  if (dtype == "float16") return Storage::float16;
  throw std::invalid_argument("dtype='" + dtype +
                              "' is unknown; expected float32, float64, bfloat16 or float16");
}

// A dictionary of addresses, each of which may be missing or 0.
engine::LiveNumbers live_numbers(const py::object& given) {
  engine::LiveNumbers live;
  if (given.is_none()) return live;
  for (const auto& [key, value] : given.cast<py::dict>()) {
    const auto name = key.cast<std::string>();
    if (name == "lr") {
      for (const py::handle& each : value) {
        const auto [address, wide] = each.cast<std::pair<uintptr_t, bool>>();
        live.lr.push_back({pointer<void>(address), wide});
      }
    } else if (name == "found_inf") {
      live.found_inf = pointer<float>(value.cast<uintptr_t>());
    } else if (name == "loss_scale") {
      live.loss_scale = pointer<float>(value.cast<uintptr_t>());
    } else if (name == "norm") {
      live.norm = pointer<double>(value.cast<uintptr_t>());
    } else {
      throw std::invalid_argument("live: '" + name +
                                  "' is unknown; known: lr, found_inf, loss_scale, norm");
    }
  }
  return live;
}

class Updater {
 public:
  Updater(const engine::UpdaterSpec& spec, bool ema, bool masters)
      : rule_(spec.rule), ema_(ema), masters_(masters), live_(spec.live), engine_(spec) {}

  static std::unique_ptr<Updater> make(const std::string& rule, const std::string& convention,
                                       const std::string& dtype, bool ema, bool masters,
                                       const std::string& device, bool live, bool stochastic) {
    const Storage storage = storage_named(dtype);
    if (masters && storage == Storage::native) {
      throw std::invalid_argument(
          "masters: float32 copies are for bfloat16 and float16, dtype is " + dtype);
    }
    if (stochastic && (storage != Storage::bfloat16 || masters)) {
      throw std::invalid_argument(
          "stochastic: rounding at random is for bfloat16 without masters, dtype is " + dtype);
    }
    const engine::UpdaterSpec spec{
        rule,   convention, dtype == "float64" ? DType::float64 : DType::float32, storage,
        device, live,       stochastic ? Rounding::stochastic : Rounding::nearest};
    return std::make_unique<Updater>(spec, ema, masters);
  }

  std::vector<std::string> states() const { return engine_.info().states; }

  std::vector<std::string> scalars() const {
    std::vector<std::string> names{"step"};
    for (const std::string& name : engine_.info().memory_names) names.push_back(name);
    return names;
  }

  // What fills the states before step 1, and what the scalars are then.
  std::vector<double> initial_states(const py::dict& options) const {
    return engine_.initial_states(spec_with_rule(options));
  }

  std::vector<double> initial_scalars() const {
    std::vector<double> values{0};
    for (const double value : engine_.info().memory) values.push_back(value);
    return values;
  }

  void set_tensors(const Addresses& parameters, const std::vector<Index>& sizes,
                   const std::vector<Addresses>& states, const std::vector<Addresses>& scalars,
                   const std::vector<int32_t>& groups, const std::optional<Addresses>& ema,
                   const std::optional<Addresses>& masters,
                   const std::optional<std::vector<uint32_t>>& numbers) {
    const size_t n = parameters.size();
    if (numbers) need_count("numbers", numbers->size(), n, "parameter");
    need_count("sizes", sizes.size(), n, "parameter");
    need_count("groups", groups.size(), n, "parameter");
    need_count("states", states.size(), engine_.info().states.size(), "state of the rule");
    for (const auto& list : states) need_count("states", list.size(), n, "parameter");
    need_count("scalars", scalars.size(), engine_.n_scalars(), "scalar of the rule");
    for (const auto& list : scalars) need_count("scalars", list.size(), n, "parameter");
    need_given("ema", ema_, ema, n);
    need_given("masters", masters_, masters, n);

    std::vector<UpdaterTensor> tensors(n);
    for (size_t i = 0; i < n; ++i) {
      if (sizes[i] < 0) {
        throw std::invalid_argument("sizes[" + std::to_string(i) + "]=" + std::to_string(sizes[i]) +
                                    " must not be negative");
      }
      UpdateTensor& memory = tensors[i].memory;
      memory.n = sizes[i];
      memory.group = groups[i];
      memory.number = numbers ? (*numbers)[i] : static_cast<uint32_t>(i);
      memory.parameter = existing("parameters", i, parameters[i], sizes[i]);
      for (size_t k = 0; k < states.size(); ++k) {
        memory.state[k] = existing("states[" + std::to_string(k) + "]", i, states[k][i], sizes[i]);
      }
      for (size_t k = 0; k < scalars.size(); ++k) {
        tensors[i].scalars[k] = static_cast<float*>(
            existing("scalars[" + std::to_string(k) + "]", i, scalars[k][i], 1));
      }
      if (ema) memory.ema = existing("ema", i, (*ema)[i], sizes[i]);
      if (masters) {
        memory.master = static_cast<float*>(existing("masters", i, (*masters)[i], sizes[i]));
      }
    }
    engine_.set_tensors(std::move(tensors));
  }

  void set_groups(const py::list& options) {
    std::vector<OptimizerSpec> specs;
    for (const py::handle& each : options) specs.push_back(spec_with_rule(each.cast<py::dict>()));
    engine_.set_groups(std::move(specs));
  }

  std::optional<double> step(const Gradients& gradients, const py::list& lr, double gradient_scale,
                             const std::optional<double>& max_norm, bool clear_gradient,
                             uint64_t queue, const py::object& live) {
    const UpdaterStep step{gradients.addresses, rates(lr), gradient_scale,    max_norm,
                           clear_gradient,      queue,     live_numbers(live)};
    double norm = 0;
    {
      const py::gil_scoped_release without_gil;
      norm = engine_.step(step);
    }
    if (!max_norm || live_) return std::nullopt;
    return norm;
  }

  double square_norm(const Gradients& gradients, double gradient_scale, uint64_t queue) {
    const py::gil_scoped_release without_gil;
    return engine_.square_norm(gradients.addresses, gradient_scale, queue);
  }

 private:
  OptimizerSpec spec_with_rule(const py::dict& options) const {
    py::dict whole = options.attr("copy")();
    whole["rule"] = rule_;
    return optimizer_spec(whole);
  }

  static void need_given(const char* argument, bool needed, const std::optional<Addresses>& given,
                         size_t n) {
    if (given.has_value() != needed) {
      throw std::invalid_argument(std::string(argument) +
                                  ": must be given if and only if the "
                                  "updater was made with it");
    }
    if (given) need_count(argument, given->size(), n, "parameter");
  }

  std::string rule_;
  bool ema_, masters_, live_;
  engine::Updater engine_;
};

}  // namespace

void bind_updater(py::module_& m) {
  using namespace py::literals;
  py::class_<Gradients>(m, "Gradients", "The gradients of one step, by address.")
      .def(py::init(&gradients_at), "addresses"_a, "0 where there is none.")
      .def_property_readonly("complete", &Gradients::complete, "Whether every tensor has one.")
      .def("take", &Gradients::take, "places"_a, "Those of some of the tensors.");
  py::implicitly_convertible<py::list, Gradients>();

  m.def("clip_coefficient", &engine::clip_coefficient, "norm"_a, "max_norm"_a,
        "What scales gradients of this norm down to max_norm; not finite if the norm is not.");

  py::class_<Parameters>(m, "Parameters", "Arrays that an optimizer changes where they lie.")
      .def(py::init<const py::list&>(), "arrays"_a)
      .def_property_readonly("arrays", &Parameters::arrays,
                             "The same memory, as NumPy or a DeviceArray sees it.")
      .def_property_readonly("on_device", &Parameters::on_device)
      .def_property_readonly("addresses", &Parameters::addresses)
      .def("gradients", &Parameters::gradients, "arrays"_a, py::kw_only(), "writable"_a = false,
           "Reads arrays of the same shapes and dtypes, or None.");

  py::class_<Updater>(
      m, "Updater",
      "Tensors that one optimizer steps over together, by their addresses, which the caller keeps "
      "alive.")
      .def(py::init(&Updater::make), "rule"_a, py::kw_only(), "convention"_a = "torch",
           "dtype"_a = "float32", "ema"_a = false, "masters"_a = false, "device"_a = "cpu",
           "live"_a = false, "stochastic"_a = false,
           "A live updater finds the scalars in the memory of its device, and waits for nothing. "
           "A stochastic one rounds bfloat16 at random, by the seeds of its groups.")
      .def_property_readonly("states", &Updater::states, "Names of the state tensors, in order.")
      .def_property_readonly("scalars", &Updater::scalars,
                             "Names of the float32 numbers kept per tensor, \"step\" first.")
      .def_property_readonly("initial_scalars", &Updater::initial_scalars,
                             "What the scalars are before step 1.")
      .def("initial_states", &Updater::initial_states, "options"_a,
           "What fills each of the state tensors before step 1.")
      .def("set_tensors", &Updater::set_tensors, "parameters"_a, "sizes"_a, "states"_a, "scalars"_a,
           "groups"_a, py::kw_only(), "ema"_a = py::none(), "masters"_a = py::none(),
           "numbers"_a = py::none(),
           "Addresses; states[k][i] and scalars[k][i] belong to parameter i, whose noise follows "
           "from numbers[i].")
      .def("set_groups", &Updater::set_groups, "options"_a,
           "Per group the options of optimizer_step, without lr, rule and convention.")
      .def("step", &Updater::step, "gradients"_a, py::kw_only(), "lr"_a, "gradient_scale"_a = 1.0,
           "max_norm"_a = py::none(), "clear_gradient"_a = false, "queue"_a = 0,
           "live"_a = py::none(),
           "Steps over the tensors whose gradient is not 0; returns their norm if max_norm limits "
           "it. `live` gives a live updater addresses in its device's memory: of \"lr\" per group, "
           "(address or 0, whether it is float64); of \"found_inf\", a float32 that is not 0 where "
           "the step is to be left out; of \"loss_scale\", a float32 that divides the gradients; "
           "of \"norm\", a float64 where their norm goes.")
      .def("square_norm", &Updater::square_norm, "gradients"_a, py::kw_only(),
           "gradient_scale"_a = 1.0, "queue"_a = 0, "The sum of the squares of all gradients.");
}

}  // namespace fusednn::bindings

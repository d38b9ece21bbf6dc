// SPDX-License-Identifier: Apache-2.0
// Optimizer steps on lists of arrays, in place. The state lies in arrays of the caller.
#include <pybind11/stl.h>

#include <algorithm>
#include <stdexcept>

#include "bindings/array.h"
#include "bindings/bindings.h"
#include "bindings/run.h"
#include "bindings/specs.h"

namespace fusednn::bindings {
namespace {

std::string place(const std::string& list, size_t i) {
  return list + "[" + std::to_string(i) + "]";
}

// An array as the step needs it: contiguous, of the size of its parameter.
struct Block {
  char* data = nullptr;
  py::object owner;
};

// The parameters, all of one dtype.
std::vector<View> read_parameters(const py::list& given, bool writes) {
  std::vector<View> views;
  for (size_t i = 0; i < given.size(); ++i) {
    const std::string argument = place("parameters", i);
    std::optional<Expected> expected;
    if (i > 0) expected = like(views[0], "parameters[0]");
    const py::object item = given[i];
    views.push_back(writes ? in_place(item, argument, expected) : real(item, argument, expected));
  }
  return views;
}

// A list of arrays, one for each parameter.
std::vector<Block> read_like(const std::vector<View>& parameters, const py::list& given,
                             const std::string& name, Access access) {
  if (given.size() != parameters.size()) {
    throw std::invalid_argument(name + ": has " + std::to_string(given.size()) +
                                " arrays, expected " + std::to_string(parameters.size()) +
                                ", one per parameter");
  }
  std::vector<Block> blocks(parameters.size());
  if (blocks.empty()) return blocks;
  const py::dtype dtype = numpy_dtype(parameters[0].dtype());
  for (size_t i = 0; i < blocks.size(); ++i) {
    const py::object item = given[i];
    blocks[i] = {data_like(item, dtype, parameters[i], access), item};
    if (blocks[i].data != nullptr) continue;
    const std::string argument = place(name, i);
    const Expected expected = like(parameters[i], place("parameters", i));
    const View view = access == Access::write ? in_place(item, argument, expected)
                                              : real(item, argument, expected);
    expect_shape(view, argument, parameters[i].shape);
    blocks[i] = {view.data, view.owner};
  }
  return blocks;
}

// An entry of the state, which is what init_optimizer_state() made.
py::object entry(const py::dict& state, const std::string& name) {
  if (!state.contains(name)) {
    throw std::invalid_argument("state: has no entry '" + name +
                                "'; make it with init_optimizer_state");
  }
  return state[py::str(name)];
}

py::list list_entry(const py::dict& state, const std::string& name) {
  const py::object value = entry(state, name);
  if (!PyList_Check(value.ptr()) && !PyTuple_Check(value.ptr())) {
    throw py::type_error("state['" + name + "']: must be a list of arrays, got " + shown(value));
  }
  return py::list(value);
}

// What the step writes must not be read or written under another name.
class Extents {
 public:
  void add(const char* data, size_t bytes, Access access) {
    if (bytes > 0) list_.push_back({data, data + bytes, access == Access::write});
  }
  void add(const std::vector<View>& like, const std::vector<Block>& blocks, Access access) {
    for (size_t i = 0; i < blocks.size(); ++i) add(blocks[i].data, bytes_of(like[i]), access);
  }
  static size_t bytes_of(const View& view) {
    return static_cast<size_t>(view.size()) * size_of(view.dtype());
  }

  void need_apart() {
    std::sort(list_.begin(), list_.end(),
              [](const Extent& a, const Extent& b) { return a.begin < b.begin; });
    const char* written = nullptr;  // how far those reach so far
    const char* touched = nullptr;
    for (const Extent& each : list_) {
      if ((each.writes ? touched : written) > each.begin) {
        throw std::invalid_argument(
            "parameters, gradients and state: two of the arrays share memory");
      }
      touched = std::max(touched, each.end);
      if (each.writes) written = std::max(written, each.end);
    }
  }

 private:
  struct Extent {
    const char *begin, *end;
    bool writes;
  };
  std::vector<Extent> list_;
};

void optimizer_step(const py::dict& options, const py::list& parameters, const py::list& gradients,
                    const py::dict& state, int64_t step, bool clear_gradient) {
  const engine::OptimizerSpec spec = optimizer_spec(options);
  const std::vector<double> hyper = engine::check(spec);
  const int rule = engine::find_optimizer(spec.rule);
  const engine::OptimizerInfo& info = engine::optimizers()[static_cast<size_t>(rule)];
  if (step < 1) {
    throw std::invalid_argument("step=" + std::to_string(step) + " must be at least 1");
  }

  const std::vector<View> p = read_parameters(parameters, true);
  const Access touch = clear_gradient ? Access::write : Access::read;
  const std::vector<Block> g = read_like(p, gradients, "gradients", touch);
  std::vector<std::vector<Block>> slots;
  for (const std::string& name : info.states) {
    slots.push_back(read_like(p, list_entry(state, name), "state['" + name + "']", Access::write));
  }
  std::vector<Block> ema;
  if (spec.ema_decay > 0) {
    ema = read_like(p, list_entry(state, "ema"), "state['ema']", Access::write);
  }
  const View memory = in_place(entry(state, "memory"), "state['memory']",
                               Expected{DType::float64, "numbers kept between steps"});
  expect_shape(memory, "state['memory']", {static_cast<Index>(info.memory.size())});

  Extents extents;
  extents.add(memory.data, Extents::bytes_of(memory), Access::write);
  for (const View& view : p) extents.add(view.data, Extents::bytes_of(view), Access::write);
  extents.add(p, g, touch);
  extents.add(p, ema, Access::write);
  for (const auto& slot : slots) extents.add(p, slot, Access::write);
  extents.need_apart();
  if (p.empty()) return;

  std::vector<UpdateTensor> tensors(p.size());
  for (size_t i = 0; i < p.size(); ++i) {
    tensors[i].parameter = p[i].data;
    tensors[i].gradient = g[i].data;
    for (size_t slot = 0; slot < slots.size(); ++slot) tensors[i].state[slot] = slots[slot][i].data;
    if (!ema.empty()) tensors[i].ema = ema[i].data;
    tensors[i].n = p[i].size();
    if (i > 0) tensors[i].before = tensors[i - 1].before + tensors[i - 1].n;
  }
  const UpdateGroup group =
      engine::prepare_group(spec, info, engine::find_convention(spec.convention), hyper.data(),
                            step, reinterpret_cast<double*>(memory.data));
  std::vector<double> coefficients(p.size(), 1.0);

  OptimizerStep update;
  update.rule = rule;
  update.tensors = tensors.data();
  update.n_tensors = static_cast<Index>(tensors.size());
  update.elements = tensors.back().before + tensors.back().n;
  update.groups = &group;
  update.coefficient_per_tensor = spec.clip_norm > 0;
  update.clear_gradient = clear_gradient;
  Run run(p[0]);
  if (spec.clip_norm > 0 || spec.global_clip_norm > 0) {
    ClipCoefficient clip;
    clip.tensors = update.tensors;
    clip.n_tensors = update.n_tensors;
    clip.elements = update.elements;
    clip.groups = update.groups;
    clip.global = spec.global_clip_norm > 0;
    clip.max_norm = clip.global ? spec.global_clip_norm : spec.clip_norm;
    clip.coefficients = coefficients.data();
    update.coefficients = coefficients.data();
    run.add(clip);
  }
  run.add(update).now();
}

py::dict init_optimizer_state(const py::dict& options, const py::list& parameters) {
  const engine::OptimizerSpec spec = optimizer_spec(options);
  const std::vector<double> hyper = engine::check(spec);
  const int convention = engine::find_convention(spec.convention);
  const engine::OptimizerInfo& info =
      engine::optimizers()[static_cast<size_t>(engine::find_optimizer(spec.rule))];
  const std::vector<View> p = read_parameters(parameters, false);

  py::dict state;
  Run run(p.empty() ? View() : p[0]);
  for (size_t slot = 0; slot < info.states.size(); ++slot) {
    const double value = info.initial_state(hyper.data(), convention, static_cast<int>(slot));
    py::list list;
    for (const View& each : p) {
      const Output made = fresh(each.shape, each);
      run.add(Fill{made.view.data, each.size(), value});
      list.append(made.object);
    }
    state[py::str(info.states[slot])] = list;
  }
  if (spec.ema_decay > 0) {
    py::list list;
    for (const View& each : p) {
      const Output made = fresh(each.shape, each);
      const Index n = each.size();
      run.add(CopyRows{
          {each.data,      n},
          {made.view.data, n},
          1, n, false
      });
      list.append(made.object);
    }
    state["ema"] = list;
  }
  run.now();
  state["memory"] =
      py::array_t<double>(static_cast<py::ssize_t>(info.memory.size()), info.memory.data());
  return state;
}

}  // namespace

void bind_optimizer(py::module_& m) {
  using namespace py::literals;
  m.def("init_optimizer_state", &init_optimizer_state, "options"_a, "parameters"_a,
        "The state before step 1: a list of arrays per state tensor of the rule, and its memory.");
  m.def("optimizer_step", &optimizer_step, "options"_a, "parameters"_a, "gradients"_a, "state"_a,
        "step"_a, "clear_gradient"_a = false, "Changes parameters and state in place.");
}

}  // namespace fusednn::bindings

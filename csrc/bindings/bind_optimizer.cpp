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

// The parameters, all of one dtype.
std::vector<View> read_parameters(const py::list& given, bool writes) {
  std::vector<View> views;
  for (size_t i = 0; i < given.size(); ++i) {
    const std::string argument = place("parameters", i);
    std::optional<Expected> expected;
    if (i > 0) expected = Expected{views[0].dtype(), "parameters[0]"};
    const py::object item = given[i];
    views.push_back(writes ? in_place(item, argument, expected) : real(item, argument, expected));
  }
  return views;
}

// A list of arrays, one for each parameter.
std::vector<View> read_like(const std::vector<View>& parameters, const py::list& given,
                            const std::string& name, bool writes) {
  if (given.size() != parameters.size()) {
    throw std::invalid_argument(name + ": has " + std::to_string(given.size()) +
                                " arrays, expected " + std::to_string(parameters.size()) +
                                ", one per parameter");
  }
  std::vector<View> views;
  for (size_t i = 0; i < given.size(); ++i) {
    const std::string argument = place(name, i);
    const Expected expected{parameters[i].dtype(), place("parameters", i)};
    const py::object item = given[i];
    views.push_back(writes ? in_place(item, argument, expected) : real(item, argument, expected));
    expect_shape(views[i], argument, parameters[i].shape);
  }
  return views;
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
void need_apart(const std::vector<const View*>& written, const std::vector<View>& read) {
  std::vector<const View*> all = written;
  for (const View& view : read) all.push_back(&view);
  const size_t n_written = written.size();
  std::vector<std::pair<const View*, bool>> sorted;
  for (size_t i = 0; i < all.size(); ++i) {
    if (all[i]->size() > 0) sorted.emplace_back(all[i], i < n_written);
  }
  std::sort(sorted.begin(), sorted.end(),
            [](const auto& a, const auto& b) { return a.first->data < b.first->data; });
  const View* last_written = nullptr;  // of those so far, the one that reaches farthest
  const View* last = nullptr;
  const auto end = [](const View* view) {
    return view->data + view->size() * static_cast<Index>(size_of(view->dtype()));
  };
  for (const auto& [view, writes] : sorted) {
    const View* before = writes ? last : last_written;
    if (before != nullptr && end(before) > view->data) {
      throw std::invalid_argument(
          "parameters, gradients and state: two of the arrays share memory");
    }
    if (last == nullptr || end(view) > end(last)) last = view;
    if (writes && (last_written == nullptr || end(view) > end(last_written))) last_written = view;
  }
}

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
  const std::vector<View> g = read_like(p, gradients, "gradients", clear_gradient);
  std::vector<std::vector<View>> slots;
  for (const std::string& name : info.states) {
    slots.push_back(read_like(p, list_entry(state, name), "state['" + name + "']", true));
  }
  std::vector<View> ema;
  if (spec.ema_decay > 0) ema = read_like(p, list_entry(state, "ema"), "state['ema']", true);
  const View memory = in_place(entry(state, "memory"), "state['memory']",
                               Expected{DType::float64, "numbers kept between steps"});
  expect_shape(memory, "state['memory']", {static_cast<Index>(info.memory.size())});

  std::vector<const View*> written{&memory};
  const auto add = [&](const std::vector<View>& views) {
    for (const View& view : views) written.push_back(&view);
  };
  add(p);
  add(ema);
  for (const auto& slot : slots) add(slot);
  if (clear_gradient) add(g);
  need_apart(written, clear_gradient ? std::vector<View>{} : g);
  if (p.empty()) return;

  std::vector<UpdateTensor> tensors(p.size());
  for (size_t i = 0; i < p.size(); ++i) {
    tensors[i].parameter = p[i].data;
    tensors[i].gradient = g[i].data;
    for (size_t slot = 0; slot < slots.size(); ++slot) tensors[i].state[slot] = slots[slot][i].data;
    if (!ema.empty()) tensors[i].ema = ema[i].data;
    tensors[i].n = p[i].size();
  }
  const UpdateGroup group =
      engine::prepare_group(spec, info, engine::find_convention(spec.convention), hyper.data(),
                            step, reinterpret_cast<double*>(memory.data));
  std::vector<double> coefficients(p.size(), 1.0);

  OptimizerStep update;
  update.rule = rule;
  update.tensors = tensors.data();
  update.n_tensors = static_cast<Index>(tensors.size());
  update.groups = &group;
  update.coefficient_per_tensor = spec.clip_norm > 0;
  update.clear_gradient = clear_gradient;
  Run run(p[0].dtype());
  if (spec.clip_norm > 0 || spec.global_clip_norm > 0) {
    ClipCoefficient clip;
    clip.tensors = update.tensors;
    clip.n_tensors = update.n_tensors;
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
  Run run(p.empty() ? DType::float32 : p[0].dtype());
  for (size_t slot = 0; slot < info.states.size(); ++slot) {
    const double value = info.initial_state(hyper.data(), convention, static_cast<int>(slot));
    py::list list;
    for (const View& like : p) {
      const Output made = fresh(like.shape, like.dtype());
      run.add(Fill{made.view.data, like.size(), value});
      list.append(made.object);
    }
    state[py::str(info.states[slot])] = list;
  }
  if (spec.ema_decay > 0) {
    py::list list;
    for (const View& like : p) {
      const Output made = fresh(like.shape, like.dtype());
      const Index n = like.size();
      run.add(CopyRows{
          {like.data,      n},
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

// SPDX-License-Identifier: Apache-2.0
// engine::Network for Python: every array is checked before anything changes, memory of the network is
// shown without copies, and long runs hold no lock and can be interrupted.
#include <pybind11/stl.h>

#include <algorithm>
#include <atomic>
#include <limits>
#include <optional>
#include <stdexcept>
#include <thread>

#include "bindings/array.h"
#include "bindings/bindings.h"
#include "bindings/network_data.h"
#include "bindings/orders.h"
#include "bindings/outside.h"
#include "bindings/specs.h"
#include "engine/epochs.h"
#include "engine/network.h"
#include "engine/registry.h"

namespace fusednn::bindings {
namespace {

using engine::EpochReport;
using engine::Node;
using engine::Shape;

template <class Spec>
std::vector<Spec> specs_of(const py::list& given, const char* name, Spec (*read)(const py::dict&)) {
  std::vector<Spec> specs;
  for (const py::handle item : given) {
    if (!PyDict_Check(item.ptr())) {
      throw py::type_error(std::string(name) + ": must be a list of dicts, got " + shown(item));
    }
    specs.push_back(read(py::reinterpret_borrow<py::dict>(item)));
  }
  return specs;
}

// An engine::Network and who is using it. One run at a time; a watcher, which is called from within
// one, may read and tune the network, predict and evaluate, but not train.
class BoundNetwork {
 public:
  engine::Network network;
  py::tuple held;  // keeps alive what the network holds

  BoundNetwork(const std::vector<engine::NodeSpec>& nodes, Precision precision,
               const Backend& backend, uint64_t seed)
      : network(nodes, precision, backend, seed) {}

  enum class Within { nothing, run };  // whether a watcher may do it in the middle of its run

  class Use {
   public:
    Use(BoundNetwork& owner, const char* what, Within within = Within::nothing) : owner_(owner) {
      std::thread::id nobody;
      if (owner.user_.compare_exchange_strong(nobody, std::this_thread::get_id())) return;
      if (within == Within::nothing || nobody != std::this_thread::get_id()) {
        throw std::runtime_error(std::string(what) + ": this network is already running");
      }
      aside_.emplace(owner.network);
    }
    ~Use() {
      if (!aside_) owner_.user_ = std::thread::id();
    }
    Use(const Use&) = delete;
    Use& operator=(const Use&) = delete;

   private:
    BoundNetwork& owner_;
    std::optional<engine::Network::Aside> aside_;
  };

  // For small settings, which the watcher of the present run may change between two steps.
  void need_access(const char* what) const {
    const std::thread::id user = user_;
    if (user != std::thread::id() && user != std::this_thread::get_id()) {
      throw std::runtime_error(std::string(what) + ": this network is running in another thread");
    }
  }

  engine::Optimizer& optimizer(const char* what) const {
    need_access(what);
    if (network.optimizer() == nullptr) {
      throw std::invalid_argument(std::string(what) +
                                  ": the network has no optimizer; give one to "
                                  "set_training");
    }
    return *network.optimizer();
  }

 private:
  std::atomic<std::thread::id> user_{};
};

BoundNetwork& bound(const py::object& self) { return self.cast<BoundNetwork&>(); }

// ---- the network's memory ------------------------------------------------------------------------

// One array per parameter over an arena of the network, which the arrays keep alive.
py::list views(const engine::Network& network, char* arena, const py::object& owner) {
  py::list list;
  for (const engine::Parameter& p : network.graph().parameters) {
    char* data = arena + p.offset * static_cast<Index>(size_of(network.dtype()));
    list.append(py::array(numpy_dtype(network.dtype()), p.shape, data, owner));
  }
  return list;
}

// Keeps an optimizer alive for as long as an array shows its memory.
py::capsule keeper(const std::shared_ptr<engine::Optimizer>& optimizer) {
  using Pointer = std::shared_ptr<engine::Optimizer>;
  return py::capsule(new Pointer(optimizer),
                     [](void* kept) { delete static_cast<Pointer*>(kept); });
}

py::list nodes(const BoundNetwork& self) {
  py::list list;
  for (const Node& node : self.network.graph().nodes) {
    py::dict entry;
    entry["name"] = node.name;
    entry["type"] = node.type;
    entry["shape"] = py::tuple(py::cast(node.shape));
    entry["inputs"] = node.inputs;
    entry["frozen"] = node.frozen;
    list.append(entry);
  }
  return list;
}

// Memory of another device is copied when it is asked for, which nobody may do while commands change it.
engine::Network& visible(BoundNetwork& self, const char* what) {
  if (!self.network.on_host()) self.need_access(what);
  return self.network;
}

py::list parameters(const py::object& self) {
  engine::Network& network = visible(bound(self), "parameters");
  const py::list values = views(network, network.parameters(), self);
  py::list list;
  for (size_t i = 0; i < values.size(); ++i) {
    const engine::Parameter& p = network.graph().parameters[i];
    py::dict entry;
    entry["node"] = p.node;
    entry["name"] = p.name;
    entry["shape"] = py::tuple(py::cast(p.shape));
    entry["trainable"] = p.trainable;
    entry["value"] = values[i];
    list.append(entry);
  }
  return list;
}

py::list gradients(const py::object& self) {
  engine::Network& network = visible(bound(self), "gradients");
  if (!network.has_gradients()) {
    throw std::invalid_argument("gradients: there are none before set_training");
  }
  return views(network, network.gradients(), self);
}

py::list optimizer_states(BoundNetwork& self) {
  visible(self, "optimizer_states");
  py::list list;
  const std::shared_ptr<engine::Optimizer>& optimizer = self.network.optimizer();
  if (!optimizer) return list;
  for (size_t slot = 0; slot < optimizer->info().states.size(); ++slot) {
    py::dict entry;
    entry["name"] = optimizer->info().states[slot];
    entry["values"] =
        views(self.network, optimizer->state(static_cast<int>(slot)), keeper(optimizer));
    list.append(entry);
  }
  return list;
}

std::optional<py::list> collected_gradients(const py::object& self) {
  engine::Network& network = visible(bound(self), "collected_gradients");
  if (network.collected_gradients() == nullptr) return std::nullopt;
  return views(network, network.collected_gradients(), self);
}

std::optional<py::list> ema(BoundNetwork& self) {
  visible(self, "ema");
  const std::shared_ptr<engine::Optimizer>& optimizer = self.network.optimizer();
  if (!optimizer || optimizer->ema() == nullptr) return std::nullopt;
  return views(self.network, optimizer->ema(), keeper(optimizer));
}

// ---- settings ------------------------------------------------------------------------------------

void set_training(BoundNetwork& self, const py::list& losses, const py::list& metrics,
                  const std::optional<py::dict>& optimizer) {
  const auto loss_specs = specs_of(losses, "losses", criterion_spec);
  const auto metric_specs = specs_of(metrics, "metrics", criterion_spec);
  const size_t n_criteria = loss_specs.size() + metric_specs.size();
  for (const auto* list : {&loss_specs, &metric_specs}) {
    for (const engine::CriterionSpec& spec : *list) {
      if (static_cast<size_t>(spec.target) >= n_criteria) {
        throw std::invalid_argument("target=" + std::to_string(spec.target) +
                                    " must be less than the number of losses and metrics, " +
                                    std::to_string(n_criteria));
      }
    }
  }
  engine::OptimizerSpec spec;
  if (optimizer) spec = optimizer_spec(*optimizer);
  const BoundNetwork::Use use(self, "set_training");
  self.network.set_training(loss_specs, metric_specs, optimizer ? &spec : nullptr);
}

void set_frozen(BoundNetwork& self, const std::string& node, bool frozen) {
  const BoundNetwork::Use use(self, "set_frozen");
  self.network.set_frozen(node, frozen);
}

void set_optimizer_steps(BoundNetwork& self, int64_t steps) {
  if (steps < 0) {
    throw std::invalid_argument("optimizer_steps=" + std::to_string(steps) +
                                " must not be negative");
  }
  self.optimizer("optimizer_steps").set_steps(steps);
}

void set_optimizer_memory(BoundNetwork& self, const py::object& given) {
  const std::vector<double> values = number_list(given, "optimizer_memory");
  std::vector<double>& memory = self.optimizer("optimizer_memory").memory();
  if (values.size() != memory.size()) {
    throw std::invalid_argument("optimizer_memory: has " + std::to_string(values.size()) +
                                " numbers, expected " + std::to_string(memory.size()));
  }
  memory = values;
}

void hold(BoundNetwork& self, const py::list& arrays) {
  const BoundNetwork::Use use(self, "hold");
  self.network.hold(addresses_of(arrays));
  self.held = py::tuple(arrays);
}

// ---- runs ------------------------------------------------------------------------------------------

template <class Body>
auto without_gil(Body body) {
  const py::gil_scoped_release released;
  return body();
}

engine::RunOptions options_of(Index batch_size, int max_threads) {
  if (batch_size < 1) {
    throw std::invalid_argument("batch_size=" + std::to_string(batch_size) + " must be at least 1");
  }
  if (max_threads < 0) {
    throw std::invalid_argument("max_threads=" + std::to_string(max_threads) +
                                " must not be negative");
  }
  engine::RunOptions options;
  options.batch_size = batch_size;
  options.max_threads = max_threads;
  return options;
}

// What an epoch of training or evaluation is told besides its data.
struct EpochArguments {
  const py::object& begun;
  Index batch_size;
  const py::object &order, &watcher;
  double interval;
  int max_threads;
  double mixup = 0;
};

using Epoch = EpochReport (engine::Network::*)(const engine::Dataset&, const engine::RunOptions&);

py::dict run_epoch(BoundNetwork& self, Epoch epoch, Data data, const EpochArguments& given,
                   const py::dict& schedules = {}) {
  engine::RunOptions options = options_of(given.batch_size, given.max_threads);
  options.mixup = given.mixup;
  options.begun = read_begun(data, self.network, given.begun);
  options.order = read_order(data, given.order);
  const Index steps = (data.set.rows + given.batch_size - 1) / given.batch_size;
  options.schedules = read_schedules(data, schedules, steps);
  Outside outside(given.watcher, given.interval);
  options.watcher = outside.watcher();
  const EpochReport report = without_gil([&] { return (self.network.*epoch)(data.set, options); });
  outside.raise();
  return describe(report);
}

py::dict train(BoundNetwork& self, const py::list& inputs, const py::list& targets,
               const py::object& sample_weight, Index batch_size, const py::object& order,
               const py::object& watcher, double interval, int max_threads,
               const py::dict& schedules, const py::object& begun, double mixup) {
  if (!(mixup >= 0)) {
    throw std::invalid_argument("mixup=" + std::to_string(mixup) + " must not be negative");
  }
  const BoundNetwork::Use use(self, "train");
  return run_epoch(self, &engine::Network::train,
                   read_data(self.network, inputs, targets, sample_weight),
                   {begun, batch_size, order, watcher, interval, max_threads, mixup}, schedules);
}

// Plateau and losses are brought up to date, also where Ctrl-C ends the epochs.
void train_epochs(BoundNetwork& self, const py::list& inputs, const py::list& targets,
                  Index batch_size, Index n, engine::Plateau& plateau, py::list& losses,
                  std::optional<Orders*> given, double factor, double offset, int max_threads,
                  const py::dict& schedules, const py::object& watcher, double interval) {
  if (n < 0) throw std::invalid_argument("epochs=" + std::to_string(n) + " must not be negative");
  const BoundNetwork::Use use(self, "train_epochs");
  Data data = read_data(self.network, inputs, targets, py::none());
  const Index rows = data.set.rows;
  Orders* const orders = given.value_or(nullptr);
  if (orders != nullptr && orders->rows() != rows) {
    throw std::invalid_argument("orders: are of " + std::to_string(orders->rows()) +
                                " rows, expected " + std::to_string(rows));
  }
  engine::RunOptions options = options_of(batch_size, max_threads);
  options.schedules = read_schedules(data, schedules, (rows + batch_size - 1) / batch_size);
  Outside outside(watcher, interval);
  options.watcher = outside.watcher();
  const auto next_order = [&] { return orders == nullptr ? nullptr : orders->next(); };
  const engine::Epochs epochs{
      n, next_order, {factor, offset}
  };
  std::vector<double> found;
  without_gil(
      [&] { engine::train_epochs(self.network, data.set, options, epochs, plateau, found); });
  for (const double loss : found) losses.append(loss);
  outside.raise();
}

py::dict evaluate(BoundNetwork& self, const py::list& inputs, const py::list& targets,
                  const py::object& sample_weight, Index batch_size, const py::object& order,
                  const py::object& watcher, double interval, int max_threads,
                  const py::object& begun) {
  const BoundNetwork::Use use(self, "evaluate", BoundNetwork::Within::run);
  return run_epoch(self, &engine::Network::evaluate,
                   read_data(self.network, inputs, targets, sample_weight),
                   {begun, batch_size, order, watcher, interval, max_threads});
}

py::dict compute_gradients(BoundNetwork& self, const py::list& inputs, const py::list& targets,
                           const py::object& sample_weight, bool training, int max_threads) {
  const BoundNetwork::Use use(self, "compute_gradients");
  const Data data = read_data(self.network, inputs, targets, sample_weight);
  const int threads = options_of(1, max_threads).max_threads;
  return describe(
      without_gil([&] { return self.network.compute_gradients(data.set, training, threads); }));
}

py::list predict(BoundNetwork& self, const py::list& inputs, const py::object& nodes_wanted,
                 Index batch_size, int max_threads) {
  const BoundNetwork::Use use(self, "predict", BoundNetwork::Within::run);
  const std::vector<int> wanted = node_places(nodes_wanted, "nodes");
  const Data data = read_inputs(self.network, inputs);
  engine::RunOptions options = options_of(batch_size, max_threads);
  const std::vector<Node>& all = self.network.graph().nodes;
  std::vector<void*> outputs;
  py::list list;
  for (const int node : wanted) {
    if (static_cast<size_t>(node) >= all.size()) {
      throw std::invalid_argument("nodes: " + std::to_string(node) + " is not in [0, " +
                                  std::to_string(all.size()) + ")");
    }
    Shape shape = all[static_cast<size_t>(node)].shape;
    shape.insert(shape.begin(), data.set.rows);
    const Output made = fresh(shape, self.network.dtype());
    outputs.push_back(made.view.data);
    list.append(made.object);
  }
  Outside outside(py::none(), 0);
  options.watcher = outside.watcher();
  without_gil([&] { self.network.predict(data.set, wanted, outputs, options); });
  outside.raise();
  return list;
}

py::array shuffled(Index n, uint64_t seed, uint64_t epoch) {
  if (n < 0) throw std::invalid_argument("n=" + std::to_string(n) + " must not be negative");
  const std::vector<Index> order = engine::shuffled(n, seed, epoch);
  return py::array_t<Index>(n, order.data());
}

py::list running(const BoundNetwork& self) {
  self.need_access("running");
  py::list list;
  for (const engine::Running& each : self.network.running()) {
    py::dict entry;
    entry["what"] = each.what;
    entry["rows"] = each.rows;
    entry["threads"] = each.threads;
    entry["team"] = each.threads > 1 && each.pace.team;
    entry["alone_time"] = each.pace.alone_time * 1e-9;
    entry["team_time"] = each.pace.team_time * 1e-9;
    entry["trials"] = each.pace.trials;
    entry["changes"] = each.pace.changes;
    list.append(entry);
  }
  return list;
}

std::unique_ptr<BoundNetwork> make_network(const py::list& nodes, const std::string& precision,
                                           const std::string& device, uint64_t seed) {
  const Backend& backend = engine::find_backend(device);
  return std::make_unique<BoundNetwork>(specs_of(nodes, "nodes", node_spec),
                                        precision_named(precision, backend), backend, seed);
}

}  // namespace

void bind_network(py::module_& m) {
  using namespace py::literals;
  using Self = BoundNetwork;
  m.def("shuffled", &shuffled, "n"_a, "seed"_a, "epoch"_a,
        "A permutation of 0 .. n-1, a function of seed and epoch alone.");

  py::class_<Self> network(m, "Network", "A graph with its parameters, and all that runs on it.");
  network.def(py::init(&make_network), "nodes"_a, "precision"_a = "float32", "device"_a = "cpu",
              "seed"_a = 0);
  network.def("nodes", &nodes);
  network.def("parameters", &parameters, "Each with a writable array over the network's memory.");
  network.def("gradients", &gradients, "One array over the network's memory per parameter.");
  network.def("optimizer_states", &optimizer_states, "Per state tensor one array per parameter.");
  network.def("ema", &ema, "One array per parameter, or None where no average is kept.");
  network.def("set_frozen", &set_frozen, "node"_a, "frozen"_a);
  network.def("set_training", &set_training, "losses"_a, "metrics"_a = py::list(),
              "optimizer"_a = py::none(), "Replaces losses, metrics and optimizer.");
  network.def(
      "hyper",
      [](const Self& self, const std::string& name) { return self.optimizer("hyper").hyper(name); },
      "name"_a);
  network.def(
      "set_hyper",
      [](Self& self, const std::string& name, double value) {
        self.optimizer("set_hyper").set_hyper(name, value);
      },
      "name"_a, "value"_a);
  network.def_property(
      "optimizer_steps", [](const Self& self) { return self.optimizer("optimizer_steps").steps(); },
      &set_optimizer_steps);
  network.def_property(
      "collected", [](const Self& self) { return self.network.collected(); },
      [](Self& self, Index steps) {
        self.need_access("collected");
        self.network.set_collected(steps);
      },
      "Steps since the last update, where several make one.");
  network.def(
      "collected_gradients", &collected_gradients,
      "The sum of their gradients, one array per parameter; None where one step makes one.");
  network.def_property(
      "optimizer_memory",
      [](const Self& self) { return self.optimizer("optimizer_memory").memory(); },
      &set_optimizer_memory);
  network.def(
      "running", &running,
      "How each kind of step runs: as a team or alone, and what both took when last tried.");
  network.def_property_readonly(
      "last_norm", [](const Self& self) { return self.optimizer("last_norm").last_norm(); });
  network.def_property(
      "training_steps", [](const Self& self) { return self.network.training_steps(); },
      [](Self& self, uint64_t steps) {
        self.need_access("training_steps");
        self.network.set_training_steps(steps);
      });
  network.def("hold", &hold, "arrays"_a,
              "Arrays that stay as they are until the next call: a device copies them once.");
  network.def(
      "train", &train, "inputs"_a, "targets"_a, "sample_weight"_a = py::none(), "batch_size"_a = 32,
      "order"_a = py::none(), "watcher"_a = py::none(), "interval"_a = 0.05, "max_threads"_a = 0,
      "schedules"_a = py::dict(), "begun"_a = py::none(), "mixup"_a = 0.0,
      "One epoch of steps. Schedules give a hyper-parameter, by name, a value for each step; "
      "it keeps the last one. The report goes on from that of the part that was begun. With "
      "mixup, samples are mixed in shares of the symmetric beta distribution with this parameter.");
  network.def("train_epochs", &train_epochs, "inputs"_a, "targets"_a, "batch_size"_a, "epochs"_a,
              "plateau"_a, "losses"_a, "orders"_a = py::none(), "factor"_a = 1.0, "offset"_a = 0.0,
              "max_threads"_a = 0, "schedules"_a = py::dict(), "watcher"_a = py::none(),
              "interval"_a = 0.05,
              "Epochs one after another until the plateau is reached. The loss of each, "
              "(factor x losses + penalty + offset) / rows, is appended to a list. The schedules "
              "are those of every epoch.");
  network.def("evaluate", &evaluate, "inputs"_a, "targets"_a, "sample_weight"_a = py::none(),
              "batch_size"_a = 32, "order"_a = py::none(), "watcher"_a = py::none(),
              "interval"_a = 0.05, "max_threads"_a = 0, "begun"_a = py::none(),
              "Losses and metrics, nothing else.");
  network.def("compute_gradients", &compute_gradients, "inputs"_a, "targets"_a,
              "sample_weight"_a = py::none(), "training"_a = true, "max_threads"_a = 0,
              "One batch forward and backward; gradients() shows the result.");
  network.def("predict", &predict, "inputs"_a, "nodes"_a, "batch_size"_a = 1024,
              "max_threads"_a = 0, "The values of the nodes, one array each.");
}

}  // namespace fusednn::bindings

// SPDX-License-Identifier: Apache-2.0
// Trainings that one block runs from shared memory against the same trainings by ordinary launches: the
// same bits, in every parameter, state, sum and count.
#include "cuda/resident.h"
#include "engine/catalog.h"
#include "engine/network.h"
#include "engine/registry.h"
#include "kernel_check.h"

namespace fusednn::kernel_check {
namespace {

using engine::CriterionSpec;
using engine::Network;
using engine::NodeSpec;
using engine::OptimizerSpec;

struct Training {
  std::vector<int64_t> widths = {8, 32, 32, 1};  // of the input, then of each layer
  std::string activation = "relu";
  std::string last = "";     // activation of the last layer
  std::string between = "";  // a layer behind each activation
  double noise = 0.25;       // of it
  std::string loss = "mse";
  bool labels = false, weights = false, accuracy = true;
  OptimizerSpec optimizer;
  Index rows = 75, batch = 32, epochs = 2;
  double scale = 0.3;  // of the weights at first
  bool taken = true;   // whether one block may run it

  Training() { optimizer.rule = "adam"; }
};

std::vector<NodeSpec> nodes_of(const Training& t) {
  std::vector<NodeSpec> nodes = {
      {"input", "x", {}, {{"shape", std::vector<int64_t>{t.widths[0]}}}}
  };
  const auto add = [&](const std::string& type, std::map<std::string, engine::Value> config) {
    const int below = static_cast<int>(nodes.size()) - 1;
    nodes.push_back({type, "n" + std::to_string(below + 1), {below}, std::move(config)});
  };
  for (size_t i = 1; i < t.widths.size(); ++i) {
    const bool is_last = i + 1 == t.widths.size();
    add("dense", {
                     {"units", t.widths[i]}
    });
    const std::string& activation = is_last ? t.last : t.activation;
    if (activation == "softmax") {
      add("softmax", {});
    } else if (!activation.empty()) {
      add("activation", {
                            {"activation", activation}
      });
    }
    if (t.between.empty() || is_last) continue;
    const char* amount = t.between.find("gaussian_noise") == 0 ? "stddev" : "rate";
    add(t.between, {
                       {amount, t.noise}
    });
  }
  return nodes;
}

struct Trained {
  std::vector<float> parameters, gradients, states, ema;
  std::vector<double> sums;
  uint64_t resident_lists = 0;  // that trained
};

Trained train(const Training& t, const Backend& device, bool resident) {
  cuda::allow_resident(resident);
  const size_t before = cuda::recording_counts().residents;
  Network network(nodes_of(t), DType::float32, device, 11);
  std::mt19937 random(3);
  std::normal_distribution<float> normal;
  auto* parameters = reinterpret_cast<float*>(network.parameters());
  for (const engine::Parameter& p : network.graph().parameters) {
    for (Index i = 0; i < p.size; ++i) {
      parameters[p.offset + i] = static_cast<float>(t.scale) * normal(random);
    }
  }
  CriterionSpec loss, accuracy;
  loss.rule = t.loss;
  loss.node = accuracy.node = network.graph().nodes.back().name;
  loss.labels = accuracy.labels = t.labels;
  accuracy.rule = "accuracy";
  std::vector<CriterionSpec> metrics;
  if (t.accuracy) metrics.push_back(accuracy);
  network.set_training({loss}, metrics, &t.optimizer);

  const Index outputs = t.widths.back();
  std::vector<float> x, dense, weights;
  std::vector<int32_t> labels;
  std::vector<Index> order;
  std::uniform_real_distribution<float> uniform(0.05F, 0.95F);
  for (Index i = 0; i < t.rows * t.widths[0]; ++i) x.push_back(normal(random));
  for (Index i = 0; i < t.rows * outputs; ++i) dense.push_back(uniform(random));
  for (Index i = 0; i < t.rows; ++i) {
    labels.push_back(static_cast<int32_t>(random() % static_cast<size_t>(outputs)));
    weights.push_back(uniform(random));
    order.push_back((i * 7 + 3) % t.rows);
  }
  engine::Dataset data;
  data.rows = t.rows;
  data.inputs = {x.data()};
  if (t.labels) {
    data.targets = {labels.data()};
  } else {
    data.targets = {dense.data()};
  }
  if (t.weights) data.sample_weight = weights.data();
  engine::RunOptions options;
  options.batch_size = t.batch;
  Trained trained;
  for (Index epoch = 0; epoch < t.epochs; ++epoch) {
    options.order = epoch % 2 == 0 ? nullptr : order.data();
    for (const bool training : {true, false}) {
      const engine::EpochReport report =
          training ? network.train(data, options) : network.evaluate(data, options);
      trained.sums.insert(trained.sums.end(), report.losses.begin(), report.losses.end());
      trained.sums.insert(trained.sums.end(), report.metrics.begin(), report.metrics.end());
      trained.sums.push_back(report.penalty);
      if (epoch == 0 && training) {
        trained.resident_lists = cuda::recording_counts().residents - before;
      }
    }
  }
  const auto copy = [&](std::vector<float>& to, const char* from) {
    if (from == nullptr) return;
    const auto* numbers = reinterpret_cast<const float*>(from);
    to.insert(to.end(), numbers, numbers + network.graph().parameter_elements);
  };
  copy(trained.parameters, network.parameters());
  copy(trained.gradients, network.gradients());
  for (size_t i = 0; i < network.optimizer()->info().states.size(); ++i) {
    copy(trained.states, network.optimizer()->state(static_cast<int>(i)));
  }
  copy(trained.ema, network.optimizer()->ema());
  return trained;
}

template <class T>
void same_bits(const std::string& name, const std::vector<T>& want, const std::vector<T>& got) {
  for (size_t i = 0; i < want.size(); ++i) {
    if (std::memcmp(&want[i], &got[i], sizeof(T)) == 0) continue;
    std::printf("%s: [%zu] launched %.9g, resident %.9g\n", name.c_str(), i, double(want[i]),
                double(got[i]));
    ++failures;
    return;
  }
}

void check_training(const std::string& what, const Training& t) {
  ++cases;
  const std::string name = "resident " + what;
  if (std::getenv("VERBOSE")) std::printf("# %s\n", name.c_str());
  const Backend& device = device_backend();
  const Trained launched = train(t, device, false);
  const Trained resident = train(t, device, true);
  same_bits(name + " parameters", launched.parameters, resident.parameters);
  same_bits(name + " gradients", launched.gradients, resident.gradients);
  same_bits(name + " states", launched.states, resident.states);
  same_bits(name + " average", launched.ema, resident.ema);
  same_bits(name + " sums", launched.sums, resident.sums);
  for (const float p : launched.parameters) {
    if (std::isfinite(p)) continue;
    std::printf("%s: the training has blown up, and shows nothing\n", name.c_str());
    ++failures;
    break;
  }
  if ((resident.resident_lists > 0) == t.taken && launched.resident_lists == 0) return;
  std::printf("%s: %llu lists were resident, of the others %llu\n", name.c_str(),
              static_cast<unsigned long long>(resident.resident_lists),
              static_cast<unsigned long long>(launched.resident_lists));
  ++failures;
}

// ---- shapes --------------------------------------------------------------------------------------------

void shapes() {
  const std::vector<std::vector<int64_t>> networks = {
      {8, 32, 32, 1},
      {64, 64, 10},
      {32, 128, 128, 10},
      {1, 1},
      {3, 5},
      {30, 17, 9, 3},
      {7, 33, 65, 2},
      {100, 4, 1},
      {16, 64, 4},
      {65, 12}
  };
  for (const auto& widths : networks) {
    for (const Index batch : {1, 8, 9, 30, 32, 64}) {
      Training t;
      t.widths = widths;
      t.batch = batch;
      t.rows = batch * 2 + (batch > 4 ? batch / 2 + 1 : 0);  // with a tail, but for the smallest
      t.labels = widths.back() > 1;
      t.loss = t.labels ? "softmax_cross_entropy" : "binary_cross_entropy_logits";
      t.activation = "tanh";
      // Too much for one block: launches use more of the device.
      const bool large = widths.size() == 4 && widths[1] == 128 && batch >= 32;
      if (large) t.rows = batch;
      t.taken = !large;
      t.epochs = batch == 1 ? 1 : 2;
      check_training("shape " + std::to_string(widths[0]) + "-" + std::to_string(widths[1]) +
                         "..." + std::to_string(widths.back()) + " batch " + std::to_string(batch),
                     t);
    }
  }
}

// ---- rules ---------------------------------------------------------------------------------------------

void activations() {
  for (const engine::ActivationInfo& info : engine::activations()) {
    Training t;
    t.widths = {6, 10, 7, 3};
    t.activation = info.name;
    t.last = info.name;
    if (info.name == "exponential") t.scale = 0.05;
    check_training("activation " + std::string(info.name), t);
  }
  Training t;
  t.widths = {6, 10, 40};
  t.labels = true;
  t.last = "softmax";
  t.loss = "categorical_cross_entropy";
  check_training("softmax", t);
}

void losses_of_trainings() {
  for (const engine::LossInfo& info : engine::losses()) {
    for (const bool labels : {false, true}) {
      if (labels && !info.rowwise) continue;
      for (const int64_t outputs : {1, 3, 45}) {
        Training t;
        t.widths = {5, 8, outputs};
        t.loss = info.name;
        t.labels = labels;
        t.last = "sigmoid";  // within the domain of every loss
        t.weights = outputs == 3;
        check_training("loss " + std::string(info.name) + " of " + std::to_string(outputs) +
                           (labels ? " labels" : ""),
                       t);
      }
    }
  }
}

void optimizers_of_trainings() {
  for (const engine::OptimizerInfo& info : engine::optimizers()) {
    for (const int decoration : {0, 1, 2, 3}) {
      Training t;
      t.widths = {9, 12, 2};
      t.optimizer = {};
      t.optimizer.rule = info.name;
      t.taken = !info.layerwise;
      if (decoration == 1) {
        t.optimizer.weight_decay = 0.01;
        t.optimizer.decoupled = true;
        t.optimizer.ema_decay = 0.9;
        t.optimizer.clip_value = 0.02;
      } else if (decoration == 2) {
        t.optimizer.global_clip_norm = 0.05;
        t.optimizer.l1 = 1e-3;
      } else if (decoration == 3) {
        t.optimizer.treatments = {
            {1.0, true, 1e-3, 1e-2},
            {0.5, true, 0.0,  0.0 },
            {1.0, true, 0.0,  1e-2},
            {1.0, true, 0.0,  0.0 }
        };
        if (t.taken) t.optimizer.global_clip_norm = 0.5;
      }
      check_training("optimizer " + std::string(info.name) + " " + std::to_string(decoration), t);
    }
  }
}

void twice() {
  ++cases;
  Training t;
  t.between = "dropout";
  const Backend& device = device_backend();
  const Trained once = train(t, device, true), again = train(t, device, true);
  same_bits("resident again", once.parameters, again.parameters);
  same_bits("resident again, sums", once.sums, again.sums);
}

// A list that is too large for shared memory leaves some of it where it is.
void left_outside() {
  Training t;
  t.widths = {100, 128, 100};
  t.batch = 12;
  t.rows = 30;
  check_training("left outside", t);
}

void layers_between() {
  for (const char* layer : {"dropout", "alpha_dropout", "gaussian_dropout", "gaussian_noise"}) {
    for (const double amount : {0.25, 0.0}) {
      Training t;
      t.widths = {11, 70, 33, 2};
      t.between = layer;
      t.noise = amount;
      check_training(layer, t);
    }
  }
  Training t;
  t.optimizer.accumulation_steps = 2;
  check_training("two steps for an update", t);
}

}  // namespace

void residents() {
  shapes();
  activations();
  losses_of_trainings();
  optimizers_of_trainings();
  layers_between();
  twice();
  left_outside();
  cuda::allow_resident(true);
}

}  // namespace fusednn::kernel_check

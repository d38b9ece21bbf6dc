// SPDX-License-Identifier: Apache-2.0
#include "engine/plan.h"

#include <algorithm>
#include <climits>
#include <cstdint>
#include <map>
#include <tuple>

#include "engine/catalog.h"

namespace fusednn::engine {
namespace {

// Which nodes a plan needs, which of them are only other names for another node's memory, and which
// activations run inside the node that feeds them.
struct Fusion {
  std::vector<bool> needed;
  std::vector<int> root;                   // the node whose output a node's output is
  std::vector<ActivationSpec> activation;  // fused into a root
  std::vector<int> readers;                // edges, losses and wanted values that read a root
  std::vector<int> gradient_writers;       // edges and losses that send a gradient to a root
  std::vector<bool> learns;                // something at or above a root is trained
  std::vector<bool> shown;                 // a root whose values the caller wants

  Fusion(const Graph& graph, const PlanRequest& request) {
    const int n = static_cast<int>(graph.nodes.size());
    needed.assign(n, false);
    root.resize(n);
    activation.resize(n);
    readers.assign(n, 0);
    gradient_writers.assign(n, 0);
    learns.assign(n, false);
    shown.assign(n, false);

    std::vector<int> wanted = request.outputs;
    for (const Criterion& loss : request.losses) wanted.push_back(loss.node);
    for (const Criterion& metric : request.metrics) wanted.push_back(metric.node);
    for (const int node : wanted) needed[node] = true;
    for (int i = n - 1; i >= 0; --i) {
      if (!needed[i]) continue;
      for (const int input : graph.nodes[i].inputs) needed[input] = true;
    }

    for (int i = 0; i < n; ++i) {
      const Node& node = graph.nodes[i];
      const bool renames = node.layer && (node.layer->is_view() ||
                                          (node.layer->only_in_training() && !request.training));
      root[i] = renames ? root[node.inputs[0]] : i;
    }
    for (int i = 0; i < n; ++i) {
      if (!needed[i] || root[i] != i) continue;
      for (const int input : graph.nodes[i].inputs) ++readers[root[input]];
    }
    for (const int node : wanted) ++readers[root[node]];

    std::vector<int> merged(n);  // root of a root once activations are fused
    for (int i = 0; i < n; ++i) {
      merged[i] = i;
      const Node& node = graph.nodes[i];
      if (!needed[i] || root[i] != i || !node.layer) continue;
      const auto rule = node.layer->as_activation();
      if (!rule) continue;
      const int below = merged[root[node.inputs[0]]];
      const Node& maker = graph.nodes[below];
      const bool free = maker.layer && maker.layer->fuses_activation() &&
                        activation[below].rule == 0 && readers[below] == 1;
      if (!free) continue;
      activation[below] = *rule;
      readers[below] = readers[i];
      merged[i] = below;
    }
    for (int i = 0; i < n; ++i) root[i] = merged[root[i]];
    for (const int node : request.outputs) shown[root[node]] = true;

    for (int i = 0; i < n; ++i) {
      if (!needed[i] || root[i] != i) continue;
      const Node& node = graph.nodes[i];
      for (const int p : node.parameters) {
        learns[i] = learns[i] || (graph.parameters[p].trainable && !node.frozen);
      }
      for (const int input : node.inputs) {
        learns[i] = learns[i] || learns[root[input]];
        ++gradient_writers[root[input]];
      }
    }
    for (const Criterion& loss : request.losses) ++gradient_writers[root[loss.node]];
  }
};

// A plan that needs no more memory than this for all its buffers side by side gets it: what a cache
// keeps anyway gains nothing from being used twice, and threads wait for each other less often.
constexpr size_t kSmall = 8 << 20;

// Records every command twice: first to learn how long each buffer lives, then, with all buffers laid
// out in one arena, to write down the addresses.
class Compiler final : public Recorder {
 public:
  Compiler(const Graph& graph, const PlanRequest& request, const PlanMemory& memory,
           Precision precision)
      : graph_(graph),
        request_(request),
        memory_(memory),
        precision_(precision),
        fusion_(graph, request) {}

  Plan compile(const Backend& backend) {
    Plan plan;
    record_all(plan);
    size_t all = 0;
    for (const Lifetime& life : lifetimes_) all += align(life.bytes);
    apart_ = all <= kSmall;
    if (apart_) {
      for (Lifetime& life : lifetimes_) life = {life.bytes, 0, INT_MAX};
    }
    const Layout layout = lay_out(lifetimes_);
    plan = Plan{};
    plan.rows = request_.rows;
    plan.apart = apart_;
    plan.arena = Arena(backend, layout.bytes);
    base_ = plan.arena.data();
    offsets_ = layout.offsets;
    record_all(plan);
    return plan;
  }

  // ---- what a layer sees ----
  Index rows() const override { return request_.rows; }
  bool training() const override { return request_.training; }
  bool frozen() const override { return node().frozen; }
  int n_inputs() const override { return static_cast<int>(node().inputs.size()); }
  Index input_size(int i) const override { return graph_.nodes[node().inputs[i]].size; }
  Index output_size() const override { return node().size; }
  ConstMatrix input(int i) override { return value(node().inputs[i]); }
  Matrix output() override { return value(now_); }
  ActivationSpec activation() const override { return fusion_.activation[now_]; }
  Precision precision() const override { return precision_; }
  uint64_t seed() const override { return request_.seed; }
  uint32_t stream() const override { return static_cast<uint32_t>(now_); }
  const uint64_t* step() const override { return memory_.step; }

  Matrix pre_activation() override {
    if (!request_.backward || !saves_input(now_)) return {};
    return matrix(kPreActivation, now_, 0, node().size);
  }

  void* parameter(int i) override {
    return memory_.parameters + bytes(graph_.parameters[node().parameters[i]].offset);
  }

  void* gradient(int i) override {
    const Parameter& p = graph_.parameters[node().parameters[i]];
    if (node().frozen || !p.trainable) return nullptr;
    return memory_.gradients + bytes(p.offset);
  }

  void* keep(int key, Index n) override { return touch({kKept, now_, key}, bytes(n)); }

  ConstMatrix output_gradient() override {
    const Matrix dy = gradient_of(now_);
    if (fusion_.activation[now_].rule != 0 && !derivative_done_[now_]) {
      ActivationBackward op;
      op.dy = op.dx = dy.data;
      op.saved = saved_of(now_).data;
      op.n = rows() * node().size;
      op.activation = fusion_.activation[now_];
      record(op);
      derivative_done_[now_] = true;
    }
    return dy;
  }

  std::optional<InputGradient> input_gradient(int i, bool applies_derivative) override {
    const int below = fusion_.root[node().inputs[i]];
    if (!fusion_.learns[below]) return std::nullopt;
    InputGradient target;
    target.dx = gradient_of(below);
    target.accumulate = gradient_written_[below];
    gradient_written_[below] = true;
    if (applies_derivative && fusion_.gradient_writers[below] == 1 &&
        fusion_.activation[below].rule != 0) {
      target.derivative = fusion_.activation[below];
      target.saved = saved_of(below);
      derivative_done_[below] = true;
    }
    return target;
  }

  void record_command(Command command) override {
    command.apart = apart_;
    const bool of_node = now_ >= 0 && now_ < static_cast<int>(graph_.nodes.size());
    command.inner = of_node && !fusion_.shown[now_];
    plan_->commands.push_back(command);
  }

  // Results wait for the end of a plan whose buffers all live that long: then nobody waits for them.
  void record_result(Command command) override {
    if (!apart_) return record_command(command);
    command.apart = command.beside_next = true;
    results_.push_back(command);
  }
  using Recorder::record_result;

 private:
  // A buffer is known by what it is for.
  enum Purpose {
    kValue,
    kPreActivation,
    kKept,
    kGradient,
    kTarget,
    kWeight,
    kRowValues,
    kScratch,
    kBytes,
    kUnmixed,
    kZeros
  };
  using Key = std::tuple<Purpose, int, int>;

  const Node& node() const { return graph_.nodes[now_]; }
  size_t bytes(Index n) const { return static_cast<size_t>(n) * size_of(precision_.dtype); }
  bool saves_input(int n) const { return activations()[fusion_.activation[n].rule].saves_input; }

  void* touch(const Key& key, size_t size) {
    const auto [found, added] = buffers_.try_emplace(key, static_cast<int>(lifetimes_.size()));
    if (added) lifetimes_.push_back({size, tick_, tick_});
    Lifetime& life = lifetimes_[found->second];
    life.first = std::min(life.first, tick_);
    life.last = std::max(life.last, tick_);
    // Before the arena exists any address will do that is not null.
    return base_ ? base_ + offsets_[found->second] : reinterpret_cast<char*>(kAlignment);
  }

  Matrix matrix(Purpose purpose, int n, int key, Index cols) {
    return {touch({purpose, n, key}, bytes(request_.rows * cols)), cols};
  }
  Matrix value(int n) { return matrix(kValue, fusion_.root[n], 0, graph_.nodes[n].size); }
  Matrix gradient_of(int n) { return matrix(kGradient, n, 0, graph_.nodes[n].size); }
  ConstMatrix saved_of(int n) {
    if (saves_input(n)) return matrix(kPreActivation, n, 0, graph_.nodes[n].size);
    return value(n);
  }

  void record_all(Plan& plan) {
    plan_ = &plan;
    results_.clear();
    feeding_.clear();
    mixing_.clear();
    const size_t n = graph_.nodes.size();
    gradient_written_.assign(n, false);
    derivative_done_.assign(n, false);
    record_feeds();
    for (const auto* list : {&feeding_, &mixing_}) {
      for (const Command& command : *list) record_command(command);
    }
    for (now_ = 0; now_ < static_cast<int>(n); ++now_) {
      ++tick_;
      if (runs(now_) && node().layer) node().layer->forward(*this);
    }
    for (size_t i = 0; i < request_.losses.size(); ++i) record_loss(static_cast<int>(i));
    for (size_t i = 0; i < request_.metrics.size(); ++i) record_metric(static_cast<int>(i));
    if (request_.backward) {
      for (now_ = static_cast<int>(n) - 1; now_ >= 0; --now_) {
        ++tick_;
        if (runs(now_) && node().layer && fusion_.learns[now_] && gradient_written_[now_]) {
          node().layer->backward(*this);
        }
      }
    }
    if (!results_.empty()) results_.back().beside_next = false;
    plan.commands.insert(plan.commands.end(), results_.begin(), results_.end());
    tick_ = INT_MAX;
    for (const int output : request_.outputs) plan.outputs.push_back(value(output));
    tick_ = 0;
  }

  bool runs(int n) const { return fusion_.needed[n] && fusion_.root[n] == n; }

  // Buffers that are filled from outside before the first command of the plan.
  void record_feeds() {
    tick_ = 0;
    for (size_t i = 0; i < graph_.inputs.size(); ++i) {
      plan_->inputs.push_back(fusion_.needed[graph_.inputs[i]] ? feed_input(i) : nullptr);
    }
    for (size_t i = 0; i < request_.targets.size(); ++i) plan_->targets.push_back(feed_target(i));
    if (request_.weighted) plan_->sample_weight = weight_data();
  }

  // Where an input is gathered to; records how it gets from there to its node.
  void* feed_input(size_t i) {
    const int node = graph_.inputs[i];
    const Index size = graph_.nodes[node].size, n = request_.rows * size;
    void* unmixed = value(node).data;
    if (request_.mixup > 0) {
      unmixed = matrix(kUnmixed, node, 0, size).data;
      mix(unmixed, value(node).data, size);
    }
    if (request_.bytes.empty() || !request_.bytes[i]) return unmixed;
    Rescale op{touch({kBytes, node, 0}, static_cast<size_t>(n)), unmixed, n};
    op.bytes = true;
    feeding_.emplace_back(op, precision_.dtype);
    return const_cast<void*>(op.x);
  }
  void* feed_target(size_t i) {
    if (request_.mixup == 0) return target_data(i);
    const Index size = request_.targets[i].row_elements;
    void* unmixed = matrix(kUnmixed, -1 - static_cast<int>(i), 0, size).data;
    mix(unmixed, target_data(i), size);
    return unmixed;
  }
  // A stream that no layer has.
  void mix(const void* from, void* to, Index cols) {
    constexpr uint32_t kStream = UINT32_MAX - 1;
    mixing_.emplace_back(MixRows{from, to, request_.rows, cols, request_.mixup, request_.seed,
                                 kStream, memory_.step},
                         precision_.dtype);
  }

  void* target_data(size_t i) {
    const Feed& feed = request_.targets[i];
    const size_t element = feed.labels ? sizeof(int32_t) : size_of(precision_.dtype);
    return touch({kTarget, static_cast<int>(i), 0},
                 static_cast<size_t>(request_.rows * feed.row_elements) * element);
  }
  void* weight_data() { return touch({kWeight, 0, 0}, bytes(request_.rows)); }

  Target target_of(const Criterion& criterion) {
    Target target;
    if (criterion.against_zero) {
      const Key key{kZeros, criterion.node, 0};
      target.dense = {touch(key, bytes(graph_.nodes[criterion.node].size)), 0};
      lifetimes_[buffers_.at(key)] = {lifetimes_[buffers_.at(key)].bytes, 0, INT_MAX};
      return target;
    }
    void* data = target_data(criterion.target);
    if (criterion.labels) {
      target.labels = static_cast<const int32_t*>(data);
    } else {
      target.dense = {data, request_.targets[criterion.target].row_elements};
    }
    return target;
  }

  Loss loss_op(const Criterion& criterion) {
    Loss op;
    op.rule = criterion.rule;
    std::copy(criterion.parameters.begin(), criterion.parameters.end(), op.parameters);
    op.x = value(criterion.node);
    op.target = target_of(criterion);
    const bool weighted = request_.weighted && !criterion.against_zero;
    op.sample_weight = weighted ? weight_data() : nullptr;
    op.values = row_values();
    op.rows = request_.rows;
    op.cols = graph_.nodes[criterion.node].size;
    return op;
  }

  // They live to the end, because their sum may run beside whatever comes next.
  void* row_values() {
    const Key key{kRowValues, tick_, 0};
    void* values = touch(key, bytes(request_.rows));
    lifetimes_[buffers_.at(key)].last = INT_MAX;
    return values;
  }

  void record_sum(const void* values, size_t total) {
    record_result(Sum{values, request_.rows, memory_.totals + total}, true);
  }

  void record_loss(int i) {
    ++tick_;
    const Criterion& loss = request_.losses[i];
    const int node = fusion_.root[loss.node];
    Loss op = loss_op(loss);
    const bool differentiate = request_.backward && fusion_.learns[node];
    const bool second = differentiate && gradient_written_[node];
    if (differentiate) {
      op.scale = memory_.loss_scales + i;
      op.gradient = second ? matrix(kScratch, node, 0, op.cols) : gradient_of(node);
      gradient_written_[node] = true;
    }
    record(op);
    if (second) record(CopyRows{op.gradient, gradient_of(node), op.rows, op.cols, true});
    record_sum(op.values, i);
  }

  void record_metric(int i) {
    ++tick_;
    const Criterion& metric = request_.metrics[i];
    const size_t total = request_.losses.size() + i;
    if (metric.rule == Criterion::kTally) return record_result(tally_op(metric), true);
    if (metric.rule != Criterion::kAccuracy) {
      const Loss op = loss_op(metric);
      record(op);
      record_sum(op.values, total);
      return;
    }
    Accuracy op;
    op.x = value(metric.node);
    op.target = target_of(metric);
    op.sample_weight = request_.weighted ? weight_data() : nullptr;
    op.values = row_values();
    op.threshold = metric.threshold;
    op.rows = request_.rows;
    op.cols = graph_.nodes[metric.node].size;
    op.top = metric.top;
    record(op);
    record_sum(op.values, total);
  }

  Tally tally_op(const Criterion& metric) {
    Tally op;
    op.what = metric.tallied;
    op.x = value(metric.node);
    op.target = target_of(metric);
    op.sample_weight = request_.weighted ? weight_data() : nullptr;
    op.thresholds = memory_.thresholds + metric.first_threshold;
    op.n_thresholds = metric.n_thresholds;
    op.rows = request_.rows;
    op.cols = graph_.nodes[metric.node].size;
    op.column = metric.column;
    op.per_column = metric.per_column;
    op.top = metric.top;
    op.counts = memory_.counts + metric.first_count;
    op.n_counts = metric.n_counts;
    return op;
  }

  const Graph& graph_;
  const PlanRequest& request_;
  const PlanMemory& memory_;
  Precision precision_;
  Fusion fusion_;

  Plan* plan_ = nullptr;
  bool apart_ = false;  // not during the first recording
  std::vector<Command> results_;
  std::vector<Command> feeding_, mixing_;  // what an input goes through before the first node
  int now_ = 0;                            // node being recorded
  int tick_ = 0;
  std::vector<bool> gradient_written_;
  std::vector<bool> derivative_done_;
  std::map<Key, int> buffers_;
  std::vector<Lifetime> lifetimes_;
  std::vector<size_t> offsets_;
  char* base_ = nullptr;  // null during the first recording
};

}  // namespace

Plan compile(const Graph& graph, const PlanRequest& request, const PlanMemory& memory,
             const Backend& backend, Precision precision) {
  return Compiler(graph, request, memory, precision).compile(backend);
}

}  // namespace fusednn::engine

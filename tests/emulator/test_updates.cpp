// SPDX-License-Identifier: Apache-2.0
// Optimizer steps whose counts, learning rates, loss scale and found_inf lie in device memory, against
// steps on the CPU that get the same numbers from the host: many in a row, one by one, and as a graph that
// somebody else has captured.
#include <cuda_runtime.h>

#include <numeric>

#include "engine/catalog.h"
#include "engine/registry.h"
#include "engine/updater.h"
#include "kernel_check.h"

namespace fusednn::kernel_check {
namespace {

using engine::UpdaterStep;
using engine::UpdaterTensor;

constexpr int kSteps = 20;
constexpr double kScale = 4;  // of the loss: a power of two, so that dividing by it rounds nothing
const std::vector<Index> kLengths = {37, 1, 1200};

// What differs from step to step.
double rate(int step, int group) {
  return double(float((group == 0 ? 0.01 : 0.003) * (1 + 0.5 * std::cos(0.4 * step))));
}
bool overflows(int step) { return step == 4 || step == 11; }
bool has_gradient(int step, size_t tensor) { return tensor != 1 || step % 3 != 2; }

template <class T>
std::vector<T> gradient(int step, size_t tensor) {
  std::mt19937 draw(unsigned(100 * step) + unsigned(tensor));
  std::normal_distribution<double> normal;
  std::vector<T> values(static_cast<size_t>(kLengths[tensor]));
  for (T& v : values) v = T(kScale * normal(draw));
  return values;
}

std::vector<engine::OptimizerSpec> groups(const std::string& rule) {
  std::vector<engine::OptimizerSpec> specs(2);
  for (engine::OptimizerSpec& spec : specs) spec.rule = rule;
  specs[0].weight_decay = 0.1;
  specs[0].decoupled = true;
  specs[1].weight_decay = 0.05;
  specs[1].maximize = true;
  specs[1].ema_decay = 0.9;
  return specs;
}

// Memory of a backend with these numbers in it.
template <class T>
class Held {
 public:
  Held(const Backend& backend, const std::vector<T>& values)
      : backend_(backend), memory_(backend, values.size() * sizeof(T)), n_(values.size()) {
    put(values);
  }
  T* data() const { return reinterpret_cast<T*>(memory_.data()); }
  void put(const std::vector<T>& values) {
    backend_.upload(memory_.data(), values.data(), n_ * sizeof(T));
  }
  std::vector<T> values() const {
    std::vector<T> found(n_);
    backend_.download(found.data(), memory_.data(), n_ * sizeof(T));
    return found;
  }

 private:
  const Backend& backend_;
  engine::Arena memory_;
  size_t n_;
};

// Three tensors in two groups, and all that lies beside them.
template <class T>
class Tensors {
 public:
  Tensors(const Backend& backend, const std::string& rule, bool live)
      : backend_(backend), rule_(rule), live_(live), updater_(spec()) {
    const engine::OptimizerInfo& info = updater_.info();
    const std::vector<double> starts = updater_.initial_states(groups(rule)[0]);
    for (size_t i = 0; i < kLengths.size(); ++i) {
      const auto n = static_cast<size_t>(kLengths[i]);
      UpdaterTensor tensor;
      tensor.memory.n = kLengths[i];
      tensor.memory.group = int32_t(i % 2);
      tensor.memory.parameter = hold(gradient<T>(1000, i));
      tensor.memory.ema = hold(gradient<T>(1001, i));
      for (size_t k = 0; k < starts.size(); ++k) {
        tensor.memory.state[k] = hold(std::vector<T>(n, T(starts[k])));
      }
      scalars_.emplace_back(backend, std::vector<float>{0});
      tensor.scalars[0] = scalars_.back().data();
      for (const double start : info.memory) {
        scalars_.emplace_back(backend, std::vector<float>{float(start)});
        tensor.scalars[1] = scalars_.back().data();
      }
      gradients_.emplace_back(backend, std::vector<T>(n));
      tensors_.push_back(tensor);
    }
    set_up(updater_);
  }

  void set_up(engine::Updater& updater) {
    updater.set_tensors(tensors_);
    updater.set_groups(groups(rule_));
  }
  engine::UpdaterSpec spec() const {
    return {rule_, "torch", dtype_of<T>(), Storage::native, backend_.name, live_};
  }
  engine::Updater& updater() { return updater_; }

  // The gradients of a step, by address.
  std::vector<void*> load(int step) {
    std::vector<void*> addresses;
    for (size_t i = 0; i < kLengths.size(); ++i) {
      gradients_[i].put(gradient<T>(step, i));
      addresses.push_back(has_gradient(step, i) ? gradients_[i].data() : nullptr);
    }
    return addresses;
  }
  std::vector<std::vector<T>> numbers() const {
    std::vector<std::vector<T>> all;
    for (const Held<T>& each : numbers_) all.push_back(each.values());
    return all;
  }
  std::vector<float> scalars() const {
    std::vector<float> all;
    for (const Held<float>& each : scalars_) all.push_back(each.values()[0]);
    return all;
  }

 private:
  void* hold(const std::vector<T>& values) {
    numbers_.emplace_back(backend_, values);
    return numbers_.back().data();
  }

  const Backend& backend_;
  const std::string rule_;
  const bool live_;
  engine::Updater updater_;
  std::vector<Held<T>> numbers_, gradients_;
  std::vector<Held<float>> scalars_;
  std::vector<UpdaterTensor> tensors_;
};

// What the device keeps beside the tensors of a live updater.
struct DeviceNumbers {
  explicit DeviceNumbers(const Backend& backend)
      : rate(backend, {0}),
        wide_rate(backend, {0}),
        found_inf(backend, {0}),
        loss_scale(backend, {float(kScale)}),
        norm(backend, {0}) {}

  void load(int step) {
    rate.put({float(kernel_check::rate(step, 0))});
    wide_rate.put({kernel_check::rate(step, 1)});
    found_inf.put({overflows(step) ? 1.F : 0.F});
  }
  engine::LiveNumbers addresses() const {
    return {
        {{rate.data(), false}, {wide_rate.data(), true}},
        found_inf.data(),
        loss_scale.data(),
        norm.data()
    };
  }

  Held<float> rate;
  Held<double> wide_rate;
  Held<float> found_inf, loss_scale;
  Held<double> norm;
};

template <class T>
void compare_all(const std::string& name, Tensors<T>& want, Tensors<T>& got) {
  const Tolerance close = sizeof(T) == 4 ? Tolerance{2e-5, 2e-6} : Tolerance{1e-12, 1e-13};
  const auto a = want.numbers(), b = got.numbers();
  for (size_t i = 0; i < a.size(); ++i) {
    compare(name + " tensor " + std::to_string(i), a[i], b[i], close);
  }
  compare(name + " scalars", want.scalars(), got.scalars(), {1e-6, 0});
}

template <class T>
double on_host(Tensors<T>& tensors, int step, bool clips, const std::vector<void*>& gradients) {
  if (overflows(step)) return -1;
  UpdaterStep now{
      gradients, {rate(step, 0), rate(step, 1)},
       1 / kScale
  };
  if (clips) now.max_norm = 5.0;
  return tensors.updater().step(now);
}

template <class T>
void one_by_one(const std::string& rule, const Backend& device, bool clips) {
  ++cases;
  const std::string name = "live " + rule + (clips ? " clipped" : "");
  Tensors<T> host(engine::find_backend("cpu"), rule, false), live(device, rule, true);
  DeviceNumbers numbers(device);
  for (int step = 0; step < kSteps; ++step) {
    const double norm = on_host(host, step, clips, host.load(step));
    const auto gradients = live.load(step);
    numbers.load(step);
    UpdaterStep now{
        gradients, {0, 0},
         1
    };
    if (clips) now.max_norm = 5.0;
    now.live = numbers.addresses();
    live.updater().step(now);
    if (clips && norm >= 0) {
      compare(name + " norm", std::vector<double>{norm}, numbers.norm.values(), {1e-6, 0});
    }
  }
  compare_all(name, host, live);
}

void need(cudaError_t status, const char* what) {
  if (status == cudaSuccess) return;
  std::printf("%s: %s\n", what, cudaGetErrorString(status));
  std::exit(1);
}

// The graph outlives the updater that it was captured from: what that put into memory is the graph's.
template <class T>
void as_a_graph(const std::string& rule, const Backend& device) {
  ++cases;
  Tensors<T> host(engine::find_backend("cpu"), rule, false), live(device, rule, true);
  DeviceNumbers numbers(device);
  cudaStream_t stream = nullptr;
  need(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "making a stream");
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t executable = nullptr;
  for (int step = 0; step < kSteps; ++step) {
    if (step % 3 == 2) continue;  // a graph has the same gradients in each of its steps
    on_host(host, step, true, host.load(step));
    const auto gradients = live.load(step);
    numbers.load(step);
    need(cudaDeviceSynchronize(), "waiting");  // these came on another stream
    UpdaterStep now{
        gradients, {0, 0},
         1, 5.0
    };
    now.queue = reinterpret_cast<uintptr_t>(stream);
    now.live = numbers.addresses();
    if (step == 0) {
      live.updater().step(now);
    } else if (executable == nullptr) {
      need(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), "capturing");
      {
        const engine::OnQueue queue(device, now.queue);
        engine::Updater captured(live.spec());
        live.set_up(captured);
        captured.step(now);
      }
      need(cudaStreamEndCapture(stream, &graph), "capturing");
      need(cudaGraphInstantiate(&executable, graph, 0), "making a graph");
    }
    if (executable != nullptr) need(cudaGraphLaunch(executable, stream), "running a graph");
    need(cudaStreamSynchronize(stream), "waiting");
  }
  need(cudaGraphExecDestroy(executable), "destroying a graph");
  need(cudaGraphDestroy(graph), "destroying a graph");
  need(cudaStreamDestroy(stream), "destroying a stream");
  compare_all("graph " + rule, host, live);
}

}  // namespace

const Backend& device_backend() {
  static const Backend& known = [&]() -> const Backend& {
    BackendExport exported;
    exported.version = "tested";
    exported.backend = &cuda::backend();
    engine::register_backend(exported, "tested");
    return engine::find_backend("cuda");
  }();
  return known;
}

template <class T>
void updates() {
  const Backend& device = device_backend();
  for (const engine::OptimizerInfo& info : engine::optimizers()) {
    for (const bool clips : {false, true}) one_by_one<T>(info.name, device, clips);
    as_a_graph<T>(info.name, device);
  }
}

template void updates<float>();
template void updates<double>();

}  // namespace fusednn::kernel_check

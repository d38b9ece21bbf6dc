// SPDX-License-Identifier: Apache-2.0
#include "cuda/cublaslt.h"

#include <dlfcn.h>

#include <atomic>
#include <cstring>
#include <map>
#include <mutex>
#include <stdexcept>
#include <tuple>

#include "cuda/cublaslt_api.h"
#include "cuda/kernels/library_product.h"
#include "cuda/kernels/table.h"
#include "cuda/product_choice.h"

namespace fusednn::cuda {
namespace {

constexpr uint64_t kMostWorkspace = 32 << 20;
constexpr size_t kMostPlans = 1024;

// D = A B (+ D), column-major, which is what row-major matrices are when one reads them transposed.
struct Product {
  lt::DataType type = lt::kFloat32;      // of D, and of A and B in memory
  lt::DataType operands = lt::kFloat32;  // what A and B are multiplied as
  Index m = 0, n = 0, k = 0;
  bool transpose_a = false, transpose_b = false, accumulate = false;
  bool tf32 = false;
  ConstMatrix a, b;
  Matrix d;
  lt::Epilogue epilogue = lt::kNoEpilogue;
  const void* bias = nullptr;  // of the epilogue: one for each row of D, or for each column

  bool rounds() const { return operands != type; }
};

// An operand as it lies in memory: lines of neighbours.
struct Lines {
  Index count, length;
};
Lines lines_of_a(const Product& p) { return p.transpose_a ? Lines{p.m, p.k} : Lines{p.k, p.m}; }
Lines lines_of_b(const Product& p) { return p.transpose_b ? Lines{p.k, p.n} : Lines{p.n, p.k}; }

// How a rounded copy lies in the workspace: lines and copies begin where tensor cores like it.
Index stride_of_copy(const Lines& lines) { return (lines.length + 7) / 8 * 8; }
size_t bytes_of_copy(const Lines& lines) {
  constexpr size_t line = 256;
  const auto bytes = static_cast<size_t>(lines.count * stride_of_copy(lines)) * sizeof(uint16_t);
  return (bytes + line - 1) / line * line;
}
size_t bytes_of_copies(const Product& p) {
  return p.rounds() ? bytes_of_copy(lines_of_a(p)) + bytes_of_copy(lines_of_b(p)) : 0;
}

struct Plan {
  lt::Desc desc = nullptr;
  lt::Layout a = nullptr, b = nullptr, d = nullptr;
  lt::Algorithm algorithm = {};
  size_t workspace = 0;
  bool usable =
      false;  // false: the library has no way to do it, which is worth remembering as well
};

// A pointer's true alignment, as far as the library cares.
uint32_t alignment_of(const void* memory) {
  const auto address = reinterpret_cast<uintptr_t>(memory);
  uint32_t alignment = 256;
  while (address % alignment != 0) alignment /= 2;
  return alignment;
}

class Library {
 public:
  std::string load(const std::vector<std::string>& paths) {
    const std::lock_guard<std::mutex> lock(mutex_);
    std::string reasons;
    for (const std::string& path : paths) {
      if (!name_.empty()) break;
      void* library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
      if (library == nullptr) {
        const char* why = dlerror();
        reasons += std::string(reasons.empty() ? "" : "; ") + (why != nullptr ? why : path.c_str());
        continue;
      }
      take(library, path);
    }
    if (name_.empty()) {
      throw std::runtime_error(
          "cuBLASLt was not found, so products run on fusednn's own kernels; pip install "
          "'fusednn[cuda13]' brings it" +
          (reasons.empty() ? "" : " (" + reasons + ")"));
    }
    return name_;
  }

  bool ready() const { return loaded_.load(std::memory_order_acquire); }
  size_t version() const { return ready() ? api_.GetVersion() : 0; }
  size_t plans() {
    const std::lock_guard<std::mutex> lock(mutex_);
    return plans_.size();
  }

  // The workspace, or nothing where the library cannot do it.
  ProductDemand demand(const Product& product) {
    const std::lock_guard<std::mutex> lock(mutex_);
    const Plan& plan = plan_for(with_copies(product, nullptr));
    return {plan.usable, bytes_of_copies(product) + plan.workspace};
  }

  void run(const Product& given, const Context& context) {
    auto* room = static_cast<char*>(context.workspace);
    const Product product = with_copies(given, room);
    if (given.rounds()) {
      const Storage to = given.operands == lt::kBfloat16 ? Storage::bfloat16 : Storage::float16;
      const auto round = [&](const ConstMatrix& from, const Lines& lines, const ConstMatrix& copy) {
        round_rows(from, lines.count, lines.length, to, {const_cast<void*>(copy.data), copy.stride},
                   context);
      };
      round(given.a, lines_of_a(given), product.a);
      round(given.b, lines_of_b(given), product.b);
      room += bytes_of_copies(given);
    }
    const std::lock_guard<std::mutex> lock(mutex_);
    const Plan& plan = plan_for(product);
    if (product.bias != nullptr) set(plan.desc, lt::kBiasPointer, product.bias);
    const double one = 1, kept = product.accumulate ? 1 : 0;
    const auto one_float = static_cast<float>(one), kept_float = static_cast<float>(kept);
    const bool wide = product.type == lt::kFloat64;
    const void* alpha = wide ? static_cast<const void*>(&one) : &one_float;
    const void* beta = wide ? static_cast<const void*>(&kept) : &kept_float;
    need(api_.Matmul(handle_, plan.desc, alpha, product.a.data, plan.a, product.b.data, plan.b,
                     beta, product.d.data, plan.d, product.d.data, plan.d, &plan.algorithm, room,
                     plan.workspace, context.stream),
         "cublasLtMatmul");
  }

 private:
  using Key = std::tuple<int, int, Index, Index, Index, Index, Index, Index, int, uint32_t,
                         uint32_t, uint32_t, uint32_t, uint32_t>;

  // Where the library finds operands that are rounded: in the workspace, which begins at `room`.
  static Product with_copies(Product p, char* room) {
    if (!p.rounds()) return p;
    const Lines a = lines_of_a(p), b = lines_of_b(p);
    p.a = {room, stride_of_copy(a)};
    p.b = {room == nullptr ? nullptr : room + bytes_of_copy(a), stride_of_copy(b)};
    return p;
  }

  static Key key_of(const Product& p) {
    const int flags = p.transpose_a + 2 * p.transpose_b + 4 * p.accumulate + 8 * p.tf32;
    return {p.type,
            p.operands,
            p.m,
            p.n,
            p.k,
            p.a.stride,
            p.b.stride,
            p.d.stride,
            flags,
            p.epilogue,
            alignment_of(p.a.data),
            alignment_of(p.b.data),
            alignment_of(p.d.data),
            alignment_of(p.bias)};
  }

  static void need(lt::Status status, const char* what) {
    if (status == lt::kSuccess) return;
    throw std::runtime_error(std::string("cuda: ") + what + " failed with status " +
                             std::to_string(status));
  }

  template <class T>
  void set(lt::Desc desc, lt::DescAttribute attribute, const T& value) {
    need(api_.MatmulDescSetAttribute(desc, attribute, &value, sizeof(value)),
         "cublasLtMatmulDescSetAttribute");
  }

  template <class F>
  static void find(void* library, const char* name, F& function) {
    void* symbol = dlsym(library, name);
    if (symbol == nullptr) throw std::runtime_error(std::string("cuBLASLt has no ") + name);
    std::memcpy(&function, &symbol, sizeof(symbol));
  }

  void take(void* library, const std::string& path) {
    find(library, "cublasLtGetVersion", api_.GetVersion);
    find(library, "cublasLtCreate", api_.Create);
    find(library, "cublasLtMatmulDescCreate", api_.MatmulDescCreate);
    find(library, "cublasLtMatmulDescDestroy", api_.MatmulDescDestroy);
    find(library, "cublasLtMatmulDescSetAttribute", api_.MatmulDescSetAttribute);
    find(library, "cublasLtMatrixLayoutCreate", api_.MatrixLayoutCreate);
    find(library, "cublasLtMatrixLayoutDestroy", api_.MatrixLayoutDestroy);
    find(library, "cublasLtMatmulPreferenceCreate", api_.MatmulPreferenceCreate);
    find(library, "cublasLtMatmulPreferenceDestroy", api_.MatmulPreferenceDestroy);
    find(library, "cublasLtMatmulPreferenceSetAttribute", api_.MatmulPreferenceSetAttribute);
    find(library, "cublasLtMatmulAlgoGetHeuristic", api_.MatmulAlgoGetHeuristic);
    find(library, "cublasLtMatmul", api_.Matmul);
    need(api_.Create(&handle_), "cublasLtCreate");
    name_ = path;
    loaded_.store(true, std::memory_order_release);
  }

  const Plan& plan_for(const Product& product) {
    const Key key = key_of(product);
    const auto found = plans_.find(key);
    if (found != plans_.end()) return found->second;
    if (plans_.size() >= kMostPlans) {
      for (auto& [old, plan] : plans_) destroy(plan);
      plans_.clear();
    }
    return plans_.emplace(key, make(product)).first->second;
  }

  void destroy(const Plan& plan) {
    if (plan.desc != nullptr) (void)api_.MatmulDescDestroy(plan.desc);
    for (const lt::Layout layout : {plan.a, plan.b, plan.d}) {
      if (layout != nullptr) (void)api_.MatrixLayoutDestroy(layout);
    }
  }

  Plan make(const Product& p) {
    Plan plan;
    const lt::ComputeType compute = p.type == lt::kFloat64 ? lt::kCompute64
                                    : p.tf32               ? lt::kComputeTf32
                                                           : lt::kCompute32;
    const auto layout = [&](lt::Layout& made, lt::DataType type, const Lines& lines, Index stride) {
      need(api_.MatrixLayoutCreate(&made, type, static_cast<uint64_t>(lines.length),
                                   static_cast<uint64_t>(lines.count), stride),
           "cublasLtMatrixLayoutCreate");
    };
    need(api_.MatmulDescCreate(&plan.desc, compute, p.type), "cublasLtMatmulDescCreate");
    set(plan.desc, lt::kTransA, p.transpose_a ? lt::kTransposed : lt::kAsItIs);
    set(plan.desc, lt::kTransB, p.transpose_b ? lt::kTransposed : lt::kAsItIs);
    set(plan.desc, lt::kEpilogue, p.epilogue);
    if (p.bias != nullptr) set(plan.desc, lt::kBiasPointer, p.bias);
    layout(plan.a, p.operands, lines_of_a(p), p.a.stride);
    layout(plan.b, p.operands, lines_of_b(p), p.b.stride);
    layout(plan.d, p.type, {p.n, p.m}, p.d.stride);

    lt::Preference preference = nullptr;
    need(api_.MatmulPreferenceCreate(&preference), "cublasLtMatmulPreferenceCreate");
    const auto prefer = [&](lt::PreferenceAttribute attribute, const auto& value) {
      need(api_.MatmulPreferenceSetAttribute(preference, attribute, &value, sizeof(value)),
           "cublasLtMatmulPreferenceSetAttribute");
    };
    prefer(lt::kMaxWorkspaceBytes, kMostWorkspace);
    prefer(lt::kMinAlignmentA, alignment_of(p.a.data));
    prefer(lt::kMinAlignmentB, alignment_of(p.b.data));
    prefer(lt::kMinAlignmentC, alignment_of(p.d.data));
    prefer(lt::kMinAlignmentD, alignment_of(p.d.data));
    lt::HeuristicResult result = {};
    int n = 0;
    const lt::Status status = api_.MatmulAlgoGetHeuristic(
        handle_, plan.desc, plan.a, plan.b, plan.d, plan.d, preference, 1, &result, &n);
    (void)api_.MatmulPreferenceDestroy(preference);
    plan.usable = status == lt::kSuccess && n > 0 && result.state == lt::kSuccess;
    plan.algorithm = result.algorithm;
    plan.workspace = plan.usable ? result.workspace_bytes : 0;
    return plan;
  }

  std::mutex mutex_;
  std::atomic<bool> loaded_{false};
  std::string name_;
  lt::Api api_ = {};
  lt::Handle handle_ = nullptr;
  std::map<Key, Plan> plans_;
};

Library& library() {
  static auto* the_library = new Library;  // lives to the end, as the device does
  return *the_library;
}

// Where somebody decides for all products, as tests and measurements do; below 0, the table does.
std::atomic<int> decided{-1};
std::atomic<bool> tf32_is_allowed{false};

Storage halves_of(const DenseForward& op) {
  return op.float16 ? Storage::float16 : op.bfloat16 ? Storage::bfloat16 : Storage::native;
}
template <class Op>
Storage halves_of(const Op& op) {
  return op.bfloat16 ? Storage::bfloat16 : Storage::native;
}

Arithmetic arithmetic_of(DType dtype, Storage halves) {
  if (dtype == DType::float64) return Arithmetic::float64;
  if (halves != Storage::native) return Arithmetic::halves;
  return tf32_is_allowed ? Arithmetic::tf32 : Arithmetic::float32;
}

Product product_in(DType dtype, Storage halves) {
  Product p;
  p.type = dtype == DType::float32 ? lt::kFloat32 : lt::kFloat64;
  p.operands = halves == Storage::bfloat16  ? lt::kBfloat16
               : halves == Storage::float16 ? lt::kFloat16
                                            : p.type;
  p.tf32 = arithmetic_of(dtype, halves) == Arithmetic::tf32;
  return p;
}

// y = x w: D is yᵀ (out x rows), A is wᵀ, B is xᵀ.
Product product_of(const DenseForward& op, DType dtype, Way way) {
  Product p = product_in(dtype, halves_of(op));
  p.m = op.out;
  p.n = op.rows;
  p.k = op.in;
  p.a = op.w;
  p.transpose_a = op.transposed;
  p.b = op.x;
  p.d = op.z.data != nullptr ? op.z : op.y;
  if (way == Way::epilogue && op.bias != nullptr) {
    p.epilogue = lt::kBias;
    p.bias = op.bias;
  }
  return p;
}

// dx = dz wᵀ: D is dxᵀ (in x rows), A is w, B is dzᵀ.
Product product_of(const DenseBackwardInput& op, DType dtype, Way) {
  Product p = product_in(dtype, halves_of(op));
  p.m = op.in;
  p.n = op.rows;
  p.k = op.out;
  p.a = op.w;
  p.transpose_a = !op.transposed;
  p.b = op.dz;
  p.d = op.dx;
  p.accumulate = op.accumulate;
  return p;
}

// The library overwrites the gradient of the bias, and sums up what it multiplies: rounded numbers.
bool sums_columns(const DenseBackwardWeights& op, Way way) {
  return way == Way::epilogue && op.dbias != nullptr && !op.accumulate &&
         halves_of(op) == Storage::native;
}

// dw = xᵀ dz: D is dwᵀ (out x in), or dw itself where weights lie as (out, in).
Product product_of(const DenseBackwardWeights& op, DType dtype, Way way) {
  Product p = product_in(dtype, halves_of(op));
  p.m = op.transposed ? op.in : op.out;
  p.n = op.transposed ? op.out : op.in;
  p.k = op.rows;
  p.a = op.transposed ? op.x : op.dz;
  p.b = op.transposed ? op.dz : op.x;
  p.transpose_b = true;
  p.d = op.dw;
  p.accumulate = op.accumulate;
  if (sums_columns(op, way)) {
    p.epilogue = op.transposed ? lt::kGradientFromB : lt::kGradientFromA;
    p.bias = op.dbias;
  }
  return p;
}

// Whether the library can be asked at all. The derivative runs behind the product, over memory without
// gaps, and cannot tell what it adds to; so does an activation.
bool possible(const DenseBackwardInput& op) {
  const bool plain = op.activation.rule == 0;
  return plain || (!op.accumulate && op.dx.stride == op.in && op.saved.stride == op.in);
}
bool possible(const DenseForward& op) {
  const bool dense = op.y.stride == op.out && (op.z.data == nullptr || op.z.stride == op.out);
  return op.activation.rule == 0 ? op.z.data == nullptr : dense;
}
bool possible(const DenseBackwardWeights& op) { return op.dw.data != nullptr; }

using OfShape = Way (ShapeClass::*)[4];
OfShape ways_of(const DenseForward&) { return &ShapeClass::forward; }
OfShape ways_of(const DenseBackwardInput&) { return &ShapeClass::input; }
OfShape ways_of(const DenseBackwardWeights&) { return &ShapeClass::weights; }

template <class Op>
Way way_of(const Op& op, DType dtype) {
  if (!possible(op) || op.rows * op.in * op.out == 0) return Way::own;
  if (decided >= 0) return static_cast<Way>(decided.load());
  const auto arithmetic = static_cast<int>(arithmetic_of(dtype, halves_of(op)));
  return (class_of(op.rows, op.in, op.out).*ways_of(op))[arithmetic];
}

template <class Op>
void run_own(const Op& op, DType dtype, const Context& context) {
  kernel_table.run[static_cast<int>(dtype)][PlaceIn<Op, Operations>::value](&op, context);
}

void finish(const DenseForward& op, DType dtype, Way way, const Context& context) {
  if (way == Way::bare && (op.bias != nullptr || op.activation.rule != 0)) {
    return finish_forward(op, dtype, context);
  }
  if (op.activation.rule == 0) return;
  const void* x = op.z.data != nullptr ? op.z.data : op.y.data;
  run_own(ActivationForward{x, op.y.data, op.rows * op.out, op.activation}, dtype, context);
}
void finish(const DenseBackwardInput& op, DType dtype, Way, const Context& context) {
  if (op.activation.rule == 0) return;
  run_own(ActivationBackward{op.dx.data, op.saved.data, op.dx.data, op.rows * op.in, op.activation,
                             false},
          dtype, context);
}
void finish(const DenseBackwardWeights& op, DType dtype, Way way, const Context& context) {
  if (op.dbias == nullptr || sums_columns(op, way)) return;
  DenseBackwardWeights bias = op;
  bias.dw = {};
  run_own(bias, dtype, context);
}

template <class Op>
Op arguments_of(const Command& command) {
  Op op;
  std::memcpy(&op, command.arguments, sizeof(op));
  return op;
}

template <class Op>
ProductDemand demand_of(const Command& command) {
  const Op op = arguments_of<Op>(command);
  const Way way = way_of(op, command.dtype);
  if (way == Way::own) return {};
  return library().demand(product_of(op, command.dtype, way));
}

template <class Op>
void run_as(const Command& command, const Context& context) {
  const Op op = arguments_of<Op>(command);
  const Way way = way_of(op, command.dtype);
  library().run(product_of(op, command.dtype, way), context);
  finish(op, command.dtype, way, context);
}

}  // namespace

std::string load_cublaslt(const std::vector<std::string>& paths) { return library().load(paths); }

size_t cublaslt_version() { return library().version(); }

size_t cublaslt_plans() { return library().plans(); }

void set_product_way(const std::string& name) {
  const char* const names[] = {"own", "bare", "epilogue"};
  for (int way = 0; way < 3; ++way) {
    if (name == names[way]) {
      decided = way;
      return;
    }
  }
  if (name != "auto") {
    throw std::invalid_argument("way='" + name + "' is unknown; known: auto, own, bare, epilogue");
  }
  decided = -1;
}

std::string product_class(Index m, Index n, Index k) { return class_of(m, n, k).name; }

void allow_tf32(bool allowed) { tf32_is_allowed = allowed; }

ProductDemand product_demand(const Command& command) {
  if (!library().ready()) return {};
  switch (command.operation) {
    case PlaceIn<DenseForward, Operations>::value:
      return demand_of<DenseForward>(command);
    case PlaceIn<DenseBackwardInput, Operations>::value:
      return demand_of<DenseBackwardInput>(command);
    case PlaceIn<DenseBackwardWeights, Operations>::value:
      return demand_of<DenseBackwardWeights>(command);
    default:
      return {};
  }
}

void run_product(const Command& command, const Context& context) {
  switch (command.operation) {
    case PlaceIn<DenseForward, Operations>::value:
      return run_as<DenseForward>(command, context);
    case PlaceIn<DenseBackwardInput, Operations>::value:
      return run_as<DenseBackwardInput>(command, context);
    case PlaceIn<DenseBackwardWeights, Operations>::value:
      return run_as<DenseBackwardWeights>(command, context);
    default:
      throw std::logic_error("cuda: no product");
  }
}

}  // namespace fusednn::cuda

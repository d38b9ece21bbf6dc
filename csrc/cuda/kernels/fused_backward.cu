// SPDX-License-Identifier: Apache-2.0
// The backward pass of a chain of dense layers. A block takes 128 rows at a time, 16 for each warp, and
// keeps all of them on the chip: the input of every layer, which it computes again from that of the lowest
// one or reads, and later in the same place the gradient there. Gradients of weights are sums over all
// rows; each warp has a part of every such matrix in registers as long as the block lives.
//
// Order of summation: a product along columns goes up in steps of 16, as in the forward pass. A gradient
// of weights goes up in steps of 16 rows through the rows of a block, of a bias likewise, the rows of a
// warp summed by halves and then the warps in order. Which rows a block has follows from their number; the
// sums of the blocks are added in four groups of neighbours, and these in order.
#include "cuda/kernels/fused_backward.cuh"

namespace fusednn::cuda {
namespace {

// The input of a layer, and where it needs room the derivative there, to shared memory.
template <int kTiles>
__device__ void make_input(const FusedBackward& chain, int l, Index row) {
  const FusedBackwardLayer& layer = chain.layer[l];
  const bool given = layer.x.data != nullptr;
  const int step = row_halves(layer.in);
#pragma unroll 1
  for (int col = 0; col < layer.in; col += 8 * kTiles) {
    Fragment<kTiles> v, slopes = {};
    const int cols = layer.in - col;
    if (given) {
      load_fragment(layer.x, row, chain.rows, col, layer.in, v);
    } else {
      const FusedBackwardLayer& below = chain.layer[l - 1];
      multiply<false>(shared_at<uint16_t>(below.x_at), below, col, v);
      add_bias(shared_at<float>(below.bias_at) + col, cols, v);
    }
    if (layer.slopes_at >= 0) {
      if (given) load_fragment(layer.saved, row, chain.rows, col, layer.in, slopes);
      differentiate(layer.rule, given, cols, v, slopes);
      uint16_t* to = shared_at<uint16_t>(layer.slopes_at);
      if (layer.wide_slopes) {
        keep(to, step, col, layer.in, slopes);
      } else {
        keep<Storage::float16>(to, step, col, layer.in, slopes);
      }
    } else if (!given) {
      with_rule(SignRules{}, layer.rule.place, [&](auto known) {
#pragma unroll
        for (int j = 0; j < kTiles; ++j) {
#pragma unroll
          for (int q = 0; q < 4; ++q) {
            v[j][q] = decltype(known)::forward(v[j][q], layer.rule.parameters);
          }
        }
      });
    }
    clear_beyond(row, chain.rows, v);
    keep(shared_at<uint16_t>(layer.x_at), step, col, layer.in, v);
  }
  __syncwarp();
}

// The gradient of the top layer's sums, as it is given.
template <int kTiles>
__device__ void read_gradient(const FusedBackward& chain, Index row) {
  const FusedBackwardLayer& top = chain.layer[chain.layers - 1];
  const WarpPlace here;
  float* sums = shared_at<float>(top.bias_sums_at) + here.warp * fragment_up(top.out);
#pragma unroll 1
  for (int col = 0; col < top.out; col += 8 * kTiles) {
    Fragment<kTiles> v;
    load_fragment(chain.dz, row, chain.rows, col, top.out, v);
    add_columns(sums, col, top.out, v);
    keep(shared_at<uint16_t>(chain.dz_at), row_halves(top.out), col, top.out, v);
  }
}

// The gradient of a layer's input: to the place of the input, or of the lowest layer to memory.
template <int kTiles>
__device__ void pass_back(const FusedBackward& chain, int l, int dz_at, Index row) {
  const FusedBackwardLayer& layer = chain.layer[l];
  const WarpPlace here;
  const int step = row_halves(layer.in);
  uint16_t* x = shared_at<uint16_t>(layer.x_at);
#pragma unroll 1
  for (int col = 0; col < layer.in; col += 8 * kTiles) {
    Fragment<kTiles> v;
    multiply<true>(shared_at<uint16_t>(dz_at), layer, col, v);
    if (layer.slopes_at >= 0) {
      const auto times = [](float gradient, float slope) { return gradient * slope; };
      const uint16_t* slopes = shared_at<uint16_t>(layer.slopes_at);
      if (layer.wide_slopes) {
        with_kept(slopes, step, col, layer.in, v, times);
      } else {
        with_kept<Storage::float16>(slopes, step, col, layer.in, v, times);
      }
    } else {
      with_rule(SignRules{}, layer.rule.place, [&](auto known) {
        using Rule = decltype(known);
        if constexpr (PlaceIn<Rule, SignRules>::value != kLinear) {
          with_kept(x, step, col, layer.in, v, [&](float gradient, float y) {
            return gradient * Rule::derivative(y, layer.rule.parameters);
          });
        }
      });
    }
    if (l > 0) {
      const FusedBackwardLayer& below = chain.layer[l - 1];
      float* sums = shared_at<float>(below.bias_sums_at) + here.warp * fragment_up(below.out);
      add_columns(sums, col, layer.in, v);
      keep(x, step, col, layer.in, v);
      continue;
    }
    if (chain.accumulate) {
      Fragment<kTiles> old;
      load_fragment(chain.dx, row, chain.rows, col, layer.in, old);
#pragma unroll
      for (int j = 0; j < kTiles; ++j) {
#pragma unroll
        for (int q = 0; q < 4; ++q) v[j][q] = old[j][q] + v[j][q];
      }
    }
    store_fragment(chain.dx, row, chain.rows, col, layer.in, v);
  }
}

template <int kWidth>
__global__ void __launch_bounds__(kThreads, 1)
    backward_chain(const __grid_constant__ FusedBackward chain, float* parts) {
  constexpr int kTiles = (kWidth < 64 ? kWidth : 64) / 8;
  const WarpPlace here;
  const int top = chain.layers - 1;
  for (int l = 0; l <= top; ++l) {
    const FusedBackwardLayer& layer = chain.layer[l];
    load_weights<Storage::bfloat16>(layer);
    float* sums = shared_at<float>(layer.bias_sums_at);
    for (int i = threadIdx.x; i < kWarps * fragment_up(layer.out); i += kThreads) sums[i] = 0;
  }
  __syncthreads();

  WeightSums<kWidth> weights;
  const Index per_part = chain.tiles_per_part();
  const Index first = Index(blockIdx.x) * per_part;
  const Index end = smaller(first + per_part, chain.tiles());
#pragma unroll 1
  for (Index tile = first; tile < end; ++tile) {
    const Index row = tile * kRows + here.row;
#pragma unroll 1
    for (int l = 0; l <= top; ++l) make_input<kTiles>(chain, l, row);
    read_gradient<kTiles>(chain, row);
#pragma unroll 1
    for (int l = top; l >= 0; --l) {
      const FusedBackwardLayer& layer = chain.layer[l];
      const int dz_at = l == top ? chain.dz_at : chain.layer[l + 1].x_at;
      __syncthreads();  // all rows of x and dz are there
      weights.with(layer, [&](auto& sums, int m, int n) { add_weights(sums, layer, dz_at, m, n); });
      __syncthreads();  // and nobody reads x any more
      if (l > 0 || chain.dx.data != nullptr) pass_back<kTiles>(chain, l, dz_at, row);
    }
  }

  float* part = parts + blockIdx.x * chain.part_stride;
  __syncthreads();
#pragma unroll 1
  for (int l = 0; l <= top; ++l) {
    const FusedBackwardLayer& layer = chain.layer[l];
    weights.with(layer, [&](auto& sums, int m, int n) { store_weights(sums, layer, part, m, n); });
    const float* sums = shared_at<float>(layer.bias_sums_at);
    for (int n = threadIdx.x; n < layer.out; n += kThreads) {
      float sum = 0;
      for (int warp = 0; warp < kWarps; ++warp) sum += sums[warp * fragment_up(layer.out) + n];
      part[layer.part_at + Index(layer.in) * layer.out + n] = sum;
    }
  }
}

// Adds what the blocks have left. Four groups of threads each take a quarter of the parts.
constexpr int kGroups = 4, kPerBlock = kThreads / kGroups;

__global__ void __launch_bounds__(kThreads)
    add_parts(const __grid_constant__ FusedBackward chain, const float* parts) {
  __shared__ float sums[kGroups][kPerBlock];
  const FusedBackwardLayer& layer = chain.layer[blockIdx.y];
  const int group = threadIdx.x / kPerBlock, place = threadIdx.x % kPerBlock;
  const Index i = Index(blockIdx.x) * kPerBlock + place, count = chain.parts();
  const Index each = divide_up(count, kGroups), end = smaller((group + 1) * each, count);
  const bool inside = i < layer.part_numbers();
  float sum = 0;
  if (inside) {
#pragma unroll 8
    for (Index p = group * each; p < end; ++p) {
      sum += parts[p * chain.part_stride + layer.part_at + i];
    }
  }
  sums[group][place] = sum;
  __syncthreads();
  if (group > 0 || !inside) return;
  for (int other = 1; other < kGroups; ++other) sum += sums[other][place];
  const Index products = Index(layer.in) * layer.out, m = i / layer.out, n = i % layer.out;
  float* to = layer.dw + (layer.transposed ? n * layer.dw_stride + m : m * layer.dw_stride + n);
  if (i >= products) {
    if (layer.dbias == nullptr) return;
    to = layer.dbias + (i - products);
  }
  *to = layer.accumulate ? *to + sum : sum;
}

template <int kWidth>
void start(const FusedBackward& chain, const Context& context) {
  launch(backward_chain<kWidth>, unsigned(chain.parts()), kThreads, size_t(chain.shared_bytes),
         context.stream, chain, static_cast<float*>(context.workspace));
}

int widest(const FusedBackward& chain) {
  int width = chain.layer[0].in;
  for (int l = 0; l < chain.layers; ++l) {
    if (chain.layer[l].out > width) width = chain.layer[l].out;
  }
  return width;
}

// Finds a place in registers for every gradient of weights.
bool place_sums(FusedBackward& chain) {
  const int width = widest(chain);
  int matrices = width <= 32   ? Share<32>::kMatrices
                 : width <= 64 ? Share<64>::kMatrices
                               : Share<128>::kMatrices;
  const bool few = width > 64 && has_few(128);
  bool few_outputs = few, few_inputs = few;
  for (int l = 0; l < chain.layers; ++l) {
    FusedBackwardLayer& layer = chain.layer[l];
    if (few_outputs && layer.out <= kFew) {
      layer.place = kFewOutputs;
      few_outputs = false;
    } else if (few_inputs && layer.in <= kFew) {
      layer.place = kFewInputs;
      few_inputs = false;
    } else {
      layer.place = --matrices;
    }
  }
  return matrices >= 0 && width <= 128;
}

// Whether slopes may leave the range of float16, which else keeps them with 3 bits more than bfloat16. No
// rule but the first has slopes much above 1 and its parameters.
bool has_wide_slopes(const FusedRule& rule) {
  if (rule.place == PlaceIn<rules::Exponential, rules::Activations>::value) return true;
  constexpr float kSafe = 1e4f;
  for (const float parameter : rule.parameters) {
    if (!(parameter < kSafe)) return true;
  }
  return false;
}

}  // namespace

bool tells_slope(int rule) { return rule < SignRules::size; }

bool lay_out(FusedBackward& chain, int shared_bytes) {
  if (!place_sums(chain)) return false;
  int bytes = 0;
  const auto take = [&](int wanted) {
    const int place = bytes;
    bytes += (wanted + 15) / 16 * 16;
    return place;
  };
  const auto take_rows = [&](int rows, int columns) {
    return take(rows * row_halves(columns) * int(sizeof(uint16_t)));
  };
  chain.part_stride = 0;
  for (int l = 0; l < chain.layers; ++l) {
    FusedBackwardLayer& layer = chain.layer[l];
    layer.weights_at = take_rows(fragment_up(layer.in), layer.out);
    layer.bias_at = take(fragment_up(layer.out) * int(sizeof(float)));
    layer.bias_sums_at = take(kWarps * fragment_up(layer.out) * int(sizeof(float)));
    layer.x_at = take_rows(kRows, layer.in);
    layer.slopes_at = tells_slope(layer.rule.place) ? -1 : take_rows(kRows, layer.in);
    layer.wide_slopes = has_wide_slopes(layer.rule);
    layer.part_at = chain.part_stride;
    chain.part_stride += divide_up(layer.part_numbers(), kQuad) * kQuad;
  }
  chain.dz_at = take_rows(kRows, chain.layer[chain.layers - 1].out);
  chain.shared_bytes = bytes;
  return bytes <= shared_bytes;
}

void run(const FusedBackward& chain, const Context& context) {
  const int width = widest(chain);
  if (width <= 32) {
    start<32>(chain, context);
  } else if (width <= 64) {
    start<64>(chain, context);
  } else {
    start<128>(chain, context);
  }
  Index most = 0;
  for (int l = 0; l < chain.layers; ++l) {
    if (chain.layer[l].part_numbers() > most) most = chain.layer[l].part_numbers();
  }
  launch(add_parts, dim3(unsigned(divide_up(most, kPerBlock)), unsigned(chain.layers)), kThreads, 0,
         context.stream, chain, static_cast<const float*>(context.workspace));
}

}  // namespace fusednn::cuda

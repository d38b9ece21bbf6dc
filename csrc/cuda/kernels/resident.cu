// SPDX-License-Identifier: Apache-2.0
// The kernel that runs a list many times in one block, and what it makes of a list before it begins.
#include "cuda/kernels/resident.h"

#include "cuda/kernels/resident_forms.cuh"

namespace fusednn::cuda {
namespace {

// f(op), if the operation of a command is in the list.
#pragma nv_exec_check_disable  // f is for the side that calls
template <class F, class... Ops>
FNN_HD void with_operation(TypeList<Ops...>, const Command& command, F f) {
  (void)((command.operation == PlaceIn<Ops, Operations>::value &&
          (f(*reinterpret_cast<const Ops*>(command.arguments)), true)) ||
         ...);
}

// ---- before the first run --------------------------------------------------------------------------

// Several units are on their way before the first is stored: the two sides could be the same memory for
// all that the compiler knows.
template <class Unit>
__device__ void copy(char* to, const char* from, uint32_t units, int lane) {
  constexpr uint32_t kAtOnce = 4;
#pragma unroll 1
  for (uint32_t begin = lane; begin < units; begin += kAtOnce * kWarp) {
    Unit held[kAtOnce];
#pragma unroll
    for (uint32_t u = 0; u < kAtOnce; ++u) {
      const uint32_t i = begin + u * kWarp;
      if (i < units) held[u] = reinterpret_cast<const Unit*>(from)[i];
    }
#pragma unroll
    for (uint32_t u = 0; u < kAtOnce; ++u) {
      const uint32_t i = begin + u * kWarp;
      if (i < units) reinterpret_cast<Unit*>(to)[i] = held[u];
    }
  }
}

// The memory and its place are equally far from 16 bytes.
__device__ void copy_piece(char* to, const char* from, uint32_t bytes, int lane) {
  const auto place = reinterpret_cast<uintptr_t>(from);
  if (place % sizeof(uint4) == 0) {
    const uint32_t units = bytes / sizeof(uint4), done = units * sizeof(uint4);
    copy<uint4>(to, from, units, lane);
    copy<uint8_t>(to + done, from + done, bytes - done, lane);
  } else if ((place | bytes) % sizeof(uint32_t) == 0) {
    copy<uint32_t>(to, from, bytes / sizeof(uint32_t), lane);
  } else {
    copy<uint8_t>(to, from, bytes, lane);
  }
}

// A warp for each piece, so that many are on their way at once.
template <class Visit>
__device__ void for_pieces(const ResidentWork& work, Visit visit) {
  for (uint32_t i = threadIdx.x / kWarp; i < work.n_pieces; i += kThreads / kWarp) {
    visit(work.pieces[i], int(threadIdx.x % kWarp));
  }
}

constexpr int kGather = PlaceIn<GatherRows, Operations>::value;

// Gathers that stand side by side share out all warps but the last, which has something else to do.
__device__ void share_out(const Command* commands, uint32_t n, uint32_t i, BlockGather& gather) {
  const auto beside = [&](uint32_t k) {
    return commands[k].operation == kGather && commands[k].beside_next && k + 1 < n &&
           commands[k + 1].operation == kGather;
  };
  constexpr int kWarps = kThreads / kWarp - 1;
  int before = 0, behind = 0;
  while (i >= uint32_t(before) + 1 && beside(i - before - 1)) ++before;
  while (beside(i + behind)) ++behind;
  const int crews = before + behind + 1;
  if (crews > kWarps) return;
  gather.threads = kWarps / crews * kWarp;
  gather.first = before * gather.threads;
}

// What is the same in each run is found out once.
__device__ void prepare(Command* commands, uint32_t n, uint32_t i) {
  Command& command = commands[i];
  with_operation(ResidentBlocks{}, command, [&](const auto& op) {
    auto block = block_of(op);
    static_assert(sizeof(block) <= Command::kCapacity);
    if constexpr (std::is_same_v<decltype(block), BlockGather>) share_out(commands, n, i, block);
    __builtin_memcpy(command.arguments, &block, sizeof(block));
  });
}

// ---- the runs --------------------------------------------------------------------------------------

__device__ void run_command(const Command& command, void* scratch) {
  switch (command.operation) {
    case PlaceIn<DenseForward, Operations>::value:
    case PlaceIn<DenseBackwardInput, Operations>::value:
    case PlaceIn<DenseBackwardWeights, Operations>::value:
      return multiply_block(*reinterpret_cast<const BlockProduct*>(command.arguments),
                            static_cast<float*>(scratch));
    case PlaceIn<ActivationForward, Operations>::value:
    case PlaceIn<ActivationBackward, Operations>::value:
      return finish_elements(*reinterpret_cast<const BlockElements*>(command.arguments));
    case kGather:
      return gather_block(*reinterpret_cast<const BlockGather*>(command.arguments));
    default:
      with_operation(ResidentPlain{}, command, [&](const auto& op) { run_block(op, scratch); });
  }
}

__global__ void __launch_bounds__(kThreads, 1) run_many_times(ResidentWork work) {
  char* shared = dynamic_shared<char>();
  for_pieces(work, [&](const ResidentPiece& piece, int lane) {
    copy_piece(shared + piece.place, piece.memory, piece.bytes, lane);
  });
  __syncthreads();
  for (uint32_t i = threadIdx.x; i < work.n_links; i += kThreads) {
    const ResidentLink link = work.links[i];
    char* const target = shared + link.target;
    __builtin_memcpy(shared + link.pointer, &target, sizeof(target));
  }
  __syncthreads();
  auto* commands = reinterpret_cast<Command*>(shared + work.commands);
  for (uint32_t i = threadIdx.x; i < work.n_commands; i += kThreads) {
    prepare(commands, work.n_commands, i);
  }
  __syncthreads();

#pragma unroll 1
  for (uint32_t run = 0; run < work.times; ++run) {
#pragma unroll 1
    for (uint32_t i = 0; i < work.n_commands; ++i) {
      run_command(commands[i], shared + work.scratch);
      if (!commands[i].beside_next) __syncthreads();
    }
  }

  for_pieces(work, [&](const ResidentPiece& piece, int lane) {
    if (piece.written) copy_piece(piece.memory, shared + piece.place, piece.bytes, lane);
  });
}

}  // namespace

ResidentForm resident_form(const Command& command) {
  ResidentForm form;
  if (command.dtype != DType::float32) return form;
  const auto ask = [&](const auto& op) { form = form_of(op); };
  with_operation(ResidentBlocks{}, command, ask);
  with_operation(ResidentPlain{}, command, ask);
  return form;
}

void run_resident(const ResidentWork& work, size_t shared_bytes, cudaStream_t stream) {
  launch(run_many_times, 1, kThreads, shared_bytes, stream, work);
}

}  // namespace fusednn::cuda

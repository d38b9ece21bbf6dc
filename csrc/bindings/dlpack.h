// SPDX-License-Identifier: Apache-2.0
// The memory layout of DLPack 1.x (https://dmlc.github.io/dlpack), as far as reading an array needs it.
#pragma once

#include <cstdint>

namespace fusednn::bindings::dlpack {

// Memory that a CPU can read, and memory that a CUDA device can.
enum DeviceType : int32_t { kCpu = 1, kCudaHost = 3, kRocmHost = 11, kCuda = 2, kCudaManaged = 13 };
enum TypeCode : uint8_t { kInt = 0, kUInt = 1, kFloat = 2, kBfloat = 4, kComplex = 5, kBool = 6 };
enum Flags : uint64_t { kReadOnly = 1, kIsCopied = 2 };

struct Device {
  int32_t type;
  int32_t id;
};

struct ElementType {
  uint8_t code;
  uint8_t bits;
  uint16_t lanes;
};

struct Tensor {
  void* data;
  Device device;
  int32_t rank;
  ElementType type;
  int64_t* shape;
  int64_t* strides;  // in elements; null: row-major and compact
  uint64_t byte_offset;
};

// What a capsule named "dltensor" holds.
struct ManagedTensor {
  Tensor tensor;
  void* context;
  void (*deleter)(ManagedTensor*);
};

// What a capsule named "dltensor_versioned" holds.
struct ManagedTensorVersioned {
  struct {
    uint32_t major;
    uint32_t minor;
  } version;
  void* context;
  void (*deleter)(ManagedTensorVersioned*);
  uint64_t flags;
  Tensor tensor;
};

// What a capsule named "dlpack_exchange_api", an attribute of an array type, holds since DLPack 1.3: the
// same exchange by C functions. Only the one that describes an array without owning it is used here.
struct ExchangeApi {
  struct {
    uint32_t major;
    uint32_t minor;
  } version;
  ExchangeApi* previous;  // of an older major version
  void* unused[3];
  int (*describe)(void* array, Tensor* out);  // 0, or -1 with a Python exception set
};

}  // namespace fusednn::bindings::dlpack

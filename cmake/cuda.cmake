# SPDX-License-Identifier: Apache-2.0
# Whether the module fusednn._cuda is built, and how. It is built where nvcc is found: on the PATH, as
# CUDACXX, or below CUDA_HOME.

set(FUSEDNN_CUDA AUTO CACHE STRING "The CUDA backend: AUTO where nvcc is found, ON (or an error), OFF")
set_property(CACHE FUSEDNN_CUDA PROPERTY STRINGS AUTO ON OFF)
# Machine code for these, and PTX of the newest for what comes after them.
set(FUSEDNN_CUDA_ARCHITECTURES "80-real;90-real;100" CACHE STRING
    "What the CUDA kernels are compiled for; one is enough while working on them")
option(FUSEDNN_CUDA_REPORT "Let the build print what every kernel uses, for tests/cuda_resources.py" OFF)
option(FUSEDNN_CUDA_EMULATOR "For tests: the CUDA backend on a device made of nothing" OFF)

set(FUSEDNN_CUDA_REASON "")  # why it is not built
set(FUSEDNN_CUDA_FOUND OFF)
if(FUSEDNN_CUDA_EMULATOR)
  # The emulator takes the place of a device; the two never go into one build.
elseif(NOT FUSEDNN_CUDA)
  set(FUSEDNN_CUDA_REASON "FUSEDNN_CUDA=OFF")
elseif(NOT FUSEDNN_PYTHON)
  set(FUSEDNN_CUDA_REASON "it is a Python module, and FUSEDNN_PYTHON=OFF")
else()
  if(NOT CMAKE_CUDA_COMPILER)
    find_program(FUSEDNN_NVCC nvcc HINTS ENV CUDACXX ENV CUDA_HOME ENV CUDA_PATH
                 PATH_SUFFIXES bin)
    if(FUSEDNN_NVCC)
      set(CMAKE_CUDA_COMPILER "${FUSEDNN_NVCC}")
    endif()
  endif()
  if(CMAKE_CUDA_COMPILER)
    set(CMAKE_CUDA_ARCHITECTURES "${FUSEDNN_CUDA_ARCHITECTURES}")
    enable_language(CUDA)
    find_package(CUDAToolkit REQUIRED)
    if(CUDAToolkit_VERSION VERSION_LESS 12.8)
      set(FUSEDNN_CUDA_REASON "nvcc ${CUDAToolkit_VERSION} is older than 12.8, the first for sm_100")
    else()
      set(FUSEDNN_CUDA_FOUND ON)
    endif()
  else()
    set(FUSEDNN_CUDA_REASON "nvcc was not found")
  endif()
  if(NOT FUSEDNN_CUDA_FOUND AND NOT FUSEDNN_CUDA STREQUAL "AUTO")
    message(FATAL_ERROR "FUSEDNN_CUDA=${FUSEDNN_CUDA}, but ${FUSEDNN_CUDA_REASON}.")
  endif()
endif()

# No contraction, as on the CPU: an fma happens where a rule says fma() and nowhere else.
set(FUSEDNN_NVCC_FLAGS -fmad=false --expt-relaxed-constexpr -Xcompiler=-fno-math-errno)
if(FUSEDNN_CUDA_REPORT)
  list(APPEND FUSEDNN_NVCC_FLAGS --resource-usage)
endif()

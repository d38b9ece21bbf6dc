# SPDX-License-Identifier: Apache-2.0
# One source, many instruction sets: which ones this processor family has, and how their kernels are
# compiled. To add one: its name in the list below and, if it needs flags, one line after it.

include(CheckCXXCompilerFlag)
include(CheckCXXSymbolExists)

check_cxx_symbol_exists(__x86_64__ "stddef.h" FUSEDNN_ON_X86_64)
check_cxx_symbol_exists(__aarch64__ "stddef.h" FUSEDNN_ON_AARCH64)

if(FUSEDNN_ON_X86_64)
  set(FUSEDNN_ISAS x86_64_v2 x86_64_v3 x86_64_v4)
elseif(FUSEDNN_ON_AARCH64)
  set(FUSEDNN_ISAS neon)
else()
  set(FUSEDNN_ISAS generic)
endif()

option(FUSEDNN_ONE_ISA "Compile the kernels for the oldest instruction set only: sanitizers are slow" OFF)
if(FUSEDNN_ONE_ISA)
  list(GET FUSEDNN_ISAS 0 FUSEDNN_ISAS)
endif()

set(FUSEDNN_FLAGS_x86_64_v2 -march=x86-64-v2)
set(FUSEDNN_FLAGS_x86_64_v3 -march=x86-64-v3)
set(FUSEDNN_FLAGS_x86_64_v4 -march=x86-64-v4)

# -O3, because -O2 leaves the loops over a register tile rolled, and the tile then lives in memory.
# No contraction, so that an fma happens where a rule says fma() and nowhere else, whatever the
# instruction set. No exceptions, because a kernel that could throw would drag in shared weak symbols.
set(FUSEDNN_KERNEL_FLAGS
    $<$<CONFIG:Release>:-O3>
    -ffp-contract=off
    -fno-math-errno
    -fno-trapping-math
    -fno-exceptions
    -Wno-psabi)

# Compiles a target for one instruction set: its flags, and its name as FNN_ISA.
function(fnn_compile_for target isa)
  set(flags ${FUSEDNN_FLAGS_${isa}} ${FUSEDNN_KERNEL_FLAGS})
  if(CMAKE_CXX_COMPILER_FRONTEND_VARIANT STREQUAL "MSVC")
    list(TRANSFORM FUSEDNN_FLAGS_${isa} PREPEND "/clang:" OUTPUT_VARIABLE flags)
    list(APPEND flags /clang:-O3 /clang:-ffp-contract=off /clang:-fno-math-errno
         /clang:-fno-trapping-math)
  else()
    foreach(flag IN LISTS FUSEDNN_FLAGS_${isa})
      string(MAKE_C_IDENTIFIER "FUSEDNN_HAS${flag}" known)
      check_cxx_compiler_flag("${flag}" ${known})
      if(NOT ${known})
        message(FATAL_ERROR "${CMAKE_CXX_COMPILER} does not know ${flag}, which the ${isa} kernels "
                            "need: use GCC 11, Clang 12 or newer.")
      endif()
    endforeach()
  endif()
  string(TOUPPER "${isa}" upper)
  target_compile_definitions(${target} PRIVATE FNN_ISA=${isa} FNN_ISA_${upper}=1)
  target_compile_options(${target} PRIVATE ${flags})
  # Link-time optimisation could inline a kernel into code that older processors run.
  set_target_properties(${target} PROPERTIES INTERPROCEDURAL_OPTIMIZATION OFF)
endfunction()

# fnn_add_kernels(<isa> <source>...): the object library fnn_kernels_<isa>.
function(fnn_add_kernels isa)
  add_library(fnn_kernels_${isa} OBJECT ${ARGN})
  fnn_set_up(fnn_kernels_${isa})
  fnn_compile_for(fnn_kernels_${isa} ${isa})
endfunction()

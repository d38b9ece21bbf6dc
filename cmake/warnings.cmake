# SPDX-License-Identifier: Apache-2.0
# The warnings every target of ours is compiled with.

add_library(fnn_warnings INTERFACE)
if(CMAKE_CXX_COMPILER_FRONTEND_VARIANT STREQUAL "MSVC")
  target_compile_options(fnn_warnings INTERFACE /W4)  # to clang-cl, -Wall means every warning there is
else()
  # A member left out of a braced list is zero: that is how optional entries are left out here.
  # nvcc has warnings of its own, and the code that it makes for the host is not for us to mend.
  target_compile_options(fnn_warnings INTERFACE "$<$<COMPILE_LANGUAGE:CXX>:-Wall;-Wextra;-Wshadow>"
                         $<$<COMPILE_LANGUAGE:CXX>:-Wno-missing-field-initializers>)
endif()
if(FUSEDNN_WERROR)
  target_compile_options(fnn_warnings INTERFACE $<$<COMPILE_LANGUAGE:CXX>:-Werror>)
endif()

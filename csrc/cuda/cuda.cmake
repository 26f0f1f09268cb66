# fastseg/_cuda: the CUDA kernels, an extension module of its own that imports without a driver.
#
# A CUDA compiler that is missing or broken leaves the module out and breaks nothing, unless
# FASTSEG_CUDA is ON.
if(NOT FASTSEG_CUDA)
  message(STATUS "CUDA kernels: left out by FASTSEG_CUDA=${FASTSEG_CUDA}")
  return()
endif()

# Binaries for Turing, Ampere (which Ada runs too), Jetson Orin and Hopper, and a form of the last
# that drivers translate for whatever comes after.
if(NOT CMAKE_CUDA_ARCHITECTURES)
  set(CMAKE_CUDA_ARCHITECTURES 75-real 80-real 87-real 90)
endif()

include(CheckLanguage)
check_language(CUDA)
if(CMAKE_CUDA_COMPILER)
  enable_language(CUDA)
  # The language may be there and the headers, the library or a C++20 front end not. CMake 3.25
  # does not know by itself how nvcc is asked for C++20.
  if(NOT CMAKE_CUDA20_STANDARD_COMPILE_OPTION)
    set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION -std=c++20)
  endif()
  set(probe ${CMAKE_BINARY_DIR}/cuda_probe.cu)
  file(WRITE ${probe} "#include <cuda_runtime_api.h>\n#include <functional>\n"
    "template <class F> concept Callable = requires(F f) { f(); };\n"
    "int main() { int n; return cudaGetDeviceCount(&n); }\n")
  try_compile(cuda_works ${CMAKE_BINARY_DIR}/cuda_probe ${probe}
    COMPILE_DEFINITIONS ${CMAKE_CUDA20_STANDARD_COMPILE_OPTION} OUTPUT_VARIABLE cuda_said)
endif()
if(NOT cuda_works)
  if(FASTSEG_CUDA STREQUAL "AUTO")
    message(STATUS "CUDA kernels: left out, no nvcc that compiles C++20 was found")
    return()
  endif()
  message(FATAL_ERROR "FASTSEG_CUDA=${FASTSEG_CUDA}, but nvcc does not compile: ${cuda_said}")
endif()

if(CCACHE AND NOT CMAKE_CUDA_COMPILER_LAUNCHER)
  set(CMAKE_CUDA_COMPILER_LAUNCHER ${CCACHE})
endif()
file(GLOB cuda_sources CONFIGURE_DEPENDS cuda/*.cu)
add_library(fastseg_cuda OBJECT ${cuda_sources})
target_include_directories(fastseg_cuda PUBLIC ${CMAKE_CURRENT_SOURCE_DIR})
set_target_properties(fastseg_cuda PROPERTIES
  POSITION_INDEPENDENT_CODE ON CUDA_STANDARD 20 CUDA_STANDARD_REQUIRED ON CUDA_EXTENSIONS OFF)
# As for the CPU: no contraction to fused multiply-add, and divisions that round as IEEE says.
target_compile_options(fastseg_cuda PRIVATE --fmad=false --prec-div=true --ftz=false)
list(JOIN CMAKE_CUDA_ARCHITECTURES "," architectures)
target_compile_definitions(fastseg_cuda PRIVATE FASTSEG_CUDA_ARCHITECTURES="${architectures}")

message(STATUS "CUDA kernels: ${CMAKE_CUDA_ARCHITECTURES}")
if(NOT FASTSEG_PYTHON)
  return()
endif()
find_package(CUDAToolkit REQUIRED)
nanobind_add_module(_cuda STABLE_ABI NB_STATIC
  bindings/cuda_module.cpp bindings/device.cpp)
target_link_libraries(_cuda PRIVATE fastseg_cuda CUDA::cudart_static)
install(TARGETS _cuda LIBRARY DESTINATION fastseg)

# The CUDA compiler and libraries.
set(CMAKE_CUDA_ARCHITECTURES ${TRIREME_CUDA_ARCHITECTURES})
if(NOT CMAKE_CUDA_COMPILER AND NOT DEFINED ENV{CUDACXX})
    find_program(nvcc nvcc PATHS /usr/local/cuda/bin)
    if(nvcc)
        set(CMAKE_CUDA_COMPILER ${nvcc})
    endif()
endif()
enable_language(CUDA)
# CMake 3.25 does not know how CUDA 13's compiler is asked for C++20; later than enable_language,
# whose trial programs would not see it.
set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION "-std=c++20")
set(CMAKE_CUDA20_EXTENSION_COMPILE_OPTION "-std=c++20")
set(CMAKE_CUDA_STANDARD 20)
set(CMAKE_CUDA_STANDARD_REQUIRED ON)
find_package(CUDAToolkit 12.4 REQUIRED)

find_path(NCCL_INCLUDE_DIR nccl.h HINTS ${CUDAToolkit_INCLUDE_DIRS} REQUIRED)
find_library(NCCL_LIBRARY nccl HINTS ${CUDAToolkit_LIBRARY_DIR} REQUIRED)

# cuDNN's attention needs the library and its header-only frontend. Without either, attention runs
# on the project's own kernels.
find_path(CUDNN_INCLUDE_DIR cudnn.h HINTS ${CUDAToolkit_INCLUDE_DIRS})
find_library(CUDNN_LIBRARY cudnn HINTS ${CUDAToolkit_LIBRARY_DIR})
find_path(CUDNN_FRONTEND_INCLUDE_DIR cudnn_frontend.h
    HINTS ${TRIREME_CUDNN_FRONTEND} ${TRIREME_CUDNN_FRONTEND}/include
        ${PROJECT_SOURCE_DIR}/build/packages/cudnn-frontend/include)
if(CUDNN_INCLUDE_DIR AND CUDNN_LIBRARY AND CUDNN_FRONTEND_INCLUDE_DIR)
    set(TRIREME_CUDNN ON)
    message(STATUS "Attention by cuDNN: ${CUDNN_LIBRARY}, ${CUDNN_FRONTEND_INCLUDE_DIR}")
else()
    set(TRIREME_CUDNN OFF)
    message(STATUS "Attention by own kernels: cuDNN or its frontend was not found")
endif()

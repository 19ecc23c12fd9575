# Finds what Stator builds with; a missing one is a message that says how to install it.

function(stator_require found what how)
  if(NOT ${found})
    message(FATAL_ERROR "${what} not found: install it with `${how}`, or run `make setup`")
  endif()
endfunction()

find_package(PkgConfig QUIET)
stator_require(PkgConfig_FOUND "pkg-config" "apt-get install pkg-config")
find_package(fmt QUIET)
stator_require(fmt_FOUND "fmt" "apt-get install libfmt-dev")
find_package(spdlog QUIET)
stator_require(spdlog_FOUND "spdlog" "apt-get install libspdlog-dev")
find_package(nlohmann_json QUIET)
stator_require(nlohmann_json_FOUND "nlohmann-json" "apt-get install nlohmann-json3-dev")
find_package(CLI11 QUIET)
stator_require(CLI11_FOUND "CLI11" "apt-get install libcli11-dev")
find_package(OpenMP QUIET COMPONENTS CXX)
stator_require(OpenMP_CXX_FOUND "OpenMP" "apt-get install g++")
pkg_check_modules(HWY QUIET IMPORTED_TARGET libhwy)
stator_require(HWY_FOUND "Highway" "apt-get install libhwy-dev")
pkg_check_modules(LIBZIP QUIET IMPORTED_TARGET libzip)
stator_require(LIBZIP_FOUND "libzip" "apt-get install libzip-dev")
find_path(XXHASH_INCLUDE xxhash.h)
stator_require(XXHASH_INCLUDE "xxHash" "apt-get install libxxhash-dev")

# oneDNN >= 3.2 and apache-tvm-ffi come as Python packages. Python says where they are: a wheel is
# built with packages that lie outside of the interpreter's prefix.
if(STATOR_PYTHON_PREFIX)
  set(python ${STATOR_PYTHON_PREFIX}/bin/python)
else()
  find_package(Python3 QUIET COMPONENTS Interpreter)
  set(python ${Python3_EXECUTABLE})
endif()
execute_process(COMMAND ${python} -c "import importlib.metadata as metadata
for name in 'onednn-devel-cpu-gomp', 'onednn-cpu-gomp', 'apache-tvm-ffi':
    print(metadata.distribution(name).locate_file(''))"
                OUTPUT_VARIABLE site_packages ERROR_QUIET)
string(REGEX MATCHALL "[^\n]+" site_packages "${site_packages}")
list(REMOVE_DUPLICATES site_packages)
set(python_prefixes)
foreach(folder ${site_packages})
  get_filename_component(prefix ${folder}/../../.. ABSOLUTE)
  list(APPEND python_prefixes ${prefix})
endforeach()

find_path(DNNL_INCLUDE oneapi/dnnl/dnnl.hpp HINTS ${python_prefixes} PATH_SUFFIXES include)
find_library(DNNL_LIBRARY NAMES dnnl HINTS ${python_prefixes} PATH_SUFFIXES lib)
stator_require(DNNL_LIBRARY "oneDNN" "pip install onednn-cpu-gomp onednn-devel-cpu-gomp")
file(STRINGS ${DNNL_INCLUDE}/oneapi/dnnl/dnnl_version.h dnnl_version
     REGEX "DNNL_VERSION_(MAJOR|MINOR) +[0-9]+")
string(REGEX REPLACE ".*MAJOR +([0-9]+).*MINOR +([0-9]+).*" "\\1.\\2" dnnl_version "${dnnl_version}")
if(dnnl_version VERSION_LESS 3.2)
  message(FATAL_ERROR "oneDNN ${dnnl_version} at ${DNNL_INCLUDE} is older than 3.2: "
                      "install it with `pip install onednn-cpu-gomp onednn-devel-cpu-gomp`")
endif()
add_library(DNNL::dnnl SHARED IMPORTED)
set_target_properties(DNNL::dnnl PROPERTIES IMPORTED_LOCATION ${DNNL_LIBRARY}
                      INTERFACE_INCLUDE_DIRECTORIES ${DNNL_INCLUDE})

find_path(TVM_FFI_INCLUDE tvm/ffi/tvm_ffi.h PATHS ${site_packages} PATH_SUFFIXES tvm_ffi/include)
find_library(TVM_FFI_LIBRARY tvm_ffi PATHS ${site_packages} PATH_SUFFIXES tvm_ffi/lib)
find_path(DLPACK_INCLUDE dlpack/dlpack.h PATHS ${site_packages}
          PATH_SUFFIXES tvm_ffi/include tvm_ffi/3rdparty/dlpack/include)
stator_require(TVM_FFI_LIBRARY "apache-tvm-ffi" "pip install apache-tvm-ffi")
add_library(dlpack::dlpack INTERFACE IMPORTED)
set_target_properties(dlpack::dlpack PROPERTIES INTERFACE_INCLUDE_DIRECTORIES ${DLPACK_INCLUDE})
add_library(tvm_ffi::tvm_ffi SHARED IMPORTED)
set_target_properties(tvm_ffi::tvm_ffi PROPERTIES IMPORTED_LOCATION ${TVM_FFI_LIBRARY}
                      INTERFACE_INCLUDE_DIRECTORIES ${TVM_FFI_INCLUDE}
                      INTERFACE_LINK_LIBRARIES dlpack::dlpack)

# The CUDA engine needs headers only: its libraries are opened at run time. They come with torch's own
# pip packages and nvidia-cudnn-frontend, or with a CUDA toolkit and cuDNN.
set(cuda_paths ${site_packages} $ENV{CUDA_HOME} $ENV{CUDA_PATH} /usr/local/cuda)
find_path(CUDA_INCLUDE cuda.h PATHS ${cuda_paths}
          PATH_SUFFIXES nvidia/cu13/include nvidia/cuda_runtime/include include)
find_path(CUBLASLT_INCLUDE cublasLt.h PATHS ${cuda_paths}
          PATH_SUFFIXES nvidia/cu13/include nvidia/cublas/include include)
find_path(NVRTC_INCLUDE nvrtc.h PATHS ${cuda_paths}
          PATH_SUFFIXES nvidia/cu13/include nvidia/cuda_nvrtc/include include)
find_path(CUDNN_INCLUDE cudnn.h PATHS ${cuda_paths} PATH_SUFFIXES nvidia/cudnn/include include)
find_path(CUDNN_FRONTEND_INCLUDE cudnn_frontend.h PATHS ${cuda_paths} HINTS ${python_prefixes}
          PATH_SUFFIXES include)
set(cuda_headers CUDA CUBLASLT NVRTC CUDNN CUDNN_FRONTEND)
set(cuda_missing)
foreach(name ${cuda_headers})
  if(NOT ${name}_INCLUDE)
    list(APPEND cuda_missing ${name})
  endif()
endforeach()
option(STATOR_CUDA "build the CUDA engine, where its headers are found" ON)
if(STATOR_CUDA AND cuda_missing)
  message(STATUS "no CUDA engine: headers not found of ${cuda_missing}")
  set(STATOR_CUDA OFF)
endif()
if(STATOR_CUDA)
  add_library(cuda_headers INTERFACE IMPORTED)
  foreach(name ${cuda_headers})
    target_include_directories(cuda_headers SYSTEM INTERFACE ${${name}_INCLUDE})
  endforeach()
  target_link_libraries(cuda_headers INTERFACE ${CMAKE_DL_LIBS})
endif()

if(STATOR_TESTS)
  find_package(GTest QUIET)
  stator_require(GTest_FOUND "GoogleTest" "apt-get install libgtest-dev libgmock-dev")
endif()

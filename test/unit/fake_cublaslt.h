// A table of cuBLASLt functions that writes down what it is asked, one line per call, and computes
// nothing.
//
// Its heuristics propose `num_candidates` algorithms, those of them that fit into the workspace;
// algorithm i takes i KiB.
#pragma once

#include <cstring>
#include <map>
#include <string>

#include <fmt/format.h>

#include "cuda/run/cublaslt.h"

namespace stator {

class FakeCublasLt {
 public:
  static inline std::string calls;
  static inline int num_candidates = 3;
  static inline uint64_t max_ws_bytes = 0;  // as last asked for

  static CublasLtApi MakeApi() {
    CublasLtApi api;
    api.Create = [](cublasLtHandle_t* handle) {
      *handle = reinterpret_cast<cublasLtHandle_t>(8);
      return CUBLAS_STATUS_SUCCESS;
    };
    api.Destroy = [](cublasLtHandle_t) { return CUBLAS_STATUS_SUCCESS; };
    api.GetVersion = []() -> size_t { return 130401; };
    api.GetStatusName = [](cublasStatus_t) { return "CUBLAS_STATUS_OF_TEST"; };
    api.GetStatusString = [](cublasStatus_t) { return "of a test"; };
    api.MatmulDescCreate = [](cublasLtMatmulDesc_t* desc, cublasComputeType_t compute,
                              cudaDataType_t scale) {
      *desc = New<cublasLtMatmulDesc_t>(
          fmt::format("compute {} scale {}", ComputeName(compute), TypeName(scale)));
      return CUBLAS_STATUS_SUCCESS;
    };
    api.MatmulDescDestroy = [](cublasLtMatmulDesc_t desc) { return Delete(desc); };
    api.MatmulDescSetAttribute = SetDesc;
    api.MatrixLayoutCreate = [](cublasLtMatrixLayout_t* layout, cudaDataType type, uint64_t rows,
                                uint64_t columns, int64_t ld) {
      *layout = New<cublasLtMatrixLayout_t>(
          fmt::format("{} {} x {} ld {}", TypeName(type), rows, columns, ld));
      return CUBLAS_STATUS_SUCCESS;
    };
    api.MatrixLayoutDestroy = [](cublasLtMatrixLayout_t layout) { return Delete(layout); };
    api.MatrixLayoutSetAttribute = SetLayout;
    api.MatmulPreferenceCreate = [](cublasLtMatmulPreference_t* preference) {
      *preference = New<cublasLtMatmulPreference_t>("");
      return CUBLAS_STATUS_SUCCESS;
    };
    api.MatmulPreferenceDestroy = [](cublasLtMatmulPreference_t preference) {
      return Delete(preference);
    };
    api.MatmulPreferenceSetAttribute = SetPreference;
    api.MatmulAlgoGetHeuristic = FindAlgos;
    api.Matmul = Matmul;
    return api;
  }

 private:
  template <typename Desc>
  static Desc New(std::string text) {
    return reinterpret_cast<Desc>(new std::string(std::move(text)));
  }
  template <typename Desc>
  static std::string& Text(Desc desc) {
    return *const_cast<std::string*>(reinterpret_cast<const std::string*>(desc));
  }
  template <typename Desc>
  static cublasStatus_t Delete(Desc desc) {
    delete &Text(desc);
    return CUBLAS_STATUS_SUCCESS;
  }
  template <typename T>
  static T Read(const void* value) {
    T read;
    std::memcpy(&read, value, sizeof(T));
    return read;
  }

  static std::string TypeName(cudaDataType_t type) {
    switch (type) {
      case CUDA_R_16F: return "f16";
      case CUDA_R_16BF: return "bf16";
      case CUDA_R_32F: return "f32";
      case CUDA_R_64F: return "f64";
      default: return "?";
    }
  }
  static std::string ComputeName(cublasComputeType_t compute) {
    switch (compute) {
      case CUBLAS_COMPUTE_32F: return "f32";
      case CUBLAS_COMPUTE_32F_FAST_TF32: return "tf32";
      case CUBLAS_COMPUTE_64F: return "f64";
      default: return "?";
    }
  }

  static cublasStatus_t SetDesc(cublasLtMatmulDesc_t desc, cublasLtMatmulDescAttributes_t name,
                                const void* value, size_t) {
    std::string& text = Text(desc);
    auto op = [&] { return Read<cublasOperation_t>(value) == CUBLAS_OP_T ? "^T" : ""; };
    switch (name) {
      case CUBLASLT_MATMUL_DESC_TRANSA: text += fmt::format(", A{} ", op()); break;
      case CUBLASLT_MATMUL_DESC_TRANSB: text += fmt::format("B{}", op()); break;
      case CUBLASLT_MATMUL_DESC_EPILOGUE:
        text += ", epilogue " + EpilogueName(Read<cublasLtEpilogue_t>(value));
        break;
      case CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE:
        text += " of " + TypeName(Read<cudaDataType_t>(value));
        break;
      case CUBLASLT_MATMUL_DESC_BIAS_POINTER:
        text += fmt::format(" at {}", reinterpret_cast<intptr_t>(Read<const void*>(value)));
        break;
      default: text += fmt::format(", attribute {}", static_cast<int>(name));
    }
    return CUBLAS_STATUS_SUCCESS;
  }
  static std::string EpilogueName(cublasLtEpilogue_t epilogue) {
    switch (epilogue) {
      case CUBLASLT_EPILOGUE_DEFAULT: return "none";
      case CUBLASLT_EPILOGUE_RELU: return "relu";
      case CUBLASLT_EPILOGUE_GELU: return "gelu";
      case CUBLASLT_EPILOGUE_BIAS: return "bias";
      case CUBLASLT_EPILOGUE_RELU_BIAS: return "relu_bias";
      case CUBLASLT_EPILOGUE_GELU_BIAS: return "gelu_bias";
      default: return "?";
    }
  }

  static cublasStatus_t SetLayout(cublasLtMatrixLayout_t layout,
                                  cublasLtMatrixLayoutAttribute_t name, const void* value, size_t) {
    bool count = name == CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT;
    Text(layout) += count ? fmt::format(" batch {}", Read<int32_t>(value))
                          : fmt::format(" stride {}", Read<int64_t>(value));
    return CUBLAS_STATUS_SUCCESS;
  }

  static cublasStatus_t SetPreference(cublasLtMatmulPreference_t preference,
                                      cublasLtMatmulPreferenceAttributes_t name, const void* value,
                                      size_t) {
    std::string& text = Text(preference);
    switch (name) {
      case CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES:
        max_ws_bytes = Read<uint64_t>(value);
        text += fmt::format("ws {} MiB, ", max_ws_bytes >> 20);
        break;
      case CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK:
        text += fmt::format("reductions {}, aligned", Read<uint32_t>(value));
        break;
      case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES: Align(text, "A", value); break;
      case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES: Align(text, "B", value); break;
      case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES: Align(text, "C", value); break;
      case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES: Align(text, "D", value); break;
      default: text += fmt::format(", attribute {}", static_cast<int>(name));
    }
    return CUBLAS_STATUS_SUCCESS;
  }
  static void Align(std::string& text, const char* matrix, const void* value) {
    text += fmt::format(" {} {}", matrix, Read<uint32_t>(value));
  }

  static cublasStatus_t FindAlgos(cublasLtHandle_t, cublasLtMatmulDesc_t desc,
                                  cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                  cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                  cublasLtMatmulPreference_t preference, int max_count,
                                  cublasLtMatmulHeuristicResult_t* results, int* count) {
    calls += fmt::format("heuristic {}\n  A {}\n  B {}\n  C {}\n  D {}\n  {}\n", Text(desc),
                         Text(a), Text(b), Text(c), Text(d), Text(preference));
    *count = std::min({max_count, num_candidates, static_cast<int>(max_ws_bytes >> 10) + 1});
    for (int i = 0; i < *count; ++i) {
      results[i].algo.data[0] = i;
      results[i].workspaceSize = i << 10;
      results[i].state = CUBLAS_STATUS_SUCCESS;
    }
    return CUBLAS_STATUS_SUCCESS;
  }

  // Addresses are small numbers in tests.
  static cublasStatus_t Matmul(cublasLtHandle_t, cublasLtMatmulDesc_t desc, const void* alpha,
                               const void* a, cublasLtMatrixLayout_t, const void* b,
                               cublasLtMatrixLayout_t, const void* beta, const void* c,
                               cublasLtMatrixLayout_t, void* d, cublasLtMatrixLayout_t,
                               const cublasLtMatmulAlgo_t* algo, void*, size_t ws_bytes,
                               cudaStream_t) {
    bool wide = Text(desc).find("scale f64") != std::string::npos;
    auto number = [&](const void* value) {
      return wide ? Read<double>(value) : static_cast<double>(Read<float>(value));
    };
    auto at = [](const void* address) { return reinterpret_cast<intptr_t>(address); };
    calls += fmt::format("matmul alpha {} beta {} A at {} B at {} C at {} D at {} algo {} ws {}\n",
                         number(alpha), number(beta), at(a), at(b), at(c), at(d), algo->data[0],
                         ws_bytes);
    return CUBLAS_STATUS_SUCCESS;
  }
};

}  // namespace stator

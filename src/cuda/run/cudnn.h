// cuDNN, opened at run time: computations as data, and the plans that run them.
//
// In:  a CudnnGraph: an anchor (convolution, attention) and a chain of pointwise nodes behind it,
// with the sizes and strides of all operands. Out: the engines that cuDNN proposes for it, and a
// CudnnPlan that enqueues one of them. cudnn.cc alone includes cudnn-frontend, which builds cuDNN's
// own graphs. Invariant: a Cudnn belongs to the CUDA context that is current when it is made;
// threads may share it and its plans. Everything is accumulated in fp32.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <cuda.h>

#include "base/dtype.h"

namespace stator {

// Strides in elements. Rank 4 or 5: batch, channels or heads, then two or three more.
struct CudnnTensor {
  DType dtype = DType::kFloat32;
  std::vector<int64_t> dims, strides;
};

// One node behind the anchor, on the result of the node before it.
struct CudnnPointwise {
  enum Mode { kAdd, kRelu };
  Mode mode = kAdd;
  int operand = -1;  // of kAdd: position in CudnnGraph::operands
};

// Workspace that an engine may ask for: enough for copies of the largest activations.
inline constexpr int64_t kMaxCudnnWsBytes = int64_t{256} << 20;

struct CudnnGraph {
  enum Anchor {
    kNone,            // the first node reads operand 0
    kConv,            // operands x[N, C, ...] and w[K, C / groups, ...]
    kTransposedConv,  // operands x[N, K, ...] and w[K, C / groups, ...]
    kAttention,       // operands q, k, v, each [B, H, length, width]; `has_bias`: and what is added
  };
  Anchor anchor = kNone;
  std::vector<CudnnTensor> operands;
  std::vector<CudnnPointwise> pointwise;
  CudnnTensor output;
  std::vector<int64_t> padding, stride, dilation;  // of convolutions
  double scale = 1;                                // of attention
  bool causal = false, has_bias = false;
  bool tf32 = false;  // whether fp32 convolutions may use TF32 tensor cores
  int64_t max_ws_bytes = kMaxCudnnWsBytes;
};

// One line per tensor and node.
std::string CudnnGraphToText(const CudnnGraph& graph);

class CudnnPlan {
 public:
  virtual ~CudnnPlan() = default;
  virtual int64_t ws_bytes() const = 0;
  // Enqueues on the stream. One address per operand.
  virtual void Execute(std::span<const std::byte* const> operands, std::byte* output, std::byte* ws,
                       CUstream stream) const = 0;
};

class Cudnn {
 public:
  // Null when the library is missing or too old, with a sentence that says so in `why_not`.
  static std::unique_ptr<Cudnn> Find(std::string* why_not);
  // Plans for a device that is not there, described in cuDNN's JSON; they cannot be executed.
  static std::unique_ptr<Cudnn> FindForDevice(std::string_view json, std::string* why_not);
  ~Cudnn();

  int64_t version() const;  // 92600 for 9.26.0

  // At most `max_count` engines with their settings, "32 2=2 6=3 13=1", best guess first; empty
  // when cuDNN cannot run the graph.
  std::vector<std::string> FindEngines(const CudnnGraph& graph, int max_count) const;
  // A plan by this engine; by the best that can be built when it is empty or cannot be. Null when
  // none can, or when finding one takes seconds. Who asks for the same again may get the same plan.
  std::shared_ptr<const CudnnPlan> FindPlan(const CudnnGraph& graph,
                                            std::string_view engine = {}) const;

  struct State;  // cudnn.cc

 private:
  explicit Cudnn(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace stator

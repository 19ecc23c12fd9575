#include "ops/kernel_kind.h"

#include <map>

namespace stator {

std::string_view StructuredKind(const OpDef& op) {
  static const std::map<std::string_view, std::string_view> kKindOfOp = {
      {"conv", "conv"},
      {"matmul", "gemm"},
      {"attention", "attention"},
      {"max_pool", "pool"},
      {"avg_pool", "pool"},
      {"embedding", "gather"},
      {"index_select", "gather"},
      {"concat", "concat"},
      {"adaptive_avg_pool", "pool"},
      {"adaptive_max_pool", "pool"},
      {"resample", "pool"},
      {"grid_sample", "pool"},
  };
  auto it = kKindOfOp.find(op.name);
  return it == kKindOfOp.end() ? "reference" : it->second;
}

}  // namespace stator

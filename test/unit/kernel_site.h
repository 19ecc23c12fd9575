// A kernel with operands of its own, as select sees one: for tests and benchmarks of tactics.
//
// In:  the kernel's kind, its body as IR text, and which of its inputs are weights. Out: a
// KernelSite. An operand lies as its type's order says ("f32[1, 8, 4, 4]@0231").
#pragma once

#include <memory>
#include <set>
#include <string>

#include "ir/parse.h"
#include "select/select.h"

namespace stator {

class KernelSiteOwner {
 public:
  KernelSiteOwner(const std::string& kind, const std::string& body, const std::set<int>& weights) {
    kernel_.attrs = {{"kind", kind}};
    auto graph = std::make_shared<Graph>(ParseGraph(body));
    kernel_.body = graph;
    site_.kernel = &kernel_;
    for (ValueId id : graph->inputs()) {
      int index = static_cast<int>(site_.inputs.size());
      StorageKind storage = weights.contains(index) ? StorageKind::kWeight : StorageKind::kArena;
      site_.inputs.push_back(MakeTensor(storage, graph->type(id)));
    }
    for (ValueId id : graph->outputs()) {
      site_.outputs.push_back(MakeTensor(StorageKind::kArena, graph->type(id)));
    }
  }
  KernelSiteOwner(const KernelSiteOwner&) = delete;

  const KernelSite& site() const { return site_; }

 private:
  static PlanTensor MakeTensor(StorageKind storage, const TensorType& type) {
    return {.storage = storage, .dtype = type.dtype, .dims = type.dims, .strides = type.strides()};
  }

  Node kernel_;
  KernelSite site_;
};

}  // namespace stator

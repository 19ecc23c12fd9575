// One node by a kernel of its own, for the ops that no other kind of step runs.
//
// In:  a body of one node. Out: a step for it; the ops without such a kernel, and forms that theirs
// cannot run, go to the reference kernels. This is the one place that knows which ops those are.
#pragma once

#include <array>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "cpu/run/step.h"

namespace stator {

// An input of a node: one of the step's, or a number in the body.
struct NodeInput {
  TensorRef ref;  // dims, strides, dtype; its data is found in a call
  int position = -1;
  std::array<std::byte, 8> number{};
  bool present = false;

  std::byte* Find(const StepArgs& args) const {
    if (position >= 0) return args.inputs[position];
    return const_cast<std::byte*>(number.data());  // only read
  }
};

struct NodeOutput {
  TensorRef ref;  // dims and dtype; strides only when somebody reads it
  int position = -1;

  bool is_read() const { return position >= 0; }
  std::byte* Find(const StepArgs& args) const { return args.outputs[position]; }
};

struct NodeSite {
  const Node* node = nullptr;  // of the site's body
  std::vector<NodeInput> inputs;
  std::vector<NodeOutput> outputs;
  std::string origin;  // of the step, for errors
};

// Whether the op has a kernel here.
bool HasNodeKernel(std::string_view op);

// Any body: one node by its own kernel where there is one, the rest by the reference kernels.
std::unique_ptr<PreparedStep> PrepareNode(const StepSite& site);

// The kernels. Each raises Unsupported for a form that it cannot run.

// cumsum, cumprod, cummax, cummin, logcumsumexp: lines side by side.
std::unique_ptr<PreparedStep> PrepareScan(const NodeSite& site);
// argmax, argmin: lines side by side, or blocks of one.
std::unique_ptr<PreparedStep> PrepareSearch(const NodeSite& site);
// sort and topk: lines as keys that compare as unsigned integers.
std::unique_ptr<PreparedStep> PrepareOrder(const NodeSite& site);
// gather, scatter: lines along the indexed dim, in blocks of neighbours.
std::unique_ptr<PreparedStep> PrepareLines(const NodeSite& site);
// index, index_put: runs of what is not indexed, at offsets found from the indices first.
std::unique_ptr<PreparedStep> PrepareIndexed(const NodeSite& site);

// pad, flip, tril, triu: rows, mostly as runs.
std::unique_ptr<PreparedStep> PrepareMap(const NodeSite& site);
// kthvalue, median, mode: lines side by side.
std::unique_ptr<PreparedStep> PrepareChoose(const NodeSite& site);
// embedding_bag: bags side by side.
std::unique_ptr<PreparedStep> PrepareBag(const NodeSite& site);
// softmax, log_softmax along any dim: lines side by side.
std::unique_ptr<PreparedStep> PrepareSoftmax(const NodeSite& site);
// group_norm: groups, or channels side by side.
std::unique_ptr<PreparedStep> PrepareGroupNorm(const NodeSite& site);

}  // namespace stator

// PrepareAttention: scaled dot-product attention, any strides.
//
// In:  a body of one attention node over floats. Out: a step that splits the blocks of queries of
// all heads evenly over the threads; each packs the keys and values that its blocks meet.
#include <algorithm>
#include <array>

#include "cpu/run/one_node.h"
#include "cpu/run/parallel.h"
#include "cpu/run/step.h"
#include "cpu/simd/attention_kernels.h"
#include "ops/tensor.h"

namespace stator {
namespace {

class AttentionStep final : public PreparedStep {
 public:
  // `operands`: the step's inputs that are q, k, v and the mask (-1: none).
  AttentionStep(const AttentionShape& shape, std::vector<AttentionHead> heads,
                const std::array<int, 4>& operands, const AttentionKernel& kernel)
      : shape_(shape),
        operands_(operands),
        heads_(std::move(heads)),
        kernel_(kernel),
        num_tasks_(kernel_.num_blocks(shape) * static_cast<int64_t>(heads_.size())),
        num_parts_(std::min<int64_t>(NumThreads(), num_tasks_)),
        ws_floats_(kernel_.ws_floats(shape)) {}

  int64_t ws_bytes() const override {
    return num_parts_ * ws_floats_ * static_cast<int64_t>(sizeof(float));
  }

  void Run(const StepArgs& args) const override {
    auto input = [&](int i) { return operands_[i] < 0 ? nullptr : args.inputs[operands_[i]]; };
    AttentionCall call{.q = input(0),
                       .k = input(1),
                       .v = input(2),
                       .mask = input(3),
                       .y = args.outputs[0],
                       .heads = heads_.data()};
    float* ws = reinterpret_cast<float*>(args.ws);
    // As many parts as workspaces, whatever the number of threads is by now.
    ParallelFor(num_parts_, [&](int64_t begin, int64_t end) {
      for (int64_t part = begin; part < end; ++part) {
        kernel_.run(shape_, call, num_tasks_ * part / num_parts_,
                    num_tasks_ * (part + 1) / num_parts_, ws + part * ws_floats_);
      }
    });
  }

 private:
  AttentionShape shape_;
  std::array<int, 4> operands_;
  std::vector<AttentionHead> heads_;
  AttentionKernel kernel_;
  int64_t num_tasks_, num_parts_, ws_floats_;
};

MatrixLayout MakeLayout(const TensorRef& tensor, const Sizes& strides) {
  return {.dtype = tensor.dtype,
          .row_stride = strides[strides.size() - 2],
          .column_stride = strides[strides.size() - 1]};
}

// The heads of all batches, row-major: those that share keys follow each other.
std::vector<AttentionHead> FindHeads(const TensorRef& q, const TensorRef& k, const TensorRef& v,
                                     const TensorRef* mask, const Sizes& mask_strides,
                                     const TensorRef& y) {
  size_t heads_dim = q.dims.size() - 3;
  auto batch = [&](const Sizes& strides) { return std::span(strides).first(heads_dim); };
  // A symbolic number of heads can be 0.
  int64_t group = q.dims[heads_dim] / std::max<int64_t>(1, k.dims[heads_dim]);
  int64_t size = static_cast<int64_t>(DTypeSize(q.dtype));
  int64_t mask_size = mask != nullptr ? static_cast<int64_t>(DTypeSize(mask->dtype)) : 0;
  std::vector<AttentionHead> heads;
  ForEachOffset<5>(
      batch(q.dims),
      {batch(q.strides), batch(k.strides), batch(v.strides), batch(mask_strides), batch(y.strides)},
      [&](const auto& base) {
        for (int64_t h = 0; h < q.dims[heads_dim]; ++h) {
          heads.push_back({.q = (base[0] + h * q.strides[heads_dim]) * size,
                           .k = (base[1] + h / group * k.strides[heads_dim]) * size,
                           .v = (base[2] + h / group * v.strides[heads_dim]) * size,
                           .mask = (base[3] + h * mask_strides[heads_dim]) * mask_size,
                           .y = (base[4] + h * y.strides[heads_dim]) * size});
        }
      });
  return heads;
}

}  // namespace

std::unique_ptr<PreparedStep> PrepareAttention(const StepSite& site) {
  std::optional<OneNode> one = FindOneNode(site.body, {"attention"});
  AttentionKernel kernel = GetAttentionKernel();
  if (!one || site.outputs[0].dtype == DType::kFloat64 || kernel.run == nullptr) {
    return PrepareReference(site);
  }
  std::array<int, 4> operands = {-1, -1, -1, -1};
  std::ranges::copy(one->operands, operands.begin());
  const TensorRef &q = site.inputs[operands[0]], &k = site.inputs[operands[1]],
                  &v = site.inputs[operands[2]];
  const TensorRef* mask = operands[3] < 0 ? nullptr : &site.inputs[operands[3]];
  const TensorRef& y = site.outputs[0];
  size_t rank = q.dims.size();
  AttentionShape shape{.queries = q.dims[rank - 2],
                       .keys = k.dims[rank - 2],
                       .width = q.dims[rank - 1],
                       .value_width = v.dims[rank - 1],
                       .q = MakeLayout(q, q.strides),
                       .k = MakeLayout(k, k.strides),
                       .v = MakeLayout(v, v.strides),
                       .y = MakeLayout(y, y.strides),
                       .has_mask = mask != nullptr,
                       .causal = one->node->attrs.GetBool("causal"),
                       .scale = static_cast<float>(one->node->attrs.GetFloat("scale"))};
  Sizes mask_strides(rank, 0);
  if (mask != nullptr) {
    Sizes scores = q.dims;
    scores[rank - 1] = shape.keys;
    mask_strides = BroadcastStrides(*mask, scores);
    shape.mask = MakeLayout(*mask, mask_strides);
  }
  return std::make_unique<AttentionStep>(shape, FindHeads(q, k, v, mask, mask_strides, y), operands,
                                         kernel);
}

}  // namespace stator

#include "cpu/run/sum_terms.h"

#include <algorithm>
#include <utility>

namespace stator {
namespace {

using dnnl::memory;

// The channels of a term, a multiple of a vector's (of the last one: what is left): as many as make
// sums no longer than this, or one vector's.
constexpr int64_t kMaxChain = 512, kVector = 16;

int64_t FindTermChannels(const memory::dims& weights) {
  int64_t channels = weights[1], window = 1;
  for (size_t i = 2; i < weights.size(); ++i) window *= weights[i];
  if (channels * window < kLongSum) return channels;
  int64_t terms = (channels * window + kMaxChain - 1) / kMaxChain;
  int64_t count = (channels + terms - 1) / terms;
  return std::min(channels, (count + kVector - 1) / kVector * kVector);
}

Operand Narrow(Operand operand, int64_t first, int64_t count) {
  memory::dims dims = operand.given.get_dims(), strides = operand.given.get_strides();
  int64_t offset = first * strides[1] * static_cast<int64_t>(sizeof(float));
  dims[1] = count;
  operand.given = MakeDesc(DType::kFloat32, dims, strides);
  operand.offset += offset;
  if (operand.constant != nullptr) operand.constant += offset;
  return operand;
}

}  // namespace

bool SplitSum(Fusion& fusion, const MakeTermFn& make) {
  auto weights = std::ranges::find(fusion.arguments, DNNL_ARG_WEIGHTS, &Argument::arg);
  memory::dims dims = weights->operand.given.get_dims();
  int64_t channels = dims[1], most = FindTermChannels(dims);
  if (most == channels) return false;
  std::vector<Argument> arguments = std::exchange(fusion.arguments, {});
  for (int64_t first = 0; first < channels; first += most) {
    int64_t count = std::min(most, channels - first);
    bool is_first = first == 0, is_last = first + count == channels, has_bias = false;
    Fusion term;
    for (const Argument& argument : arguments) {
      bool is_narrow = argument.arg == DNNL_ARG_SRC || argument.arg == DNNL_ARG_WEIGHTS;
      if (argument.arg == DNNL_ARG_BIAS && !is_first) continue;
      has_bias = has_bias || argument.arg == DNNL_ARG_BIAS;
      const Operand& operand = argument.operand;
      term.arguments.push_back({argument.arg, is_narrow ? Narrow(operand, first, count) : operand});
    }
    dims[1] = count;
    term.weights = MakeAnyDesc(DType::kFloat32, dims);
    term.make = [=](const memory::desc& w, const dnnl::primitive_attr& attr) {
      return make(count, has_bias, w, attr);
    };
    if (!is_first) term.post_ops.append_sum();
    if (is_last) {
      term.terms = std::move(fusion.terms);
      term.copies = fusion.copies;
      fusion = std::move(term);
    } else {
      fusion.terms.push_back(std::move(term));
    }
  }
  return true;
}

}  // namespace stator

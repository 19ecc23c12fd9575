#include "cpu/run/conv_parts.h"

#include <algorithm>
#include <array>
#include <utility>
#include <vector>

#include "ir/type.h"
#include "ops/tensor.h"

namespace stator {
namespace {

// The channels of a part: as many parts of a multiple of a vector's channels as it takes to make
// sums no longer than this, or as there can be.
constexpr int64_t kMaxChain = 320, kVector = 16;

int64_t FindPartChannels(const TensorRef& w) {
  int64_t channels = w.dims[1], window = w.num_elements() / (w.dims[0] * channels);
  int64_t count = channels;
  for (int64_t parts = 2; count * window > kMaxChain && channels / parts >= kVector; ++parts) {
    if (channels % (parts * kVector) == 0) count = channels / parts;
  }
  return count;
}

class ConvPartsStep final : public PreparedStep {
 public:
  ConvPartsStep(int x, int w, size_t num_inputs) : x_(x), w_(w), num_inputs_(num_inputs) {}

  // A part's operands begin so many bytes after the whole's.
  void Add(std::unique_ptr<PreparedStep> step, int64_t x_offset, int64_t w_offset) {
    parts_.push_back({std::move(step), x_offset, w_offset});
  }

  void Run(const StepArgs& args) const override {
    constexpr size_t kOperands = 3;  // x, w, bias
    for (const Part& part : parts_) {
      std::array<std::byte*, kOperands> inputs{};
      std::copy_n(args.inputs, num_inputs_, inputs.begin());
      inputs[x_] += part.x_offset;
      inputs[w_] += part.w_offset;
      part.step->Run({.inputs = inputs.data(), .outputs = args.outputs, .ws = args.ws});
    }
  }

  int64_t ws_bytes() const override {
    int64_t bytes = 0;
    for (const Part& part : parts_) bytes = std::max(bytes, part.step->ws_bytes());
    return bytes;
  }
  void Pack() override {
    for (const Part& part : parts_) part.step->Pack();
  }
  bool IsPacked() const override {
    return std::ranges::all_of(parts_, [](const Part& part) { return part.step->IsPacked(); });
  }
  bool Reads(int input) const override {
    return std::ranges::any_of(parts_, [&](const Part& part) { return part.step->Reads(input); });
  }

 private:
  struct Part {
    std::unique_ptr<PreparedStep> step;
    int64_t x_offset, w_offset;
  };

  int x_, w_;
  size_t num_inputs_;
  std::vector<Part> parts_;
};

// Whether the output can hold the sums of the parts as their primitives write them: dense, channels
// innermost.
bool HoldsSums(const TensorRef& out) {
  int64_t stride = 1;
  std::vector<int> order = ChannelsLastOrder(out.rank());
  for (size_t i = order.size(); i-- > 0;) {
    int64_t dim = out.dims[order[i]];
    if (dim > 1 && out.strides[order[i]] != stride) return false;
    stride *= dim;
  }
  return out.dtype == DType::kFloat32;
}

}  // namespace

std::unique_ptr<PreparedStep> FindConvParts(const StepSite& site, const FusedBody& fused,
                                            const FindPartFn& find) {
  const Attrs& attrs = fused.anchor->attrs;
  int x = fused.operands[0], w = fused.operands[1];
  bool fits = !attrs.GetBool("transposed") && attrs.GetInt("groups") == 1 && x != w &&
              HoldsSums(site.outputs[0]);
  int64_t channels = site.inputs[w].dims[1], count = FindPartChannels(site.inputs[w]);
  if (!fits || count == channels) return nullptr;
  auto step = std::make_unique<ConvPartsStep>(x, w, site.inputs.size());
  for (int64_t first = 0; first < channels; first += count) {
    StepSite part = site;
    auto narrow = [&](TensorRef& tensor) {
      int64_t offset = first * tensor.strides[1] * static_cast<int64_t>(sizeof(float));
      if (tensor.data != nullptr) tensor.data += offset;
      tensor.dims[1] = count;
      return offset;
    };
    int64_t x_offset = narrow(part.inputs[x]), w_offset = narrow(part.inputs[w]);
    FusedBody body = fused;
    if (first > 0) body.operands.resize(2);  // the first part adds the bias
    std::unique_ptr<PreparedStep> made = find(part, body, first > 0);
    if (!made) return nullptr;
    step->Add(std::move(made), x_offset, w_offset);
  }
  return step;
}

}  // namespace stator

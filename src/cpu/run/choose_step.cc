// PrepareChoose: kthvalue, median and mode, lines side by side.
#include <algorithm>

#include "base/error.h"
#include "cpu/run/node_step.h"
#include "cpu/run/offset_walk.h"
#include "cpu/run/parallel.h"
#include "ops/choose.h"

namespace stator {
namespace {

constexpr int64_t kMinElements = 4 * 1024;      // worth a parallel region
constexpr int64_t kMaxLine = int64_t{1} << 31;  // positions are 32 bits

class ChooseStep final : public PreparedStep {
 public:
  explicit ChooseStep(const NodeSite& site)
      : x_(site.inputs[0]),
        values_(site.outputs[0]),
        indices_(site.outputs[1]),
        chosen_(FindChoice(*site.node)) {
    const TensorRef& x = x_.ref;
    const int64_t axes[] = {site.node->attrs.GetInt("dim")};
    size_ = x.dims[axes[0]];
    step_ = x.strides[axes[0]];
    if (size_ >= kMaxLine) Fail(ErrorKind::kUnsupported, "a line of {}", size_);
    chosen_.Check(size_);
    Sizes none(x.dims.size(), 0);
    auto strides = [&](const NodeOutput& output) {
      return Drop(output.is_read() ? output.ref.strides : none, axes);
    };
    lines_ = OffsetGrid<3>(Drop(x.dims, axes),
                           {Drop(x.strides, axes), strides(values_), strides(indices_)});
    bool is_parallel = x.num_elements() >= kMinElements;
    num_parts_ = is_parallel ? std::min<int64_t>(NumThreads(), lines_.size()) : 1;
    part_bytes_ = (size_ * kChoiceBytes + 63) / 64 * 64;
  }

  int64_t ws_bytes() const override { return num_parts_ * part_bytes_; }

  void Run(const StepArgs& args) const override {
    ParallelFor(num_parts_, [&](int64_t begin, int64_t end) {
      for (int64_t part = begin; part < end; ++part) {
        DispatchDType(x_.ref.dtype, [&](auto zero) { RunPart<decltype(zero)>(args, part); });
      }
    });
  }

 private:
  template <typename T>
  void RunPart(const StepArgs& args, int64_t part) const {
    const T* x = reinterpret_cast<const T*>(x_.Find(args));
    T* values = values_.is_read() ? reinterpret_cast<T*>(values_.Find(args)) : nullptr;
    int64_t* indices =
        indices_.is_read() ? reinterpret_cast<int64_t*>(indices_.Find(args)) : nullptr;
    lines_.Walk(lines_.size() * part / num_parts_, lines_.size() * (part + 1) / num_parts_,
                [&](int64_t, const auto& at) {
                  const T* line = x + at[0];
                  int64_t place = ChooseInLine(chosen_.choice, line, step_, size_, chosen_.k,
                                               args.ws + part * part_bytes_);
                  if (values != nullptr) values[at[1]] = line[place * step_];
                  if (indices != nullptr) indices[at[2]] = place;
                });
  }

  NodeInput x_;
  NodeOutput values_, indices_;
  ChosenElement chosen_;
  OffsetGrid<3> lines_;
  int64_t size_ = 0, step_ = 0, num_parts_ = 1, part_bytes_ = 0;
};

}  // namespace

std::unique_ptr<PreparedStep> PrepareChoose(const NodeSite& site) {
  return std::make_unique<ChooseStep>(site);
}

}  // namespace stator

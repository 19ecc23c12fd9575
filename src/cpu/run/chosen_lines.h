// ChosenLines: steps that choose elements of each line along one dim, and give them and where they
// were: sort, topk, kthvalue, median, mode.
//
// In:  a node whose input is x and whose outputs are values and indices, each of which may be
//      unread. Out: calls for each line, in parts side by side, each with scratch of its own.
#pragma once

#include <algorithm>

#include "base/error.h"
#include "cpu/run/node_step.h"
#include "cpu/run/offset_walk.h"
#include "cpu/run/parallel.h"

namespace stator {

// A line of x, and where what is chosen from it goes.
template <typename T>
struct ChosenLine {
  const T* x;
  int64_t step;
  T* values;         // null: unread
  int64_t* indices;  // null: unread
  int64_t value_step, index_step;
  std::byte* ws;

  // The element at `from` is the one chosen at `place`.
  void Put(int64_t place, int64_t from) const {
    if (values != nullptr) values[place * value_step] = x[from * step];
    if (indices != nullptr) indices[place * index_step] = from;
  }
};

class ChosenLines {
 public:
  // Raises Unsupported for lines of more elements than 32 bits number.
  ChosenLines(const NodeSite& site, int64_t dim)
      : x_(site.inputs[0]), values_(site.outputs[0]), indices_(site.outputs[1]), dim_(dim) {
    constexpr int64_t kMinElements = 4 * 1024;      // worth a parallel region
    constexpr int64_t kMaxLine = int64_t{1} << 31;  // positions are 32 bits
    const TensorRef& x = x_.ref;
    if (size() >= kMaxLine) {
      Fail(ErrorKind::kUnsupported, "{} of {} elements", site.node->op->name, size());
    }
    const int64_t axes[] = {dim_};
    Sizes none(x.dims.size(), 0);
    auto strides = [&](const NodeOutput& output) {
      return Drop(output.is_read() ? output.ref.strides : none, axes);
    };
    lines_ = OffsetGrid<3>(Drop(x.dims, axes),
                           {Drop(x.strides, axes), strides(values_), strides(indices_)});
    bool is_parallel = x.num_elements() >= kMinElements;
    num_parts_ = is_parallel ? std::min<int64_t>(NumThreads(), lines_.size()) : 1;
  }

  DType dtype() const { return x_.ref.dtype; }
  int64_t size() const { return x_.ref.dims[dim_]; }             // of a line
  int64_t num_chosen() const { return values_.ref.dims[dim_]; }  // from each

  void SetScratch(int64_t bytes) { part_bytes_ = (bytes + 63) / 64 * 64; }  // for a line
  int64_t ws_bytes() const { return num_parts_ * part_bytes_; }

  // Calls choose(ChosenLine<T>) for each line.
  template <typename Choose>
  void Run(const StepArgs& args, Choose&& choose) const {
    ParallelFor(num_parts_, [&](int64_t begin, int64_t end) {
      for (int64_t part = begin; part < end; ++part) {
        DispatchDType(dtype(), [&](auto zero) { RunPart<decltype(zero)>(args, part, choose); });
      }
    });
  }

 private:
  template <typename T, typename Choose>
  void RunPart(const StepArgs& args, int64_t part, Choose&& choose) const {
    const T* x = reinterpret_cast<const T*>(x_.Find(args));
    T* values = values_.is_read() ? reinterpret_cast<T*>(values_.Find(args)) : nullptr;
    int64_t* indices =
        indices_.is_read() ? reinterpret_cast<int64_t*>(indices_.Find(args)) : nullptr;
    lines_.Walk(
        lines_.size() * part / num_parts_, lines_.size() * (part + 1) / num_parts_,
        [&](int64_t, const auto& at) {
          choose(ChosenLine<T>{.x = x + at[0],
                               .step = x_.ref.strides[dim_],
                               .values = values != nullptr ? values + at[1] : nullptr,
                               .indices = indices != nullptr ? indices + at[2] : nullptr,
                               .value_step = values != nullptr ? values_.ref.strides[dim_] : 0,
                               .index_step = indices != nullptr ? indices_.ref.strides[dim_] : 0,
                               .ws = args.ws + part * part_bytes_});
        });
  }

  NodeInput x_;
  NodeOutput values_, indices_;
  int64_t dim_;
  OffsetGrid<3> lines_;
  int64_t num_parts_ = 1, part_bytes_ = 0;
};

}  // namespace stator

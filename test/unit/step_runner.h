// Runs one prepared CPU step on random data and compares it with the reference evaluator.
//
// In:  a kernel's body as IR text, and a function that prepares the step. Operands get any strides
// that the test asks for. Out: GoogleTest failures naming the first element that differs.
#pragma once

#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <random>
#include <set>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "cpu/run/step.h"
#include "ir/parse.h"
#include "ops/evaluate.h"
#include "ops/tensor.h"

namespace stator {

class StepRunner {
 public:
  explicit StepRunner(const std::string& body) : body_(ParseGraph(body)) {
    for (ValueId id : body_.inputs()) inputs_.push_back(MakeHostTensor(body_.type(id)));
    for (ValueId id : body_.outputs()) outputs_.push_back(MakeHostTensor(body_.type(id)));
    Randomize(0);
  }

  Attrs attrs;              // of the step
  std::set<int> constants;  // inputs that are constants
  double rtol = 1e-5, atol = 1e-5;

  void Randomize(unsigned seed) {
    std::mt19937 engine(seed);
    std::normal_distribution<float> normal;
    for (HostTensor& input : inputs_) Fill(input, [&] { return normal(engine); });
  }
  void SetInput(int index, float value) {
    Fill(inputs_[index], [&] { return value; });
  }
  void SetElement(int index, int64_t offset, float value) {
    DispatchFloat(inputs_[index].ref.dtype, [&](auto zero) {
      using T = decltype(zero);
      Data<T>(inputs_[index].ref)[offset] = T(value);
    });
  }

  // Lays input `index` (a dense tensor) out anew: dims from outermost to innermost as in
  // `order`, `gap` elements free after each run of the innermost dim.
  void SetInputLayout(int index, const DimOrder& order, int64_t gap = 0) {
    inputs_[index] = Relaid(inputs_[index], order, gap);
  }
  // Makes all elements of input `index` along `dim` the first one, by a stride of 0.
  void ExpandInput(int index, int dim) { inputs_[index].ref.strides[dim] = 0; }
  void SetOutputLayout(const DimOrder& order, int64_t gap = 0) {
    outputs_[0] = Relaid(outputs_[0], order, gap);
  }

  using Prepare = std::function<std::unique_ptr<PreparedStep>(const StepSite&)>;

  // False when `prepare` gives no step.
  bool Load(const Prepare& prepare) {
    step_.attrs = attrs;
    StepSite site{.step = &step_, .body = body_, .inputs = {}, .outputs = {}};
    for (size_t i = 0; i < inputs_.size(); ++i) {
      site.inputs.push_back(inputs_[i].ref);
      if (!constants.contains(static_cast<int>(i))) site.inputs.back().data = nullptr;
    }
    for (HostTensor& output : outputs_) {
      site.outputs.push_back(output.ref);
      site.outputs.back().data = nullptr;
    }
    prepared_ = prepare(site);
    if (prepared_ == nullptr) return false;
    prepared_->Pack();
    return true;
  }

  PreparedStep& prepared() { return *prepared_; }

  void RunAndCompare() {
    Run(outputs_);
    Compare(outputs_);
  }

  // Runs into `outputs`, which are laid out as the step's own.
  void Run(std::vector<HostTensor>& outputs) const {
    std::vector<std::byte*> in, out;
    for (const HostTensor& input : inputs_) in.push_back(input.ref.data);
    for (HostTensor& output : outputs) out.push_back(output.ref.data);
    void* ws = std::aligned_alloc(64, prepared_->ws_bytes() + 64);
    prepared_->Run({.inputs = in.data(), .outputs = out.data(), .ws = static_cast<std::byte*>(ws)});
    std::free(ws);
  }

  void Compare(const std::vector<HostTensor>& outputs) const {
    std::vector<TensorRef> refs;
    for (const HostTensor& input : inputs_) refs.push_back(input.ref);
    std::vector<HostTensor> expected = EvaluateGraph(body_, refs);
    for (size_t i = 0; i < expected.size(); ++i) CompareTensor(outputs[i].ref, expected[i].ref);
  }

  std::vector<HostTensor> MakeOutputs() const {
    std::vector<HostTensor> outputs;
    for (const HostTensor& output : outputs_) {
      outputs.push_back(MakeHostTensor(output.ref.dtype, {StorageElements(output.ref)}));
      TensorRef ref = output.ref;
      ref.data = outputs.back().ref.data;
      outputs.back().ref = ref;
    }
    return outputs;
  }

 private:
  static int64_t StorageElements(const TensorRef& tensor) {
    int64_t elements = 1;
    for (int i = 0; i < tensor.rank(); ++i) {
      if (tensor.dims[i] > 0) elements += (tensor.dims[i] - 1) * tensor.strides[i];
    }
    return elements;
  }

  template <typename Next>
  static void Fill(HostTensor& tensor, Next&& next) {
    DispatchDType(tensor.ref.dtype, [&](auto zero) {
      using T = decltype(zero);
      ForEachOffset<1>(tensor.ref.dims, {tensor.ref.strides}, [&](const auto& offset) {
        Data<T>(tensor.ref)[offset[0]] = scalar::CastTo<T>(static_cast<double>(next()));
      });
    });
  }

  static HostTensor Relaid(const HostTensor& from, const DimOrder& order, int64_t gap) {
    Sizes strides(from.ref.dims.size());
    int64_t next = 1;
    for (size_t i = order.size(); i-- > 0;) {
      strides[order[i]] = next;
      next = next * from.ref.dims[order[i]] + (i + 1 == order.size() ? gap : 0);
    }
    HostTensor to = MakeHostTensor(from.ref.dtype, {next});
    TensorRef ref = from.ref;
    ref.data = to.ref.data;
    ref.strides = strides;
    CopyTensor(from.ref, ref);
    to.ref = ref;
    return to;
  }

  void CompareTensor(const TensorRef& actual, const TensorRef& expected) const {
    DispatchDType(expected.dtype, [&](auto zero) {
      using T = decltype(zero);
      int64_t position = 0, wrong = -1;
      double worst = 0, got = 0, want = 0;
      ForEachOffset<2>(expected.dims, {actual.strides, expected.strides}, [&](const auto& at) {
        double a = static_cast<double>(Data<T>(actual)[at[0]]);
        double b = static_cast<double>(Data<T>(expected)[at[1]]);
        bool same = a == b || (std::isnan(a) && std::isnan(b));
        double excess = same ? 0 : std::abs(a - b) - (atol + rtol * std::abs(b));
        if (!same && (std::isnan(excess) || std::isinf(excess))) excess = 1e300;
        if (excess > worst) {
          worst = excess;
          wrong = position;
          got = a;
          want = b;
        }
        ++position;
      });
      EXPECT_EQ(wrong, -1) << "element " << wrong << " is " << got << ", expected " << want;
    });
  }

  Graph body_;
  Step step_;
  std::vector<HostTensor> inputs_, outputs_;
  std::unique_ptr<PreparedStep> prepared_;
};

// Runs this test's executable again with oneDNN held to smaller instruction sets, which it reads
// once per process.
inline void RunSelfAtEveryIsa() {
  if (std::getenv("ONEDNN_MAX_CPU_ISA") != nullptr) return;
  std::string self = std::filesystem::read_symlink("/proc/self/exe");
  for (const char* isa : {"SSE41", "AVX2", "AVX512_CORE"}) {
    std::string command = fmt::format("ONEDNN_MAX_CPU_ISA={} '{}' --gtest_brief=1", isa, self);
    EXPECT_EQ(std::system(command.c_str()), 0) << command;
  }
}

}  // namespace stator

// How far the elements of a graph's outputs may lie from what the reference kernels compute.
//
// In:  a graph, its inputs, values of its symbols.
// Out: the reference's outputs, and a bound per element: how far the element moves when each node
//      that rounds is disturbed, its operands by about one unit in the last place and its result by
//      the relative tolerance of its row of the op table. That is Monte Carlo arithmetic (Parker
//      1997) for algorithms that are mixed forward-backward stable (Higham 2002, section 1.5):
//      what such an algorithm computes is nearly the result for nearly these operands.
// Invariant: where nothing rounds, in integers and in what just moves elements, the bound is 0.
//            Where a decision hangs on rounding, as floor(x) does for x near an integer, it is as
//            far as the element jumps; of integers, bools, and between numbers and infinities or
//            NaN there is none. So it is where a decision may fall on its threshold
//            (tools/threshold.h).
#pragma once

#include <random>
#include <span>
#include <string>
#include <vector>

#include "ir/graph.h"
#include "ops/tensor.h"

namespace stator {

class Judge {
 public:
  // Raises what the evaluator raises for inputs that the graph does not take, and Unsupported when
  // a float16 overflows on the way. All of it must outlive the judge.
  Judge(const Graph& graph, std::span<const TensorRef> inputs, const SymbolValues& symbols);

  const std::vector<HostTensor>& expected() const { return expected_; }
  // Per output and element, row-major; infinity where there is no bound. At least `num_samples`
  // disturbed evaluations.
  const std::vector<std::vector<double>>& Bounds(int num_samples);

  // Compares outputs of any strides: what is wrong, or empty when nothing is.
  std::string FindDifference(std::span<const TensorRef> found);

  // Elements compared, and those of them that had no bound.
  int64_t num_elements() const;
  int64_t num_unbounded() const;

 private:
  std::vector<HostTensor> Evaluate(bool disturbed);
  HostTensor Disturb(const TensorRef& tensor, double amount, double floor);
  void AddSample();

  const Graph& graph_;
  std::span<const TensorRef> inputs_;
  SymbolValues symbols_;
  std::mt19937_64 random_;
  std::vector<HostTensor> values_;  // of the undisturbed evaluation, by value
  std::vector<TensorRef> value_refs_;
  std::vector<HostTensor> expected_;
  std::vector<std::vector<double>> bounds_;
  int num_samples_ = 0;
};

}  // namespace stator

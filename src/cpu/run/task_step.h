// A step whose kernel splits into numbered tasks: as many parts run side by side as there are
// threads, each on a workspace of its own.
#pragma once

#include <algorithm>

#include "cpu/run/parallel.h"
#include "cpu/run/step.h"

namespace stator {

// `Kernel` has functions num_tasks(shape), ws_floats(shape), in floats for one part, and
// run(shape, x, y, first task, end, ws); the step has one input and one output.
template <typename Shape, typename Kernel>
class TaskStep final : public PreparedStep {
 public:
  TaskStep(Shape shape, Kernel kernel)
      : shape_(std::move(shape)),
        kernel_(kernel),
        num_tasks_(kernel_.num_tasks(shape_)),
        num_parts_(std::min<int64_t>(NumThreads(), num_tasks_)),
        ws_floats_(kernel_.ws_floats(shape_)) {}

  int64_t ws_bytes() const override {
    return num_parts_ * ws_floats_ * static_cast<int64_t>(sizeof(float));
  }

  void Run(const StepArgs& args) const override {
    float* ws = reinterpret_cast<float*>(args.ws);
    // As many parts as workspaces, whatever the number of threads is by now.
    ParallelFor(num_parts_, [&](int64_t begin, int64_t end) {
      for (int64_t part = begin; part < end; ++part) {
        kernel_.run(shape_, args.inputs[0], args.outputs[0], num_tasks_ * part / num_parts_,
                    num_tasks_ * (part + 1) / num_parts_, ws + part * ws_floats_);
      }
    });
  }

 private:
  Shape shape_;
  Kernel kernel_;
  int64_t num_tasks_, num_parts_, ws_floats_;
};

}  // namespace stator

// stator run: one call of a plan on tensors from files.
#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <set>
#include <string>

#include <fmt/format.h>

#include "base/error.h"
#include "tools/cli.h"
#include "tools/model_file.h"
#include "tools/npy.h"
#include "tools/session.h"

namespace stator {
namespace {

struct Args {
  std::string plan, outputs;
  std::vector<std::string> inputs, weights;
};

std::string Names(std::span<const NamedTensor> tensors) {
  std::string names;
  for (const NamedTensor& tensor : tensors) names += (names.empty() ? "" : ", ") + tensor.name;
  return names.empty() ? "nothing" : names;
}

const NamedTensor* FindTensor(std::span<const NamedTensor> tensors, std::string_view name) {
  auto it = std::find_if(tensors.begin(), tensors.end(),
                         [&](const NamedTensor& tensor) { return tensor.name == name; });
  return it != tensors.end() ? &*it : nullptr;
}

std::vector<NamedTensor> ReadAll(const std::vector<std::string>& paths) {
  std::vector<NamedTensor> tensors;
  for (const std::string& path : paths) {
    for (NamedTensor& tensor : ReadTensors(path)) tensors.push_back(std::move(tensor));
  }
  return tensors;
}

// The tensors for the plan's inputs: by name where every name is there; else in order, which needs
// .npy files or the names arr_0, arr_1, ... that np.savez gives.
std::vector<TensorRef> MatchInputs(const Plan& plan, std::span<const NamedTensor> tensors,
                                   bool named) {
  std::vector<TensorRef> refs;
  for (const PlanPort& port : plan.inputs) {
    const NamedTensor* tensor = FindTensor(tensors, port.name);
    if (tensor == nullptr) break;
    refs.push_back(tensor->tensor.ref);
  }
  if (refs.size() == plan.inputs.size()) return refs;
  bool in_order = std::all_of(tensors.begin(), tensors.end(), [&](const NamedTensor& tensor) {
    return !named || tensor.name.starts_with("arr_");
  });
  if (!in_order || tensors.size() != plan.inputs.size()) {
    std::string expected;
    for (const PlanPort& port : plan.inputs) {
      expected += fmt::format("{}{}: {}", expected.empty() ? "" : ", ", port.name, PortType(port));
    }
    Fail(ErrorKind::kInvalidArgument, "the plan's inputs are {}, found {}",
         expected.empty() ? "none" : expected, Names(tensors));
  }
  refs.clear();
  for (const NamedTensor& tensor : tensors) refs.push_back(tensor.tensor.ref);
  return refs;
}

// Gives weights that the plan does not carry their data.
void BindWeights(Plan& plan, std::vector<NamedTensor> tensors) {
  for (NamedTensor& tensor : tensors) {
    auto weight = std::find_if(plan.weights.begin(), plan.weights.end(),
                               [&](const PlanWeight& w) { return w.name == tensor.name; });
    if (weight == plan.weights.end()) {
      Fail(ErrorKind::kInvalidArgument, "the plan has no weight `{}`", tensor.name);
    }
    const TensorRef& ref = tensor.tensor.ref;
    if (ref.dtype != weight->dtype || ref.dims != weight->dims) {
      TensorType found{.dtype = ref.dtype, .dims = Dims(ref.dims.begin(), ref.dims.end())};
      TensorType expected{.dtype = weight->dtype,
                          .dims = Dims(weight->dims.begin(), weight->dims.end())};
      Fail(ErrorKind::kInvalidArgument, "weight `{}`: expected {}, found {}", tensor.name,
           expected.ToString(), found.ToString());
    }
    HostTensor dense = MakeHostTensor(ref.dtype, ref.dims);
    CopyTensor(ref, dense.ref);
    weight->data = MakeConstantData(std::move(dense.storage));
  }
}

// "output: f32[1, 1000], 1000 elements from -1.2 to 3.4, mean 0.01"
void PrintSummary(const NamedTensor& tensor) {
  const TensorRef& ref = tensor.tensor.ref;
  TensorType type{.dtype = ref.dtype, .dims = Dims(ref.dims.begin(), ref.dims.end())};
  fmt::print("{}: {}", tensor.name, type.ToString());
  double low = std::numeric_limits<double>::infinity(), high = -low, sum = 0;
  int64_t num_nan = 0;
  DispatchDType(ref.dtype, [&](auto zero) {
    ForEachOffset<1>(ref.dims, {ref.strides}, [&](const auto& at) {
      double value = scalar::CastTo<double>(Data<decltype(zero)>(ref)[at[0]]);
      num_nan += std::isnan(value) ? 1 : 0;
      low = std::min(low, value);
      high = std::max(high, value);
      sum += value;
    });
  });
  if (int64_t count = ref.num_elements(); count > 0) {
    fmt::print(", from {:.6g} to {:.6g}, mean {:.6g}", low, high, sum / static_cast<double>(count));
  }
  if (num_nan > 0) fmt::print(", {} NaN", num_nan);
  fmt::print("\n");
}

void Run(const Args& args) {
  Plan plan = ReadPlan(args.plan);
  BindWeights(plan, ReadAll(args.weights));
  std::vector<NamedTensor> tensors = ReadAll(args.inputs);
  bool named = std::any_of(args.inputs.begin(), args.inputs.end(),
                           [](const std::string& path) { return path.ends_with(".npz"); });
  std::vector<TensorRef> inputs = MatchInputs(plan, tensors, named);
  Session session(std::move(plan));
  std::vector<HostTensor> outputs = session.MakeOutputs(inputs);
  session.Call(inputs, outputs);
  std::vector<NamedTensor> results;
  std::set<std::string> names;  // one value may be returned several times
  for (size_t i = 0; i < outputs.size(); ++i) {
    std::string name = session.plan().outputs[i].name;
    if (name.empty() || !names.insert(name).second) name = fmt::format("output_{}", i);
    results.push_back({.name = std::move(name), .tensor = std::move(outputs[i])});
  }
  if (!args.outputs.empty()) {
    WriteTensors(args.outputs, results);
  } else {
    for (const NamedTensor& result : results) PrintSummary(result);
  }
}

}  // namespace

void AddRun(CLI::App& app) {
  auto args = std::make_shared<Args>();
  CLI::App* sub = app.add_subcommand("run", "Run a plan on tensors from files");
  sub->add_option("plan", args->plan, "model.plan")->required();
  sub->add_option("--inputs", args->inputs,
                  "inputs.npz by the inputs' names, or one .npy for each input in order");
  sub->add_option("--weights", args->weights,
                  "weights.npz by their names, for a plan that carries none");
  sub->add_option("--outputs", args->outputs,
                  "outputs.npz, or .npy of one output (default: print a summary)");
  sub->callback([args] { Run(*args); });
}

}  // namespace stator

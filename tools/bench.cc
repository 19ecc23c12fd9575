// stator bench: how long calls of a plan take, on random inputs.
#include <algorithm>
#include <chrono>
#include <memory>

#include <fmt/format.h>

#include "tools/cli.h"
#include "tools/model_file.h"
#include "tools/session.h"

namespace stator {
namespace {

struct Args {
  std::string plan;
  double seconds = 2;
  bool profile = false;
};

std::vector<HostTensor> MakeRandomInputs(const Plan& plan) {
  SymbolValues symbols = ChooseSymbols(plan.symbols);
  std::vector<HostTensor> inputs;
  for (const PlanPort& port : plan.inputs) {
    inputs.push_back(MakeRandom(port.dtype, port.dims, symbols, inputs.size()));
  }
  return inputs;
}

void FillMissingWeights(Plan& plan) {
  for (PlanWeight& weight : plan.weights) {
    if (weight.data.bytes != nullptr) continue;
    Dims dims(weight.dims.begin(), weight.dims.end());
    weight.data = MakeConstantData(MakeRandom(weight.dtype, dims, {}, 0).storage);
  }
}

double Seconds(auto&& fn) {
  auto start = std::chrono::steady_clock::now();
  fn();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

// The median of `times`, which it sorts.
double Median(std::vector<double>& times) {
  std::sort(times.begin(), times.end());
  return times[times.size() / 2];
}

// Medians of each step over several calls, the slowest step first.
void PrintProfile(Session& session, std::span<const TensorRef> inputs,
                  std::span<const HostTensor> outputs) {
  constexpr int kNumCalls = 21;
  const std::vector<Step>& steps = session.plan().steps;
  std::vector<std::vector<double>> times(steps.size());
  for (int call = 0; call < kNumCalls; ++call) {
    std::vector<double> seconds = session.Profile(inputs, outputs);
    for (size_t i = 0; i < seconds.size(); ++i) times[i].push_back(seconds[i]);
  }
  std::vector<std::pair<double, size_t>> medians;
  double total = 0;
  for (size_t i = 0; i < steps.size(); ++i) {
    if (times[i].empty()) continue;
    medians.emplace_back(Median(times[i]), i);
    total += medians.back().first;
  }
  std::sort(medians.rbegin(), medians.rend());
  fmt::print("{:>6}  {:>8}  {:>6}  {:<9}  what\n", "step", "ms", "share", "kind");
  for (const auto& [seconds, i] : medians) {
    fmt::print("{:>6}  {:>8.3f}  {:>5.1f}%  {:<9}  {}\n", i, seconds * 1e3, seconds / total * 100,
               StepKindName(steps[i].kind), steps[i].origin);
  }
}

void Bench(const Args& args) {
  Plan plan = ReadPlan(args.plan);
  FillMissingWeights(plan);
  std::vector<HostTensor> inputs = MakeRandomInputs(plan);
  std::vector<TensorRef> refs = Refs(inputs);
  std::unique_ptr<Session> session;
  double load = Seconds([&] { session = std::make_unique<Session>(std::move(plan)); });
  std::vector<HostTensor> outputs = session->MakeOutputs(refs);
  auto call = [&] { session->Call(refs, outputs); };

  double first = Seconds(call);
  std::vector<double> times;
  for (double total = 0; total < args.seconds || times.size() < 3; total += times.back()) {
    times.push_back(Seconds(call));
  }
  double median = Median(times);
  fmt::print("load {:.1f} ms, first call {:.3f} ms\n", load * 1e3, first * 1e3);
  fmt::print("min {:.4g} ms, median {:.4g} ms, 90% {:.4g} ms of {} calls\n", times.front() * 1e3,
             median * 1e3, times[times.size() * 9 / 10] * 1e3, times.size());
  if (args.profile) PrintProfile(*session, refs, outputs);
}

}  // namespace

void AddBench(CLI::App& app) {
  auto args = std::make_shared<Args>();
  CLI::App* sub = app.add_subcommand("bench", "Time a plan on random inputs");
  sub->add_option("plan", args->plan, "model.plan")->required();
  sub->add_option("--seconds", args->seconds, "time to spend")->capture_default_str();
  sub->add_flag("--profile", args->profile, "also print the time of each step");
  sub->callback([args] { Bench(*args); });
}

}  // namespace stator

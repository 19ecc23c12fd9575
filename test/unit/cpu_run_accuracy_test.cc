// How far the tape's functions of floats are from the true value, at every SIMD level.
//
// The table states the largest error seen, rounded up, in units of the last place of the true
// result, over floats of all sizes in the range and a fine even grid. libm in double is the truth.
#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <vector>

#include "cpu/simd/tape_kernels.h"
#include "cpu_run_testing.h"

namespace stator {
namespace {

struct Bound {
  std::string_view op;
  double (*truth)(double x);
  float low, high;
  double max_ulp;
};

double Sigmoid(double x) { return 1 / (1 + std::exp(-x)); }
double Gelu(double x) { return x * 0.5 * (1 + std::erf(x / std::sqrt(2.0))); }
double GeluTanh(double x) {
  return x * 0.5 * (1 + std::tanh(0.79788456080286535588 * (x + 0.044715 * x * x * x)));
}

// Left of -0.5, gelu's 1 + erf cancels, here as in torch; its error there is below 2e-7.
constexpr Bound kBounds[] = {
    {"exp", std::exp, -110, 95, 1.0},
    {"exp2", std::exp2, -155, 130, 1.0},
    {"expm1", std::expm1, -20, 95, 4.0},
    {"log", std::log, 1e-40f, 1e38f, 1.0},
    {"log2", std::log2, 1e-40f, 1e38f, 2.0},
    {"log10", std::log10, 1e-40f, 1e38f, 2.0},
    {"log1p", std::log1p, -0.99999f, 1e38f, 3.0},
    {"sin", std::sin, -1000, 1000, 3.0},
    {"cos", std::cos, -1000, 1000, 3.0},
    {"tanh", std::tanh, -12, 12, 7.0},
    {"erf", std::erf, -6, 6, 7.0},
    {"sigmoid", Sigmoid, -87, 30, 3.0},
    {"silu", [](double x) { return x * Sigmoid(x); }, -80, 80, 3.0},
    {"gelu", Gelu, -0.5f, 10, 4.0},
    {"gelu_tanh", GeluTanh, -0.5f, 10, 3.0},
    {"mish", [](double x) { return x * std::tanh(std::log1p(std::exp(x))); }, -20, 20, 6.0},
    {"sqrt", std::sqrt, 0, 1e38f, 0.5},
    {"rsqrt", [](double x) { return 1 / std::sqrt(x); }, 1e-30f, 1e38f, 1.5},
};

std::vector<float> MakePoints(float low, float high) {
  std::vector<float> points;
  auto add = [&](float x) {
    if (x >= low && x <= high) points.push_back(x);
  };
  for (uint64_t bits = 0; bits <= 0xffffffffu; bits += 9973) {
    add(std::bit_cast<float>(static_cast<uint32_t>(bits)));
  }
  constexpr int kNumSteps = 50000;
  double last = std::min<double>(high, 1000);
  for (int i = 0; i <= kNumSteps; ++i) {
    add(static_cast<float>(low + (last - low) * i / kNumSteps));
  }
  return points;
}

double UlpError(float found, double truth) {
  float rounded = static_cast<float>(truth);
  if (found == rounded) return 0;
  if (!std::isfinite(found) || !std::isfinite(rounded)) return INFINITY;
  double size = std::abs(static_cast<double>(rounded));
  double ulp = std::nextafter(static_cast<float>(size), INFINITY) - size;
  return std::abs(found - truth) / ulp;
}

TEST(Accuracy, OfFunctionsOfFloats) {
  testing::ForEachSimdTarget([] {
    for (const Bound& bound : kBounds) {
      std::vector<float> x = MakePoints(bound.low, bound.high), y(x.size());
      constexpr double kNoParams[2] = {};
      TapeKernel kernel = FindF32Kernel(GetOp(bound.op).id, 0);
      kernel(y.data(), x.data(), nullptr, nullptr, kNoParams, static_cast<int64_t>(x.size()));
      double worst = 0;
      float where = 0;
      for (size_t i = 0; i < x.size(); ++i) {
        double error = UlpError(y[i], bound.truth(x[i]));
        if (error > worst) worst = error, where = x[i];
      }
      EXPECT_LE(worst, bound.max_ulp) << bound.op << " at " << where;
    }
  });
}

// Softmax in float against double: each output within 3e-7 of its own size and 1e-8.
TEST(Accuracy, OfSoftmax) {
  testing::ForEachSimdTarget([] {
    std::mt19937 random(12);
    std::normal_distribution<float> normal(0.0f, 4.0f);
    std::vector<float> x(1000), y(1000);
    for (float& value : x) value = normal(random);
    TapeKernel kernel = FindRowMapKernel("softmax", TapeClass::kF32);
    kernel(y.data(), x.data(), nullptr, nullptr, nullptr, 1000);
    double top = *std::max_element(x.begin(), x.end()), sum = 0;
    for (float value : x) sum += std::exp(value - top);
    for (int i = 0; i < 1000; ++i) {
      double truth = std::exp(x[i] - top) / sum;
      EXPECT_NEAR(y[i], truth, 1e-8 + 3e-7 * truth);
    }
  });
}

}  // namespace
}  // namespace stator

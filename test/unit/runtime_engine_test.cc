// Engine and Context on the reference device: shapes, layouts, refits, memory, errors, threads.
#include <cmath>
#include <thread>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "reference_device.h"
#include "runtime/engine.h"
#include "sample_plan.h"

namespace stator {
namespace {

using ::testing::HasSubstr;

// The sample's weight, owned by "the user".
struct Weights {
  std::vector<float> w = {0.0f, 0.0f, -2.0f};

  ConstantData data() const {
    return {.bytes = reinterpret_cast<const std::byte*>(w.data()), .size = w.size() * 4};
  }
};

std::shared_ptr<const Plan> BindSample(const Weights& weights) {
  auto plan = std::make_shared<Plan>(MakeSamplePlan());
  plan->weights[0].data = weights.data();
  return plan;
}

// x as f32[rows, 3], row-major unless strides are given.
TensorRef Input(std::vector<float>& x, std::vector<int64_t> strides = {3, 1}) {
  int64_t rows = static_cast<int64_t>(x.size()) / 3;
  return {.data = reinterpret_cast<std::byte*>(x.data()),
          .dims = {rows, 3},
          .strides = std::move(strides)};
}

std::vector<float> Call(Context& context, const TensorRef& x) {
  const TensorRef& y = context.Prepare({&x, 1})[0];
  std::vector<float> result(static_cast<size_t>(y.num_elements()), NAN);
  std::byte* data = reinterpret_cast<std::byte*>(result.data());
  context.Run({&x, 1}, {&data, 1});
  return result;
}

// relu(x) * exp(w) + {1, 2, 3}
std::vector<float> Expected(const std::vector<float>& x, const std::vector<float>& w) {
  std::vector<float> y;
  for (size_t i = 0; i < x.size(); ++i) {
    y.push_back(std::max(x[i], 0.0f) * std::exp(w[i % 3]) + static_cast<float>(1 + i % 3));
  }
  return y;
}

void ExpectNear(const std::vector<float>& found, const std::vector<float>& expected) {
  EXPECT_THAT(found, ::testing::Pointwise(::testing::FloatNear(1e-6f), expected));
}

class EngineTest : public ::testing::TestWithParam<bool> {
 protected:
  void SetUp() override { device.packs = GetParam(); }

  ReferenceDevice device;
  Weights weights;
};
INSTANTIATE_TEST_SUITE_P(Packs, EngineTest, ::testing::Bool());

TEST_P(EngineTest, RunsManyShapes) {
  Context context(Engine::Load(BindSample(weights), device));
  for (size_t rows : {1, 2, 64, 7, 2, 1, 64}) {
    std::vector<float> x(rows * 3);
    for (size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(i) - 4;
    ExpectNear(Call(context, Input(x)), Expected(x, weights.w));
  }
}

TEST_P(EngineTest, KeepsSixteenShapes) {
  Context context(Engine::Load(BindSample(weights), device));
  std::vector<float> x(64 * 3, 1.0f);
  auto call = [&](size_t rows) {
    std::vector<float> part(x.begin(), x.begin() + rows * 3);
    ExpectNear(Call(context, Input(part)), Expected(part, weights.w));
  };
  for (size_t rows = 1; rows <= 16; ++rows) call(rows);
  int num_loads = device.num_loads;
  for (size_t rows = 1; rows <= 16; ++rows) call(rows);
  EXPECT_EQ(device.num_loads, num_loads);
  call(17);  // takes the place of 1, the one used longest ago
  call(2);
  EXPECT_EQ(device.num_loads, num_loads + 1);
  call(1);
  EXPECT_EQ(device.num_loads, num_loads + 2);
}

TEST_P(EngineTest, RefitsShapesThatOnlyAContextKeeps) {
  std::shared_ptr<Engine> engine = Engine::Load(BindSample(weights), device);
  Context first(engine), second(engine);
  std::vector<float> x = {1, 2, 3};
  Call(first, Input(x));
  for (size_t rows = 2; rows <= 20; ++rows) {
    std::vector<float> other(rows * 3);
    Call(second, Input(other));
  }
  ExpectNear(Call(first, Input(x)), Expected(x, weights.w));
  for (size_t rows = 2; rows <= 20; ++rows) {
    std::vector<float> other(rows * 3);
    Call(second, Input(other));
  }
  weights.w = {1.0f, 0.5f, 0.25f};
  engine->Refit();
  ExpectNear(Call(first, Input(x)), Expected(x, weights.w));
}

TEST_P(EngineTest, AllocatesNothingForSeenShapes) {
  Context context(Engine::Load(BindSample(weights), device));
  std::vector<float> large(30, 1.0f), small(3, 1.0f);
  Call(context, Input(large));
  Call(context, Input(small));
  int num_allocations = device.num_allocations;
  for (int i = 0; i < 3; ++i) {
    Call(context, Input(large));
    Call(context, Input(small));
  }
  EXPECT_EQ(device.num_allocations, num_allocations);
}

TEST_P(EngineTest, CopiesInputsOnlyWhenStridesDiffer) {
  Context context(Engine::Load(BindSample(weights), device));
  std::vector<float> x = {1, 2, 3, 4, 5, 6}, columns = {1, 4, 2, 5, 3, 6};
  ExpectNear(Call(context, Input(x)), Expected(x, weights.w));
  EXPECT_EQ(device.num_copies, 0);
  ExpectNear(Call(context, Input(columns, {1, 2})), Expected(x, weights.w));
  EXPECT_EQ(device.num_copies, 1);
  std::vector<float> row = {1, 2, 3};
  ExpectNear(Call(context, Input(row, {77, 1})), Expected(row, weights.w));  // one row: any stride
  EXPECT_EQ(device.num_copies, 1);
  std::vector<float> one = {2, 2, 2};
  TensorRef broadcast = Input(one, {0, 0});
  ExpectNear(Call(context, broadcast), Expected(one, weights.w));
  EXPECT_EQ(device.num_copies, 2);
}

TEST_P(EngineTest, RefitsInPlace) {
  std::shared_ptr<Engine> engine = Engine::Load(BindSample(weights), device);
  Context context(engine);
  std::vector<float> x = {1, 2, 3};
  ExpectNear(Call(context, Input(x)), Expected(x, weights.w));
  EXPECT_FALSE(engine->RefitIfChanged());
  weights.w = {1.0f, 0.5f, 0.25f};  // same address
  EXPECT_TRUE(engine->RefitIfChanged());
  EXPECT_FALSE(engine->RefitIfChanged());
  EXPECT_EQ(engine->num_refits(), 1);
  ExpectNear(Call(context, Input(x)), Expected(x, weights.w));
}

TEST_P(EngineTest, TakesWeightsAtAnotherAddress) {
  std::shared_ptr<Engine> engine = Engine::Load(BindSample(weights), device);
  Context context(engine);
  std::vector<float> x = {1, 2, 3};
  Call(context, Input(x));
  Weights other{.w = {0.5f, 1.0f, 2.0f}};
  engine->SetWeight("w", other.data());
  EXPECT_TRUE(engine->RefitIfChanged());
  weights.w.assign(3, NAN);  // no longer read
  ExpectNear(Call(context, Input(x)), Expected(x, other.w));
  EXPECT_FALSE(engine->RefitIfChanged());
}

TEST_P(EngineTest, RecoversFromARefitThatFailed) {
  std::shared_ptr<Engine> engine = Engine::Load(BindSample(weights), device);
  Context context(engine);
  std::vector<float> x = {1, 2, 3};
  Call(context, Input(x));
  Weights other{.w = {0.5f, 1.0f, 2.0f}};
  for (bool moved : {true, false}) {
    if (moved) engine->SetWeight("w", other.data());
    other.w[0] += 1;
    device.fails = true;
    if (moved) engine->Refit();  // a symbolic plan loads at the next call
    EXPECT_THROW(moved ? Call(context, Input(x)) : (engine->Refit(), x), Error);
    device.fails = false;
    ExpectNear(Call(context, Input(x)), Expected(x, other.w));
  }
}

TEST_P(EngineTest, ComparesEqualWeightsAtAnotherAddress) {
  std::shared_ptr<Engine> engine = Engine::Load(BindSample(weights), device);
  Weights other = weights;
  engine->SetWeight("w", other.data());
  EXPECT_TRUE(engine->RefitIfChanged());  // the old address may go
}

TEST_P(EngineTest, RunsOnManyThreadsWhileRefitting) {
  std::shared_ptr<Engine> engine = Engine::Load(BindSample(weights), device);
  Weights other{.w = {0.5f, 1.0f, 2.0f}};
  std::vector<float> x = {1, 2, 3};
  std::vector<float> first = Expected(x, weights.w), second = Expected(x, other.w);
  std::vector<std::thread> threads;
  for (int t = 0; t < 3; ++t) {
    threads.emplace_back([&, t] {
      Context context(engine);
      for (int i = 0; i < 300; ++i) {
        std::vector<float> rows;
        for (int r = 0; r <= (i + t) % 3; ++r) rows.insert(rows.end(), x.begin(), x.end());
        std::vector<float> y = Call(context, Input(rows));
        y.resize(3);
        bool is_first = std::abs(y[2] - first[2]) < 1e-5f;
        ExpectNear(y, is_first ? first : second);
      }
    });
  }
  for (int i = 0; i < 50; ++i) {
    engine->SetWeight("w", i % 2 == 0 ? other.data() : weights.data());
    engine->Refit();
    if (i % 5 == 0) engine->Refit();
  }
  for (std::thread& thread : threads) thread.join();
}

// What one shape has packed serves all; a refit packs it once.
TEST(Engine, SharesPackedCopiesBetweenShapes) {
  Weights weights;
  ReferenceDevice device;
  device.packs = true;
  std::shared_ptr<Engine> engine = Engine::Load(BindSample(weights), device);
  Context context(engine);
  std::vector<float> x(6 * 3, 1.0f);
  auto call = [&](size_t rows) {
    std::vector<float> part(x.begin(), x.begin() + rows * 3);
    ExpectNear(Call(context, Input(part)), Expected(part, weights.w));
  };
  call(1);
  int64_t bytes = engine->derived_bytes();
  EXPECT_EQ(device.num_packed, 2);  // exp(w) and the literal
  int64_t derived_bytes = device.max_derived_bytes = device.derived_bytes;
  for (size_t rows = 2; rows <= 6; ++rows) call(rows);
  EXPECT_EQ(device.num_packed, 2);
  EXPECT_EQ(engine->derived_bytes(), bytes);
  EXPECT_EQ(device.max_derived_bytes, derived_bytes);  // the prologue did not run again
  weights.w[1] = -2.0f;
  engine->Refit();
  EXPECT_EQ(device.num_packed, 4);
  for (size_t rows = 1; rows <= 6; ++rows) call(rows);
  EXPECT_EQ(device.num_packed, 4);
}

TEST(Engine, DiscardsWhatIsOnlyPacked) {
  Weights weights;
  ReferenceDevice plain, packing;
  packing.packs = true;
  std::vector<float> x = {1, 2, 3};
  std::shared_ptr<Engine> in_place = Engine::Load(BindSample(weights), plain);
  std::shared_ptr<Engine> packed = Engine::Load(BindSample(weights), packing);
  Context in_place_context(in_place), packed_context(packed);
  Call(in_place_context, Input(x));
  Call(packed_context, Input(x));
  EXPECT_EQ(in_place->derived_bytes(), 12);
  EXPECT_EQ(packed->derived_bytes(), 12 + 12);  // exp(w) and the literal in the program
}

// y = x + exp(w) + 2 exp(-v): -v is derived for the prologue alone, exp(-v) for two steps.
constexpr std::string_view kChain = R"(plan "chain" version 1 target "reference"
input 0 = "x" f32[3] strides [1]
output 0 = "y" f32[3] strides [1]
weight 0 = "w" f32[3] hex "0000000000000000000000c0"
weight 1 = "v" f32[3] hex "000000000000803f00000000"
derived 0 = 12 bytes, steps 0 to 0
derived 1 = 12 bytes, steps 0 to 0
derived 2 = 12 bytes, steps 0 to 0
arena 0 = 12 bytes, steps 0 to 1
arena 1 = 12 bytes, steps 1 to 2
tensor 0 = input 0 + 0 : f32[3] strides [1]
tensor 1 = weight 0 + 0 : f32[3] strides [1]
tensor 2 = weight 1 + 0 : f32[3] strides [1]
tensor 3 = derived 0 + 0 : f32[3] strides [1]
tensor 4 = derived 1 + 0 : f32[3] strides [1]
tensor 5 = derived 2 + 0 : f32[3] strides [1]
tensor 6 = arena 0 + 0 : f32[3] strides [1]
tensor 7 = arena 1 + 0 : f32[3] strides [1]
tensor 8 = output 0 + 0 : f32[3] strides [1]
prologue 0 = pointwise(1) -> (3) from "" {}
  graph @body(%a: f32[3]) {
    %0 = exp(%a) : f32[3]
    return %0
  }
prologue 1 = pointwise(2) -> (4) from "" {}
  graph @body(%a: f32[3]) {
    %0 = neg(%a) : f32[3]
    return %0
  }
prologue 2 = pointwise(4) -> (5) from "" {}
  graph @body(%a: f32[3]) {
    %0 = exp(%a) : f32[3]
    return %0
  }
step 0 = pointwise(0, 3) -> (6) from "" {}
  graph @body(%a: f32[3], %b: f32[3]) {
    %0 = add(%a, %b) : f32[3]
    return %0
  }
step 1 = pointwise(6, 5) -> (7) from "" {}
  graph @body(%a: f32[3], %b: f32[3]) {
    %0 = add(%a, %b) : f32[3]
    return %0
  }
step 2 = pointwise(7, 5) -> (8) from "" {}
  graph @body(%a: f32[3], %b: f32[3]) {
    %0 = add(%a, %b) : f32[3]
    return %0
  }
)";

TEST_P(EngineTest, HoldsFewDerivedBuffersAtOnce) {
  auto plan = std::make_shared<Plan>(PlanFromText(kChain));
  Weights w, v{.w = {0.0f, 1.0f, 0.0f}};
  plan->weights[0].data = w.data();
  plan->weights[1].data = v.data();
  std::shared_ptr<Engine> engine = Engine::Load(plan, device);
  Context context(engine);
  std::vector<float> x = {1, 2, 3};
  auto check = [&] {
    TensorRef input{.data = reinterpret_cast<std::byte*>(x.data()), .dims = {3}, .strides = {1}};
    std::vector<float> expected;
    for (int i = 0; i < 3; ++i) {
      expected.push_back(x[i] + std::exp(w.w[i]) + 2 * std::exp(-v.w[i]));
    }
    ExpectNear(Call(context, input), expected);
  };
  auto check_memory = [&] {
    // Read in place, exp(w) and exp(-v) stay; packed, exp(w) goes before -v comes.
    EXPECT_EQ(device.max_derived_bytes, device.packs ? 24 : 36);
    EXPECT_EQ(device.derived_bytes, device.packs ? 0 : 24);
  };
  check();
  check_memory();
  w.w = {1.0f, 0.5f, 0.25f};
  v.w = {2.0f, 0.0f, -1.0f};
  device.derived_bytes = device.max_derived_bytes = 0;
  EXPECT_TRUE(engine->RefitIfChanged());
  check();
  check_memory();
}

TEST(Engine, SaysWhatIsMissing) {
  ReferenceDevice device;
  auto message = [&](const std::function<void()>& fn) -> std::string {
    try {
      fn();
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::kInvalidArgument);
      return error.message();
    }
    return "no error";
  };
  auto plan = std::make_shared<Plan>(MakeSamplePlan());
  plan->weights[0].data = {};
  EXPECT_THAT(message([&] { Engine::Load(plan, device); }), HasSubstr("weight `w` (f32[3])"));
  plan->weights[0].data = MakeConstantData(std::vector<std::byte>(8));
  EXPECT_THAT(message([&] { Engine::Load(plan, device); }),
              HasSubstr("weight `w` is given 8 bytes, expected 12 for f32[3]"));
  plan->weights[0].data = MakeConstantData(std::vector<std::byte>(12));
  std::shared_ptr<Engine> engine = Engine::Load(plan, device);
  EXPECT_THAT(message([&] { engine->SetWeight("v", {}); }), HasSubstr("no weight `v`"));
  EXPECT_THAT(message([&] { engine->SetWeight("w", {}); }), HasSubstr("weight `w`"));

  Context context(engine);
  std::vector<float> x(6);
  auto prepare = [&](std::vector<TensorRef> inputs) {
    return message([&] { context.Prepare(inputs); });
  };
  EXPECT_THAT(prepare({}), HasSubstr("takes 1 inputs, found 0"));
  TensorRef tensor = Input(x);
  tensor.dims = {2, 4};
  EXPECT_EQ(prepare({tensor}),
            "input 0 `x`: expected f32[s0, 3] with s0 in [1, 64], found f32[2, 4]");
  tensor.dims = {65, 3};
  EXPECT_THAT(prepare({tensor}), HasSubstr("found f32[65, 3]"));
  tensor.dims = {6};
  EXPECT_THAT(prepare({tensor}), HasSubstr("found f32[6]"));
  tensor = Input(x);
  tensor.dtype = DType::kInt64;
  EXPECT_THAT(prepare({tensor}), HasSubstr("found i64[2, 3]"));
  tensor = Input(x);
  tensor.data = nullptr;
  context.Prepare({&tensor, 1});
  std::byte* y = nullptr;
  EXPECT_THAT(message([&] { context.Run({&tensor, 1}, {&y, 1}); }), HasSubstr("`x` has no data"));
}

TEST(Engine, ReportsWhenMemoryIsOut) {
  ReferenceDevice device;
  Weights weights;
  Context context(Engine::Load(BindSample(weights), device));
  device.limit = 512;
  std::vector<float> x(64 * 3, 1.0f), small(3, 1.0f);
  try {
    Call(context, Input(x));
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kOutOfMemory);
  }
  ExpectNear(Call(context, Input(small)), Expected(small, weights.w));  // it goes on working
}

TEST(Engine, RunsTensorsWithoutElements) {
  ReferenceDevice device;
  auto plan = std::make_shared<Plan>(PlanFromText(R"(plan "empty" version 1 target "reference"
input 0 = "x" f32[0, 3] strides [3, 1]
output 0 = "y" f32[0, 3] strides [3, 1]
tensor 0 = input 0 + 0 : f32[0, 3] strides [3, 1]
tensor 1 = output 0 + 0 : f32[0, 3] strides [3, 1]
step 0 = copy(0) -> (1) from "" {}
)"));
  Context context(Engine::Load(plan, device));
  TensorRef x{.dims = {0, 3}, .strides = {1, 1}};
  std::byte* y = nullptr;
  context.Prepare({&x, 1});
  context.Run({&x, 1}, {&y, 1});
}

}  // namespace
}  // namespace stator

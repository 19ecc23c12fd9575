// PrepareAttention against the reference kernel: the op's samples and larger shapes, in every
// layout and at every SIMD level of the machine; masks, causal bounds, and rows that see no key.
#include "cpu/simd/attention_kernels.h"
#include "cpu_run_testing.h"
#include "ir/parse.h"
#include "ops/samples.h"

namespace stator {
namespace {

using namespace testing;  // NOLINT: the helpers above

// Fills, then lets `edit` change the inputs, and compares.
using Edit = std::function<void(std::vector<TensorRef>& inputs)>;

void CheckBody(const Graph& body, Layout input_layout, Layout output_layout,
               const Edit& edit = nullptr) {
  SCOPED_TRACE(body.type(body.inputs()[0]).ToString());
  std::mt19937 random(7);
  std::vector<HostTensor> tensors;
  std::vector<TensorRef> inputs;
  for (ValueId id : body.inputs()) {
    const TensorType& type = body.type(id);
    tensors.push_back(MakeInLayout(type.dtype, EvalDims(type.dims, {}), input_layout));
    FillRandom(tensors.back().ref, random, false);
    inputs.push_back(tensors.back().ref);
  }
  if (edit) edit(inputs);
  CheckStep(PrepareAttention, body, inputs, output_layout);
}

// attention over f32 operands of these dims, written as in IR text; `mask` may be empty.
Graph MakeAttention(std::string_view q, std::string_view kv, std::string_view mask, bool causal) {
  std::string mask_input = mask.empty() ? "" : fmt::format(", %m: {}", mask);
  return ParseGraph(fmt::format(
      "graph @body(%q: f32{0}, %k: f32{1}, %v: f32{1}{2}) {{\n"
      "  %0 = attention(%q, %k, %v{3}) {{causal = {4}, scale = 0.0625}}\n  return %0\n}}\n",
      q, kv, mask_input, mask.empty() ? "" : ", %m", causal));
}

constexpr float kInf = std::numeric_limits<float>::infinity();

void Fill(const TensorRef& tensor, float value) {
  ForEachOffset<1>(tensor.dims, {tensor.strides},
                   [&](const auto& at) { Data<float>(tensor)[at[0]] = value; });
}

TEST(Attention, SamplesInEveryDTypeAndLayout) {
  ForEachSimdTarget([] {
    for (const SampleCase& sample : ExpandSamples(GetOp("attention"))) {
      for (Layout layout : kLayouts) {
        CheckBody(MakeSampleGraph(sample), layout, Layout::kDense);
        CheckBody(MakeSampleGraph(sample), Layout::kDense, layout);
      }
    }
  });
}

TEST(Attention, ShapesAroundTheTiles) {
  ForEachSimdTarget([] {
    for (int queries : {1, 3, 4, 5, 15, 16, 17, 49, 97}) {
      for (int keys : {1, 3, 8, 13, 255, 256, 257, 513}) {
        std::string q = fmt::format("[1, 2, {}, 13]", queries);
        std::string kv = fmt::format("[1, 2, {}, 13]", keys);
        CheckBody(MakeAttention(q, kv, "", false), Layout::kDense, Layout::kDense);
        CheckBody(MakeAttention(q, kv, "", true), Layout::kDense, Layout::kGaps);
      }
    }
    for (int width : {1, 16, 31, 48, 64, 65, 80, 128, 130}) {
      std::string dims = fmt::format("[2, 1, 37, {}]", width);
      CheckBody(MakeAttention(dims, dims, "", false), Layout::kDense, Layout::kDense);
    }
  });
}

TEST(Attention, NoKeysGiveZeros) {
  ForEachSimdTarget([] {
    CheckBody(MakeAttention("[2, 3, 5, 8]", "[2, 3, 0, 8]", "", false), Layout::kDense,
              Layout::kDense);
    CheckBody(MakeAttention("[2, 3, 5, 0]", "[2, 3, 4, 0]", "", false), Layout::kDense,
              Layout::kDense);
  });
}

// Query counts of either way to run.
constexpr int kQueries[] = {2, 21};

TEST(Attention, MasksOfEveryBroadcast) {
  ForEachSimdTarget([] {
    for (int queries : kQueries) {
      std::string rows = std::to_string(queries);
      for (std::string dims :
           {"[3, 4, " + rows + ", 300]", "[4, " + rows + ", 300]", "[" + rows + ", 300]",
            std::string("[3, 1, 1, 300]"), "[3, 1, " + rows + ", 1]", std::string("[1, 4, 1, 1]"),
            std::string("[300]"), std::string("[]")}) {
        for (const char* dtype : {"f32", "bool"}) {
          SCOPED_TRACE(dtype + dims);
          Graph body =
              MakeAttention("[3, 4, " + rows + ", 16]", "[3, 4, 300, 16]", dtype + dims, false);
          CheckBody(body, Layout::kDense, Layout::kDense);
          CheckBody(body, Layout::kGaps, Layout::kDense);
          CheckBody(body, Layout::kReversed, Layout::kDense);
        }
      }
    }
  });
}

TEST(Attention, RowsThatSeeNoKeyAreZeros) {
  ForEachSimdTarget([] {
    for (int queries : kQueries) {
      for (std::string mask :
           {std::string("f32[1, 1, 1, 300]"), fmt::format("f32[{}, 300]", queries)}) {
        auto body =
            MakeAttention(fmt::format("[1, 2, {}, 16]", queries), "[1, 2, 300, 16]", mask, false);
        CheckBody(body, Layout::kDense, Layout::kDense,
                  [](std::vector<TensorRef>& inputs) { Fill(inputs[3], -kInf); });
        // The first block of keys unseen, the second seen.
        CheckBody(body, Layout::kDense, Layout::kDense, [](std::vector<TensorRef>& inputs) {
          TensorRef head = inputs[3];
          head.dims.back() = 270;
          Fill(head, -kInf);
        });
        // As transformers masks: the lowest finite float; all alike means the mean of the values.
        CheckBody(body, Layout::kDense, Layout::kDense, [](std::vector<TensorRef>& inputs) {
          Fill(inputs[3], std::numeric_limits<float>::lowest());
        });
      }
    }
  });
}

TEST(Attention, KeepsNaNAndInfinity) {
  ForEachSimdTarget([] {
    for (int queries : kQueries) {
      auto body = MakeAttention(fmt::format("[1, 2, {}, 8]", queries), "[1, 2, 40, 8]", "", false);
      for (float special : {NAN, kInf, -kInf}) {
        for (int input : {0, 1, 2}) {
          CheckBody(body, Layout::kDense, Layout::kDense, [&](std::vector<TensorRef>& inputs) {
            Data<float>(inputs[input])[8 + 3] = special;
          });
        }
      }
    }
  });
}

TEST(Attention, LargeScoresNeitherOverflowNorVanish) {
  ForEachSimdTarget([] {
    auto body = MakeAttention("[1, 1, 9, 16]", "[1, 1, 600, 16]", "", false);
    CheckBody(body, Layout::kDense, Layout::kDense, [](std::vector<TensorRef>& inputs) {
      ForEachOffset<1>(inputs[0].dims, {inputs[0].strides},
                       [&](const auto& at) { Data<float>(inputs[0])[at[0]] *= 30.0f; });
    });
  });
}

TEST(Attention, ReadsHeadsOfAMergedProjectionInPlace) {
  ForEachSimdTarget([] {
    Graph body = MakeAttention("[2, 3, 50, 16]", "[2, 3, 50, 16]", "", false);
    HostTensor qkv = MakeHostTensor(DType::kFloat32, {2, 50, 3, 3, 16});
    std::mt19937 random(3);
    FillRandom(qkv.ref, random, false);
    std::vector<TensorRef> inputs;
    for (int i = 0; i < 3; ++i) {
      inputs.push_back({.data = qkv.ref.data + i * 3 * 16 * sizeof(float),
                        .dtype = DType::kFloat32,
                        .dims = {2, 3, 50, 16},
                        .strides = {50 * 144, 16, 144, 1}});
    }
    CheckStep(PrepareAttention, body, inputs, Layout::kDense);
  });
}

TEST(Attention, OneTensorForAllOperands) {
  Graph body = ParseGraph(
      "graph @body(%x: f32[1, 2, 20, 8]) {\n"
      "  %0 = attention(%x, %x, %x) {causal = false, scale = 0.5}\n  return %0\n}\n");
  ForEachSimdTarget([&] { CheckBody(body, Layout::kDense, Layout::kDense); });
}

}  // namespace
}  // namespace stator

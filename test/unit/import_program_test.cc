// Programs that torch.export wrote: what they become, what they compute, and malformed ones.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "import/import.h"
#include "import_data.h"
#include "ir/print.h"
#include "ir/verify.h"
#include "ops/evaluate.h"

namespace stator {
namespace {

using testing::HasSubstr;

const ImportedInput& FindInput(const ImportedGraph& program, std::string_view name) {
  for (const ImportedInput& input : program.inputs) {
    if (input.name == name) return input;
  }
  ADD_FAILURE() << "no input " << name;
  return program.inputs.front();
}

const ImportedNode& FindNode(const ImportedGraph& program, std::string_view name) {
  for (const ImportedNode& node : program.nodes) {
    if (node.name == name) return node;
  }
  ADD_FAILURE() << "no node " << name;
  return program.nodes.front();
}

// Runs a program of one input and compares with eager; `results` are its outputs that are returned.
void ExpectEqualsEager(const std::string& name, Sizes input_dims) {
  ImportedGraph program = ImportArchive(DataPath(name + ".pt2"));
  VerifyGraph(program.graph);
  for (const ImportedNode& node : program.nodes) EXPECT_FALSE(node.opaque) << node.name;
  HostTensor x = MakeRamp(std::move(input_dims));
  std::vector<TensorRef> inputs;
  for (const ImportedInput& input : program.inputs) {
    if (input.kind == ImportedInput::Kind::kTensor) inputs.push_back(x.ref);
    if (input.kind != ImportedInput::Kind::kState) continue;
    TensorRef state = {.data = const_cast<std::byte*>(input.data.bytes),
                       .dtype = program.graph.type(input.value).dtype,
                       .dims = EvalDims(program.graph.type(input.value).dims, {}),
                       .strides = {}};
    inputs.push_back(state);
  }
  std::vector<HostTensor> outputs = EvaluateGraph(program.graph, inputs);
  std::vector<ExpectedOutput> expected = ReadExpected(name + ".txt");
  ASSERT_EQ(program.outputs.size(), outputs.size());
  size_t next = 0;
  for (size_t i = 0; i < outputs.size(); ++i) {
    if (!program.outputs[i].mutates.empty()) continue;
    const ExpectedOutput& output = expected.at(next++);
    ASSERT_EQ(outputs[i].ref.dims, output.dims);
    for (size_t j = 0; j < output.elements.size(); ++j) {
      EXPECT_NEAR(Data<float>(outputs[i].ref)[j], output.elements[j], 1e-5) << i << ", " << j;
    }
  }
  EXPECT_EQ(next, expected.size());
}

TEST(ImportProgram, ConvolutionsEqualEager) { ExpectEqualsEager("convolutions", {3, 3, 6, 6}); }
TEST(ImportProgram, WritesThroughViewsEqualEager) { ExpectEqualsEager("views", {3, 4, 5}); }

TEST(ImportProgram, NamesAndLocationsAreTheUsers) {
  ImportedGraph program = ImportArchive(DataPath("convolutions.pt2"));
  std::string text = PrintGraph(program.graph);
  EXPECT_THAT(text, HasSubstr("f32[5, 4] = \"head.weight\""));
  EXPECT_THAT(text, HasSubstr("conv2d · python/make_programs.py:"));
  ASSERT_EQ(program.graph.symbols.size(), 1u);
  EXPECT_EQ(program.graph.symbols[0].min, 1);
  EXPECT_EQ(program.graph.symbols[0].max, 64);
}

TEST(ImportProgram, AMutatedBufferIsAnInputAndAnOutput) {
  ImportedGraph program = ImportArchive(DataPath("convolutions.pt2"));
  const ImportedInput& calls = FindInput(program, "b_calls");
  EXPECT_EQ(calls.kind, ImportedInput::Kind::kState);
  EXPECT_EQ(calls.weight, "calls");
  EXPECT_EQ(calls.data.size, sizeof(float));
  ASSERT_EQ(program.outputs.size(), 2u);
  EXPECT_EQ(program.outputs[0].mutates, "b_calls");
  EXPECT_EQ(program.outputs[1].mutates, "");
}

TEST(ImportProgram, AnUnknownOpIsLeftToTorchWithItsReason) {
  std::string json = Replace(ReadProgramText("convolutions.pt2"), "aten.max_pool2d.default",
                             "mylib.max_pool2d.default");
  ImportedGraph program = ImportExportedProgram(json, {});
  VerifyGraph(program.graph);
  const ImportedNode& pool = FindNode(program, "max_pool2d");
  ASSERT_TRUE(pool.opaque);
  EXPECT_EQ(pool.target, "mylib.max_pool2d.default");
  EXPECT_EQ(program.graph.node(pool.nodes.at(0)).attrs.GetString("reason"),
            "no op of ours expresses mylib.max_pool2d.default");
}

TEST(ImportProgram, AnUnknownDtypeIsLeftToTorch) {
  constexpr std::string_view kFloat = R"("x": {"dtype": 7)", kComplex = R"("x": {"dtype": 10)";
  std::string json = Replace(ReadProgramText("views.pt2"), kFloat, kComplex);
  ImportedGraph program = ImportExportedProgram(json, {});
  const ImportedNode& add = FindNode(program, "add");
  ASSERT_TRUE(add.opaque);
  EXPECT_EQ(program.graph.node(add.nodes.at(0)).attrs.GetString("reason"), "dtype complex64");
}

void ExpectError(const std::string& json, ErrorKind kind, std::string_view message) {
  try {
    ImportExportedProgram(json, {});
    FAIL() << message;
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), kind) << error.what();
    EXPECT_THAT(error.message(), HasSubstr(message));
  }
}

TEST(ImportProgram, AWriteThatAnUnknownOpMaySeeIsRefused) {
  std::string json =
      Replace(ReadProgramText("views.pt2"), "aten.view.default", "aten.as_strided.default");
  ExpectError(json, ErrorKind::kUnsupported, "may share memory with");
}

TEST(ImportProgram, AWriteThatIsNoNewContentIsRefused) {
  std::string json = ReadProgramText("views.pt2");
  ExpectError(Replace(json, "aten.mul_.Tensor", "aten.mul.out"), ErrorKind::kUnsupported,
              "writes to its argument `out`");
  ExpectError(Replace(json, "aten.zero_.default", "aten.t_.default"), ErrorKind::kUnsupported,
              "changes the type of a tensor in place");
}

// ---- malformed programs
TEST(ImportMalformed, TruncatedJson) {
  std::string json = ReadProgramText("views.pt2");
  for (size_t size : {size_t{0}, size_t{1}, json.size() / 2, json.size() - 1}) {
    ExpectError(json.substr(0, size), ErrorKind::kCorruptFile, "not a JSON document");
  }
}

TEST(ImportMalformed, AnotherMajorSchemaVersion) {
  std::string json = Replace(ReadProgramText("views.pt2"), R"("major": 8)", R"("major": 9)");
  ExpectError(json, ErrorKind::kVersionMismatch, "export schema version 9.");
}

TEST(ImportMalformed, AMissingMemberIsNamedWithItsPlace) {
  std::string json = Replace(ReadProgramText("views.pt2"), R"("input_specs")", R"("specs")");
  ExpectError(json, ErrorKind::kCorruptFile, "signature: `input_specs` is missing");
}

TEST(ImportMalformed, AMemberOfAnotherKind) {
  std::string json = Replace(ReadProgramText("views.pt2"), R"("dtype": 7)", R"("dtype": "7")");
  ExpectError(json, ErrorKind::kCorruptFile, "expected an integer of 64 bits, found string");
}

TEST(ImportMalformed, ATensorThatIsReadBeforeItIsDefined) {
  std::string json = Replace(ReadProgramText("views.pt2"),
                             R"({"name": "self", "arg": {"as_tensor": {"name": "x"}})",
                             R"({"name": "self", "arg": {"as_tensor": {"name": "add"}})");
  ExpectError(json, ErrorKind::kCorruptFile, "which is not defined before it");
}

TEST(ImportMalformed, DeepNesting) {
  std::string deep(100000, '[');
  ExpectError(deep, ErrorKind::kCorruptFile, "not a JSON document");
  ExpectError(deep + std::string(deep.size(), ']'), ErrorKind::kCorruptFile, "an object");
}

}  // namespace
}  // namespace stator

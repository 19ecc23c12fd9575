// Compile: the parts of an imported graph, run in order, compute the graph.
//
// Torch parts are played by the reference evaluator. Which ops are left to torch is drawn at
// random.
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "engine_check.h"
#include "ir/parse.h"

namespace stator {
namespace {

// Each node as an FX node of its own, its outputs named as the node is.
ImportedGraph Import(Graph graph) {
  ImportedGraph imported;
  for (NodeId id : graph.nodes()) {
    Node& node = graph.mutable_node(id);
    node.origin.name = fmt::format("{}_{}", node.op->name, id.index);
    if (id.index % 3 != 0) graph.mutable_value(node.outputs[0]).name = node.origin.name;
    imported.values[node.origin.name] = node.outputs[0];
  }
  for (ValueId id : graph.inputs()) imported.values[graph.value(id).name] = id;
  imported.graph = std::move(graph);
  return imported;
}

// Runs the parts as a caller does, who knows values by name only.
class PartRunner {
 public:
  PartRunner(const ImportedGraph& imported, const CompiledModule& module)
      : graph_(imported.graph), module_(module) {
    for (ValueId id : graph_.constants()) {
      const Value& value = graph_.value(id);
      TensorRef ref{.data = const_cast<std::byte*>(value.data.bytes),
                    .dtype = value.type.dtype,
                    .dims = EvalDims(value.type.dims, {}),
                    .strides = EvalDims(value.type.strides(), {})};
      constants_[id] = ref;
      if (value.kind == ValueKind::kWeight) values_["weight:" + value.name] = ref;
    }
  }

  std::vector<TensorRef> Run(std::span<const TensorRef> inputs) {
    for (size_t i = 0; i < inputs.size(); ++i) {
      values_[module_.values.at(graph_.value(graph_.inputs()[i]).name)] = inputs[i];
    }
    for (const Part& part : module_.parts) part.plan ? RunEngine(part) : RunNodes(part);
    std::vector<TensorRef> outputs;
    for (const std::string& name : module_.outputs) outputs.push_back(values_.at(name));
    return outputs;
  }

 private:
  void RunEngine(const Part& part) {
    std::vector<TensorRef> inputs;
    for (const std::string& name : part.inputs) inputs.push_back(values_.at(name));
    std::vector<HostTensor> outputs = RunPlan(part.plan, CpuDevice(), inputs);
    for (size_t i = 0; i < outputs.size(); ++i) Keep(part.outputs[i], std::move(outputs[i]));
  }

  void RunNodes(const Part& part) {
    for (NodeId id : graph_.nodes()) {
      const Node& node = graph_.node(id);
      if (std::find(part.nodes.begin(), part.nodes.end(), node.origin.name) == part.nodes.end()) {
        continue;
      }
      std::vector<TensorRef> inputs;
      for (ValueId input : node.inputs) {
        if (!input.valid()) {
          inputs.emplace_back();
        } else if (constants_.contains(input)) {
          inputs.push_back(constants_.at(input));
        } else {
          const Node* producer = graph_.FindProducer(input);
          const std::string& name =
              producer != nullptr ? producer->origin.name : graph_.value(input).name;
          inputs.push_back(values_.at(module_.values.at(name)));
        }
      }
      std::vector<HostTensor> outputs = EvaluateNode(graph_, node, inputs);
      Keep(module_.values.at(node.origin.name), std::move(outputs[0]));
    }
  }

  void Keep(const std::string& name, HostTensor tensor) {
    values_[name] = tensor.ref;
    owned_.push_back(std::move(tensor));
  }

  const Graph& graph_;
  const CompiledModule& module_;
  std::map<ValueId, TensorRef> constants_;
  std::map<std::string, TensorRef> values_;
  std::vector<HostTensor> owned_;
};

void ExpectPartsCompute(const ImportedGraph& imported, const CompiledModule& module) {
  std::vector<HostTensor> inputs = RandomInputs(imported.graph, 5);
  std::vector<TensorRef> refs = Refs(inputs);
  std::vector<HostTensor> expected = EvaluateGraph(imported.graph, refs);
  PartRunner runner(imported, module);
  std::vector<TensorRef> found = runner.Run(refs);
  ASSERT_EQ(found.size(), expected.size());
  for (size_t i = 0; i < found.size(); ++i) {
    ASSERT_TRUE(IsClose(found[i], expected[i].ref, {.rtol = 1e-3, .atol = 1e-3}))
        << "output " << i << " of\n"
        << PrintGraph(imported.graph) << ModuleToJson(module);
  }
}

TEST(Compile, MakesPartsThatComputeTheGraph) {
  std::mt19937 rng(4);
  const char* kOps[] = {"permute", "relu", "mul", "matmul", "softmax", "add", "reshape", "conv"};
  for (unsigned seed = 0; seed < 100; ++seed) {
    SCOPED_TRACE(seed);
    ImportedGraph imported = Import(MakeModelGraph(seed));
    CompileOptions options{.optimization_level = 0};
    options.min_block_size = 1 + static_cast<int>(rng() % 4);
    options.pass_through_build_failures = true;
    for (const char* op : kOps) {
      if (rng() % 3 == 0) options.torch_executed_ops.insert(op);
    }
    CompiledModule module = Compile(imported, options);
    ExpectPartsCompute(imported, module);
    if (HasFatalFailure()) return;
  }
}

TEST(Compile, ReturnsInputsAndWeightsByName) {
  Graph graph = ParseGraph(R"(graph @g(%x: f32[2, 3], %v1: f32[3]) {
    weight %w: f32[3] = "fc.weight"
    %0 = add(%x, %w)
    %1 = exp(%0)
    return %x, %1, %w, %v1, %1
  })");
  FillWeights(graph, 1);
  ImportedGraph imported = Import(std::move(graph));
  CompiledModule module = Compile(imported, {.optimization_level = 0});
  ASSERT_EQ(module.outputs.size(), 5u);
  EXPECT_EQ(module.outputs[0], "x");
  EXPECT_EQ(module.outputs[2], "weight:fc.weight");
  EXPECT_EQ(module.outputs[1], module.outputs[4]);
  ExpectPartsCompute(imported, module);
  nlohmann::json report = nlohmann::json::parse(ModuleToJson(module));
  EXPECT_EQ(report["num_nodes"], 2);
  EXPECT_EQ(report["num_nodes_in_engines"], 2);
  EXPECT_EQ(report["parts"].size(), 1u);
}

TEST(Compile, MakesNoPartsOfAnEmptyGraph) {
  ImportedGraph imported = Import(ParseGraph("graph @g(%x: f32[2]) {\n  return %x, %x\n}\n"));
  CompiledModule module = Compile(imported, {});
  EXPECT_TRUE(module.parts.empty());
  ExpectPartsCompute(imported, module);
}

TEST(Compile, GivesAReasonForEachNodeLeftToTorch) {
  ImportedGraph imported = Import(ParseGraph(R"(graph @g(%x: f32[2]) {
    %0 = exp(%x)
    %1 = sin(%0)
    %2 = neg(%1)
    return %2
  })"));
  CompiledModule module = Compile(
      imported, {.min_block_size = 2, .torch_executed_ops = {"sin"}, .optimization_level = 0});
  ASSERT_EQ(module.report.fallbacks.size(), 3u);
  EXPECT_EQ(module.report.num_nodes_in_engines, 0);
  EXPECT_EQ(module.report.fallbacks[1].reason, "listed in torch_executed_ops");
  ExpectPartsCompute(imported, module);
}

}  // namespace
}  // namespace stator

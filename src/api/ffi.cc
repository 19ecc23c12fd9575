// The Python binding: the compiler and the runtime as objects and functions of apache-tvm-ffi.
//
// In:  JSON text of an exported program, torch tensors (by DLPack, never copied), options as JSON.
// Out: `stator.CompiledModule` and `stator.Engine` objects; tensors allocated by torch.
// Invariants: an Error becomes a tvm-ffi error whose kind is "stator.<ErrorKind>", which
// python/torch_stator/errors.py turns into a Python exception. Calls run without the GIL, so
// several Python threads may run one Engine at once, each with a Context of its own.

#include <algorithm>
#include <atomic>
#include <climits>
#include <mutex>
#include <numeric>

#include <nlohmann/json.hpp>
#include <tvm/ffi/container/array.h>
#include <tvm/ffi/container/tensor.h>
#include <tvm/ffi/extra/c_env_api.h>
#include <tvm/ffi/function.h>
#include <tvm/ffi/reflection/registry.h>

#include "api/context_pool.h"
#include "api/devices.h"
#include "api/dlpack.h"
#include "base/error.h"
#include "base/file_map.h"
#include "base/hash.h"
#include "base/target.h"
#include "compile/compile.h"
#include "import/import.h"
#include "import/overloads.h"
#include "ir/parse.h"
#include "ops/describe.h"
#include "ops/evaluate.h"
#include "runtime/bind.h"
#include "runtime/engine.h"
#include "runtime/engine_group.h"
#include "runtime/in_place.h"

namespace stator {
namespace {

namespace ffi = tvm::ffi;

// Runs `fn`, with every Error turned into a tvm-ffi error.
template <typename Fn>
auto Guard(Fn&& fn) {
  try {
    return fn();
  } catch (const Error& error) {
    std::string text = error.message();
    if (!error.node().empty()) text += fmt::format(" (at {})", error.node());
    throw ffi::Error("stator." + std::string(ErrorKindName(error.kind())), text, "");
  }
}

std::string_view View(const ffi::String& text) { return {text.data(), text.size()}; }

ffi::Bytes ToBytes(std::span<const std::byte> bytes) {
  return ffi::Bytes(reinterpret_cast<const char*>(bytes.data()), bytes.size());
}

// The content of a dense row-major tensor, kept alive by the result.
ConstantData MakeWeight(const ffi::Tensor& tensor, std::string_view name) {
  ConstantData data = MakeConstant(*tensor.GetDLTensorPtr(), "weight", name);
  data.owner = std::make_shared<ffi::Tensor>(tensor);
  return data;
}

// A tensor from torch's allocator. Needs a call that got a torch tensor among its arguments.
ffi::Tensor AllocateLike(const TensorRef& output, DLDevice device) {
  size_t rank = output.dims.size();
  // Dims from outermost to innermost in memory: torch allocates row-major.
  std::vector<size_t> order(rank);
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](size_t lhs, size_t rhs) {
    return output.strides[lhs] > output.strides[rhs];
  });
  std::vector<int64_t> dims(rank);
  for (size_t i = 0; i < rank; ++i) dims[i] = output.dims[order[i]];
  ffi::Tensor tensor =
      ffi::Tensor::FromEnvAlloc(TVMFFIEnvTensorAlloc, ffi::ShapeView(dims.data(), dims.size()),
                                ToDLDataType(output.dtype), device);
  if (std::is_sorted(order.begin(), order.end())) return tensor;
  return tensor.as_strided(ffi::ShapeView(output.dims.data(), rank),
                           ffi::ShapeView(output.strides.data(), rank));
}

// What all engines of the process did, for torch_stator.stats.
struct Counters {
  std::atomic<int64_t> engines = 0, engine_calls = 0, refits = 0;
};
Counters counters;

class EngineObj : public ffi::Object {
 public:
  explicit EngineObj(std::shared_ptr<Engine> engine)
      : pool_(std::move(engine)), device_(ToDLDevice(pool_.engine().device())) {
    counters.engines.fetch_add(1, std::memory_order_relaxed);
  }

  // Runs on the tensors in `args`; those after the engine's own inputs are ignored, so that an
  // engine without inputs can be given one, which brings torch's allocator.
  //
  // `in_place`: for each output the input whose memory it takes, or -1; empty for none. Such an
  // output is None in the result, which then is always a list, unless the input lies otherwise.
  ffi::Any Run(ffi::PackedArgs args, bool check_weights, const std::vector<int>& in_place) {
    const Plan& plan = pool_.engine().plan();
    size_t num_inputs = plan.inputs.size();
    if (static_cast<size_t>(args.size()) < num_inputs) {
      Fail(ErrorKind::kInvalidArgument, "the engine takes {} inputs, but got {}", num_inputs,
           args.size());
    }
    counters.engine_calls.fetch_add(1, std::memory_order_relaxed);
    if (check_weights) RefitIfChanged();
    std::vector<TensorRef> inputs(num_inputs);
    for (size_t i = 0; i < num_inputs; ++i) {
      std::optional<DLTensor*> tensor = args[i].try_cast<DLTensor*>();
      if (!tensor) {
        Fail(ErrorKind::kInvalidArgument, "input `{}`: expected a tensor, found {}",
             plan.inputs[i].name, args[i].GetTypeKey());
      }
      inputs[i] = MakeTensorRef(**tensor, device_, "input", plan.inputs[i].name);
    }
    return ContextPool::RetryWithLess([&] { return RunOn(inputs, in_place); });
  }

  // Runs on inputs that are there.
  ffi::Any RunOn(const std::vector<TensorRef>& inputs, const std::vector<int>& in_place) {
    ContextPool::Lease context(pool_, FindStream());
    ffi::Array<ffi::Optional<ffi::Tensor>> outputs;
    std::vector<std::byte*> pointers;
    for (const TensorRef& output : context->Prepare(inputs)) {
      int input = in_place.empty() ? -1 : in_place[outputs.size()];
      if (input >= 0 && CanTakeMemory(inputs[input], output)) {
        outputs.push_back(std::nullopt);
        pointers.push_back(inputs[input].data);
        continue;
      }
      ffi::Tensor tensor = AllocateLike(output, device_);
      pointers.push_back(static_cast<std::byte*>(tensor.data_ptr()));
      outputs.push_back(std::move(tensor));
    }
    context->Run(inputs, pointers);
    if (outputs.size() == 1 && in_place.empty()) return outputs[0];
    return outputs;
  }

  void Refit() {
    pool_.engine().Refit();
    counters.refits.fetch_add(1, std::memory_order_relaxed);
  }
  bool RefitIfChanged() {
    bool changed = pool_.engine().RefitIfChanged();
    if (changed) counters.refits.fetch_add(1, std::memory_order_relaxed);
    return changed;
  }

  Engine& engine() { return pool_.engine(); }

  // The outputs that may lie in the memory of an input; none on a GPU, whose kernels write what
  // they read elsewhere.
  std::vector<InPlace> FindPairs() {
    if (device_.device_type != kDLCPU) return {};
    return FindInPlace(engine().plan());
  }

  static constexpr bool _type_mutable = true;
  TVM_FFI_DECLARE_OBJECT_INFO_FINAL("stator.Engine", EngineObj, ffi::Object);

 private:
  static bool CanTakeMemory(const TensorRef& input, const TensorRef& output) {
    return input.data != nullptr && input.dims == output.dims &&
           IsSameLayout(input.dims, input.strides, output.strides);
  }

  // The caller's current stream.
  DeviceStream FindStream() const {
    if (device_.device_type == kDLCPU) return nullptr;
    return TVMFFIEnvGetStream(device_.device_type, device_.device_id);
  }

  ContextPool pool_;
  const DLDevice device_;
};

// The engines of one module, which lie on one device.
class EngineGroupObj : public ffi::Object {
 public:
  std::shared_ptr<EngineGroup> Get(Device& device) {
    std::lock_guard lock(mutex_);
    if (group_ == nullptr) group_ = std::make_shared<EngineGroup>(device);
    return group_;
  }

  static constexpr bool _type_mutable = true;
  TVM_FFI_DECLARE_OBJECT_INFO_FINAL("stator.EngineGroup", EngineGroupObj, ffi::Object);

 private:
  std::mutex mutex_;
  std::shared_ptr<EngineGroup> group_;
};

class EngineGroupRef : public ffi::ObjectRef {
 public:
  EngineGroupRef() : ObjectRef(ffi::make_object<EngineGroupObj>()) {}
  TVM_FFI_DEFINE_OBJECT_REF_METHODS_NOTNULLABLE(EngineGroupRef, ffi::ObjectRef, EngineGroupObj);
};

class EngineRef : public ffi::ObjectRef {
 public:
  // `ordinal`: of the CUDA device, for a plan that needs one.
  explicit EngineRef(std::shared_ptr<const Plan> plan, int ordinal = 0, EngineGroupRef group = {})
      : ObjectRef(ffi::make_object<EngineObj>(Load(std::move(plan), ordinal, *group.get()))) {}
  TVM_FFI_DEFINE_OBJECT_REF_METHODS_NOTNULLABLE(EngineRef, ffi::ObjectRef, EngineObj);

 private:
  static std::shared_ptr<Engine> Load(std::shared_ptr<const Plan> plan, int ordinal,
                                      EngineGroupObj& group) {
    Device& device = GetDevice(plan->target, ordinal);
    return ContextPool::RetryWithLess(
        [&] { return Engine::Load(plan, device, group.Get(device)); });
  }
};

class CompiledModuleObj : public ffi::Object {
 public:
  // `ordinal`: of the CUDA device that it was compiled for, if any. `group`: that its engines join.
  CompiledModuleObj(CompiledModule module, int ordinal, EngineGroupRef group)
      : module_(std::move(module)), ordinal_(ordinal), group_(std::move(group)) {}

  // Loads the engine of a part; null for a part that torch runs.
  ffi::Optional<EngineRef> LoadEngine(int64_t part) const {
    std::shared_ptr<const Plan> plan = GetPart(part).plan;
    if (plan == nullptr) return std::nullopt;
    return EngineRef(std::move(plan), ordinal_, group_);
  }
  const Part& GetPart(int64_t part) const {
    if (part < 0 || part >= static_cast<int64_t>(module_.parts.size())) {
      Fail(ErrorKind::kInvalidArgument, "there is no part {}: the module has {}", part,
           module_.parts.size());
    }
    return module_.parts[part];
  }
  const CompiledModule& module() const { return module_; }

  TVM_FFI_DECLARE_OBJECT_INFO_FINAL("stator.CompiledModule", CompiledModuleObj, ffi::Object);

 private:
  CompiledModule module_;
  int ordinal_ = 0;
  EngineGroupRef group_;
};

class CompiledModuleRef : public ffi::ObjectRef {
 public:
  CompiledModuleRef(CompiledModule module, int ordinal, EngineGroupRef group)
      : ObjectRef(
            ffi::make_object<CompiledModuleObj>(std::move(module), ordinal, std::move(group))) {}
  TVM_FFI_DEFINE_OBJECT_REF_METHODS_NOTNULLABLE(CompiledModuleRef, ffi::ObjectRef,
                                                CompiledModuleObj);
};

// {"min_block_size": 1, "torch_executed_ops": ["aten.sub"], ...}; absent members keep their
// default.
CompileOptions ParseOptions(const std::string& text) {
  nlohmann::json json = nlohmann::json::parse(text);
  CompileOptions options;
  options.min_block_size = static_cast<int>(
      std::min<int64_t>(json.value("min_block_size", int64_t{options.min_block_size}), INT_MAX));
  options.device = json.value("device", options.device);
  options.use_fast_partitioner = json.value("use_fast_partitioner", options.use_fast_partitioner);
  options.use_cost_model = json.value("use_cost_model", options.use_cost_model);
  options.dryrun = json.value("dryrun", options.dryrun);
  options.settings = json.value("settings", options.settings);
  options.torch_executed_ops = json.value("torch_executed_ops", options.torch_executed_ops);
  options.pass_through_build_failures =
      json.value("pass_through_build_failures", options.pass_through_build_failures);
  options.optimization_level = json.value("optimization_level", options.optimization_level);
  options.timing_cache = json.value("timing_cache", options.timing_cache);
  options.cache_folder = json.value("cache_folder", options.cache_folder);
  options.num_avg_timing_iters = json.value("num_avg_timing_iters", options.num_avg_timing_iters);
  if (auto it = json.find("max_aux_streams"); it != json.end() && !it->is_null()) {
    options.max_aux_streams =
        static_cast<int>(std::min<int64_t>(it->get<int64_t>(), kMaxAuxStreams));
  }
  options.narrowing.truncate_wide = json.value("truncate_long_and_double", false);
  options.narrowing.precision = FindDType(json.value("precision", "f32")).value_or(DType::kFloat32);
  TacticLimits& limits = options.limits;
  limits.workspace_size = json.value("workspace_size", limits.workspace_size);
  limits.tf32_matmul = json.value("tf32_matmul", limits.tf32_matmul);
  limits.tf32_conv = json.value("tf32_conv", limits.tf32_conv);
  limits.hardware_compatible = json.value("hardware_compatible", limits.hardware_compatible);
  options.reference_graphs = json.value("reference_graphs", options.reference_graphs);
  return options;
}

// `program` is the JSON of an exported program; `names` are those of its graph inputs that are
// weights, `tensors` their contents.
CompiledModuleRef CompileProgram(const ffi::String& program, const ffi::Array<ffi::String>& names,
                                 const ffi::Array<ffi::Tensor>& tensors, const ffi::String& options,
                                 EngineGroupRef group) {
  WeightData weights;
  for (size_t i = 0; i < names.size(); ++i)
    weights[names[i]] = MakeWeight(tensors[i], View(names[i]));
  ImportedGraph imported = ImportExportedProgram(View(program), weights);
  CompileOptions parsed = ParseOptions(options);
  return CompiledModuleRef(Compile(imported, parsed), GetOrdinal(parsed.device), std::move(group));
}

// `names` and `tensors`: the weights that the plan came without, as bytes on the CPU.
EngineRef LoadPlanBytes(const ffi::Bytes& bytes, int64_t ordinal, EngineGroupRef group,
                        const ffi::Array<ffi::String>& names,
                        const ffi::Array<ffi::Tensor>& tensors) {
  auto owner = std::make_shared<ffi::Bytes>(bytes);
  auto data = std::as_bytes(std::span(owner->data(), owner->size()));
  auto plan = std::make_shared<Plan>(PlanFromBytes(data, owner));
  for (size_t i = 0; i < names.size(); ++i) {
    auto it = std::ranges::find(plan->weights, View(names[i]), &PlanWeight::name);
    if (it == plan->weights.end()) {
      Fail(ErrorKind::kCorruptFile, "the plan has no weight `{}`", View(names[i]));
    }
    it->data = MakeWeight(tensors[i], View(names[i]));
  }
  return EngineRef(std::move(plan), static_cast<int>(ordinal), std::move(group));
}

EngineRef LoadPlanFile(const ffi::String& path, int64_t ordinal) {
  std::shared_ptr<const FileMap> file = MapFile(path);
  return EngineRef(std::make_shared<const Plan>(PlanFromBytes(file->bytes, file)),
                   static_cast<int>(ordinal));
}

std::vector<TensorRef> MakeTensorRefs(const Graph& graph, const ffi::Array<ffi::Tensor>& tensors) {
  std::vector<TensorRef> refs;
  for (size_t i = 0; i < tensors.size(); ++i) {
    std::string_view name = i < graph.inputs().size() ? graph.value(graph.inputs()[i]).name : "";
    refs.push_back(MakeTensorRef(*tensors[i].GetDLTensorPtr(), {kDLCPU, 0}, "input", name));
  }
  return refs;
}

// Runs a graph in text form by the reference kernels. The last argument brings torch's allocator.
ffi::Array<ffi::Tensor> EvaluateText(const ffi::String& text,
                                     const ffi::Array<ffi::Tensor>& tensors, const ffi::Tensor&) {
  Graph graph = ParseGraph(View(text));
  ffi::Array<ffi::Tensor> outputs;
  for (const HostTensor& result : EvaluateGraph(graph, MakeTensorRefs(graph, tensors))) {
    outputs.push_back(AllocateLike(result.ref, {kDLCPU, 0}));
    TensorRef copy = result.ref;
    copy.data = static_cast<std::byte*>(outputs.back().data_ptr());
    CopyTensor(result.ref, copy);
  }
  return outputs;
}

// Compiles a graph in text form into one engine.
EngineRef CompileText(const ffi::String& text, const ffi::String& options) {
  Graph graph = ParseGraph(View(text));
  CompileOptions parsed = ParseOptions(options);
  return EngineRef(CompileGraph(std::move(graph), parsed), GetOrdinal(parsed.device));
}

// {"inputs": [{"dtype": "f32", "dims": ["s0", "3"], "strides": [...]}], "outputs": [...]}.
std::string SignatureToJson(const Plan& plan) {
  auto describe = [](const std::vector<PlanPort>& ports) {
    nlohmann::ordered_json list = nlohmann::ordered_json::array();
    for (const PlanPort& port : ports) {
      std::vector<std::string> dims, strides;
      for (const Dim& dim : port.dims) dims.push_back(dim.ToString());
      for (const Dim& stride : port.strides) strides.push_back(stride.ToString());
      list.push_back({{"dtype", DTypeName(port.dtype)}, {"dims", dims}, {"strides", strides}});
    }
    return list;
  };
  nlohmann::ordered_json json;
  json["inputs"] = describe(plan.inputs);
  json["outputs"] = describe(plan.outputs);
  return json.dump();
}

// From outputs and inputs in turn, each pair one that FindInPlace gives, to the input of each
// output.
std::vector<int> MakeInPlace(EngineRef engine, const ffi::Array<int64_t>& pairs) {
  std::vector<InPlace> allowed = engine->FindPairs();
  std::vector<int> in_place(engine->engine().plan().outputs.size(), -1);
  for (size_t i = 0; i + 1 < pairs.size(); i += 2) {
    auto it = std::ranges::find_if(allowed, [&](const InPlace& pair) {
      return pair.output == pairs[i] && pair.input == pairs[i + 1];
    });
    if (it == allowed.end()) {
      Fail(ErrorKind::kInvalidArgument, "output {} cannot take the memory of input {}", pairs[i],
           pairs[i + 1]);
    }
    in_place[it->output] = it->input;
  }
  return in_place;
}

// Registers `fn` so that the Errors it raises cross to Python.
template <typename Result, typename... Args>
auto Guarded(Result (*fn)(Args...)) {
  return [fn](Args... args) -> Result { return Guard([&] { return fn(args...); }); };
}

TVM_FFI_STATIC_INIT_BLOCK() {
  namespace refl = tvm::ffi::reflection;
  refl::ObjectDef<EngineObj>()
      .def("function",
           [](EngineRef self, bool check_weights) {
             return ffi::Function::FromPacked(
                 [self, check_weights](ffi::PackedArgs args, ffi::Any* result) {
                   *result = Guard([&] { return self->Run(args, check_weights, {}); });
                 });
           })
      .def("updating_function",
           [](EngineRef self, bool check_weights, const ffi::Array<int64_t>& pairs) {
             std::vector<int> in_place = Guard([&] { return MakeInPlace(self, pairs); });
             return ffi::Function::FromPacked(
                 [self, check_weights, in_place](ffi::PackedArgs args, ffi::Any* result) {
                   *result = Guard([&] { return self->Run(args, check_weights, in_place); });
                 });
           })
      .def("in_place",
           [](EngineRef self) {
             ffi::Array<int64_t> pairs;
             for (const InPlace& pair : self->FindPairs()) {
               pairs.push_back(pair.output);
               pairs.push_back(pair.input);
             }
             return pairs;
           })
      .def("set_weight",
           [](EngineRef self, const ffi::String& name, const ffi::Tensor& tensor) {
             Guard([&] { self->engine().SetWeight(View(name), MakeWeight(tensor, View(name))); });
           })
      .def("refit", [](EngineRef self) { Guard([&] { self->Refit(); }); })
      .def("refit_if_changed",
           [](EngineRef self) { return Guard([&] { return self->RefitIfChanged(); }); })
      .def("device",
           [](EngineRef self) { return ffi::String(std::string(self->engine().device().name())); })
      .def("num_refits", [](EngineRef self) { return self->engine().num_refits(); })
      .def("derived_bytes", [](EngineRef self) { return self->engine().derived_bytes(); })
      .def("weight_names",
           [](EngineRef self) {
             ffi::Array<ffi::String> names;
             for (const PlanWeight& weight : self->engine().plan().weights) {
               names.push_back(weight.name);
             }
             return names;
           })
      .def("input_names",
           [](EngineRef self) {
             ffi::Array<ffi::String> names;
             for (const PlanPort& port : self->engine().plan().inputs) names.push_back(port.name);
             return names;
           })
      .def("num_inputs",
           [](EngineRef self) { return static_cast<int64_t>(self->engine().plan().inputs.size()); })
      .def(
          "num_outputs",
          [](EngineRef self) { return static_cast<int64_t>(self->engine().plan().outputs.size()); })
      .def("signature",
           [](EngineRef self) { return ffi::String(SignatureToJson(self->engine().plan())); })
      .def("plan_text",
           [](EngineRef self) {
             return Guard([&] { return ffi::String(PlanToText(self->engine().plan())); });
           })
      .def("plan_bytes",
           [](EngineRef self) {
             return Guard([&] { return ToBytes(PlanToBytes(self->engine().MakePlan())); });
           })
      .def("bare_plan_bytes",
           [](EngineRef self) {
             Plan plan = self->engine().plan();
             for (PlanWeight& weight : plan.weights) weight.data = {};
             return Guard([&] { return ToBytes(PlanToBytes(plan)); });
           })
      .def("weight_contents", [](EngineRef self) {
        return Guard([&] {
          Plan plan = self->engine().MakePlan();
          ffi::Array<ffi::Bytes> contents;
          for (const PlanWeight& weight : plan.weights) {
            contents.push_back(ToBytes({weight.data.bytes, weight.data.size}));
          }
          return contents;
        });
      });
  refl::ObjectDef<EngineGroupObj>();
  refl::ObjectDef<CompiledModuleObj>()
      .def("report",
           [](CompiledModuleRef self) { return ffi::String(ModuleToJson(self->module())); })
      .def("report_text",
           [](CompiledModuleRef self) { return ffi::String(ReportToText(self->module().report)); })
      .def("plan_text",
           [](CompiledModuleRef self, int64_t part) {
             return Guard([&] {
               const Plan* plan = self->GetPart(part).plan.get();
               return ffi::String(plan != nullptr ? PlanToText(*plan) : "");
             });
           })
      .def("load_engine", [](CompiledModuleRef self, int64_t part) {
        return Guard([&] { return self->LoadEngine(part); });
      });
  refl::GlobalDef()
      .def("stator.compile", Guarded(CompileProgram))
      .def("stator.engine_group", [] { return EngineGroupRef(); })
      .def("stator.load_plan_bytes", Guarded(LoadPlanBytes))
      .def("stator.load_plan_file", Guarded(LoadPlanFile))
      .def("stator.compile_text", Guarded(CompileText))
      .def("stator.evaluate_text", Guarded(EvaluateText))
      .def("stator.counters",
           [] {
             return ffi::Array<int64_t>{counters.engine_calls, counters.refits};
           })
      .def("stator.has_engines", [] { return counters.engines > 0; })
      .def("stator.why_no_cuda",
           [](int64_t ordinal) { return ffi::String(WhyNoCuda(static_cast<int>(ordinal))); })
      .def("stator.add_cuda_folder", [](ffi::String folder) { AddCudaFolder(folder); })
      .def("stator.on_cuda_out_of_memory",
           [](ffi::Function release) { OnCudaOutOfMemory([release] { release(); }); })
      .def("stator.hash",
           [](const ffi::Bytes& bytes) {
             return ffi::String(Hash128(bytes.data(), bytes.size()).ToString());
           })
      .def("stator.op_table", [] { return ffi::String(OpTableToJson()); })
      .def("stator.overloads", [] { return ffi::String(nlohmann::json(ListOverloads()).dump()); });
}

}  // namespace
}  // namespace stator

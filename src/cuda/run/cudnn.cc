#include "cuda/run/cudnn.h"

#include <algorithm>
#include <charconv>
#include <chrono>
#include <list>
#include <map>
#include <unordered_map>

#define NV_CUDNN_FRONTEND_USE_DYNAMIC_LOADING
#include <cudnn_frontend.h>
#include <fmt/ranges.h>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/log.h"
#include "cuda/run/driver.h"
#include "cuda/run/shared_library.h"

namespace cudnn_frontend {
void* cudnn_dlhandle = nullptr;  // what the frontend looks functions up in
}  // namespace cudnn_frontend

namespace stator {

namespace fe = cudnn_frontend;

// One per Cudnn. cuDNN's handle carries the stream, so only one thread may use it at a time.
struct Cudnn::State {
  int64_t version = 0;
  cudnnHandle_t handle = nullptr;
  std::shared_ptr<fe::DeviceProperties> device;  // in place of a handle
  int capability = 0;                            // of the device: 90
  mutable std::mutex mutex;
  // The plans used last, by graph and engine: layers repeat, an engine that compiles its kernel
  // takes a second each time, and what was measured is then loaded.
  mutable std::list<std::pair<std::string, std::shared_ptr<const CudnnPlan>>> plans;
  std::map<std::string, std::vector<std::string>> engines;  // what FindEngines found

  std::shared_ptr<const CudnnPlan> FindKept(const std::string& key) const {
    auto it = std::ranges::find_if(plans, [&](const auto& kept) { return kept.first == key; });
    if (it == plans.end()) return nullptr;
    plans.splice(plans.begin(), plans, it);
    return it->second;
  }
  void Keep(std::string key, std::shared_ptr<const CudnnPlan> plan) const {
    constexpr size_t kMaxPlans = 256;
    plans.emplace_front(std::move(key), std::move(plan));
    if (plans.size() > kMaxPlans) plans.pop_back();
  }
};

namespace {

constexpr int64_t kMinVersion = 90100;
// After this time no further engine is tried.
constexpr std::chrono::seconds kMaxSearch(2);

using Tensor = std::shared_ptr<fe::graph::Tensor_attributes>;
using PlanPtr = std::shared_ptr<const CudnnPlan>;

fe::DataType_t GetType(DType dtype) {
  switch (dtype) {
    case DType::kFloat16: return fe::DataType_t::HALF;
    case DType::kBFloat16: return fe::DataType_t::BFLOAT16;
    case DType::kFloat32: return fe::DataType_t::FLOAT;
    case DType::kBool: return fe::DataType_t::BOOLEAN;
    default: Fail(ErrorKind::kInternal, "{} is no dtype for cuDNN", DTypeName(dtype));
  }
}

// ---- graphs
constexpr int64_t kOutputUid = 1;
int64_t OperandUid(size_t operand) { return 2 + static_cast<int64_t>(operand); }

class GraphMaker {
 public:
  GraphMaker(const CudnnGraph& from, int capability) : from_(from), capability_(capability) {}

  std::unique_ptr<fe::graph::Graph> Run() {
    graph_ = std::make_unique<fe::graph::Graph>();
    graph_->set_io_data_type(GetType(from_.output.dtype))
        .set_intermediate_data_type(fe::DataType_t::FLOAT)
        .set_compute_data_type(fe::DataType_t::FLOAT);
    graph_->set_sm_version(capability_);  // else nodes ask the CUDA runtime
    for (size_t i = 0; i < from_.operands.size(); ++i) {
      const CudnnTensor& operand = from_.operands[i];
      operands_.push_back(graph_->tensor(fe::graph::Tensor_attributes()
                                             .set_name(fmt::format("x{}", i))
                                             .set_uid(OperandUid(i))
                                             .set_dim(operand.dims)
                                             .set_stride(operand.strides)
                                             .set_data_type(GetType(operand.dtype))));
    }
    Tensor value = MakeAnchor();
    if (from_.anchor != CudnnGraph::kNone) {
      value->set_dim(from_.output.dims).set_stride(from_.output.strides);
    }
    for (const CudnnPointwise& node : from_.pointwise) {
      auto attributes = fe::graph::Pointwise_attributes();
      value = node.mode == CudnnPointwise::kAdd
                  ? graph_->pointwise(value, operands_[node.operand],
                                      attributes.set_mode(fe::PointwiseMode_t::ADD))
                  : graph_->pointwise(value, attributes.set_mode(fe::PointwiseMode_t::RELU_FWD));
    }
    value->set_output(true)
        .set_uid(kOutputUid)
        .set_dim(from_.output.dims)
        .set_stride(from_.output.strides)
        .set_data_type(GetType(from_.output.dtype));
    return std::move(graph_);
  }

 private:
  Tensor MakeAnchor() {
    switch (from_.anchor) {
      case CudnnGraph::kNone: return operands_[0];
      case CudnnGraph::kConv:
        return graph_->conv_fprop(operands_[0], operands_[1],
                                  fe::graph::Conv_fprop_attributes()
                                      .set_padding(from_.padding)
                                      .set_stride(from_.stride)
                                      .set_dilation(from_.dilation));
      case CudnnGraph::kTransposedConv:
        return graph_->conv_dgrad(operands_[0], operands_[1],
                                  fe::graph::Conv_dgrad_attributes()
                                      .set_padding(from_.padding)
                                      .set_stride(from_.stride)
                                      .set_dilation(from_.dilation));
      case CudnnGraph::kAttention: {
        // Left to itself the frontend takes cuDNN's unified node, which before 9.21 has engines for
        // Blackwell alone.
        auto attributes = fe::graph::SDPA_attributes()
                              .set_name("attention")
                              .set_implementation(fe::AttentionImplementation_t::COMPOSITE)
                              .set_generate_stats(false)
                              .set_attn_scale(static_cast<float>(from_.scale));
        if (from_.causal) attributes.set_causal_mask(true);
        if (from_.has_bias) attributes.set_bias(operands_[3]);
        return graph_->sdpa(operands_[0], operands_[1], operands_[2], attributes)[0];
      }
    }
    __builtin_unreachable();
  }

  const CudnnGraph& from_;
  const int capability_;
  std::unique_ptr<fe::graph::Graph> graph_;
  std::vector<Tensor> operands_;
};

// Logs why not; cuDNN refuses a graph as a matter of course.
bool IsGood(fe::error_t error, std::string_view stage) {
  if (error.is_good()) return true;
  Log().debug("cuDNN: {}: {}", stage, error.get_message());
  return false;
}

// The graph as cuDNN sees it, before any engine is chosen; null when it is refused.
std::unique_ptr<fe::graph::Graph> FindOperations(const Cudnn::State& state,
                                                 const CudnnGraph& from) {
  std::unique_ptr<fe::graph::Graph> graph = GraphMaker(from, state.capability).Run();
  if (state.device != nullptr) graph->set_device_properties(state.device);
  if (!IsGood(graph->validate(), "validate")) return nullptr;
  fe::error_t built = state.device != nullptr ? graph->build_operation_graph()
                                              : graph->build_operation_graph(state.handle);
  return IsGood(built, "build the operation graph") ? std::move(graph) : nullptr;
}

// Engines that lose precision, that give other bits each time or that want too much workspace
// refuse to be built from here on.
void BarEngines(const CudnnGraph& from, fe::graph::Graph& graph) {
  std::vector<fe::NumericalNote_t> notes = {fe::NumericalNote_t::DOWN_CONVERT_INPUTS,
                                            fe::NumericalNote_t::REDUCED_PRECISION_REDUCTION,
                                            fe::NumericalNote_t::NONDETERMINISTIC};
  bool is_float = from.operands[0].dtype == DType::kFloat32;
  if (is_float && !from.tf32) notes.push_back(fe::NumericalNote_t::TENSOR_CORE);
  graph.deselect_numeric_notes(notes);
  graph.deselect_workspace_greater_than(from.max_ws_bytes);
}

// Whether the engine compiles its kernel, which takes a good part of a second.
bool IsCompiled(const fe::graph::Graph& graph, int64_t index) {
  std::vector<fe::BehaviorNote_t> notes;
  return IsGood(graph.get_behavior_notes_for_plan_at_index(index, notes), "ask for notes") &&
         std::ranges::count(notes, fe::BehaviorNote_t::RUNTIME_COMPILATION) > 0;
}

// Adds the engines that heuristics propose. Their positions, best guess first, but those that
// compile last: a plan would compile them whenever it is loaded.
struct EngineList {
  std::vector<int64_t> ready, compiled;
};
EngineList AddEngines(const CudnnGraph& from, fe::graph::Graph& graph) {
  EngineList list;
  if (!IsGood(graph.create_execution_plans({fe::HeurMode_t::A, fe::HeurMode_t::FALLBACK}),
              "find engines")) {
    return list;
  }
  BarEngines(from, graph);
  for (int64_t i = 0; i < graph.get_execution_plan_count(); ++i) {
    (IsCompiled(graph, i) ? list.compiled : list.ready).push_back(i);
  }
  return list;
}

// ---- engines as text
std::string EngineToText(int64_t engine, const std::unordered_map<fe::KnobType_t, int64_t>& knobs) {
  std::map<int, int64_t> sorted;
  for (const auto& [knob, value] : knobs) {
    cudnnBackendKnobType_t type;
    if (fe::convert_to_backend_knob_type(knob, type) != CUDNN_STATUS_SUCCESS) return "";
    sorted[static_cast<int>(type)] = value;
  }
  std::string text = fmt::format("{}", engine);
  for (const auto& [knob, value] : sorted) text += fmt::format(" {}={}", knob, value);
  return text;
}

struct Engine {
  int64_t id = 0;
  std::unordered_map<fe::KnobType_t, int64_t> knobs;
};

std::optional<Engine> FindEngine(std::string_view text) {
  auto take = [&](int64_t& value) {
    auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    text.remove_prefix(end - text.data());
    return error == std::errc();
  };
  Engine engine;
  if (!take(engine.id)) return std::nullopt;
  while (!text.empty()) {
    int64_t knob = 0, value = 0;
    if (!text.starts_with(' ')) return std::nullopt;
    text.remove_prefix(1);
    if (!take(knob) || !text.starts_with('=')) return std::nullopt;
    text.remove_prefix(1);
    if (!take(value)) return std::nullopt;
    engine.knobs[fe::convert_from_backend_knob_type(static_cast<cudnnBackendKnobType_t>(knob))] =
        value;
  }
  return engine;
}

// ---- plans
class Plan final : public CudnnPlan {
 public:
  Plan(const Cudnn::State& state, std::shared_ptr<fe::graph::Graph> graph, int64_t index,
       int64_t ws_bytes)
      : state_(state), graph_(std::move(graph)), index_(index), ws_bytes_(ws_bytes) {}

  int64_t ws_bytes() const override { return ws_bytes_; }

  void Execute(std::span<const std::byte* const> operands, std::byte* output, std::byte* ws,
               CUstream stream) const override {
    std::unordered_map<int64_t, void*> pointers = {{kOutputUid, output}};
    for (size_t i = 0; i < operands.size(); ++i) {
      pointers[OperandUid(i)] = const_cast<std::byte*>(operands[i]);
    }
    std::lock_guard lock(state_.mutex);
    cudnnStatus_t status =
        fe::detail::set_stream(state_.handle, reinterpret_cast<cudaStream_t>(stream));
    if (status != CUDNN_STATUS_SUCCESS) {
      Fail(ErrorKind::kDeviceError, "cudnnSetStream failed with status {}",
           static_cast<int>(status));
    }
    fe::error_t error = graph_->execute_plan_at_index(state_.handle, pointers, ws, index_);
    if (error.is_bad()) {
      Fail(ErrorKind::kDeviceError, "cuDNN failed to run a plan: {}", error.get_message());
    }
  }

 private:
  const Cudnn::State& state_;
  std::shared_ptr<fe::graph::Graph> graph_;  // of several plans
  int64_t index_, ws_bytes_;
};

// A plan by the graph's engine at `index`; null when it cannot be built.
PlanPtr FindBuilt(const Cudnn::State& state, const CudnnGraph& from,
                  const std::shared_ptr<fe::graph::Graph>& graph, int64_t index) {
  int64_t ws_bytes = 0;
  if (!IsGood(graph->build_plan_at_index(index), "build a plan") ||
      !IsGood(graph->get_workspace_size_plan_at_index(index, ws_bytes), "ask for the workspace") ||
      ws_bytes > from.max_ws_bytes) {
    return nullptr;
  }
  return std::make_shared<Plan>(state, graph, index, ws_bytes);
}

PlanPtr FindByEngine(const Cudnn::State& state, const CudnnGraph& from, std::string_view text) {
  std::optional<Engine> engine = FindEngine(text);
  if (!engine) return nullptr;
  std::shared_ptr<fe::graph::Graph> graph = FindOperations(state, from);
  if (graph == nullptr ||
      !IsGood(graph->create_execution_plan(engine->id, engine->knobs), "make an engine")) {
    return nullptr;
  }
  BarEngines(from, *graph);
  return FindBuilt(state, from, graph, 0);
}

// The first of the proposed engines that can be built.
PlanPtr FindBest(const Cudnn::State& state, const CudnnGraph& from) {
  std::shared_ptr<fe::graph::Graph> graph = FindOperations(state, from);
  if (graph == nullptr) return nullptr;
  EngineList list = AddEngines(from, *graph);
  list.ready.insert(list.ready.end(), list.compiled.begin(), list.compiled.end());
  auto start = std::chrono::steady_clock::now();
  for (int64_t i : list.ready) {
    if (std::chrono::steady_clock::now() - start > kMaxSearch) break;
    if (PlanPtr plan = FindBuilt(state, from, graph, i)) return plan;
  }
  return nullptr;
}

// cudnn-frontend's functions raise std::runtime_error where a library lacks a function.
template <typename Fn>
auto Guarded(Fn&& fn) -> decltype(fn()) {
  try {
    return fn();
  } catch (const Error&) {
    throw;
  } catch (const std::exception& error) {
    Log().debug("cuDNN: {}", error.what());
    return {};
  }
}

// Of the current context's device.
int FindCapability() {
  const Driver& driver = GetDriver();
  CUdevice device = 0;
  int major = 0, minor = 0;
  STATOR_CUDA(driver, CtxGetDevice, &device);
  STATOR_CUDA(driver, DeviceGetAttribute, &major, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR,
              device);
  STATOR_CUDA(driver, DeviceGetAttribute, &minor, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR,
              device);
  return 10 * major + minor;
}

// The version of the library opened, 0 without one.
int64_t OpenLibrary(std::string* why_not) {
  static std::mutex mutex;
  std::lock_guard lock(mutex);
  if (fe::cudnn_dlhandle == nullptr) {
    constexpr const char* kNames[] = {"libcudnn.so.9"};
    std::string reason;
    std::optional<SharedLibrary> library = SharedLibrary::Find(kNames, &reason);
    if (!library) {
      *why_not = fmt::format("cuDNN is missing ({}): install nvidia-cudnn-cu13", reason);
      return 0;
    }
    auto get_version = library->FindFunction<decltype(&cudnnGetVersion)>("cudnnGetVersion");
    int64_t version = get_version != nullptr ? static_cast<int64_t>(get_version()) : 0;
    if (version < kMinVersion) {
      *why_not =
          fmt::format("{} is version {}: expected cuDNN 9.1 or newer", library->path(), version);
      return 0;
    }
    Log().debug("cuDNN {} is {}", version, library->path());
    fe::cudnn_dlhandle = library->handle();
    // The frontend opens the CUDA runtime by name for attention: found here, it is loaded by then.
    constexpr const char* kRuntime[] = {"libcudart.so.13", "libcudart.so.12"};
    SharedLibrary::Find(kRuntime);
  }
  return static_cast<int64_t>(fe::detail::get_backend_version());
}

}  // namespace

Cudnn::Cudnn(std::unique_ptr<State> state) : state_(std::move(state)) {}

Cudnn::~Cudnn() {
  if (state_->handle != nullptr) fe::detail::destroy_handle(state_->handle);
}

std::unique_ptr<Cudnn> Cudnn::Find(std::string* why_not) {
  auto state = std::make_unique<State>();
  state->version = OpenLibrary(why_not);
  if (state->version == 0) return nullptr;
  cudnnStatus_t status = fe::detail::create_handle(&state->handle);
  if (status != CUDNN_STATUS_SUCCESS) {
    *why_not = fmt::format("cuDNN cannot be used: cudnnCreate failed with {}",
                           fe::detail::get_error_string(status));
    return nullptr;
  }
  state->capability = FindCapability();
  return std::unique_ptr<Cudnn>(new Cudnn(std::move(state)));
}

std::unique_ptr<Cudnn> Cudnn::FindForDevice(std::string_view json, std::string* why_not) {
  auto state = std::make_unique<State>();
  state->version = OpenLibrary(why_not);
  if (state->version == 0) return nullptr;
  state->device = std::make_shared<fe::DeviceProperties>();
  fe::error_t error = state->device->deserialize(std::vector<uint8_t>(json.begin(), json.end()));
  if (error.is_bad()) {
    *why_not = fmt::format("cuDNN refuses the device's description: {}", error.get_message());
    return nullptr;
  }
  auto properties = nlohmann::json::parse(json, nullptr, false);
  state->capability = properties.is_object() ? properties.value("deviceVer", 0) / 10 : 0;
  return std::unique_ptr<Cudnn>(new Cudnn(std::move(state)));
}

int64_t Cudnn::version() const { return state_->version; }

namespace {

std::string PlanKey(const CudnnGraph& graph, std::string_view engine) {
  return fmt::format("{}engine {}", CudnnGraphToText(graph), engine);
}

std::vector<std::string> NameEngines(const Cudnn::State& state, const CudnnGraph& from,
                                     int max_count) {
  std::vector<std::string> engines;
  std::shared_ptr<fe::graph::Graph> graph = FindOperations(state, from);
  if (graph == nullptr) return engines;
  auto add = [&](int64_t i, PlanPtr plan) {
    Engine engine;
    bool known =
        IsGood(graph->get_engine_and_knobs_at_index(i, engine.id, engine.knobs), "name an engine");
    std::string text = known ? EngineToText(engine.id, engine.knobs) : "";
    if (text.empty()) return;
    if (plan != nullptr) state.Keep(PlanKey(from, text), std::move(plan));
    engines.push_back(std::move(text));
  };
  EngineList list = AddEngines(from, *graph);
  for (int64_t i : list.ready) {
    if (static_cast<int>(engines.size()) == max_count) break;
    if (PlanPtr plan = FindBuilt(state, from, graph, i)) add(i, std::move(plan));
  }
  if (engines.empty() && !list.compiled.empty()) add(list.compiled[0], nullptr);
  return engines;
}

}  // namespace

std::vector<std::string> Cudnn::FindEngines(const CudnnGraph& from, int max_count) const {
  return Guarded([&] {
    std::lock_guard lock(state_->mutex);
    std::string key = fmt::format("{}at most {}", CudnnGraphToText(from), max_count);
    auto it = state_->engines.find(key);
    if (it == state_->engines.end()) {
      it = state_->engines.emplace(key, NameEngines(*state_, from, max_count)).first;
    }
    return it->second;
  });
}

std::shared_ptr<const CudnnPlan> Cudnn::FindPlan(const CudnnGraph& from,
                                                 std::string_view engine) const {
  return Guarded([&]() -> PlanPtr {
    std::lock_guard lock(state_->mutex);
    std::string key = PlanKey(from, engine);
    if (PlanPtr kept = state_->FindKept(key)) return kept;
    PlanPtr plan;
    if (!engine.empty()) plan = FindByEngine(*state_, from, engine);
    if (plan == nullptr) plan = FindBest(*state_, from);
    if (plan != nullptr) state_->Keep(std::move(key), plan);
    return plan;
  });
}

// ---- text
namespace {

std::string TensorToText(const CudnnTensor& tensor) {
  return fmt::format("{}[{}] strides [{}]", DTypeName(tensor.dtype), fmt::join(tensor.dims, ", "),
                     fmt::join(tensor.strides, ", "));
}

std::string AnchorToText(const CudnnGraph& graph) {
  switch (graph.anchor) {
    case CudnnGraph::kNone: return "x0";
    case CudnnGraph::kConv:
    case CudnnGraph::kTransposedConv:
      return fmt::format("{}(x0, x1) padding [{}] stride [{}] dilation [{}]{}",
                         graph.anchor == CudnnGraph::kConv ? "conv" : "transposed_conv",
                         fmt::join(graph.padding, ", "), fmt::join(graph.stride, ", "),
                         fmt::join(graph.dilation, ", "), graph.tf32 ? " tf32" : "");
    case CudnnGraph::kAttention:
      return fmt::format("attention(x0, x1, x2{}) scale {}{}", graph.has_bias ? ", x3" : "",
                         graph.scale, graph.causal ? " causal" : "");
  }
  __builtin_unreachable();
}

}  // namespace

std::string CudnnGraphToText(const CudnnGraph& graph) {
  std::string text;
  for (size_t i = 0; i < graph.operands.size(); ++i) {
    text += fmt::format("x{} = {}\n", i, TensorToText(graph.operands[i]));
  }
  text += fmt::format("%0 = {}\n", AnchorToText(graph));
  for (size_t i = 0; i < graph.pointwise.size(); ++i) {
    const CudnnPointwise& node = graph.pointwise[i];
    text += node.mode == CudnnPointwise::kAdd
                ? fmt::format("%{} = add(%{}, x{})\n", i + 1, i, node.operand)
                : fmt::format("%{} = relu(%{})\n", i + 1, i);
  }
  text += fmt::format("out = {}\n", TensorToText(graph.output));
  if (graph.max_ws_bytes == kMaxCudnnWsBytes) return text;
  return text + fmt::format("workspace at most {}\n", graph.max_ws_bytes);
}

}  // namespace stator

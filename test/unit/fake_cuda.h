// A CUDA driver for tests: its memory is the host's, its kernels are functions of the test.
//
// Work runs when it is enqueued, in order; a captured stream records launches instead, with what
// they depend on, and a graph's launch runs them with the parameters that they have then, in an
// order that the test chooses. Every call is counted by name, and can be made to fail.
#pragma once

#include <algorithm>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "cuda/run/driver.h"

namespace stator {

// What a fake kernel is called with.
struct FakeLaunch {
  unsigned grid[3] = {}, block = 0, smem = 0;
  bool pdl = false;
  std::vector<std::vector<std::byte>> params;

  template <typename T>
  T Get(size_t i) const {
    T value;
    std::memcpy(&value, params.at(i).data(), sizeof(T));
    return value;
  }
};

struct FakeKernel {
  std::vector<size_t> param_sizes;
  std::function<void(const FakeLaunch&)> run;
};

class FakeCuda {
 public:
  FakeCuda();  // at most one at a time
  ~FakeCuda();

  const Driver& driver() const { return driver_; }

  // ---- what the test sets
  int num_devices = 1, major = 9, minor = 0;
  size_t memory = size_t{1} << 30;            // bytes of each device
  std::map<std::string, FakeKernel> kernels;  // by entry
  std::map<std::string, CUresult> failures;   // by the call's name
  bool last_first = false;  // a graph's nodes run in the latest order that dependencies allow

  // ---- what the test looks at
  std::map<std::string, int> calls;
  std::vector<std::string> launched;  // entries of kernels that ran
  size_t used() const { return used_; }
  size_t num_allocations() const { return allocations_.size(); }
  size_t num_graphs() const { return graphs_.size() + execs_.size(); }

  // A caller's stream.
  CUstream MakeStream();
  void BeginCapture(CUstream stream) {
    driver_.StreamBeginCapture(stream, CU_STREAM_CAPTURE_MODE_GLOBAL);
  }
  // Ends a capture; `replay` runs it.
  void EndCaptureAndReplay(CUstream stream, int times);

 private:
  struct Node {
    std::string entry;
    FakeLaunch launch;
    std::vector<CUgraphNode> dependencies;
  };
  struct Graph {
    std::vector<std::unique_ptr<Node>> nodes;
  };
  struct Exec {
    std::vector<std::pair<const Node*, Node>> nodes;  // by the graph's node
  };
  struct Stream {
    uint64_t id = 0, capture_id = 0;
    std::shared_ptr<Graph> graph;  // while it captures
    bool is_origin = false;        // of the capture
    std::vector<CUgraphNode> last;
  };
  struct Event {
    std::shared_ptr<Graph> graph;  // while it captures
    uint64_t capture_id = 0;
    std::vector<CUgraphNode> last;
  };
  struct Module {
    std::map<std::string, std::unique_ptr<std::string>> functions;  // entries
  };

  CUresult Count(const char* name) {
    ++calls[name];
    auto it = failures.find(name);
    return it != failures.end() ? it->second : CUDA_SUCCESS;
  }
  Stream& Get(CUstream stream) {
    return stream != nullptr ? *reinterpret_cast<Stream*>(stream) : default_stream_;
  }
  void Execute(const Node& node) {
    launched.push_back(node.entry);
    kernels.at(node.entry).run(node.launch);
  }
  static bool Reaches(CUgraphNode from, CUgraphNode to) {
    if (from == to) return true;
    const auto& dependencies = reinterpret_cast<const Node*>(from)->dependencies;
    return std::ranges::any_of(dependencies, [&](CUgraphNode each) { return Reaches(each, to); });
  }
  void Execute(const Exec& exec) {
    std::vector<const Node*> left;
    for (const auto& [key, node] : exec.nodes) left.push_back(&node);
    std::set<CUgraphNode> over;
    auto key_of = [&](const Node* node) {
      for (const auto& [key, each] : exec.nodes) {
        if (&each == node) return reinterpret_cast<CUgraphNode>(const_cast<Node*>(key));
      }
      return CUgraphNode();
    };
    auto is_ready = [&](const Node* node) {
      return std::ranges::all_of(node->dependencies,
                                 [&](CUgraphNode each) { return over.contains(each); });
    };
    while (!left.empty()) {
      auto it = std::ranges::find_if(left, is_ready);
      if (last_first) {
        for (auto later = it; later != left.end(); ++later) it = is_ready(*later) ? later : it;
      }
      Execute(**it);
      over.insert(key_of(*it));
      left.erase(it);
    }
  }
  void FillParams(const std::string& entry, void** params, FakeLaunch& launch) {
    launch.params.clear();
    for (size_t size : kernels.at(entry).param_sizes) {
      const auto* bytes = static_cast<const std::byte*>(*params++);
      launch.params.emplace_back(bytes, bytes + size);
    }
  }
  void FillTable();

  Driver driver_;
  std::map<CUdeviceptr, size_t> allocations_;
  size_t used_ = 0;
  Stream default_stream_;
  std::map<Stream*, std::unique_ptr<Stream>> streams_;
  std::map<Graph*, std::shared_ptr<Graph>> graphs_;
  std::map<Exec*, std::unique_ptr<Exec>> execs_;
  std::map<Module*, std::unique_ptr<Module>> modules_;
  std::map<CUevent, Event> events_;
  std::vector<CUcontext> contexts_;  // the stack of current ones
  CUgraphEdgeData edge_{};
  uint64_t next_id_ = 1;

  static inline FakeCuda* current_ = nullptr;
};

inline FakeCuda::FakeCuda() {
  current_ = this;
  FillTable();
  // The kernels of CudaCopier, as its text says.
  for (size_t unit : {1, 2, 4, 8, 16}) {
    kernels["stator_copy_" + std::to_string(unit)] = {
        .param_sizes = {184}, .run = [unit](const FakeLaunch& launch) {
          const std::byte* p = launch.params[0].data();
          auto read = [&]<typename T>(size_t at, T) {
            T value;
            std::memcpy(&value, p + at, sizeof(T));
            return value;
          };
          auto* from = reinterpret_cast<const std::byte*>(read(0, uint64_t{}));
          auto* to = reinterpret_cast<std::byte*>(read(8, uint64_t{}));
          unsigned count = read(16, 0u), rank = read(20, 0u);
          for (unsigned i = 0; i < count; ++i) {
            unsigned rest = i;
            int64_t from_at = 0, to_at = 0;
            for (unsigned d = 0; d < rank; ++d) {
              unsigned size = read(24 + 4 * d, 0u), at = rest % size;
              rest /= size;
              from_at += at * read(56 + 8 * d, int64_t{});
              to_at += at * read(120 + 8 * d, int64_t{});
            }
            std::memcpy(to + to_at, from + from_at, unit);
          }
        }};
  }
}

inline FakeCuda::~FakeCuda() { current_ = nullptr; }

inline CUstream FakeCuda::MakeStream() {
  CUstream stream = nullptr;
  driver_.StreamCreate(&stream, 0);
  return stream;
}

inline void FakeCuda::EndCaptureAndReplay(CUstream stream, int times) {
  std::shared_ptr<Graph> graph = std::move(Get(stream).graph);
  Get(stream).capture_id = 0;
  for (int i = 0; i < times; ++i) {
    for (const auto& node : graph->nodes) Execute(*node);
  }
}

// A function of the table: `FakeCuda& f` is the fake, of which the call is counted.
#define STATOR_FAKE(name, params, ...)                                                \
  driver_.name = [] params -> CUresult {                                              \
    FakeCuda& f = *current_;                                                          \
    if (CUresult result = f.Count("cu" #name); result != CUDA_SUCCESS) return result; \
    __VA_ARGS__                                                                       \
    return CUDA_SUCCESS;                                                              \
  }

inline void FakeCuda::FillTable() {
  STATOR_FAKE(Init, (unsigned));
  STATOR_FAKE(DriverGetVersion, (int* version), *version = 13000;);
  driver_.GetErrorName = [](CUresult, const char** name) {
    *name = "CUDA_ERROR_FAKE";
    return CUDA_SUCCESS;
  };
  driver_.GetErrorString = [](CUresult, const char** text) {
    *text = "as the test asked";
    return CUDA_SUCCESS;
  };
  STATOR_FAKE(DeviceGetCount, (int* count), *count = f.num_devices;);
  STATOR_FAKE(DeviceGet, (CUdevice * device, int ordinal), *device = ordinal;);
  STATOR_FAKE(DeviceGetName, (char* name, int size, CUdevice),
              std::strncpy(name, "Fake GPU", static_cast<size_t>(size)););
  STATOR_FAKE(
      DeviceGetAttribute, (int* value, CUdevice_attribute attribute, CUdevice),
      *value = attribute == CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR ? f.major : f.minor;);
  STATOR_FAKE(DevicePrimaryCtxRetain, (CUcontext * context, CUdevice device),
              *context = reinterpret_cast<CUcontext>(static_cast<intptr_t>(device) + 1););
  STATOR_FAKE(CtxGetCurrent, (CUcontext * context),
              *context = f.contexts_.empty() ? nullptr : f.contexts_.back(););
  STATOR_FAKE(CtxGetDevice, (CUdevice * device),
              *device = static_cast<CUdevice>(reinterpret_cast<intptr_t>(f.contexts_.back()) - 1););
  STATOR_FAKE(CtxPushCurrent, (CUcontext context), f.contexts_.push_back(context););
  STATOR_FAKE(CtxPopCurrent, (CUcontext * context), *context = f.contexts_.back();
              f.contexts_.pop_back(););
  STATOR_FAKE(CtxSynchronize, ());
  STATOR_FAKE(
      MemAlloc, (CUdeviceptr * data, size_t bytes),
      if (f.contexts_.empty()) {
        return CUDA_ERROR_INVALID_CONTEXT;
      } if (f.used_ + bytes > f.memory) return CUDA_ERROR_OUT_OF_MEMORY;
      *data = reinterpret_cast<CUdeviceptr>(::operator new (bytes, std::align_val_t{256}));
      f.allocations_[*data] = bytes; f.used_ += bytes;);
  STATOR_FAKE(MemFree, (CUdeviceptr data), auto it = f.allocations_.find(data);
              if (it == f.allocations_.end()) return CUDA_ERROR_INVALID_VALUE;
              f.used_ -= it->second;
              ::operator delete (reinterpret_cast<void*>(data), std::align_val_t{256});
              f.allocations_.erase(it););
  STATOR_FAKE(MemcpyHtoDAsync, (CUdeviceptr to, const void* from, size_t bytes, CUstream),
              std::memcpy(reinterpret_cast<void*>(to), from, bytes););
  STATOR_FAKE(MemcpyDtoHAsync, (void* to, CUdeviceptr from, size_t bytes, CUstream),
              std::memcpy(to, reinterpret_cast<void*>(from), bytes););
  STATOR_FAKE(StreamCreate, (CUstream * stream, unsigned), auto made = std::make_unique<Stream>();
              made->id = f.next_id_++; *stream = reinterpret_cast<CUstream>(made.get());
              f.streams_[made.get()] = std::move(made););
  STATOR_FAKE(StreamDestroy, (CUstream stream), f.streams_.erase(&f.Get(stream)););
  STATOR_FAKE(StreamSynchronize, (CUstream));
  STATOR_FAKE(StreamGetId, (CUstream stream, unsigned long long* id), *id = f.Get(stream).id;);
  STATOR_FAKE(StreamIsCapturing, (CUstream stream, CUstreamCaptureStatus * status),
              *status = f.Get(stream).graph ? CU_STREAM_CAPTURE_STATUS_ACTIVE
                                            : CU_STREAM_CAPTURE_STATUS_NONE;);
  STATOR_FAKE(StreamBeginCapture, (CUstream stream, CUstreamCaptureMode),
              f.Get(stream).graph = std::make_shared<Graph>();
              f.Get(stream).is_origin = true; f.Get(stream).capture_id = f.next_id_++;
              f.Get(stream).last.clear(););
  STATOR_FAKE(
      StreamEndCapture, (CUstream stream, CUgraph * graph), Stream& s = f.Get(stream);
      if (!s.graph || !s.is_origin) return CUDA_ERROR_ILLEGAL_STATE;
      std::shared_ptr<Graph> made = std::move(s.graph); bool joined = true; for (auto& [key, other]
                                                                                 : f.streams_) {
        if (other->graph != made) continue;
        for (CUgraphNode node : other->last) {
          joined &= std::ranges::any_of(s.last, [&](CUgraphNode l) { return Reaches(l, node); });
        }
        other->graph = nullptr;
      } if (!joined) return CUDA_ERROR_STREAM_CAPTURE_UNJOINED;
      *graph = reinterpret_cast<CUgraph>(made.get()); f.graphs_[made.get()] = std::move(made););
  STATOR_FAKE(
      StreamGetCaptureInfo,
      (CUstream stream, CUstreamCaptureStatus * status, cuuint64_t * id, CUgraph*,
       const CUgraphNode** nodes, const CUgraphEdgeData** edges, size_t* count),
      Stream& s = f.Get(stream);
      *status = s.graph ? CU_STREAM_CAPTURE_STATUS_ACTIVE : CU_STREAM_CAPTURE_STATUS_NONE;
      if (id != nullptr)* id = s.capture_id; if (nodes != nullptr) {
        *nodes = s.last.data();
        *edges = &f.edge_;
        *count = s.last.size();
      });
  STATOR_FAKE(ThreadExchangeStreamCaptureMode, (CUstreamCaptureMode*));
  STATOR_FAKE(EventCreate, (CUevent * event, unsigned),
              *event = reinterpret_cast<CUevent>(f.next_id_++););
  STATOR_FAKE(EventDestroy, (CUevent event), f.events_.erase(event););
  STATOR_FAKE(EventRecord, (CUevent event, CUstream stream), Stream& s = f.Get(stream);
              f.events_[event] = {s.graph, s.capture_id, s.last};);
  STATOR_FAKE(
      StreamWaitEvent, (CUstream stream, CUevent event, unsigned), Stream& s = f.Get(stream);
      const Event& e = f.events_[event];
      if (e.graph == nullptr && s.graph == nullptr) return CUDA_SUCCESS;
      if (e.graph != nullptr && s.graph == nullptr) {
        s.graph = e.graph;
        s.capture_id = e.capture_id;
        s.is_origin = false;
        s.last.clear();
      } if (e.graph != s.graph) return CUDA_ERROR_STREAM_CAPTURE_ISOLATION;
      for (CUgraphNode node
           : e.last) {
        if (std::ranges::find(s.last, node) == s.last.end()) s.last.push_back(node);
      });
  STATOR_FAKE(EventSynchronize, (CUevent));
  STATOR_FAKE(EventElapsedTime, (float* milliseconds, CUevent, CUevent), *milliseconds = 2;);
  STATOR_FAKE(
      GraphInstantiateWithFlags, (CUgraphExec * exec, CUgraph graph, unsigned long long),
      auto made = std::make_unique<Exec>();
      for (const auto& node
           : reinterpret_cast<Graph*>(graph)->nodes) {
        made->nodes.emplace_back(node.get(), *node);
      }* exec = reinterpret_cast<CUgraphExec>(made.get());
      f.execs_[made.get()] = std::move(made););
  STATOR_FAKE(GraphDestroy, (CUgraph graph), f.graphs_.erase(reinterpret_cast<Graph*>(graph)););
  STATOR_FAKE(GraphExecDestroy, (CUgraphExec exec), f.execs_.erase(reinterpret_cast<Exec*>(exec)););
  STATOR_FAKE(
      GraphExecKernelNodeSetParams,
      (CUgraphExec exec, CUgraphNode node, const CUDA_KERNEL_NODE_PARAMS_v2* params),
      for (auto& [key, copy]
           : reinterpret_cast<Exec*>(exec)->nodes) {
        if (key != reinterpret_cast<const Node*>(node)) continue;
        f.FillParams(*reinterpret_cast<std::string*>(params->func), params->kernelParams,
                     copy.launch);
        return CUDA_SUCCESS;
      } return CUDA_ERROR_INVALID_VALUE;);
  STATOR_FAKE(GraphLaunch, (CUgraphExec exec, CUstream),
              f.Execute(*reinterpret_cast<Exec*>(exec)););
  STATOR_FAKE(
      ModuleLoadData, (CUmodule * module, const void*), auto made = std::make_unique<Module>();
      *module = reinterpret_cast<CUmodule>(made.get()); f.modules_[made.get()] = std::move(made););
  STATOR_FAKE(ModuleUnload, (CUmodule module),
              f.modules_.erase(reinterpret_cast<Module*>(module)););
  STATOR_FAKE(ModuleGetFunction, (CUfunction * function, CUmodule module, const char* entry),
              if (!f.kernels.contains(entry)) return CUDA_ERROR_NOT_FOUND;
              auto& made = reinterpret_cast<Module*>(module)->functions[entry];
              if (made == nullptr) made = std::make_unique<std::string>(entry);
              *function = reinterpret_cast<CUfunction>(made.get()););
  STATOR_FAKE(FuncSetAttribute, (CUfunction, CUfunction_attribute, int));
  STATOR_FAKE(
      LaunchKernelEx, (const CUlaunchConfig* config, CUfunction function, void** params, void**),
      Node node;
      node.entry = *reinterpret_cast<std::string*>(function);
      node.launch.grid[0] = config->gridDimX; node.launch.grid[1] = config->gridDimY;
      node.launch.grid[2] = config->gridDimZ; node.launch.block = config->blockDimX;
      node.launch.smem = config->sharedMemBytes; node.launch.pdl = config->numAttrs > 0;
      f.FillParams(node.entry, params, node.launch); Stream& s = f.Get(config->hStream);
      if (!s.graph) {
        f.Execute(node);
        return CUDA_SUCCESS;
      } node.dependencies = s.last;
      s.graph->nodes.push_back(std::make_unique<Node>(std::move(node)));
      s.last = {reinterpret_cast<CUgraphNode>(s.graph->nodes.back().get())};);
}

#undef STATOR_FAKE

}  // namespace stator

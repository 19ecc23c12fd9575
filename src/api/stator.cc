#include "api/stator.h"

#include <cstring>
#include <new>
#include <string>

#include "api/context_pool.h"
#include "api/devices.h"
#include "api/dlpack.h"
#include "base/error.h"
#include "base/file_map.h"
#include "ops/tensor.h"

struct StatorEngine {
  stator::ContextPool pool;
};

namespace stator {
namespace {

thread_local std::string last_error;

// Runs `fn`; what it raises becomes the returned status and the thread's last error.
template <typename Fn>
int Guard(Fn&& fn) {
  try {
    fn();
    return kStatorOk;
  } catch (const Error& error) {
    last_error = error.what();
    return static_cast<int>(error.kind()) + 1;
  } catch (const std::bad_alloc&) {
    last_error = "OutOfMemory: out of memory";
    return kStatorOutOfMemory;
  } catch (const std::exception& error) {
    last_error = error.what();
    return kStatorInternal;
  }
}

StatorEngine* LoadEngine(Plan plan, int ordinal = 0) {
  Device& device = GetDevice(plan.target, ordinal);
  return new StatorEngine{
      ContextPool(Engine::Load(std::make_shared<const Plan>(std::move(plan)), device))};
}

StatorEngine* LoadFile(const char* path, int ordinal) {
  std::shared_ptr<const FileMap> file = MapFile(path);
  return LoadEngine(PlanFromBytes(file->bytes, file), ordinal);
}

// An output that owns its memory.
struct Output {
  DLManagedTensorVersioned managed{};
  Device& device;
  std::vector<int64_t> dims, strides;
  std::byte* data = nullptr;

  Output(Device& device, const TensorRef& type)
      : device(device), dims(type.dims), strides(type.strides) {
    size_t bytes = static_cast<size_t>(type.num_elements()) * DTypeSize(type.dtype);
    data = device.Allocate(static_cast<int64_t>(bytes));
    managed.version = {DLPACK_MAJOR_VERSION, DLPACK_MINOR_VERSION};
    managed.manager_ctx = this;
    managed.deleter = [](DLManagedTensorVersioned* self) {
      delete static_cast<Output*>(self->manager_ctx);
    };
    managed.dl_tensor = {.data = data,
                         .device = ToDLDevice(device),
                         .ndim = static_cast<int32_t>(dims.size()),
                         .dtype = ToDLDataType(type.dtype),
                         .shape = dims.data(),
                         .strides = strides.data(),
                         .byte_offset = 0};
  }
  ~Output() { device.Free(data); }
  Output(const Output&) = delete;
  Output& operator=(const Output&) = delete;
};

void Run(StatorEngine& engine, std::span<const DLTensor* const> tensors,
         DLManagedTensorVersioned** outputs, DeviceStream stream) {
  const Plan& plan = engine.pool.engine().plan();
  if (tensors.size() != plan.inputs.size()) {
    Fail(ErrorKind::kInvalidArgument, "the engine takes {} inputs, but got {}", plan.inputs.size(),
         tensors.size());
  }
  Device& device = engine.pool.engine().device();
  std::vector<TensorRef> inputs;
  for (size_t i = 0; i < tensors.size(); ++i) {
    inputs.push_back(MakeTensorRef(*tensors[i], ToDLDevice(device), "input", plan.inputs[i].name));
  }
  auto results = ContextPool::RetryWithLess([&] {
    ContextPool::Lease context(engine.pool, stream);
    std::vector<std::unique_ptr<Output>> made;
    std::vector<std::byte*> pointers;
    for (const TensorRef& type : context->Prepare(inputs)) {
      made.push_back(std::make_unique<Output>(device, type));
      pointers.push_back(made.back()->data);
    }
    context->Run(inputs, pointers);
    return made;
  });
  for (size_t i = 0; i < results.size(); ++i) outputs[i] = &results[i].release()->managed;
}

const char* NameOf(const std::vector<PlanPort>& ports, int index) {
  bool found = index >= 0 && index < static_cast<int>(ports.size());
  return found ? ports[index].name.c_str() : nullptr;
}

}  // namespace
}  // namespace stator

extern "C" {

int StatorEngineLoadFile(const char* path, StatorEngine** engine) {
  return StatorEngineLoadFileOnDevice(path, 0, engine);
}

int StatorEngineLoadFileOnDevice(const char* path, int ordinal, StatorEngine** engine) {
  return stator::Guard([&] { *engine = stator::LoadFile(path, ordinal); });
}

int StatorEngineLoadBytes(const void* bytes, size_t size, StatorEngine** engine) {
  return stator::Guard([&] {
    const auto* begin = static_cast<const std::byte*>(bytes);
    auto copy = std::make_shared<std::vector<std::byte>>(begin, begin + size);
    *engine = stator::LoadEngine(stator::PlanFromBytes(*copy, copy));
  });
}

void StatorEngineFree(StatorEngine* engine) { delete engine; }

int StatorEngineNumInputs(const StatorEngine* engine) {
  return static_cast<int>(engine->pool.engine().plan().inputs.size());
}

int StatorEngineNumOutputs(const StatorEngine* engine) {
  return static_cast<int>(engine->pool.engine().plan().outputs.size());
}

const char* StatorEngineInputName(const StatorEngine* engine, int index) {
  return stator::NameOf(engine->pool.engine().plan().inputs, index);
}

const char* StatorEngineOutputName(const StatorEngine* engine, int index) {
  return stator::NameOf(engine->pool.engine().plan().outputs, index);
}

int StatorEngineRun(StatorEngine* engine, const DLTensor* const* inputs, int num_inputs,
                    DLManagedTensorVersioned** outputs) {
  return StatorEngineRunOnStream(engine, inputs, num_inputs, outputs, nullptr);
}

int StatorEngineRunOnStream(StatorEngine* engine, const DLTensor* const* inputs, int num_inputs,
                            DLManagedTensorVersioned** outputs, void* stream) {
  return stator::Guard([&] {
    stator::Run(*engine, std::span(inputs, static_cast<size_t>(num_inputs)), outputs, stream);
  });
}

int StatorEngineSetWeight(StatorEngine* engine, const char* name, const DLTensor* tensor) {
  return stator::Guard([&] {
    stator::ConstantData data = stator::MakeConstant(*tensor, "weight", name);
    data = engine->pool.engine().device().BringToHost(data);  // a copy, where it is not there yet
    engine->pool.engine().SetWeight(name,
                                    stator::MakeConstantData({data.bytes, data.bytes + data.size}));
  });
}

int StatorEngineRefit(StatorEngine* engine) {
  return stator::Guard([&] { engine->pool.engine().Refit(); });
}

const char* StatorLastError(void) { return stator::last_error.c_str(); }

}  // extern "C"

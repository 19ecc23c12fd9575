// A device for tests: each step's body by the reference evaluator, straight on the given memory.
//
// With `packs` on, a program copies the constants it reads, as a packing engine does, and no longer
// reads them where they lie; Discard then overwrites the memory, so that a forgotten read shows.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstring>
#include <map>
#include <new>
#include <set>

#include "ir/parse.h"
#include "ops/evaluate.h"
#include "runtime/device.h"

namespace stator {

// The packed copies of an engine, by the constant's address.
class ReferenceCopies final : public PackedCopies {
 public:
  struct Copy {
    HostTensor tensor;
    int64_t content = 0;  // of the constants when it was made; 0: not yet
  };

  std::shared_ptr<Copy> Get(const TensorRef& constant) {
    std::weak_ptr<Copy>& entry = copies_[{constant.data, constant.dims}];
    if (auto copy = entry.lock()) return copy;
    auto copy =
        std::make_shared<Copy>(Copy{.tensor = MakeHostTensor(constant.dtype, constant.dims)});
    entry = copy;
    return copy;
  }

  int64_t content() const { return content_; }
  void Expire(std::span<const std::byte>) override { ++content_; }
  int64_t bytes() const override {
    int64_t bytes = 0;
    for (const auto& [constant, entry] : copies_) {
      if (auto copy = entry.lock()) bytes += static_cast<int64_t>(copy->tensor.storage.size());
    }
    return bytes;
  }

 private:
  std::map<std::pair<const std::byte*, std::vector<int64_t>>, std::weak_ptr<Copy>> copies_;
  int64_t content_ = 1;
};

class ReferenceProgram final : public Program {
 public:
  // `fails`: whether making packed copies fails, now and later. `num_packed` counts those made.
  ReferenceProgram(const BoundPlan& bound, std::span<const Step> steps, bool packs,
                   const bool& fails, std::atomic<int>& num_packed)
      : bound_(bound), steps_(steps), fails_(fails), num_packed_(num_packed) {
    for (const Step& step : steps) {
      bodies_.push_back(step.body.empty() ? Graph{} : ParseGraph(step.body));
      if (!packs || bound.copies == nullptr) continue;
      for (int input : step.inputs) {
        const TensorRef& constant = bound.tensors[input];
        if (constant.data != nullptr) packed_[input] = copies().Get(constant);
      }
    }
  }

  int64_t ws_bytes() const override { return 64; }

  void Run(const RunArgs& args) const override {
    for (size_t i = 0; i < steps_.size(); ++i) {
      std::vector<TensorRef> inputs, outputs;
      for (int tensor : steps_[i].inputs) inputs.push_back(FindTensor(tensor, args));
      for (int tensor : steps_[i].outputs) outputs.push_back(FindTensor(tensor, args));
      if (steps_[i].kind == StepKind::kCopy) {
        CopyTensor(inputs[0], outputs[0]);
        continue;
      }
      std::vector<HostTensor> results = EvaluateGraph(bodies_[i], inputs, bound_.symbols);
      for (size_t k = 0; k < results.size(); ++k) CopyTensor(results[k].ref, outputs[k]);
    }
  }

  void Pack(int step) override {
    if (fails_) Fail(ErrorKind::kDeviceError, "the device is told to fail");
    for (int input : steps_[step].inputs) {
      auto it = packed_.find(input);
      if (it == packed_.end() || it->second->content == copies().content()) continue;
      CopyTensor(bound_.tensors[input], it->second->tensor.ref);
      it->second->content = copies().content();
      ++num_packed_;
    }
  }

  bool IsPacked(int step) const override {
    return std::ranges::all_of(steps_[step].inputs, [&](int input) {
      auto it = packed_.find(input);
      return it == packed_.end() || it->second->content == copies().content();
    });
  }

  bool Reads(int step, int input) const override {
    return !packed_.contains(steps_[step].inputs[input]);
  }

 private:
  ReferenceCopies& copies() const { return *static_cast<ReferenceCopies*>(bound_.copies); }

  TensorRef FindTensor(int tensor, const RunArgs& args) const {
    auto packed = packed_.find(tensor);
    if (packed != packed_.end()) return packed->second->tensor.ref;
    TensorRef ref = bound_.tensors[tensor];
    const PlanTensor& placed = bound_.plan->tensors[tensor];
    std::byte* storage = nullptr;
    switch (placed.storage) {
      case StorageKind::kInput: storage = args.inputs[placed.index]; break;
      case StorageKind::kOutput: storage = args.outputs[placed.index]; break;
      case StorageKind::kArena: storage = args.arena + bound_.arena_offsets[placed.index]; break;
      default: return ref;  // constants carry their address
    }
    ref.data = storage + bound_.tensor_offsets[tensor];
    return ref;
  }

  const BoundPlan& bound_;
  std::span<const Step> steps_;
  const bool& fails_;
  std::atomic<int>& num_packed_;
  std::vector<Graph> bodies_;
  std::map<int, std::shared_ptr<ReferenceCopies::Copy>> packed_;
};

class ReferenceDevice final : public Device {
 public:
  bool packs = false;
  std::atomic<int> num_loads = 0;  // of a plan's steps
  std::atomic<int> num_copies = 0, num_allocations = 0, num_packed = 0;
  int64_t derived_bytes = 0, max_derived_bytes = 0;  // that a prologue made and are not discarded
  int64_t limit = INT64_MAX;                         // bytes above which Allocate fails
  bool fails = false;                                // whether Pack fails

  std::string_view name() const override { return "reference"; }

  std::unique_ptr<Program> Load(const BoundPlan& bound, std::span<const Step> steps) override {
    if (steps.data() == bound.plan->steps.data()) {
      ++num_loads;
    } else {
      CountDerived(bound, steps);
    }
    return std::make_unique<ReferenceProgram>(bound, steps, packs, fails, num_packed);
  }

  std::unique_ptr<PackedCopies> MakePackedCopies() override {
    return std::make_unique<ReferenceCopies>();
  }

  std::byte* Allocate(int64_t bytes) override {
    if (bytes > limit) Fail(ErrorKind::kOutOfMemory, "no memory for {} bytes", bytes);
    ++num_allocations;
    auto* data = static_cast<std::byte*>(::operator new (bytes, std::align_val_t{64}));
    std::memset(data, 0xff, bytes);  // NaN, so that what is read unwritten shows
    return data;
  }

  void Free(std::byte* data) override { ::operator delete (data, std::align_val_t{64}); }

  void Discard(std::byte* data, int64_t bytes) override {
    std::memset(data, 0xff, bytes);
    derived_bytes -= bytes;
  }

  void Copy(const TensorRef& from, const TensorRef& to, DeviceStream) override {
    ++num_copies;
    CopyTensor(from, to);
  }

 private:
  void CountDerived(const BoundPlan& bound, std::span<const Step> prologue) {
    for (const Step& step : prologue) {
      for (int output : step.outputs) {
        const TensorRef& tensor = bound.tensors[output];
        derived_bytes += tensor.num_elements() * static_cast<int64_t>(DTypeSize(tensor.dtype));
      }
    }
    max_derived_bytes = std::max(max_derived_bytes, derived_bytes);
  }
};

}  // namespace stator

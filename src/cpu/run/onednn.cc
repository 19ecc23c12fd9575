#include "cpu/run/onednn.h"

#include <algorithm>

#include "base/error.h"
#include "cpu/run/convert.h"

namespace stator {
namespace {

using dnnl::memory;

constexpr int64_t kAlignment = 64;

// Whether both describe the same bytes: dims of size 1 may differ in stride.
bool IsSameLayout(const memory::desc& lhs, const memory::desc& rhs) {
  if (lhs == rhs) return true;
  bool plain = lhs.get_format_kind() == memory::format_kind::blocked &&
               rhs.get_format_kind() == memory::format_kind::blocked &&
               lhs.get_inner_nblks() == 0 && rhs.get_inner_nblks() == 0;
  if (!plain || lhs.get_dims() != rhs.get_dims() || lhs.get_data_type() != rhs.get_data_type() ||
      lhs.get_padded_dims() != rhs.get_padded_dims()) {
    return false;
  }
  memory::dims dims = lhs.get_dims(), left = lhs.get_strides(), right = rhs.get_strides();
  for (size_t i = 0; i < dims.size(); ++i) {
    if (dims[i] > 1 && left[i] != right[i]) return false;
  }
  return true;
}

[[noreturn]] void FailOneDnn(const dnnl::error& error, std::string_view what) {
  ErrorKind kind =
      error.status == dnnl_out_of_memory ? ErrorKind::kOutOfMemory : ErrorKind::kDeviceError;
  Fail(kind, "oneDNN failed in {}: {}", what, error.message);
}

std::string_view IsaName(dnnl::cpu_isa isa) {
  switch (isa) {
    case dnnl::cpu_isa::sse41: return "sse41";
    case dnnl::cpu_isa::avx: return "avx";
    case dnnl::cpu_isa::avx2: return "avx2";
    case dnnl::cpu_isa::avx2_vnni: return "avx2_vnni";
    case dnnl::cpu_isa::avx2_vnni_2: return "avx2_vnni_2";
    case dnnl::cpu_isa::avx512_core: return "avx512_core";
    case dnnl::cpu_isa::avx512_core_vnni: return "avx512_core_vnni";
    case dnnl::cpu_isa::avx512_core_bf16: return "avx512_core_bf16";
    case dnnl::cpu_isa::avx512_core_fp16: return "avx512_core_fp16";
    case dnnl::cpu_isa::avx512_core_amx: return "avx512_core_amx";
    default: return "isa_default";
  }
}

bool Reorders(const dnnl::primitive_desc& desc, std::span<const Argument> arguments) {
  return std::any_of(arguments.begin(), arguments.end(), [&](const Argument& argument) {
    return argument.operand.constant == nullptr &&
           !IsSameLayout(argument.operand.given,
                         desc.query_md(dnnl::query::exec_arg_md, argument.arg));
  });
}

bool WritesInPlace(const dnnl::primitive_desc& desc, std::span<const Argument> arguments) {
  auto out = std::ranges::find(arguments, DNNL_ARG_DST, &Argument::arg);
  return IsSameLayout(out->operand.given, desc.query_md(dnnl::query::exec_arg_md, DNNL_ARG_DST));
}

std::shared_ptr<PackedCopy> MakePackedCopy(const Operand& constant, const memory::desc& wanted) {
  DeviceBuffer buffer(CpuDevice(), static_cast<int64_t>(wanted.get_size()));
  memory from(constant.given, OneDnnEngine(), const_cast<std::byte*>(constant.constant));
  memory to(wanted, OneDnnEngine(), buffer.data());
  std::optional<PanelLayout> panels = FindPanels(constant.given, wanted);
  dnnl::reorder reorder = panels ? dnnl::reorder() : dnnl::reorder(from, to);
  return std::make_shared<PackedCopy>(PackedCopy{
      .panels = panels, .reorder = reorder, .from = from, .to = to, .buffer = std::move(buffer)});
}

// `desc`, or one of the same implementation that reads its weights as a packed copy has them
// already: an engine's memory does not grow with the number of shapes that it meets.
dnnl::primitive_desc ShareWeights(const Fusion& fusion, const OneDnnCopies& copies,
                                  const dnnl::primitive_attr& attr, dnnl::primitive_desc desc) {
  auto weights = std::ranges::find(fusion.arguments, DNNL_ARG_WEIGHTS, &Argument::arg);
  if (weights == fusion.arguments.end() || weights->operand.constant == nullptr) return desc;
  memory::desc wanted = desc.query_md(dnnl::query::exec_arg_md, DNNL_ARG_WEIGHTS);
  std::vector<memory::desc> layouts = copies.FindLayouts(weights->operand);
  bool at_hand = std::ranges::find(layouts, wanted) != layouts.end();
  if (at_hand || IsSameLayout(weights->operand.given, wanted)) return desc;
  for (const memory::desc& layout : layouts) {
    try {
      dnnl::primitive_desc shared = fusion.make(layout, attr);
      if (std::string_view(shared.impl_info_str()) == desc.impl_info_str()) return shared;
    } catch (const dnnl::error&) {  // it cannot read this layout
    }
  }
  return desc;
}

// Empty when oneDNN has none that is optimised, or none that reorders where it must.
std::optional<dnnl::primitive_desc> Describe(const Fusion& fusion, const OneDnnCopies* copies) {
  dnnl::primitive_attr attr;
  attr.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  attr.set_post_ops(fusion.post_ops);
  dnnl::primitive_desc desc = fusion.make(fusion.weights, attr);
  bool is_plain_loop = std::string_view(desc.impl_info_str()).find("ref") != std::string_view::npos;
  if (is_plain_loop || (fusion.must_reorder && !Reorders(desc, fusion.arguments))) {
    return std::nullopt;
  }
  return copies != nullptr ? ShareWeights(fusion, *copies, attr, std::move(desc)) : desc;
}

}  // namespace

const dnnl::engine& OneDnnEngine() {
  static const dnnl::engine engine(dnnl::engine::kind::cpu, 0);
  return engine;
}

std::string OneDnnName() {
  const dnnl_version_t* version = dnnl_version();
  return fmt::format("oneDNN {}.{}.{} {}", version->major, version->minor, version->patch,
                     IsaName(dnnl::get_effective_cpu_isa()));
}

memory::data_type OneDnnType(DType dtype) {
  switch (dtype) {
    case DType::kFloat32: return memory::data_type::f32;
    case DType::kBFloat16: return memory::data_type::bf16;
    case DType::kFloat16: return memory::data_type::f16;
    default: return memory::data_type::undef;
  }
}

bool Multiplies(DType dtype) {
  auto has = [](dnnl::cpu_isa isa) {
    int wanted = static_cast<int>(isa);  // a set of bits
    return (static_cast<int>(dnnl::get_effective_cpu_isa()) & wanted) == wanted;
  };
  switch (dtype) {
    case DType::kFloat32: return true;
    case DType::kBFloat16: return has(dnnl::cpu_isa::avx512_core_bf16);
    case DType::kFloat16: return has(dnnl::cpu_isa::avx512_core_fp16);
    default: return false;
  }
}

// Whether oneDNN can describe the strides: none may be less than what the dims inside of it span,
// the gap behind their last element included. Of x[:, ::2] with 11 columns, rows are 11 apart, but
// six elements of stride 2 span 12.
static bool HasNestedStrides(const TensorRef& tensor) {
  std::vector<std::pair<int64_t, int64_t>> dims;  // stride and size
  for (size_t i = 0; i < tensor.dims.size(); ++i) {
    if (tensor.dims[i] > 1 && tensor.strides[i] != 0) {
      dims.emplace_back(tensor.strides[i], tensor.dims[i]);
    }
  }
  std::sort(dims.begin(), dims.end());
  for (size_t i = 1; i < dims.size(); ++i) {
    if (dims[i].first < dims[i - 1].first * dims[i - 1].second) return false;
  }
  return true;
}

bool CanOneDnnRun(const StepSite& site) {
  auto fits = [](const TensorRef& tensor) {
    return OneDnnType(tensor.dtype) != memory::data_type::undef && tensor.num_elements() > 0 &&
           HasNestedStrides(tensor);
  };
  return std::all_of(site.inputs.begin(), site.inputs.end(), fits) &&
         std::all_of(site.outputs.begin(), site.outputs.end(), fits);
}

memory::desc MakeDesc(DType dtype, const memory::dims& dims, const memory::dims& strides) {
  return memory::desc(dims, OneDnnType(dtype), strides);
}

memory::desc MakeAnyDesc(DType dtype, const memory::dims& dims) {
  return memory::desc(dims, OneDnnType(dtype), memory::format_tag::any);
}

memory::desc WithType(const memory::desc& desc, DType dtype) {
  return MakeDesc(dtype, desc.get_dims(), desc.get_strides());
}

Operand MakeInput(const StepSite& site, int index, memory::desc given) {
  return {.role = Operand::kInput,
          .index = index,
          .constant = site.inputs[index].data,
          .given = std::move(given)};
}

Operand MakeOutput(memory::desc given) {
  return {.role = Operand::kOutput, .index = 0, .constant = nullptr, .given = std::move(given)};
}

// ---- OneDnnCopies
std::shared_ptr<PackedCopy> OneDnnCopies::Get(const Operand& constant, const memory::desc& wanted) {
  std::vector<std::weak_ptr<PackedCopy>>& copies = copies_[constant.constant];
  std::erase_if(copies, [](const auto& copy) { return copy.expired(); });
  for (const auto& weak : copies) {
    std::shared_ptr<PackedCopy> copy = weak.lock();
    if (copy && copy->from.get_desc() == constant.given && copy->to.get_desc() == wanted) {
      return copy;
    }
  }
  std::shared_ptr<PackedCopy> copy = MakePackedCopy(constant, wanted);
  copies.push_back(copy);
  return copy;
}

std::vector<memory::desc> OneDnnCopies::FindLayouts(const Operand& constant) const {
  std::vector<memory::desc> layouts;
  auto it = copies_.find(constant.constant);
  if (it == copies_.end()) return layouts;
  for (const auto& weak : it->second) {
    std::shared_ptr<PackedCopy> copy = weak.lock();
    if (copy && copy->from.get_desc() == constant.given) layouts.push_back(copy->to.get_desc());
  }
  return layouts;
}

void OneDnnCopies::Expire(std::span<const std::byte> memory) {
  auto end = copies_.lower_bound(memory.data() + memory.size());
  for (auto it = copies_.lower_bound(memory.data()); it != end; ++it) {
    for (const auto& weak : it->second) {
      if (std::shared_ptr<PackedCopy> copy = weak.lock()) copy->is_fresh = false;
    }
  }
}

int64_t OneDnnCopies::bytes() const {
  int64_t bytes = 0;
  for (const auto& [constant, copies] : copies_) {
    for (const auto& weak : copies) {
      if (std::shared_ptr<PackedCopy> copy = weak.lock()) bytes += copy->buffer.bytes();
    }
  }
  return bytes;
}

// ---- OneDnnStep
struct OneDnnStep::Frame {
  struct CallArgs {
    std::vector<memory> memories;  // one per binding
    std::vector<dnnl_exec_arg_t> args;
  };

  explicit Frame(const OneDnnStep& step) : stream(OneDnnEngine()) {
    for (const Call& call : step.calls_) Add(call);
  }

  void Add(const Call& call) {
    CallArgs& args = calls.emplace_back();
    for (const Binding& binding : call.bindings) {
      args.memories.push_back(memory(binding.desc, OneDnnEngine(), DNNL_MEMORY_NONE));
      args.args.push_back({binding.arg, args.memories.back().get()});
    }
  }

  dnnl::stream stream;
  std::vector<CallArgs> calls;
};

std::unique_ptr<OneDnnStep> OneDnnStep::Find(const Fusion& fusion) {
  std::vector<const Fusion*> terms;
  for (const Fusion& term : fusion.terms) terms.push_back(&term);
  terms.push_back(&fusion);
  try {
    std::vector<dnnl::primitive_desc> descs;
    int64_t scratchpad = 0;
    for (const Fusion* term : terms) {
      std::optional<dnnl::primitive_desc> desc = Describe(*term, fusion.copies);
      if (!desc || (terms.size() > 1 && !WritesInPlace(*desc, term->arguments))) return nullptr;
      scratchpad = std::max(scratchpad, static_cast<int64_t>(desc->scratchpad_desc().get_size()));
      descs.push_back(*std::move(desc));
    }
    std::unique_ptr<OneDnnStep> step(new OneDnnStep(fusion.copies));
    int64_t at = step->AddWs(scratchpad);
    for (size_t i = 0; i < terms.size(); ++i) step->Add(descs[i], *terms[i], at);
    return step;
  } catch (const dnnl::error& error) {
    bool absent = error.status == dnnl_unimplemented || error.status == dnnl_invalid_arguments;
    if (!absent) FailOneDnn(error, "creating a primitive");
    return nullptr;
  }
}

void OneDnnStep::Add(const dnnl::primitive_desc& desc, const Fusion& fusion, int64_t scratchpad) {
  Call call{.primitive = dnnl::primitive(desc), .bindings = {}, .conversion = nullptr};
  std::vector<Call> after;
  for (const auto* arguments : {&fusion.arguments, &fusion.post_op_arguments}) {
    for (const Argument& argument : *arguments) {
      Bind(argument, desc.query_md(dnnl::query::exec_arg_md, argument.arg), call, after);
    }
  }
  if (desc.scratchpad_desc().get_size() > 0) {
    call.bindings.push_back({.arg = DNNL_ARG_SCRATCHPAD,
                             .desc = desc.scratchpad_desc(),
                             .source = Source::kWs,
                             .position = scratchpad});
  }
  terms_.push_back(calls_.size());
  calls_.push_back(std::move(call));
  std::ranges::move(after, std::back_inserter(calls_));
}

OneDnnStep::~OneDnnStep() { delete spare_.load(); }

std::optional<memory> OneDnnStep::FindPacked(size_t term, int arg) const {
  for (const Binding& binding : calls_[terms_[term]].bindings) {
    if (binding.arg == arg && binding.source == Source::kPacked) {
      return packed_[binding.position]->to;
    }
  }
  return std::nullopt;
}

int64_t OneDnnStep::AddWs(int64_t bytes) {
  int64_t offset = ws_bytes_;
  ws_bytes_ += (bytes + kAlignment - 1) / kAlignment * kAlignment;
  return offset;
}

void OneDnnStep::Bind(const Argument& argument, const memory::desc& wanted, Call& call,
                      std::vector<Call>& after) {
  const Operand& operand = argument.operand;
  Binding given{.arg = argument.arg,
                .desc = operand.given,
                .source = operand.role == Operand::kInput ? Source::kInput : Source::kOutput,
                .position = operand.index,
                .offset = operand.offset};
  Binding binding = given;
  binding.desc = wanted;
  if (IsSameLayout(operand.given, wanted)) {
    call.bindings.push_back(binding);
    return;
  }
  if (operand.constant != nullptr) {
    packed_.push_back(copies_ != nullptr ? copies_->Get(operand, wanted)
                                         : MakePackedCopy(operand, wanted));
    binding.source = Source::kPacked;
    binding.position = static_cast<int64_t>(packed_.size()) - 1;
  } else {
    binding.source = Source::kWs;
    binding.position = AddWs(static_cast<int64_t>(wanted.get_size()));
    if (operand.role == Operand::kInput) {
      calls_.push_back(MakeReorder(given, binding));
    } else {
      after.push_back(MakeReorder(binding, given));
    }
  }
  call.bindings.push_back(binding);
}

OneDnnStep::Call OneDnnStep::MakeReorder(Binding from, Binding to) {
  if (std::unique_ptr<PreparedStep> conversion = FindConversion(from.desc, to.desc)) {
    int64_t ws = AddWs(conversion->ws_bytes());
    return {.primitive = {},
            .bindings = {std::move(from), std::move(to)},
            .conversion = std::move(conversion),
            .ws = ws};
  }
  dnnl::reorder::primitive_desc desc(OneDnnEngine(), from.desc, OneDnnEngine(), to.desc);
  from.arg = DNNL_ARG_FROM;
  to.arg = DNNL_ARG_TO;
  return {.primitive = dnnl::reorder(desc),
          .bindings = {std::move(from), std::move(to)},
          .conversion = nullptr};
}

bool OneDnnStep::IsFresh(const PackedCopy& copy) const {
  return copies_ != nullptr && copy.is_fresh;
}

bool OneDnnStep::IsPacked() const {
  return std::ranges::all_of(packed_, [&](const auto& copy) { return IsFresh(*copy); });
}

void OneDnnStep::Pack() {
  try {
    dnnl::stream stream(OneDnnEngine());
    for (const std::shared_ptr<PackedCopy>& copy : packed_) {
      if (IsFresh(*copy)) continue;
      if (copy->panels) {
        PackPanels(*copy->panels, static_cast<const std::byte*>(copy->from.get_data_handle()),
                   copy->buffer.data());
      } else {
        copy->reorder.execute(stream, copy->from, copy->to);
        stream.wait();
      }
      copy->is_fresh = true;
    }
  } catch (const dnnl::error& error) {
    FailOneDnn(error, "packing a constant");
  }
}

bool OneDnnStep::Reads(int input) const {
  return std::ranges::any_of(calls_, [&](const Call& call) {
    return std::ranges::any_of(call.bindings, [&](const Binding& binding) {
      return binding.source == Source::kInput && binding.position == input;
    });
  });
}

std::unique_ptr<OneDnnStep::Frame> OneDnnStep::TakeFrame() const {
  std::unique_ptr<Frame> frame(spare_.exchange(nullptr, std::memory_order_acquire));
  return frame ? std::move(frame) : std::make_unique<Frame>(*this);
}

std::byte* OneDnnStep::Resolve(const Binding& binding, const StepArgs& args) const {
  switch (binding.source) {
    case Source::kInput: return args.inputs[binding.position] + binding.offset;
    case Source::kOutput: return args.outputs[binding.position] + binding.offset;
    case Source::kWs: return args.ws + binding.position;
    case Source::kPacked:
      return static_cast<std::byte*>(packed_[binding.position]->to.get_data_handle());
  }
  __builtin_unreachable();
}

void OneDnnStep::Run(const StepArgs& args) const {
  std::unique_ptr<Frame> frame = TakeFrame();
  size_t next = 0;
  auto execute = [&](const Call& call) {
    Frame::CallArgs& handles = frame->calls[next++];
    if (call.conversion) {
      std::byte* from = Resolve(call.bindings[0], args);
      std::byte* to = Resolve(call.bindings[1], args);
      call.conversion->Run({.inputs = &from, .outputs = &to, .ws = args.ws + call.ws});
      return;
    }
    for (size_t i = 0; i < call.bindings.size(); ++i) {
      handles.memories[i].set_data_handle(Resolve(call.bindings[i], args));
    }
    dnnl_status_t status =
        dnnl_primitive_execute(call.primitive.get(), frame->stream.get(),
                               static_cast<int>(handles.args.size()), handles.args.data());
    if (status != dnnl_success) {
      FailOneDnn(dnnl::error(status, "dnnl_primitive_execute"), "running a primitive");
    }
  };
  for (const Call& call : calls_) execute(call);
  delete spare_.exchange(frame.release(), std::memory_order_release);
}

}  // namespace stator

// The plan: all that the runtime ever sees of a compiled graph. Plain, immutable, versioned data.
//
// In:  what emit chose: a linear list of steps over tensors that live in storages.
// Out: read by the runtime (runtime/engine.h), by plan/bytes.cc and by plan/text.cc, exactly.
// Invariants (CheckPlan): every index is in range; every tensor lies inside its storage; a step
// reads only what is an input, a constant, or written before it; a body parses and has its step's
// operands.
//
// A step says what it computes (`body`, IR text with one input per step input) and how (`kind` and
// `attrs`), so any step can be checked against the reference kernels.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "base/dim.h"
#include "base/dtype.h"
#include "ir/attr.h"
#include "ir/graph.h"

namespace stator {

inline constexpr uint32_t kPlanVersion = 1;

// How a step runs. Values are part of the plan format: append only.
enum class StepKind : uint8_t {
  kReference = 0,  // the op's reference kernel; body: one node
  kPointwise = 1,  // body: pointwise nodes over one domain
  kRowwise = 2,    // body: softmax/norms along the last dims, with pointwise nodes around them
  kReduce = 3,     // body: pointwise nodes, then one reduction
  kGemm = 4,       // body: matmul, then its epilogue
  kConv = 5,       // body: conv, then its epilogue
  kAttention = 6,  // body: attention
  kPool = 7,       // body: one pooling node
  kGather = 8,     // body: embedding or gather
  kCopy = 9,       // output = input, dims equal, any strides; body: empty
};
inline constexpr int kNumStepKinds = 10;
std::string_view StepKindName(StepKind kind);  // "reference", "pointwise", ...

enum class StorageKind : uint8_t {
  kInput = 0,    // a caller's tensor; index: position in Plan::inputs
  kOutput = 1,   // index: position in Plan::outputs
  kArena = 2,    // index: position in Plan::arena
  kWeight = 3,   // a weight in place; index: position in Plan::weights
  kLiteral = 4,  // index: position in Plan::literals
  kDerived = 5,  // made from weights by the prologue; index: position in Plan::derived
};
inline constexpr int kNumStorageKinds = 6;
std::string_view StorageKindName(StorageKind kind);  // "input", "output", ...

// A strided window on a storage.
struct PlanTensor {
  StorageKind storage = StorageKind::kArena;
  int index = 0;
  Dim offset = 0;  // elements from the start of the storage
  DType dtype = DType::kFloat32;
  Dims dims;
  Dims strides;  // in elements
};

struct Step {
  StepKind kind = StepKind::kReference;
  std::vector<int> inputs;   // positions in Plan::tensors
  std::vector<int> outputs;  // positions in Plan::tensors
  Attrs attrs;               // the tactic's parameters; each kind documents its own
  std::string body;          // IR text of what is computed, ended by a line end; empty: a copy
  std::string origin;        // "conv2d_3 · model.py:41"
};

// An input or output as the caller sees it. Outputs are allocated with these strides.
struct PlanPort {
  std::string name;
  DType dtype = DType::kFloat32;
  Dims dims;
  Dims strides;
};

// A dense row-major weight, owned by the user or carried by the plan file.
struct PlanWeight {
  std::string name;
  DType dtype = DType::kFloat32;
  std::vector<int64_t> dims;
  ConstantData data;  // empty until bound; the file carries it when saved with weights
};

// A kernel compiled ahead for a device: one entry of a loadable binary.
struct PlanCode {
  std::string arch;   // what it was compiled for: "sm_90a"
  std::string entry;  // the kernel's name in the binary
  ConstantData binary;
};

struct PlanBuffer {
  Dim bytes = 0;
  int first_step = 0;  // arena only: steps [first_step, last_step] may touch it
  int last_step = 0;
};

inline constexpr int kMaxAuxStreams = 64;

struct Plan {
  std::string name = "main";
  std::string target;   // the device engine that runs it, and for what: "cpu", "cuda sm_90a"
  int aux_streams = 0;  // most streams beside the caller's that steps may run on
  std::vector<SymbolRange> symbols;
  std::vector<PlanPort> inputs, outputs;
  std::vector<PlanWeight> weights;
  std::vector<ConstantData> literals;
  std::vector<PlanCode> code;
  std::vector<PlanBuffer> derived, arena;
  std::vector<PlanTensor> tensors;
  std::vector<Step> prologue;  // weights -> derived; run at load and at refit
  std::vector<Step> steps;     // run on each call
};

// How a step launches a kernel of Plan::code. Its parameters: a pointer to the first element of
// each input that is present and of each output, then an int64 for each of `symbols`.
struct StepLaunch {
  int code = 0;   // position in Plan::code
  Dims grid;      // blocks in x, y and z
  int block = 0;  // threads of a block
  int smem = 0;   // bytes of dynamic shared memory
  std::vector<std::string> symbols;
  bool pdl = false;  // programmatic dependent launch: the kernel itself waits for the one before
};

// The launch that the step's attributes `code`, `grid`, `block`, `smem`, `symbols` and `pdl` say;
// none without the attribute `code`. Raises CorruptFile for one that is absent or of another kind.
std::optional<StepLaunch> FindLaunch(const Attrs& attrs);
void SetLaunch(Attrs& attrs, const StepLaunch& launch);

// Raises CorruptFile, naming the field, unless every invariant above holds. Sizes over symbols are
// checked at the lower ends of the symbols' ranges and at a larger value; the runtime checks them
// again for the values it meets. A window of symbolic size on a constant may be too large for it at
// some of them: the runtime alone tells.
void CheckPlan(const Plan& plan);
// Raises CorruptFile unless, under these symbol values, sizes are in [0, 2^48] and every tensor
// lies inside its storage; InvalidArgument, naming the constant, when one is too small for a window
// whose size depends on the symbols. Needs the other invariants of CheckPlan.
void CheckPlanSizes(const Plan& plan, const SymbolValues& symbols);

// Offsets in bytes (multiples of 64) for buffers of `bytes[i]` that live during
// [buffers[i].first_step, last_step], such that buffers alive together never overlap; returns them
// with the arena's size last. Greedy by size (Pisarchyk & Lee 2020, "Efficient Memory Management
// for Deep Neural Net Inference").
std::vector<int64_t> PlanMemory(const std::vector<PlanBuffer>& buffers,
                                const std::vector<int64_t>& bytes);
// The same for buffers of which `meet` tells whether two are alive together.
std::vector<int64_t> PlanMemory(const std::vector<int64_t>& bytes,
                                const std::function<bool(size_t, size_t)>& meet);

// The versioned, checksummed file form (docs/plan_format.md). Weights with data are carried along,
// 64-byte aligned, so that a mapped file is used in place; bytes that do not start at a multiple of
// 64 have their constants copied.
std::vector<std::byte> PlanToBytes(const Plan& plan);
// `bytes` must outlive the plan through `owner`. Raises CorruptFile or VersionMismatch.
Plan PlanFromBytes(std::span<const std::byte> bytes, std::shared_ptr<const void> owner);

// The text form, exact round trip but for the bytes of weights, literals and code over 64, which
// are shown by size and hash only.
std::string PlanToText(const Plan& plan);
// Reads what PlanToText writes. Constants shown by size and hash come back without data, so a plan
// with a long literal or with code cannot be run from its text. Raises CorruptFile, naming the
// line.
Plan PlanFromText(std::string_view text);

}  // namespace stator

#include "cuda/run/copy.h"

#include <algorithm>
#include <bit>

#include "base/error.h"

namespace stator {
namespace {

constexpr int kNumSizes = 5;
constexpr unsigned kBlock = 256, kMaxGrid = 8192;
constexpr int64_t kMaxCount = int64_t{1} << 31;

// What a kernel takes, by value.
struct Params {
  const std::byte* from;
  std::byte* to;
  unsigned count, rank;
  unsigned dims[CudaCopier::Copy::kMaxRank];  // innermost first
  int64_t from_strides[CudaCopier::Copy::kMaxRank], to_strides[CudaCopier::Copy::kMaxRank];
};
static_assert(sizeof(Params) == 184);

// Written by hand, so that neither a compiler at build time nor NVRTC at run time is needed:
//   for (i = my number; i < count; i += number of threads)
//     rest = i; for (d = 0; d < rank; ++d) { at = rest % dims[d]; rest /= dims[d];
//                                            from += at * from_strides[d]; to += at *
//                                            to_strides[d]; }
//     *to = *from;
// The driver makes it machine code for any device of capability 8.0 or above.
constexpr std::string_view kHead = ".version 8.0\n.target sm_80\n.address_size 64\n";
constexpr std::string_view kEntry = R"(
.visible .entry stator_copy_{size}(.param .align 8 .b8 p[184])
{{
  .reg .pred %q;
  .reg .b32 %i, %step, %count, %rank, %rest, %next, %at, %dim, %d, %a, %b;
  .reg .b64 %from, %to, %dims, %strides, %stride, %long;
  .reg .{reg} %x<4>;
  mov.u32 %a, %ctaid.x;
  mov.u32 %b, %ntid.x;
  mov.u32 %i, %tid.x;
  mad.lo.u32 %i, %a, %b, %i;
  mov.u32 %a, %nctaid.x;
  mul.lo.u32 %step, %a, %b;
  ld.param.u32 %count, [p+16];
  ld.param.u32 %rank, [p+20];
element:
  setp.ge.u32 %q, %i, %count;
  @%q bra done;
  ld.param.u64 %from, [p];
  ld.param.u64 %to, [p+8];
  mov.b64 %dims, p;
  mov.b64 %strides, p;
  mov.u32 %rest, %i;
  mov.u32 %d, 0;
dim:
  setp.ge.u32 %q, %d, %rank;
  @%q bra move;
  ld.param.u32 %dim, [%dims+24];
  div.u32 %next, %rest, %dim;
  mul.lo.u32 %at, %next, %dim;
  sub.u32 %at, %rest, %at;
  cvt.u64.u32 %long, %at;
  ld.param.u64 %stride, [%strides+56];
  mad.lo.s64 %from, %long, %stride, %from;
  ld.param.u64 %stride, [%strides+120];
  mad.lo.s64 %to, %long, %stride, %to;
  mov.u32 %rest, %next;
  add.u64 %dims, %dims, 4;
  add.u64 %strides, %strides, 8;
  add.u32 %d, %d, 1;
  bra dim;
move:
  ld.{type} {x}, [%from];
  st.{type} [%to], {x};
  add.u32 %i, %i, %step;
  bra element;
done:
  ret;
}}
)";

struct Level {
  int64_t size, from_stride, to_stride;  // strides in bytes
};

// The dims, innermost first, those of one element left out and those that continue the one before
// in both tensors merged with it.
std::vector<Level> Collapse(const TensorRef& from, const TensorRef& to) {
  auto bytes = static_cast<int64_t>(DTypeSize(from.dtype));
  std::vector<Level> levels = {{1, bytes, bytes}};  // one element
  std::vector<Level> dims;
  for (int d = 0; d < from.rank(); ++d) {
    if (from.dims[d] != 1) {
      dims.push_back({from.dims[d], from.strides[d] * bytes, to.strides[d] * bytes});
    }
  }
  // By where the copy's result lies, so that neighbours are written together.
  std::stable_sort(dims.begin(), dims.end(), [](const Level& lhs, const Level& rhs) {
    return lhs.to_stride > rhs.to_stride;
  });
  for (auto it = dims.rbegin(); it != dims.rend(); ++it) {
    Level& last = levels.back();
    if (it->from_stride == last.size * last.from_stride &&
        it->to_stride == last.size * last.to_stride) {
      last.size *= it->size;
    } else {
      levels.push_back(*it);
    }
  }
  return levels;
}

}  // namespace

std::string CudaCopierText() {
  constexpr std::string_view kTypes[kNumSizes] = {"u8", "u16", "u32", "u64", "v4.u32"};
  constexpr std::string_view kRegs[kNumSizes] = {"b16", "b16", "b32", "b64", "b32"};
  std::string text(kHead);
  for (int i = 0; i < kNumSizes; ++i) {
    text += fmt::format(fmt::runtime(kEntry), fmt::arg("size", 1 << i), fmt::arg("type", kTypes[i]),
                        fmt::arg("reg", kRegs[i]),
                        fmt::arg("x", i == kNumSizes - 1 ? "{%x0, %x1, %x2, %x3}" : "%x0"));
  }
  return text;
}

CudaCopier::CudaCopier(const Driver& driver)
    : driver_(driver), module_(new CudaModule(driver, CudaCopierText().c_str())) {
  for (int i = 0; i < kNumSizes; ++i) {
    functions_[i] = module_->GetFunction(fmt::format("stator_copy_{}", 1 << i));
  }
}

std::vector<CudaCopier::Copy> CudaCopier::Make(const TensorRef& from, const TensorRef& to,
                                               int alignment) const {
  STATOR_CHECK(from.dtype == to.dtype && from.dims == to.dims, "a copy between unlike tensors");
  if (from.num_elements() == 0) return {};
  if (from.num_elements() > kMaxCount) return MakeHalves(from, to, alignment);
  std::vector<Level> levels = Collapse(from, to);
  // The largest unit that every row is made of.
  auto bytes = static_cast<int64_t>(DTypeSize(from.dtype));
  int64_t row = levels[0].size * bytes;
  int64_t unit = alignment | row;
  for (size_t i = 1; i < levels.size(); ++i) unit |= levels[i].from_stride | levels[i].to_stride;
  unit = std::max(bytes, std::min<int64_t>(unit & -unit, 16));
  levels[0] = {row / unit, unit, unit};
  if (levels[0].size == 1 && levels.size() > 1) levels.erase(levels.begin());

  Copy copy;
  copy.launch = {.function = functions_[std::countr_zero(static_cast<uint64_t>(unit))],
                 .block = kBlock};
  std::vector<Copy> copies = {copy};
  // Dims beyond the kernel's are launches of their own.
  int64_t count = 1;
  for (const Level& level : levels) {
    if (copies[0].rank < Copy::kMaxRank) {
      for (Copy& each : copies) {
        each.dims[each.rank] = static_cast<unsigned>(level.size);
        each.from_strides[each.rank] = level.from_stride;
        each.to_strides[each.rank] = level.to_stride;
        ++each.rank;
      }
      count *= level.size;
      continue;
    }
    std::vector<Copy> more;
    for (int64_t at = 0; at < level.size; ++at) {
      for (Copy each : copies) {
        each.from_offset += at * level.from_stride;
        each.to_offset += at * level.to_stride;
        more.push_back(each);
      }
    }
    copies = std::move(more);
  }
  for (Copy& each : copies) {
    each.count = static_cast<unsigned>(count);
    each.launch.grid[0] = std::min<unsigned>((each.count + kBlock - 1) / kBlock, kMaxGrid);
  }
  return copies;
}

std::vector<CudaCopier::Copy> CudaCopier::MakeHalves(const TensorRef& from, const TensorRef& to,
                                                     int alignment) const {
  constexpr int64_t kWhole = 16;  // elements: both halves are aligned alike
  int64_t d = std::ranges::max_element(from.dims) - from.dims.begin();
  int64_t first = from.dims[d] / 2 / kWhole * kWhole, rest = from.dims[d] - first;
  std::vector<Copy> copies;
  for (int64_t start : {int64_t{0}, first}) {
    TensorRef half_from = from, half_to = to;
    half_from.dims[d] = half_to.dims[d] = start == 0 ? first : rest;
    auto bytes = start * static_cast<int64_t>(DTypeSize(from.dtype));
    for (Copy& copy : Make(half_from, half_to, alignment)) {
      copy.from_offset += bytes * from.strides[d];
      copy.to_offset += bytes * to.strides[d];
      copies.push_back(copy);
    }
  }
  return copies;
}

std::vector<CudaCopier::Copy> CudaCopier::MakeDense(int64_t bytes, int alignment) const {
  TensorRef ref{.data = nullptr, .dtype = DType::kUInt8, .dims = {bytes}, .strides = {1}};
  return Make(ref, ref, alignment);
}

namespace {

Params MakeParams(const CudaCopier::Copy& copy, const std::byte* from, std::byte* to) {
  Params params{.from = from + copy.from_offset,
                .to = to + copy.to_offset,
                .count = copy.count,
                .rank = copy.rank};
  std::ranges::copy(copy.dims, params.dims);
  std::ranges::copy(copy.from_strides, params.from_strides);
  std::ranges::copy(copy.to_strides, params.to_strides);
  return params;
}

}  // namespace

void CudaCopier::Launch(const Copy& copy, const std::byte* from, std::byte* to,
                        CUstream stream) const {
  Params params = MakeParams(copy, from, to);
  void* list[] = {&params};
  LaunchKernel(driver_, copy.launch, list, stream);
}

void CudaCopier::Patch(const Copy& copy, const std::byte* from, std::byte* to, CUgraphExec exec,
                       CUgraphNode node) const {
  Params params = MakeParams(copy, from, to);
  void* list[] = {&params};
  PatchKernel(driver_, copy.launch, list, exec, node);
}

}  // namespace stator

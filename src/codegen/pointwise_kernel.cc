// Pointwise kernels: each thread computes `vec` neighbouring elements of the output.
//
// Operands that are contiguous where the first output is are read and written as vectors; those
// that repeat there are read once per thread, and others element by element. Copies are pointwise
// kernels without nodes, which move elements unread. One that must move them one by one moves
// several in a thread, a block apart, read before the first is written: loads of 2 bytes, one in
// flight for each thread, leave most of the memory's bandwidth unused.
#include <algorithm>

#include "base/error.h"
#include "codegen/families.h"
#include "codegen/pointwise_body.h"
#include "codegen/vector_text.h"

namespace stator {
namespace {

constexpr int kRepeat = 8;  // elements that a thread moves one by one

Attrs MakeVariant(int vec, int block) { return {{"block", Dim(block)}, {"vec", Dim(vec)}}; }

std::vector<Attrs> FindPointwiseVariants(const CudaSite& site) {
  if (!IsPointwise(site)) return {};
  LoopDims loop = FindPointwiseLoop(site);
  int vec = FindVec(site, loop);
  constexpr int kBlock = 256, kSmallBlock = 128;
  // Few elements: rather more threads than long vectors, so that every multiprocessor has some.
  Dim count = loop.count();
  int64_t busy = int64_t{2} * kSmallBlock * site.target.num_sms;
  bool is_small = count.is_static() && count.value() / vec < busy;
  std::vector<Attrs> variants;
  if (!is_small) {
    variants = {MakeVariant(vec, kBlock), MakeVariant(vec, kSmallBlock)};
    if (vec > 2) variants.push_back(MakeVariant(vec / 2, kBlock));
    if (vec == 1 && IsCopy(site)) {
      Attrs variant = MakeVariant(vec, kBlock);
      variant.Set("repeat", Dim(kRepeat));
      variants.insert(variants.begin(), variant);
    }
    return variants;
  }
  int short_vec = vec;
  while (short_vec > 1 && count.value() / short_vec < busy) short_vec /= 2;
  variants = {MakeVariant(short_vec, kSmallBlock)};
  if (short_vec != vec) variants.push_back(MakeVariant(vec, kSmallBlock));
  return variants;
}

class PointwiseWriter {
 public:
  PointwiseWriter(const CudaSite& site, const Attrs& variant)
      : site_(site),
        text_(site, PointwiseTypes(site)),
        body_(text_),
        loop_(FindPointwiseLoop(site)),
        vec_(std::min<int>(FindVec(site, loop_), static_cast<int>(variant.GetInt("vec")))),
        block_(static_cast<int>(variant.GetInt("block"))),
        repeat_(variant.Find("repeat") == nullptr ? 1 : static_cast<int>(variant.GetInt("repeat"))),
        vectors_(text_, loop_, vec_, "i", MakeCoordinates(loop_), IsCopy(site)) {}

  CudaKernel Write() {
    if (repeat_ > 1 && vec_ == 1) return WriteRepeated();
    std::string thread = fmt::format("Index(blockIdx.x) * {} + threadIdx.x", block_);
    text_.Line("const Index i = {};", vec_ == 1 ? thread : fmt::format("({}) * {}", thread, vec_));
    text_.Line("if (i >= {}) return;", text_.Size(loop_.count()));
    WriteCoordinates(text_, loop_, "i", MakeCoordinates(loop_), vectors_.FindUsed());
    text_.Line("LaunchDependents();");
    elements_.resize(site_.inputs.size());
    for (bool constant : {true, false}) {
      if (!constant) text_.Line("WaitForInputs();");
      for (size_t i = 0; i < site_.inputs.size(); ++i) {
        if (site_.inputs[i].constant == constant) elements_[i] = vectors_.Load(i);
      }
    }
    WriteElements();
    Dim threads = vec_ == 1 ? loop_.count() : FloorDiv(loop_.count(), vec_);
    return text_.Finish(EntryName(site_.kind, site_.body), {CeilDiv(threads, block_)}, block_);
  }

 private:
  static std::vector<std::string> MakeCoordinates(const LoopDims& loop) {
    std::vector<std::string> names;
    size_t rank = loop.dims.size();
    for (size_t d = 0; d < rank; ++d) names.push_back(rank == 1 ? "i" : fmt::format("i{}", d));
    return names;
  }

  CudaKernel WriteRepeated() {
    text_.Line("LaunchDependents();");
    text_.Line("WaitForInputs();");
    text_.Line("{} moved[{}];", MovedType(site_.outputs[0].dtype), repeat_);
    for (bool reads : {true, false}) {
      text_.OpenLoop("r", repeat_);
      text_.Line("const Index i = (Index(blockIdx.x) * {} + r) * {} + threadIdx.x;", repeat_,
                 block_);
      text_.Open("if (i < {})", text_.Size(loop_.count()));
      WriteCoordinates(text_, loop_, "i", MakeCoordinates(loop_), vectors_.FindUsed());
      if (reads) {
        text_.Line("moved[r] = {};", vectors_.Load(0));
      } else {
        text_.Line("{} = moved[r];", vectors_.Target(0));
      }
      text_.Close();
      text_.Close();
    }
    return text_.Finish(EntryName(site_.kind, site_.body),
                        {CeilDiv(loop_.count(), int64_t{block_} * repeat_)}, block_);
  }

  void WriteElements() {
    size_t num_outputs = site_.outputs.size();
    for (size_t i = 0; i < num_outputs; ++i) vectors_.Declare(i);
    if (vec_ > 1) text_.OpenLoop("j", vec_);
    std::vector<std::string> results = WritePointwise(site_, body_, elements_);
    for (size_t i = 0; i < num_outputs; ++i) text_.Line("{} = {};", vectors_.Target(i), results[i]);
    if (vec_ > 1) text_.Close();
    for (size_t i = 0; i < num_outputs; ++i) vectors_.Store(i);
  }

  const CudaSite& site_;
  KernelText text_;
  BodyText body_;
  LoopDims loop_;
  int vec_, block_, repeat_;
  VectorText vectors_;
  std::vector<std::string> elements_;  // per input, its element j
};

CudaKernel MakePointwiseKernel(const CudaSite& site, const Attrs& variant) {
  return PointwiseWriter(site, variant).Write();
}

}  // namespace

const KernelFamily kPointwiseFamily = {"pointwise", FindPointwiseVariants, MakePointwiseKernel};

}  // namespace stator

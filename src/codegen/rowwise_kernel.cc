// Rowwise kernels: softmax, log-softmax, layer and RMS norm along the last dims, with the pointwise
// nodes around them.
//
// `threads` threads work on a row; a block has `rows` of them. A row of static size is held in
// registers, so that memory is read once; one that is longer (`held` false), or of symbolic size,
// is read again in each pass. Statistics are computed in float, in double for f64: softmax after
// subtracting the row's maximum, variances as the mean of squared differences.
#include <algorithm>
#include <functional>

#include "base/error.h"
#include "codegen/body_text.h"
#include "codegen/families.h"
#include "codegen/vector_text.h"
#include "ir/op_def.h"

namespace stator {
namespace {

constexpr int kWarp = 32;
constexpr int kMaxThreads = 1024;
constexpr int64_t kMaxHeld = 32;  // elements of a row that a thread keeps in registers

struct RowwiseBody {
  const Node* anchor = nullptr;
  ValueId x, y;  // what the anchor normalises, and the result
  size_t num_row_dims = 0;
};

std::optional<RowwiseBody> FindRowwiseBody(const CudaSite& site) {
  RowwiseBody found;
  if (!HasPlainConstants(site.body)) return std::nullopt;
  for (NodeId id : site.body.nodes()) {
    const Node& node = site.body.node(id);
    if (node.op->Is(kPointwise)) continue;
    if (!node.op->Is(kRowwise) || found.anchor != nullptr) return std::nullopt;
    found.anchor = &node;
  }
  if (found.anchor == nullptr) return std::nullopt;
  found.x = found.anchor->inputs[0];
  found.y = found.anchor->outputs[0];
  const TensorType& type = site.body.type(found.y);
  const Attr* axis = found.anchor->attrs.Find("axis");
  if (axis != nullptr && std::get<Dim>(*axis) != Dim(type.rank() - 1)) return std::nullopt;
  found.num_row_dims = axis != nullptr ? 1 : found.anchor->attrs.GetInt("num_dims");
  for (const KernelOperand& output : site.outputs) {
    if (output.dims != type.dims) return std::nullopt;
  }
  // Weight and bias are read as they lie: no nodes before them.
  for (size_t i = 1; i < found.anchor->inputs.size(); ++i) {
    ValueId input = found.anchor->inputs[i];
    if (input.valid() && site.body.FindProducer(input) != nullptr) return std::nullopt;
  }
  return found;
}

// The rows, and the elements of a row; operands in the order outputs, inputs.
struct RowLoops {
  LoopDims rows, row, all;
};

RowLoops FindLoops(const CudaSite& site, const RowwiseBody& body) {
  const Dims& domain = site.outputs[0].dims;
  size_t num_lead = domain.size() - body.num_row_dims;
  std::vector<Dims> lead, row;
  auto add = [&](const Dims& strides) {
    lead.emplace_back(strides.begin(), strides.begin() + num_lead);
    row.emplace_back(strides.begin() + num_lead, strides.end());
  };
  for (const KernelOperand& output : site.outputs) add(output.strides);
  for (const KernelOperand& input : site.inputs) add(BroadcastStrides(input, domain));
  RowLoops loops;
  loops.rows = MergeDims(Dims(domain.begin(), domain.begin() + num_lead), lead);
  loops.row = MergeDims(Dims(domain.begin() + num_lead, domain.end()), row);
  loops.all = loops.rows;
  loops.all.dims.insert(loops.all.dims.end(), loops.row.dims.begin(), loops.row.dims.end());
  for (size_t k = 0; k < loops.all.strides.size(); ++k) {
    Dims& strides = loops.all.strides[k];
    strides.insert(strides.end(), loops.row.strides[k].begin(), loops.row.strides[k].end());
  }
  return loops;
}

int64_t RoundUp(int64_t value, int64_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

Attrs MakeVariant(int64_t threads, int64_t rows, int vec, bool held) {
  return {{"held", held}, {"rows", Dim(rows)}, {"threads", Dim(threads)}, {"vec", Dim(vec)}};
}

std::vector<Attrs> FindRowwiseVariants(const CudaSite& site) {
  std::optional<RowwiseBody> body = FindRowwiseBody(site);
  if (!body) return {};
  RowLoops loops = FindLoops(site, *body);
  int vec = FindVec(site, loops.all);
  Dim size = loops.row.count(), rows = loops.rows.count();
  if (!size.is_static()) return {MakeVariant(256, 1, vec, false)};
  int64_t vectors = std::max<int64_t>(1, size.value() / vec), held = kMaxHeld / vec;
  std::vector<Attrs> variants;
  auto add = [&](int64_t threads, int64_t num_rows) {
    Attrs variant = MakeVariant(threads, num_rows, vec, true);
    bool fits = threads <= kMaxThreads && (vectors + threads - 1) / threads <= held;
    if (fits && std::find(variants.begin(), variants.end(), variant) == variants.end()) {
      variants.push_back(std::move(variant));
    }
  };
  // Few rows: a block for each, with a thread per vector. Many: a warp for each if it holds one.
  constexpr int64_t kRowsPerBlock = 4;
  bool few = rows.is_static() && rows.value() < kRowsPerBlock * site.target.num_sms;
  if (few) add(RoundUp(vectors, kWarp), 1);
  add(kWarp, kRowsPerBlock);
  for (int64_t each : {2, 4, 8}) add(RoundUp((vectors + each - 1) / each, kWarp), 1);
  if (!few) add(RoundUp(vectors, kWarp), 1);
  if (variants.empty() || vectors > kMaxThreads) {
    variants.push_back(MakeVariant(vectors >= 512 ? 512 : 128, 1, vec, false));
  }
  return variants;
}

class RowwiseWriter {
 public:
  RowwiseWriter(const CudaSite& site, const Attrs& variant)
      : site_(site),
        body_(*FindRowwiseBody(site)),
        text_(site),
        values_(text_),
        loops_(FindLoops(site, body_)),
        vec_(std::min<int>(FindVec(site, loops_.all), static_cast<int>(variant.GetInt("vec")))),
        threads_(variant.GetInt("threads")),
        rows_(variant.GetInt("rows")),
        type_(site.body.type(body_.x).dtype == DType::kFloat64 ? "double" : "float") {
    Dim size = loops_.row.count();
    if (size.is_static() && variant.GetBool("held")) {
      int64_t each = vec_ * threads_;
      num_steps_ = std::max<int64_t>(1, (size.value() + each - 1) / each);
      held_ = num_steps_ * vec_ <= 2 * kMaxHeld;
      exact_ = size.value() == num_steps_ * each;
    }
  }

  CudaKernel Write() {
    WriteRow();
    std::string_view op = body_.anchor->op->name;
    if (op == "softmax" || op == "log_softmax") {
      WriteSoftmax(op == "log_softmax");
    } else {
      WriteNorm(op == "layer_norm");
    }
    return text_.Finish(EntryName("rowwise", site_.body), {CeilDiv(loops_.rows.count(), rows_)},
                        static_cast<int>(threads_ * rows_));
  }

 private:
  bool warp() const { return threads_ == kWarp; }
  std::string thread() const { return rows_ == 1 ? "threadIdx.x" : "lane"; }

  void WriteRow() {
    if (rows_ == 1) {
      text_.Line("const Index row = blockIdx.x;");
    } else {
      text_.Line("const Index row = Index(blockIdx.x) * {} + threadIdx.x / {};", rows_, threads_);
      text_.Line("const Index lane = threadIdx.x % {};", threads_);
      text_.Line("if (row >= {}) return;", text_.Size(loops_.rows.count()));
    }
    size_t num_rows = loops_.rows.dims.size(), num_all = loops_.all.dims.size();
    for (size_t d = 0; d < num_rows; ++d) {
      row_names_.push_back(num_rows == 1 ? "row" : fmt::format("r{}", d));
    }
    for (size_t d = num_rows; d < num_all; ++d) {
      column_names_.push_back(num_all - num_rows == 1 ? "i" : fmt::format("i{}", d - num_rows));
    }
    std::vector<std::string> names = row_names_;
    names.insert(names.end(), column_names_.begin(), column_names_.end());
    vectors_.emplace(text_, loops_.all, vec_, "", names);
    used_ = vectors_->FindUsed();
    WriteCoordinates(text_, loops_.rows, "row", row_names_,
                     {used_.begin(), used_.begin() + num_rows});
    WriteOnlyStep();
    text_.Line("LaunchDependents();");
    WriteConstants();
    text_.Line("WaitForInputs();");
  }

  // Constants that are the same for all rows are read while the kernel before still runs.
  void WriteConstants() {
    if (!held_) return;
    for (size_t i = 0; i < site_.inputs.size(); ++i) {
      const KernelOperand& input = site_.inputs[i];
      if (!input.constant || !vectors_->IsContiguous(i)) continue;
      preloaded_.insert(site_.body.inputs()[i]);
      text_.Line("Vec<{}, {}> {}_held[{}];", vectors_->InputType(i), vec_, text_.input_name(i),
                 num_steps_);
      OpenSteps();
      text_.Line("{}_held[step] = Load<{}>({});", text_.input_name(i), vec_,
                 vectors_->InputAddress(i));
      CloseSteps();
    }
  }

  // A block, run for each of the thread's vectors of the row, `i` being the first element of it.
  void OpenSteps() {
    std::string size = text_.Size(loops_.row.count());
    if (!held_) {
      text_.Open("for (Index i = {}{}; i < {}; i += {})", thread(), Times(vec_), size,
                 threads_ * vec_);
      WriteColumns();
      return;
    }
    if (num_steps_ > 1) {
      text_.OpenLoop("step", num_steps_);
      std::string at = fmt::format("step * {} + {}", threads_, thread());
      text_.Line("const Index i = {};", vec_ == 1 ? at : fmt::format("({}) * {}", at, vec_));
      WriteColumns();
    }
    if (!exact_) {
      text_.Open("if (i < {})", size);
    } else if (num_steps_ == 1) {
      text_.OpenBlock();
    }
  }
  void CloseSteps() {
    if (!held_) {
      text_.Close();
      return;
    }
    if (!exact_ || num_steps_ == 1) text_.Close();
    if (num_steps_ > 1) text_.Close();
  }

  // A row that takes one step: where in it the thread works.
  void WriteOnlyStep() {
    if (!held_ || num_steps_ > 1) return;
    text_.Line("constexpr int step = 0;");
    text_.Line("const Index i = {}{};", thread(), Times(vec_));
    WriteColumns();
  }

  void WriteColumns() {
    WriteCoordinates(text_, loops_.row, "i", column_names_,
                     {used_.begin() + loops_.rows.dims.size(), used_.end()});
  }

  static std::string Times(int64_t factor) {
    return factor == 1 ? "" : fmt::format(" * {}", factor);
  }

  // One pass over the row, `values` being what `element` asks for. x is read from the registers
  // that hold it once `from_held`.
  void Pass(const std::vector<ValueId>& values, bool from_held, const std::vector<size_t>& outputs,
            const std::function<void()>& element) {
    OpenSteps();
    std::set<ValueId> known = {body_.y};
    if (from_held) known.insert(body_.x);
    std::map<ValueId, std::string> reads;
    for (ValueId source : FindSources(site_.body, values, known)) {
      if (source == body_.y) continue;
      if (from_held && source == body_.x) {
        reads[source] = fmt::format("held[step * {} + j]", vec_);
        continue;
      }
      for (size_t i = 0; i < site_.inputs.size(); ++i) {
        if (site_.body.inputs()[i] != source) continue;
        std::string read = preloaded_.contains(source)
                               ? fmt::format("{}_held[step][j]", text_.input_name(i))
                               : vectors_->Load(i);
        reads[source] = fmt::format("ToCompute({})", read);
      }
    }
    for (size_t i : outputs) vectors_->Declare(i);
    text_.OpenLoop("j", vec_);
    values_.Enter();
    for (const auto& [value, read] : reads) values_.Define(value, read);
    element();
    for (size_t i : outputs) {
      text_.Line("{} = {};", vectors_->Target(i), values_.Element(site_.body.outputs()[i]));
    }
    values_.Leave();
    text_.Close();
    for (size_t i : outputs) vectors_->Store(i);
    CloseSteps();
  }

  // The first pass: reads x, holds it, writes the outputs that are known before the row is.
  void FirstPass(const std::function<void(const std::string& x)>& element) {
    std::vector<ValueId> values = {body_.x};
    std::vector<size_t> outputs;
    if (held_) {
      text_.Line("{} held[{}];", type_, num_steps_ * vec_);
      outputs = EarlyOutputs();
      for (size_t i : outputs) values.push_back(site_.body.outputs()[i]);
    }
    Pass(values, false, outputs, [&] {
      std::string x = values_.Get(body_.x);
      if (held_) text_.Line("held[step * {} + j] = {};", vec_, x);
      element(x);
    });
  }

  void MiddlePass(const std::function<void(const std::string& x)>& element) {
    Pass({body_.x}, held_, {}, [&] { element(values_.Get(body_.x)); });
  }

  // The last pass: `result` is the anchor's result for x.
  void LastPass(const std::function<std::string(const std::string& x)>& result,
                const std::vector<ValueId>& parameters) {
    std::vector<size_t> outputs;
    std::vector<size_t> early = EarlyOutputs();
    for (size_t i = 0; i < site_.outputs.size(); ++i) {
      bool is_early = std::find(early.begin(), early.end(), i) != early.end();
      if (!held_ || !is_early) outputs.push_back(i);
    }
    std::vector<ValueId> values = {body_.x};
    values.insert(values.end(), parameters.begin(), parameters.end());
    for (size_t i : outputs) values.push_back(site_.body.outputs()[i]);
    Pass(values, held_, outputs, [&] { values_.Define(body_.y, result(values_.Get(body_.x))); });
  }

  std::vector<size_t> EarlyOutputs() const {
    std::vector<size_t> early;
    for (size_t i = 0; i < site_.outputs.size(); ++i) {
      if (!DependsOn(site_.body, site_.body.outputs()[i], body_.y)) early.push_back(i);
    }
    return early;
  }

  void Reduce(const std::string& name, std::string_view op) {
    if (warp()) {
      text_.Line("{} = WarpReduce<32>({}, {}());", name, name, op);
    } else {
      text_.Line("__shared__ {} {}_of_warps[{}];", type_, name, threads_ / kWarp);
      text_.Line("{} = BlockReduce<{}>({}, {}(), {}_of_warps);", name, threads_, name, op, name);
    }
  }

  void WriteSoftmax(bool logarithm) {
    text_.Line("{} top = -kInfinity;", type_);
    FirstPass([&](const std::string& x) { text_.Line("top = maximum(top, {});", x); });
    Reduce("top", "Max");
    text_.Line("{} sum = 0;", type_);
    MiddlePass([&](const std::string& x) { text_.Line("sum += exp({} - top);", x); });
    Reduce("sum", "Sum");
    text_.Line("const {} {};", type_, logarithm ? "log_sum = log(sum)" : "inverse = 1 / sum");
    LastPass(
        [&](const std::string& x) {
          return logarithm ? fmt::format("({} - top) - log_sum", x)
                           : fmt::format("exp({} - top) * inverse", x);
        },
        {});
  }

  void WriteNorm(bool centre) {
    std::string size = text_.Size(loops_.row.count());
    std::string epsilon = NumberText(type_ == "double" ? DType::kFloat64 : DType::kFloat32,
                                     body_.anchor->attrs.GetFloat("eps"));
    if (centre) {
      text_.Line("{} mean = 0;", type_);
      FirstPass([&](const std::string& x) { text_.Line("mean += {};", x); });
      Reduce("mean", "Sum");
      text_.Line("mean = mean / {};", size);
      text_.Line("{} square = 0;", type_);
      MiddlePass(
          [&](const std::string& x) { text_.Line("square += ({} - mean) * ({} - mean);", x, x); });
    } else {
      text_.Line("{} square = 0;", type_);
      FirstPass([&](const std::string& x) { text_.Line("square += {} * {};", x, x); });
    }
    Reduce("square", "Sum");
    text_.Line("const {} scale = 1 / sqrt(square / {} + {});", type_, size, epsilon);
    std::vector<ValueId> parameters;
    for (size_t i = 1; i < body_.anchor->inputs.size(); ++i) {
      if (body_.anchor->inputs[i].valid()) parameters.push_back(body_.anchor->inputs[i]);
    }
    LastPass(
        [&](const std::string& x) {
          std::string result =
              centre ? fmt::format("({} - mean) * scale", x) : fmt::format("{} * scale", x);
          const std::vector<ValueId>& inputs = body_.anchor->inputs;
          if (inputs.size() > 1 && inputs[1].valid()) result += " * " + values_.Get(inputs[1]);
          if (inputs.size() > 2 && inputs[2].valid()) result += " + " + values_.Get(inputs[2]);
          return result;
        },
        parameters);
  }

  const CudaSite& site_;
  RowwiseBody body_;
  KernelText text_;
  BodyText values_;
  RowLoops loops_;
  int vec_;
  int64_t threads_, rows_;
  std::string type_;  // of statistics
  int64_t num_steps_ = 0;
  bool held_ = false, exact_ = false;
  std::vector<std::string> row_names_, column_names_;
  std::optional<VectorText> vectors_;
  std::vector<bool> used_;
  std::set<ValueId> preloaded_;
};

CudaKernel MakeRowwiseKernel(const CudaSite& site, const Attrs& variant) {
  return RowwiseWriter(site, variant).Write();
}

}  // namespace

const KernelFamily kRowwiseFamily = {"rowwise", FindRowwiseVariants, MakeRowwiseKernel};

}  // namespace stator

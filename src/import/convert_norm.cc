// Converters of normalisations. Mixed dtypes (16-bit input, float32 statistics) are computed in the
// wider one and cast back, as torch does.
#include <algorithm>
#include <limits>

#include "import/conversion.h"

namespace stator {
namespace {

using Values = std::vector<ValueId>;

// op(inputs...) in the widest dtype of the inputs, in the dtype of the first.
ValueId AddNorm(Conversion& c, std::string_view op, std::initializer_list<ValueId> inputs,
                Attrs attrs) {
  DType wide = WidestDType(c, inputs), dtype = c.type(*inputs.begin()).dtype;
  Values casted;
  for (ValueId input : inputs) casted.push_back(input.valid() ? c.Cast(input, wide) : input);
  return c.Cast(c.Add(op, std::move(casted), std::move(attrs)), dtype);
}

// The outputs: the result, and the statistics that torch saves for a backward pass where they are
// used: the mean of `x` over `axes` (unless `centered` is false), and 1 / sqrt(variance + eps).
Values WithStatistics(Conversion& c, ValueId result, ValueId x, const std::vector<int>& axes,
                      double eps, bool centered = true) {
  Values values(std::max(c.num_outputs(), 1));
  values[0] = result;
  bool used = false;
  for (int i = 1; i < c.num_outputs(); ++i) used = used || c.IsUsed(i);
  if (!used) return values;
  if (c.type(x).dtype != DType::kFloat64) x = c.Cast(x, DType::kFloat32);
  DType dtype = c.type(x).dtype;
  Attrs mean = {{"axes", ToDims(axes)}, {"keepdim", false}};
  Attrs variance = {{"axes", ToDims(axes)}, {"correction", 0.0}, {"keepdim", false}};
  ValueId spread =
      centered ? c.Add("var", {x}, variance) : c.Add("mean", {c.Add("square", {x})}, mean);
  std::vector<ValueId> saved = {c.Add("rsqrt", {c.Add("add", {spread, c.Literal(dtype, eps)})})};
  if (centered) saved.insert(saved.begin(), c.Add("mean", {x}, mean));
  for (size_t i = 0; i < saved.size() && i + 1 < values.size(); ++i) {
    const TensorType& type = c.output_type(static_cast<int>(i) + 1);
    values[i + 1] = c.Cast(c.Reshape(saved[i], type.dims), type.dtype);
  }
  return values;
}

// The last dims, over which a layer is normalised.
std::vector<int> LastAxes(const Conversion& c, ValueId x) {
  std::vector<int> axes;
  int rank = c.type(x).rank(), count = static_cast<int>(c.Sizes("normalized_shape").size());
  for (int axis = std::max(rank - count, 0); axis < rank; ++axis) axes.push_back(axis);
  return axes;
}

Dim NumNormalisedDims(const Conversion& c) {
  return static_cast<int64_t>(c.Sizes("normalized_shape").size());
}

Values ConvertLayerNorm(Conversion& c, std::string_view) {
  ValueId input = c.Tensor("input");
  double eps = c.Float("eps", 1e-5);
  ValueId result = AddNorm(c, "layer_norm", {input, c.FindTensor("weight"), c.FindTensor("bias")},
                           {{"num_dims", NumNormalisedDims(c)}, {"eps", eps}});
  return WithStatistics(c, result, input, LastAxes(c, input), eps);
}

Values ConvertRmsNorm(Conversion& c, std::string_view) {
  ValueId input = c.Tensor("input");
  DType dtype = c.type(input).dtype;
  bool wide = dtype == DType::kFloat32 || dtype == DType::kFloat64;
  c.Require(c.Has("eps") || wide, "rms_norm of a 16-bit float without eps");
  double eps = c.Float("eps", dtype == DType::kFloat64 ? std::numeric_limits<double>::epsilon()
                                                       : std::numeric_limits<float>::epsilon());
  ValueId result = AddNorm(c, "rms_norm", {input, c.FindTensor("weight")},
                           {{"num_dims", NumNormalisedDims(c)}, {"eps", eps}});
  return WithStatistics(c, result, input, LastAxes(c, input), eps, /*centered=*/false);
}

Values ConvertGroupNorm(Conversion& c, std::string_view groups) {
  ValueId x = c.Tensor("input");
  Dim num_groups = c.Int(groups);
  double eps = c.Float("eps", 1e-5);
  ValueId result = AddNorm(c, "group_norm", {x, c.FindTensor("weight"), c.FindTensor("bias")},
                           {{"groups", num_groups}, {"eps", eps}});
  if (c.num_outputs() == 1) return {result};
  Dim batch = c.type(x).dims.at(0), elements = FloorDiv(c.type(x).num_elements(), batch);
  x = c.Reshape(x, {batch, num_groups, FloorDiv(elements, num_groups)});
  return WithStatistics(c, result, x, {2}, eps);
}

ValueId AddBatchNorm(Conversion& c) {
  ValueId mean = c.FindTensor("running_mean"), var = c.FindTensor("running_var");
  c.Require(mean.valid() && var.valid(), "batch_norm without running statistics");
  return AddNorm(c, "batch_norm",
                 {c.Tensor("input"), c.FindTensor("weight"), c.FindTensor("bias"), mean, var},
                 {{"eps", c.Has("epsilon") ? c.Float("epsilon") : c.Float("eps", 1e-5)}});
}

// `training` names the argument that must be false; empty for overloads that never train.
Values ConvertBatchNorm(Conversion& c, std::string_view training) {
  c.Require(training.empty() || !c.Bool(training),
            "batch_norm in training updates its running statistics: call model.eval() first");
  Values values(c.num_outputs());
  values[0] = AddBatchNorm(c);
  for (int i = 1; i < std::min(c.num_outputs(), 3); ++i) {  // nothing to save
    const TensorType& type = c.output_type(i);
    if (type.dims == Dims{0}) values[i] = c.Full(type.dims, type.dtype, {});
  }
  if (c.num_outputs() > 3) {  // the new running statistics
    values[3] = c.Cast(c.Tensor("running_mean"), c.output_type(3).dtype);
    values[4] = c.Cast(c.Tensor("running_var"), c.output_type(4).dtype);
  }
  return values;
}

// batch_norm by the statistics of the batch itself: those of each channel over all samples, which
// is a group norm of the batch seen as one sample.
Values ConvertBatchNormOfBatch(Conversion& c, std::string_view) {
  ValueId input = c.Tensor("input");
  double eps = c.Float("eps", 1e-5);
  const Dims dims = c.type(input).dims;
  c.Require(dims.size() >= 2 && dims[1].is_static(), "batch_norm of a symbolic number of channels");
  bool single = dims[0] == Dim(1);
  ValueId x = input;
  if (!single) {
    x = c.Transpose(input, 0, 1);
    x = c.Reshape(x, {Dim(1), dims[1], FloorDiv(c.type(input).num_elements(), dims[1])});
  }
  ValueId y = AddNorm(c, "group_norm", {x, c.FindTensor("weight"), c.FindTensor("bias")},
                      {{"groups", dims[1]}, {"eps", eps}});
  if (!single) {
    Dims swapped = dims;
    std::swap(swapped[0], swapped[1]);
    y = c.Transpose(c.Reshape(y, swapped), 0, 1);
  }
  std::vector<int> axes = IdentityPerm(static_cast<int>(dims.size()));
  axes.erase(axes.begin() + 1);
  return WithStatistics(c, y, input, axes, eps);
}

// Each channel of each sample is a group of its own.
Values ConvertInstanceNorm(Conversion& c, std::string_view) {
  if (!c.Bool("use_input_stats")) return {AddBatchNorm(c)};
  c.Require(!c.Has("running_mean"), "instance_norm that updates running statistics");
  ValueId input = c.Tensor("input");
  c.Require(c.type(input).rank() >= 2 && c.type(input).dims[1].is_static(),
            "instance_norm of a symbolic number of channels");
  return {AddNorm(c, "group_norm", {input, c.FindTensor("weight"), c.FindTensor("bias")},
                  {{"groups", c.type(input).dims[1]}, {"eps", c.Float("eps", 1e-5)}})};
}

constexpr Converter kRows[] = {
    {"aten.layer_norm.default", ConvertLayerNorm},
    {"aten.native_layer_norm.default", ConvertLayerNorm},
    {"aten.rms_norm.default", ConvertRmsNorm},
    {"aten._fused_rms_norm.default", ConvertRmsNorm},
    {"aten.group_norm.default", ConvertGroupNorm, "num_groups"},
    {"aten.native_group_norm.default", ConvertGroupNorm, "group"},
    {"aten.instance_norm.default", ConvertInstanceNorm},
    {"aten.batch_norm.default", ConvertBatchNorm, "training"},
    {"aten.native_batch_norm.default", ConvertBatchNorm, "training"},
    {"aten._native_batch_norm_legit.default", ConvertBatchNorm, "training"},
    {"aten._native_batch_norm_legit_functional.default", ConvertBatchNorm, "training"},
    {"aten._native_batch_norm_legit.no_stats", ConvertBatchNormOfBatch},
    {"aten.cudnn_batch_norm.default", ConvertBatchNorm, "training"},
    {"aten._native_batch_norm_legit_no_training.default", ConvertBatchNorm},
    {"aten._batch_norm_no_update.default", ConvertBatchNorm},
};

}  // namespace

std::span<const Converter> NormConverters() { return kRows; }

}  // namespace stator

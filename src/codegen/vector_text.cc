#include "codegen/vector_text.h"

namespace stator {

std::vector<bool> VectorText::FindUsed() const {
  std::vector<bool> used(loop_.dims.size(), false);
  for (size_t k = 0; k < loop_.strides.size(); ++k) {
    if (!flat_.empty() && IsFlat(loop_, k)) continue;
    for (size_t d = 0; d < used.size(); ++d) used[d] = used[d] || !(loop_.strides[k][d] == Dim(0));
  }
  return used;
}

std::string VectorText::Offset(size_t operand) const {
  return OffsetText(text_, loop_, operand, flat_, coordinates_);
}

std::string VectorText::InputAddress(size_t i) {
  return KernelText::At(text_.input_at(i), Offset(num_outputs() + i));
}

std::string VectorText::Load(size_t i) {
  std::string name = text_.input_name(i), at = text_.input_at(i);
  std::string offset = Offset(num_outputs() + i);
  if (vec_ == 1 || InputStride(i) == Dim(0)) {
    text_.Line("const {} {}_element = {}[{}];", InputType(i), name, at, offset);
    return name + "_element";
  }
  if (IsContiguous(i)) {
    text_.Line("const auto {}_vec = Load<{}>({});", name, vec_, InputAddress(i));
  } else {
    text_.Line("Vec<{}, {}> {}_vec;", InputType(i), vec_, name);
    text_.OpenLoop("j", vec_);
    text_.Line("{}_vec[j] = {}[{} + j * {}];", name, at, offset, text_.Size(InputStride(i)));
    text_.Close();
  }
  return name + "_vec[j]";
}

std::string VectorText::Target(size_t i) const {
  if (vec_ > 1) return text_.output_name(i) + "_vec[j]";
  return fmt::format("{}[{}]", text_.output_at(i), Offset(i));
}

void VectorText::Declare(size_t i) {
  if (vec_ == 1) return;
  text_.Line("Vec<{}, {}> {}_vec;", TypeOf(text_.site().outputs[i].dtype), vec_,
             text_.output_name(i));
}

void VectorText::Store(size_t i, const std::string& where) {
  if (vec_ == 1) return;
  text_.Line("{}Store({}, {}_vec);", where, KernelText::At(text_.output_at(i), Offset(i)),
             text_.output_name(i));
}

}  // namespace stator

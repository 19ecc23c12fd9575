// What torch recorded of each tensor of an FX graph, seen as types of ours.
//
// In:  the schema's tensor_values.
// Out: for each FX name its type, or why no value of ours can hold it: a dtype, layout, device or
//      size that only torch knows.
#pragma once

#include <optional>
#include <string>

#include "import/schema/schema.h"
#include "ir/type.h"

namespace stator {

class Metadata {
 public:
  explicit Metadata(const schema::GraphDef& graph) : graph_(graph), device_(FindMainDevice()) {}

  // Raises CorruptFile for a name without an entry.
  const schema::TensorMeta& Get(const std::string& name) const;
  // Why a tensor cannot be a value of ours; empty when it can.
  std::string FindReason(const std::string& name) const;
  // The type of a tensor; a placeholder of bytes for one that FindReason objects to.
  TensorType GetType(const std::string& name) const;
  // How a tensor lies in memory, where that is dense: its dims from outermost to innermost, empty
  // for row-major. None for one with gaps, or whose strides in torch's example are not known.
  std::optional<DimOrder> FindOrder(const std::string& name) const;

 private:
  std::string FindMainDevice() const;

  const schema::GraphDef& graph_;
  std::string device_;  // the one that a program of ours runs on: "cpu", "cuda:1"
};

}  // namespace stator

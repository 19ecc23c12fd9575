// Attributes of a node: compile-time values by name.
//
// Text: true, 3, s0 + 1, 0.5, inf, "none", [1, 2, s0], f32. A float always shows '.', 'e', "inf" or
// "nan", so its kind survives a round trip.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "base/dim.h"
#include "base/dtype.h"

namespace stator {

// An integer attribute is a Dim, since sizes may be symbolic.
using Attr = std::variant<bool, Dim, double, std::string, Dims, DType>;

std::string AttrToString(const Attr& attr);
// "bool", "int", "float", "string", "ints", "dtype": the kind as schemas and errors name it.
std::string_view AttrKindName(const Attr& attr);
// A double as text that reads back to the same bits and is never mistaken for an integer.
std::string FloatToString(double value);

// Attributes sorted by name. The Get functions raise Internal when the name is absent or of another
// kind: schemas are checked when a node is made.
class Attrs {
 public:
  using Entry = std::pair<std::string, Attr>;

  Attrs() = default;
  Attrs(std::initializer_list<Entry> entries);

  bool empty() const { return entries_.empty(); }
  auto begin() const { return entries_.begin(); }
  auto end() const { return entries_.end(); }

  const Attr* Find(std::string_view name) const;
  void Set(std::string_view name, Attr attr);
  void Erase(std::string_view name);

  bool GetBool(std::string_view name) const;
  Dim GetDim(std::string_view name) const;
  int64_t GetInt(std::string_view name) const;  // a static GetDim
  double GetFloat(std::string_view name) const;
  const std::string& GetString(std::string_view name) const;
  const Dims& GetDims(std::string_view name) const;
  std::vector<int64_t> GetInts(std::string_view name) const;  // a static GetDims
  DType GetDType(std::string_view name) const;

  // "{axis = 1, keepdim = true}", or "" when empty.
  std::string ToString() const;

  friend bool operator==(const Attrs& lhs, const Attrs& rhs) = default;

 private:
  template <typename T>
  const T& Get(std::string_view name) const;

  std::vector<Entry> entries_;
};

}  // namespace stator

// Messages of numbered fields, the building block of the plan file.
//
// A message is a list of fields; a field is a byte for its number, a byte for its form, and its
// content: form 0 is an integer (8 bytes, little-endian), form 1 a text or message (4 bytes of
// size, then the bytes). A repeated field is written once per item; a size is an integer field, or
// the text of its expression when symbolic. Invariant: a WireReader never reads outside its bytes;
// what does not fit raises CorruptFile.
#pragma once

#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/dim.h"

namespace stator {

// Characters of a symbolic size. The importer leaves to torch what makes sizes half as long.
inline constexpr size_t kMaxDimText = 1024;

class WireWriter {
 public:
  void AddInt(int field, int64_t value);
  void AddText(int field, std::string_view text);
  void AddDim(int field, const Dim& dim);
  // `write` fills the message.
  template <typename Fn>
  void AddMessage(int field, Fn&& write) {
    WireWriter message;
    write(message);
    AddBytes(field, message.bytes_);
  }
  std::span<const std::byte> bytes() const { return bytes_; }

 private:
  void AddBytes(int field, std::span<const std::byte> bytes);
  void Append(const void* data, size_t size);

  std::vector<std::byte> bytes_;
};

class WireReader {
 public:
  explicit WireReader(std::span<const std::byte> bytes) : rest_(bytes) {}

  // Moves to the next field; false at the end of the message.
  bool Next();
  int field() const { return field_; }

  // The content of the current field, in the form that it must have.
  int64_t Int(int64_t min, int64_t max) const;
  int SmallInt() const;  // 0 to 2^31 - 1
  std::string_view Text() const;
  WireReader Message() const;
  Dim OneDim() const;

  [[noreturn]] void Bad(std::string_view what) const;
  [[noreturn]] void BadField() const;  // the field's number is not known

 private:
  std::span<const std::byte> rest_, content_;
  int field_ = 0;
  int form_ = 0;
};

}  // namespace stator

#include "plan/wire.h"

#include <bit>
#include <limits>

#include "base/error.h"

namespace stator {
namespace {

constexpr uint8_t kIntForm = 0, kBytesForm = 1;
constexpr int64_t kMaxDim = int64_t{1} << 62;

static_assert(std::endian::native == std::endian::little, "plan files are little-endian");

}  // namespace

void WireWriter::Append(const void* data, size_t size) {
  const std::byte* bytes = static_cast<const std::byte*>(data);
  bytes_.insert(bytes_.end(), bytes, bytes + size);
}

void WireWriter::AddInt(int field, int64_t value) {
  uint8_t head[2] = {static_cast<uint8_t>(field), kIntForm};
  Append(head, sizeof(head));
  Append(&value, sizeof(value));
}

void WireWriter::AddBytes(int field, std::span<const std::byte> bytes) {
  STATOR_CHECK(bytes.size() <= UINT32_MAX, "a plan field of {} bytes", bytes.size());
  uint8_t head[2] = {static_cast<uint8_t>(field), kBytesForm};
  uint32_t size = static_cast<uint32_t>(bytes.size());
  Append(head, sizeof(head));
  Append(&size, sizeof(size));
  Append(bytes.data(), bytes.size());
}

void WireWriter::AddText(int field, std::string_view text) {
  AddBytes(field, std::as_bytes(std::span(text)));
}

void WireWriter::AddDim(int field, const Dim& dim) {
  if (dim.is_static()) {
    AddInt(field, dim.value());
  } else {
    AddText(field, dim.ToString());
  }
}

bool WireReader::Next() {
  if (rest_.empty()) return false;
  if (rest_.size() < 2) Bad("ends within a field");
  field_ = static_cast<int>(rest_[0]);
  form_ = static_cast<int>(rest_[1]);
  rest_ = rest_.subspan(2);
  size_t size = sizeof(int64_t);
  if (form_ == kBytesForm) {
    uint32_t stored = 0;
    if (rest_.size() < sizeof(stored)) Bad("ends within a field");
    std::memcpy(&stored, rest_.data(), sizeof(stored));
    rest_ = rest_.subspan(sizeof(stored));
    size = stored;
  } else if (form_ != kIntForm) {
    Bad("has an unknown form");
  }
  if (size > rest_.size()) Bad("ends within a field");
  content_ = rest_.subspan(0, size);
  rest_ = rest_.subspan(size);
  return true;
}

int64_t WireReader::Int(int64_t min, int64_t max) const {
  if (form_ != kIntForm) Bad("is no integer");
  int64_t value = 0;
  std::memcpy(&value, content_.data(), sizeof(value));
  if (value < min || value > max) {
    Bad(fmt::format("is {}, expected {} to {}", value, min, max));
  }
  return value;
}

int WireReader::SmallInt() const {
  return static_cast<int>(Int(0, std::numeric_limits<int>::max()));
}

std::string_view WireReader::Text() const {
  if (form_ != kBytesForm) Bad("is no text");
  return {reinterpret_cast<const char*>(content_.data()), content_.size()};
}

WireReader WireReader::Message() const {
  if (form_ != kBytesForm) Bad("is no message");
  return WireReader(content_);
}

Dim WireReader::OneDim() const {
  if (form_ == kIntForm) return Dim(Int(-kMaxDim, kMaxDim));
  if (content_.size() > kMaxDimText) Bad("is a size of too many characters");
  std::optional<Dim> dim;
  try {
    dim = Dim::Find(Text());
  } catch (const Error& error) {
    Bad(error.message());
  }
  if (!dim) Bad(fmt::format("`{}` is no size", Text()));
  return *dim;
}

void WireReader::Bad(std::string_view what) const {
  Fail(ErrorKind::kCorruptFile, "plan file: field {} {}", field_, what);
}

void WireReader::BadField() const { Bad("is not known"); }

}  // namespace stator

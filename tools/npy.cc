#include "tools/npy.h"

#include <algorithm>
#include <charconv>
#include <cstring>
#include <filesystem>
#include <memory>
#include <optional>

#include <zip.h>

#include "base/error.h"
#include "base/file_map.h"

namespace stator {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kMagic = "\x93NUMPY";
constexpr size_t kMaxRank = 64;  // NumPy's own limit
constexpr uint64_t kMaxZipEntry = uint64_t{1} << 36;

// "<f4" and its kin; multi-byte elements are little endian.
constexpr std::pair<DType, std::string_view> kDescriptors[] = {
    {DType::kBool, "|b1"},    {DType::kUInt8, "|u1"},    {DType::kInt8, "|i1"},
    {DType::kInt16, "<i2"},   {DType::kInt32, "<i4"},    {DType::kInt64, "<i8"},
    {DType::kFloat16, "<f2"}, {DType::kBFloat16, "|V2"}, {DType::kFloat32, "<f4"},
    {DType::kFloat64, "<f8"}};

std::optional<DType> FindDTypeByDescriptor(std::string_view descriptor) {
  for (const auto& [dtype, name] : kDescriptors) {
    // The byte order of one-byte elements and of raw bytes does not matter.
    bool any_order = name.front() == '|' && descriptor.size() > 1 && descriptor.front() != '>';
    if (name == descriptor || (any_order && name.substr(1) == descriptor.substr(1))) return dtype;
  }
  return std::nullopt;
}

// A header: {'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }
struct Header {
  DType dtype = DType::kFloat32;
  bool fortran_order = false;
  Sizes dims;
};

// Reads the Python literal that NumPy writes: a dict of a string, a bool and a tuple of integers.
class HeaderParser {
 public:
  HeaderParser(std::string_view text, const std::string& what) : text_(text), what_(what) {}

  Header Parse() {
    Expect('{');
    while (!Accept('}')) {
      std::string_view key = ParseString();
      Expect(':');
      if (key == "descr") {
        ParseDescriptor();
      } else if (key == "fortran_order") {
        header_.fortran_order = ParseBool();
      } else if (key == "shape") {
        ParseShape();
      } else {
        Fail("unknown key");
      }
      ++num_keys_;
      if (!Accept(',')) {
        Expect('}');
        break;
      }
    }
    SkipSpace();
    if (num_keys_ != 3 || !text_.empty()) Fail("expected the three keys of a .npy header");
    return std::move(header_);
  }

 private:
  [[noreturn]] void Fail(std::string_view reason) {
    stator::Fail(ErrorKind::kCorruptFile, "{}: broken .npy header: {}", what_, reason);
  }
  void SkipSpace() {
    while (!text_.empty() && (text_.front() == ' ' || text_.front() == '\n')) {
      text_.remove_prefix(1);
    }
  }
  bool Accept(char c) {
    SkipSpace();
    if (text_.empty() || text_.front() != c) return false;
    text_.remove_prefix(1);
    return true;
  }
  void Expect(char c) {
    if (!Accept(c)) Fail(fmt::format("expected `{}`", c));
  }

  std::string_view ParseString() {
    char quote = Accept('"') ? '"' : '\'';
    if (quote == '\'') Expect(quote);
    size_t end = text_.find(quote);
    if (end == std::string_view::npos) Fail("a string does not end");
    std::string_view value = text_.substr(0, end);
    text_.remove_prefix(end + 1);
    return value;
  }
  bool ParseBool() {
    SkipSpace();
    for (std::string_view word : {"True", "False"}) {
      if (!text_.starts_with(word)) continue;
      text_.remove_prefix(word.size());
      return word == "True";
    }
    Fail("expected True or False");
  }
  void ParseDescriptor() {
    SkipSpace();
    if (text_.starts_with('[')) {
      stator::Fail(ErrorKind::kUnsupported, "{}: structured dtypes are not supported", what_);
    }
    std::string_view descriptor = ParseString();
    std::optional<DType> dtype = FindDTypeByDescriptor(descriptor);
    if (!dtype) {
      stator::Fail(ErrorKind::kUnsupported,
                   "{}: dtype `{}` is not supported: expected little-endian bool, integers up to "
                   "64 bits (u8 the only unsigned), or floats of 16, 32 or 64 bits",
                   what_, descriptor);
    }
    header_.dtype = *dtype;
  }
  void ParseShape() {
    Expect('(');
    while (!Accept(')')) {
      SkipSpace();
      int64_t size = 0;
      auto [rest, error] = std::from_chars(text_.data(), text_.data() + text_.size(), size);
      if (error != std::errc() || size < 0 || header_.dims.size() >= kMaxRank) Fail("bad shape");
      text_.remove_prefix(static_cast<size_t>(rest - text_.data()));
      header_.dims.push_back(size);
      if (!Accept(',')) {
        Expect(')');
        break;
      }
    }
  }

  std::string_view text_;
  const std::string& what_;
  Header header_;
  int num_keys_ = 0;
};

// Bytes of a dense tensor; empty when they, or the strides of one without elements, overflow.
std::optional<size_t> FindBytes(const Header& header) {
  int64_t bytes = static_cast<int64_t>(DTypeSize(header.dtype));
  bool empty = false;
  for (int64_t size : header.dims) {
    empty = empty || size == 0;
    if (__builtin_mul_overflow(bytes, std::max<int64_t>(size, 1), &bytes)) return std::nullopt;
  }
  return empty ? 0 : static_cast<size_t>(bytes);
}

std::string_view AsText(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

// Splits the file into the header's text and the elements.
std::pair<std::string_view, std::span<const std::byte>> SplitNpy(std::span<const std::byte> bytes,
                                                                 const std::string& what) {
  std::string_view text = AsText(bytes);
  if (text.size() < 10 || !text.starts_with(kMagic)) {
    Fail(ErrorKind::kCorruptFile, "{}: not a .npy file", what);
  }
  int version = static_cast<uint8_t>(text[6]);
  if (version < 1 || version > 3) {
    Fail(ErrorKind::kVersionMismatch, "{}: .npy version {}, expected 1 to 3", what, version);
  }
  size_t length_bytes = version == 1 ? 2 : 4;
  size_t start = 8 + length_bytes, length = 0;
  for (size_t i = length_bytes; i > 0 && start <= text.size(); --i) {
    length = length << 8 | static_cast<uint8_t>(text[7 + i]);
  }
  if (start > text.size() || length > text.size() - start) {
    Fail(ErrorKind::kCorruptFile, "{}: the .npy header is cut off", what);
  }
  return {text.substr(start, length), bytes.subspan(start + length)};
}

struct ZipCloser {
  void operator()(zip_t* archive) const { zip_discard(archive); }
};
using ZipArchive = std::unique_ptr<zip_t, ZipCloser>;

ZipArchive OpenZip(const std::string& path, int flags) {
  int code = 0;
  ZipArchive archive(zip_open(path.c_str(), flags, &code));
  if (archive) return archive;
  zip_error_t error;
  zip_error_init_with_code(&error, code);
  std::string reason = zip_error_strerror(&error);
  zip_error_fini(&error);
  Fail(code == ZIP_ER_NOZIP || code == ZIP_ER_INCONS ? ErrorKind::kCorruptFile
                                                     : ErrorKind::kInvalidArgument,
       "cannot open {}: {}", path, reason);
}

std::vector<std::byte> ReadZipEntry(zip_t* archive, const zip_stat_t& stat,
                                    const std::string& what) {
  if (!(stat.valid & ZIP_STAT_SIZE) || stat.size > kMaxZipEntry) {
    Fail(ErrorKind::kCorruptFile, "{}: the archive names no usable size", what);
  }
  zip_file_t* file = zip_fopen_index(archive, stat.index, 0);
  if (file == nullptr) Fail(ErrorKind::kCorruptFile, "{}: {}", what, zip_strerror(archive));
  // Grows as bytes arrive: the size in the archive may be a lie.
  std::vector<std::byte> bytes;
  constexpr size_t kChunk = size_t{1} << 20;
  zip_int64_t count = 0;
  do {
    size_t at = bytes.size();
    bytes.resize(at + std::min<size_t>(kChunk, stat.size - at));
    count = zip_fread(file, bytes.data() + at, bytes.size() - at);
    bytes.resize(at + static_cast<size_t>(std::max<zip_int64_t>(count, 0)));
  } while (count > 0 && bytes.size() < stat.size);
  zip_fclose(file);
  if (bytes.size() != stat.size) {
    Fail(ErrorKind::kCorruptFile, "{}: expected {} bytes, found {}", what, stat.size, bytes.size());
  }
  return bytes;
}

std::vector<NamedTensor> ReadNpz(const std::string& path) {
  ZipArchive archive = OpenZip(path, ZIP_RDONLY | ZIP_CHECKCONS);
  std::vector<NamedTensor> tensors;
  zip_int64_t count = zip_get_num_entries(archive.get(), 0);
  for (zip_int64_t i = 0; i < count; ++i) {
    zip_stat_t stat;
    if (zip_stat_index(archive.get(), static_cast<zip_uint64_t>(i), 0, &stat) != 0) {
      Fail(ErrorKind::kCorruptFile, "{}: {}", path, zip_strerror(archive.get()));
    }
    std::string name = stat.name;
    std::string what = path + ":" + name;
    if (name.ends_with(".npy")) name.resize(name.size() - 4);
    HostTensor tensor = ParseNpy(ReadZipEntry(archive.get(), stat, what), what);
    tensors.push_back({.name = std::move(name), .tensor = std::move(tensor)});
  }
  return tensors;
}

void WriteNpz(const std::string& path, std::span<const NamedTensor> tensors) {
  std::vector<std::vector<std::byte>> files;  // read by zip_close
  ZipArchive archive = OpenZip(path, ZIP_CREATE | ZIP_TRUNCATE);
  for (const NamedTensor& tensor : tensors) {
    files.push_back(PrintNpy(tensor.tensor.ref));
    zip_source_t* source =
        zip_source_buffer(archive.get(), files.back().data(), files.back().size(), 0);
    std::string name = tensor.name + ".npy";
    zip_int64_t index = zip_file_add(archive.get(), name.c_str(), source, ZIP_FL_ENC_UTF_8);
    if (index < 0 || zip_set_file_compression(archive.get(), static_cast<zip_uint64_t>(index),
                                              ZIP_CM_STORE, 0) != 0) {
      if (index < 0) zip_source_free(source);
      Fail(ErrorKind::kInvalidArgument, "cannot write {}: {}", path, zip_strerror(archive.get()));
    }
  }
  if (zip_close(archive.get()) != 0) {
    Fail(ErrorKind::kInvalidArgument, "cannot write {}: {}", path, zip_strerror(archive.get()));
  }
  archive.release();  // closed
}

}  // namespace

HostTensor ParseNpy(std::span<const std::byte> bytes, const std::string& what) {
  auto [text, elements] = SplitNpy(bytes, what);
  Header header = HeaderParser(text, what).Parse();
  std::optional<size_t> size = FindBytes(header);
  if (!size || *size != elements.size()) {
    Fail(ErrorKind::kCorruptFile, "{}: the shape needs {} bytes, found {}", what,
         size ? fmt::to_string(*size) : "too many", elements.size());
  }
  HostTensor tensor = MakeHostTensor(header.dtype, header.dims);
  if (header.fortran_order) {
    Sizes reversed(header.dims.rbegin(), header.dims.rend());
    Sizes strides = DenseStrides(reversed);
    tensor.ref.strides.assign(strides.rbegin(), strides.rend());
  }
  if (header.dtype == DType::kBool) {
    std::transform(elements.begin(), elements.end(), tensor.ref.data,
                   [](std::byte value) { return std::byte(value != std::byte(0)); });
  } else if (*size > 0) {
    std::memcpy(tensor.ref.data, elements.data(), *size);
  }
  return tensor;
}

std::vector<std::byte> PrintNpy(const TensorRef& tensor) {
  auto descriptor = std::find_if(std::begin(kDescriptors), std::end(kDescriptors),
                                 [&](const auto& entry) { return entry.first == tensor.dtype; });
  std::string shape;
  for (int64_t size : tensor.dims) shape += fmt::format("{},", size);
  std::string header = fmt::format("{{'descr': '{}', 'fortran_order': False, 'shape': ({}), }}",
                                   descriptor->second, shape);
  // Padded so that the elements start at a multiple of 64, as the format asks.
  constexpr size_t kPrefix = 10;
  header.append(63 - (kPrefix + header.size()) % 64, ' ');
  header += '\n';

  HostTensor dense = MakeHostTensor(tensor.dtype, tensor.dims);
  CopyTensor(tensor, dense.ref);
  std::string file(kMagic);
  file += {'\x01', '\x00', static_cast<char>(header.size() & 0xff),
           static_cast<char>(header.size() >> 8)};
  file += header;
  size_t size = static_cast<size_t>(tensor.num_elements()) * DTypeSize(tensor.dtype);
  std::vector<std::byte> bytes(file.size() + size);
  std::memcpy(bytes.data(), file.data(), file.size());
  if (size > 0) std::memcpy(bytes.data() + file.size(), dense.ref.data, size);
  return bytes;
}

std::vector<NamedTensor> ReadTensors(const std::string& path) {
  if (path.ends_with(".npz")) return ReadNpz(path);
  std::vector<NamedTensor> tensors;
  tensors.push_back(
      {.name = fs::path(path).stem(), .tensor = ParseNpy(MapFile(path)->bytes, path)});
  return tensors;
}

void WriteTensors(const std::string& path, std::span<const NamedTensor> tensors) {
  if (path.ends_with(".npz")) return WriteNpz(path, tensors);
  if (!path.ends_with(".npy")) {
    Fail(ErrorKind::kInvalidArgument, "cannot write {}: expected a name that ends in .npz or .npy",
         path);
  }
  if (tensors.size() != 1) {
    Fail(ErrorKind::kInvalidArgument, "cannot write {} tensors to {}: an .npy file holds one",
         tensors.size(), path);
  }
  WriteFile(path, PrintNpy(tensors[0].tensor.ref));
}

}  // namespace stator

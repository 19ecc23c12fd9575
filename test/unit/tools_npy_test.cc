// NumPy files: round trips, Fortran order, and what hostile files may do (raise Error, no more).
#include <cstring>
#include <filesystem>
#include <random>

#include <gtest/gtest.h>
#include <unistd.h>

#include "base/error.h"
#include "base/file_map.h"
#include "tools/npy.h"

namespace stator {
namespace {

namespace fs = std::filesystem;

HostTensor MakeCounting(DType dtype, Sizes dims) {
  HostTensor tensor = MakeHostTensor(dtype, std::move(dims));
  std::byte next{0};
  for (std::byte& byte : tensor.storage)
    byte = next = std::byte((std::to_integer<int>(next) + 1) % 100);
  if (dtype == DType::kBool) {
    for (std::byte& byte : tensor.storage) byte &= std::byte{1};
  }
  return tensor;
}

std::vector<std::byte> MakeNpy(std::string_view header, size_t num_bytes, int version = 1) {
  std::string text = "\x93NUMPY";
  text += {static_cast<char>(version), '\0', static_cast<char>(header.size()), '\0'};
  if (version > 1) text += {'\0', '\0'};
  text += header;
  std::vector<std::byte> bytes(text.size() + num_bytes);
  std::memcpy(bytes.data(), text.data(), text.size());
  for (size_t i = 0; i < num_bytes; ++i) bytes[text.size() + i] = std::byte(i);
  return bytes;
}

ErrorKind KindOf(const std::vector<std::byte>& bytes) {
  try {
    ParseNpy(bytes, "x.npy");
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("x.npy"), std::string::npos) << error.what();
    return error.kind();
  }
  ADD_FAILURE() << "nothing was raised";
  return ErrorKind::kInternal;
}

struct TemporaryFile {
  std::string path;
  explicit TemporaryFile(std::string_view name)
      : path(fs::temp_directory_path() / fmt::format("stator_{}_{}", getpid(), name)) {}
  ~TemporaryFile() { fs::remove(path); }
};

TEST(Npy, RoundTripsEveryDType) {
  for (int i = 0; i < kNumDTypes; ++i) {
    for (const Sizes& dims : {Sizes{}, Sizes{3}, Sizes{0, 4}, Sizes{2, 1, 5}}) {
      HostTensor tensor = MakeCounting(static_cast<DType>(i), dims);
      HostTensor read = ParseNpy(PrintNpy(tensor.ref), "x");
      EXPECT_EQ(read.ref.dtype, tensor.ref.dtype);
      EXPECT_EQ(read.ref.dims, dims);
      size_t size = static_cast<size_t>(tensor.ref.num_elements()) * DTypeSize(tensor.ref.dtype);
      EXPECT_EQ(std::memcmp(read.ref.data, tensor.ref.data, size), 0);
    }
  }
}

TEST(Npy, WritesAlignedElements) {
  std::vector<std::byte> bytes = PrintNpy(MakeCounting(DType::kFloat32, {2, 3}).ref);
  EXPECT_EQ((bytes.size() - 24) % 64, 0u);
}

TEST(Npy, ReadsFortranOrderAsStrides) {
  std::vector<std::byte> bytes =
      MakeNpy("{'descr': '|u1', 'fortran_order': True, 'shape': (2, 3), }", 6);
  HostTensor tensor = ParseNpy(bytes, "x");
  EXPECT_EQ(tensor.ref.dims, (Sizes{2, 3}));
  EXPECT_EQ(tensor.ref.strides, (Sizes{1, 2}));
  HostTensor dense = ParseNpy(PrintNpy(tensor.ref), "x");
  std::vector<uint8_t> expected = {0, 2, 4, 1, 3, 5};
  EXPECT_EQ(std::memcmp(dense.ref.data, expected.data(), 6), 0);
}

TEST(Npy, ReadsLaterVersionsAndOtherSpellings) {
  std::string_view header = "{\"shape\": (2,), 'fortran_order': False, 'descr': '<u1'}\n";
  for (int version : {1, 2, 3}) {
    EXPECT_EQ(ParseNpy(MakeNpy(header, 2, version), "x").ref.dims, (Sizes{2}));
  }
}

TEST(Npy, RefusesWhatItCannotHold) {
  auto header = [](std::string_view descr, std::string_view shape) {
    return fmt::format("{{'descr': {}, 'fortran_order': False, 'shape': {}, }}", descr, shape);
  };
  EXPECT_EQ(KindOf(MakeNpy(header("'>f4'", "(1,)"), 4)), ErrorKind::kUnsupported);
  EXPECT_EQ(KindOf(MakeNpy(header("'|O'", "(1,)"), 8)), ErrorKind::kUnsupported);
  EXPECT_EQ(KindOf(MakeNpy(header("'<c8'", "(1,)"), 8)), ErrorKind::kUnsupported);
  EXPECT_EQ(KindOf(MakeNpy(header("[('a', '<f4')]", "(1,)"), 4)), ErrorKind::kUnsupported);
  EXPECT_EQ(KindOf(MakeNpy(header("'<f4'", "(1,)"), 4, 9)), ErrorKind::kVersionMismatch);
  for (std::string_view shape :
       {"(2,)", "(-1,)", "(0.5,)", "(1", "1", "(4611686018427387904, 4)",
        "(0, 9223372036854775807, 9223372036854775807)", "(99999999999999999999,)"}) {
    EXPECT_EQ(KindOf(MakeNpy(header("'<f4'", shape), 4)), ErrorKind::kCorruptFile) << shape;
  }
  for (std::string_view text : {"", "{", "{}", "{'descr': '<f4'}", "[1]", "{'descr: 1}"}) {
    EXPECT_EQ(KindOf(MakeNpy(text, 4)), ErrorKind::kCorruptFile) << text;
  }
}

TEST(Npy, DamagedFilesRaise) {
  std::vector<std::byte> whole = PrintNpy(MakeCounting(DType::kFloat32, {2, 3}).ref);
  for (size_t size = 0; size < whole.size(); ++size) {
    EXPECT_THROW(ParseNpy({whole.data(), size}, "x"), Error) << size;
  }
  std::mt19937 random(1);
  for (int i = 0; i < 20000; ++i) {
    std::vector<std::byte> bytes = whole;
    for (int k = 0; k < 3; ++k) bytes[random() % 90] = std::byte(random());
    try {
      ParseNpy(bytes, "x");  // may well be valid still
    } catch (const Error&) {
    }
  }
}

TEST(Npz, RoundTripsByName) {
  TemporaryFile file("tensors.npz");
  std::vector<NamedTensor> tensors;
  tensors.push_back({.name = "x", .tensor = MakeCounting(DType::kFloat32, {2, 3})});
  tensors.push_back({.name = "layer.weight", .tensor = MakeCounting(DType::kInt64, {})});
  WriteTensors(file.path, tensors);
  std::vector<NamedTensor> read = ReadTensors(file.path);
  ASSERT_EQ(read.size(), 2u);
  for (size_t i = 0; i < 2; ++i) {
    EXPECT_EQ(read[i].name, tensors[i].name);
    EXPECT_EQ(read[i].tensor.storage, tensors[i].tensor.storage);
  }
}

TEST(Npz, DamagedArchivesRaise) {
  TemporaryFile file("damaged.npz");
  std::vector<NamedTensor> tensors;
  tensors.push_back({.name = "x", .tensor = MakeCounting(DType::kFloat32, {2, 3})});
  WriteTensors(file.path, tensors);
  std::shared_ptr<const FileMap> map = MapFile(file.path);
  std::vector<std::byte> whole(map->bytes.begin(), map->bytes.end());
  for (size_t size = 0; size < whole.size(); size += 7) {
    WriteFile(file.path, {whole.data(), size});
    EXPECT_THROW(ReadTensors(file.path), Error) << size;
  }
  std::mt19937 random(2);
  for (int i = 0; i < 500; ++i) {
    std::vector<std::byte> bytes = whole;
    bytes[random() % bytes.size()] = std::byte(random());
    WriteFile(file.path, bytes);
    try {
      ReadTensors(file.path);
    } catch (const Error&) {
    }
  }
}

TEST(Npz, NamesWhatCannotBeReadOrWritten) {
  EXPECT_THROW(ReadTensors("/nowhere/x.npz"), Error);
  EXPECT_THROW(ReadTensors("/nowhere/x.npy"), Error);
  std::vector<NamedTensor> tensors;
  EXPECT_THROW(WriteTensors("x.npy", tensors), Error);  // an .npy holds one tensor
  tensors.push_back({.name = "x", .tensor = MakeCounting(DType::kFloat32, {2})});
  EXPECT_THROW(WriteTensors("/nowhere/x.npz", tensors), Error);
  EXPECT_THROW(WriteTensors("/nowhere/x.npy", tensors), Error);
  EXPECT_THROW(WriteTensors("x.txt", tensors), Error);
}

}  // namespace
}  // namespace stator

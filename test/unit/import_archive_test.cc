// .pt2 archives: weights in place, and each way in which an archive may be broken.
#include <cstring>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "import/import.h"
#include "import_data.h"

namespace stator {
namespace {

using testing::HasSubstr;

constexpr char kConfig[] = "convolutions/data/weights/model_weights_config.json";

std::string ReadConfig() {
  return Archive(DataPath("convolutions.pt2"), "archive_format")
      .ReadText("data/weights/model_weights_config.json");
}

void ExpectError(const std::string& path, ErrorKind kind, std::string_view message) {
  try {
    ImportArchive(path);
    FAIL() << message;
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), kind) << error.what();
    EXPECT_THAT(error.message(), HasSubstr(message));
    EXPECT_THAT(error.message(), HasSubstr(path));
  }
}

// The error of convolutions.pt2 with one entry replaced.
void ExpectErrorWith(const std::string& entry, const std::string& content, ErrorKind kind,
                     std::string_view message) {
  TemporaryFile file("replaced.pt2");
  file.Write(ReadFile(DataPath("convolutions.pt2")));
  ReplaceEntry(file.path(), entry, content);
  ExpectError(file.path(), kind, message);
}

TEST(Archive, StoredEntriesLieInTheMappedFile) {
  std::string file = ReadFile(DataPath("convolutions.pt2"));
  ConstantData entry =
      Archive(DataPath("convolutions.pt2"), "archive_format").Read("data/weights/weight_0");
  ASSERT_EQ(entry.size, 4 * 5 * sizeof(float));
  const auto* map = static_cast<const FileMap*>(entry.owner.get());
  ASSERT_EQ(map->bytes.size(), file.size());
  EXPECT_GE(entry.bytes, map->bytes.data());
  EXPECT_LE(entry.bytes + entry.size, map->bytes.data() + map->bytes.size());
  float first;
  std::memcpy(&first, entry.bytes, sizeof(first));
  EXPECT_EQ(first, -6.0f / 8);
}

TEST(Archive, DeflatedEntriesAreInflated) {
  TemporaryFile file("deflated.pt2");
  file.Write(ReadFile(DataPath("convolutions.pt2")));
  std::string content(100000, 'x');
  ReplaceEntry(file.path(), "convolutions/data/weights/weight_0", content);
  EXPECT_LT(std::filesystem::file_size(file.path()), 60000u);
  EXPECT_EQ(Archive(file.path(), "archive_format").ReadText("data/weights/weight_0"), content);
}

TEST(Archive, ATransposedWeightIsCopiedInRowMajorOrder) {
  ImportedGraph program = ImportArchive(DataPath("convolutions.pt2"));
  for (ValueId id : program.graph.constants()) {
    const Value& value = program.graph.value(id);
    if (value.name != "head.weight") continue;
    const auto* elements = reinterpret_cast<const float*>(value.data.bytes);
    // Row-major [5, 4] of the transposed ramp of [4, 5].
    EXPECT_EQ(elements[0], -6.0f / 8);
    EXPECT_EQ(elements[1], static_cast<float>(7 * 5 % 13 - 6) / 8);
    return;
  }
  FAIL() << "no head.weight";
}

TEST(Archive, NoFile) {
  try {
    ImportArchive("/nonexistent/model.pt2");
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kInvalidArgument);
  }
}

TEST(Archive, NoZip) {
  TemporaryFile file("no_zip.pt2");
  for (const std::string& content : {std::string("PK"), std::string(5000, 'x')}) {
    file.Write(content);
    ExpectError(file.path(), ErrorKind::kCorruptFile, "not a zip archive");
  }
  file.Write("");  // to libzip this is an archive without entries
  ExpectError(file.path(), ErrorKind::kCorruptFile, "no entry `archive_format`");
}

TEST(Archive, Truncated) {
  std::string bytes = ReadFile(DataPath("convolutions.pt2"));
  TemporaryFile file("truncated.pt2");
  for (size_t size : {bytes.size() / 3, bytes.size() - 30}) {
    file.Write(bytes.substr(0, size));
    ExpectError(file.path(), ErrorKind::kCorruptFile, "not a zip archive");
  }
}

TEST(Archive, ADamagedWeight) {
  std::string bytes = ReadFile(DataPath("convolutions.pt2"));
  ConstantData entry =
      Archive(DataPath("convolutions.pt2"), "archive_format").Read("data/weights/weight_0");
  size_t offset = bytes.find(std::string(reinterpret_cast<const char*>(entry.bytes), entry.size));
  ASSERT_NE(offset, std::string::npos);
  bytes[offset + 17] ^= 4;
  TemporaryFile file("damaged.pt2");
  file.Write(bytes);
  ExpectError(file.path(), ErrorKind::kCorruptFile, "entry `data/weights/weight_0` is damaged");
}

TEST(Archive, AnotherFormat) {
  ExpectErrorWith("convolutions/archive_format", "pt3", ErrorKind::kCorruptFile,
                  "archive_format is `pt3` where `pt2` is expected");
  ExpectErrorWith("convolutions/archive_version", "1", ErrorKind::kVersionMismatch,
                  "archive_version is `1`");
  ExpectErrorWith("convolutions/byteorder", "big", ErrorKind::kUnsupported, "byteorder is `big`");
}

TEST(Archive, APickledWeightIsRefused) {
  std::string config = Replace(ReadConfig(), R"("use_pickle": false)", R"("use_pickle": true)");
  ExpectErrorWith(kConfig, config, ErrorKind::kUnsupported,
                  "weight `same_head` is a pickle, which may run code when it is read");
}

TEST(Archive, AWeightThatEndsOutsideItsStorage) {
  std::string config = ReadConfig();
  ExpectErrorWith(
      kConfig,
      Replace(config, R"("storage_offset": {"as_int": 0})", R"("storage_offset": {"as_int": 1})"),
      ErrorKind::kCorruptFile, "weight `same_head` ends at element 21 of a storage of 80 bytes");
  ExpectErrorWith(
      kConfig,
      Replace(config, R"("strides": [{"as_int": 1})", R"("strides": [{"as_int": 1099511627776})"),
      ErrorKind::kCorruptFile, "weight `same_head` ends at element");
  ExpectErrorWith(kConfig,
                  Replace(config, R"("strides": [{"as_int": 1})", R"("strides": [{"as_int": -1})"),
                  ErrorKind::kCorruptFile, "no valid sizes or strides");
  ExpectErrorWith("convolutions/data/weights/weight_0", "short", ErrorKind::kCorruptFile,
                  "of a storage of 5 bytes");
}

TEST(Archive, AWeightOfAnotherType) {
  ExpectErrorWith(kConfig, Replace(ReadConfig(), R"("dtype": 7)", R"("dtype": 4)"),
                  ErrorKind::kCorruptFile, "weight `same_head` is i32 where the program has f32");
  ExpectErrorWith(kConfig,
                  Replace(ReadConfig(), R"("sizes": [{"as_int": 5})", R"("sizes": [{"as_int": 2})"),
                  ErrorKind::kCorruptFile, "has 32 bytes where f32[5, 4] needs 80");
}

TEST(Archive, AMissingWeight) {
  ExpectErrorWith(kConfig, Replace(ReadConfig(), R"("same_head")", R"("some_head")"),
                  ErrorKind::kCorruptFile, "there are no bytes of weight `same_head`");
  ExpectErrorWith(kConfig, Replace(ReadConfig(), R"("weight_0")", R"("../weight_0")"),
                  ErrorKind::kCorruptFile, "entry `data/weights/../weight_0` is missing");
}

}  // namespace
}  // namespace stator

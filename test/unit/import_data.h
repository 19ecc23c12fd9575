// What the importer's tests share: the programs under test/data, and copies of them with one entry
// replaced.
#pragma once

#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

#include <gtest/gtest.h>
#include <unistd.h>
#include <zip.h>

#include "import/schema/archive.h"
#include "ops/tensor.h"

namespace stator {

inline std::string DataPath(const std::string& file) {
  return std::string(STATOR_GOLDEN_DIR) + "/../data/" + file;
}

// A file of this test alone, removed at its end.
class TemporaryFile {
 public:
  explicit TemporaryFile(const std::string& name)
      : path_(testing::TempDir() + std::to_string(getpid()) + "_" + name) {}
  ~TemporaryFile() { std::filesystem::remove(path_); }
  const std::string& path() const { return path_; }
  void Write(std::string_view bytes) const {
    std::ofstream(path_, std::ios::binary).write(bytes.data(), std::ssize(bytes));
  }

 private:
  std::string path_;
};

inline std::string ReadFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

inline std::string ReadProgramText(const std::string& file) {
  return Archive(DataPath(file), "archive_format").ReadText("models/model.json");
}

// `text` with the first `from` replaced; fails when there is none.
inline std::string Replace(std::string text, std::string_view from, std::string_view to) {
  size_t at = text.find(from);
  EXPECT_NE(at, std::string::npos) << from;
  return at == std::string::npos ? text : text.replace(at, from.size(), to);
}

// Replaces an entry of the archive at `path`; it is deflated, as libzip does by default.
inline void ReplaceEntry(const std::string& path, const std::string& entry,
                         const std::string& content) {
  zip_t* archive = zip_open(path.c_str(), 0, nullptr);
  ASSERT_NE(archive, nullptr);
  zip_source_t* source = zip_source_buffer(archive, content.data(), content.size(), 0);
  ASSERT_GE(zip_file_add(archive, entry.c_str(), source, ZIP_FL_OVERWRITE), 0);
  ASSERT_EQ(zip_close(archive), 0);
}

// (7 i mod 13 - 6) / 8 for the i-th element, as in test/python/make_programs.py.
inline HostTensor MakeRamp(Sizes dims) {
  HostTensor tensor = MakeHostTensor(DType::kFloat32, std::move(dims));
  for (int64_t i = 0; i < tensor.ref.num_elements(); ++i) {
    Data<float>(tensor.ref)[i] = static_cast<float>(7 * i % 13 - 6) / 8;
  }
  return tensor;
}

struct ExpectedOutput {
  Sizes dims;
  std::vector<float> elements;
};

// The outputs that eager torch returned, from test/data/NAME.txt.
inline std::vector<ExpectedOutput> ReadExpected(const std::string& file) {
  std::vector<ExpectedOutput> outputs;
  std::istringstream lines(ReadFile(DataPath(file)));
  for (std::string line; std::getline(lines, line);) {
    ExpectedOutput& output = outputs.emplace_back();
    std::istringstream dims(line.substr(0, line.find(':')));
    std::istringstream elements(line.substr(line.find(':') + 1));
    for (int64_t dim; dims >> dim;) output.dims.push_back(dim);
    for (float element; elements >> element;) output.elements.push_back(element);
  }
  return outputs;
}

}  // namespace stator

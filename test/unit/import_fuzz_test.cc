// Damaged archives and programs: importing them may fail with an Error, and nothing else.
#include <random>

#include <gtest/gtest.h>

#include "base/error.h"
#include "import/import.h"
#include "import_data.h"
#include "ir/verify.h"

namespace stator {
namespace {

constexpr uint32_t kSeed = 20260101;
constexpr int kNumArchives = 1000, kNumPrograms = 2000;

class Mutator {
 public:
  explicit Mutator(uint32_t seed) : random_(seed) {}

  // One to four edits: a flipped bit, another byte, a part that is removed or doubled, or, for
  // JSON, a number or a string that takes the place of another.
  std::string Mutate(std::string bytes, bool json) {
    for (int edits = Below(4) + 1; edits > 0 && !bytes.empty(); --edits) {
      size_t at = Below(bytes.size()), size = Below(std::min<size_t>(bytes.size() - at, 64)) + 1;
      switch (Below(json ? 6 : 4)) {
        case 0: bytes[at] ^= static_cast<char>(1 << Below(8)); break;
        case 1: bytes[at] = static_cast<char>(Below(256)); break;
        case 2: bytes.erase(at, size); break;
        case 3: bytes.insert(at, bytes.substr(at, size)); break;
        default: ReplaceToken(bytes, at); break;
      }
    }
    return bytes;
  }

 private:
  size_t Below(size_t bound) { return bound == 0 ? 0 : random_() % bound; }

  void ReplaceToken(std::string& text, size_t at) {
    static constexpr std::string_view kTokens[] = {"0",
                                                   "1",
                                                   "-1",
                                                   "2",
                                                   "9223372036854775807",
                                                   "-9223372036854775808",
                                                   "1099511627776",
                                                   "1e999",
                                                   "null",
                                                   "true",
                                                   "\"\"",
                                                   "\"x\"",
                                                   "[]",
                                                   "{}",
                                                   "[[]]",
                                                   "\"add\"",
                                                   "\"Symbol('s77')\""};
    size_t begin = text.find_first_of(":[", at);
    if (begin == std::string::npos) return;
    size_t end = text.find_first_of(",]}", ++begin);
    if (end == std::string::npos) return;
    text.replace(begin, end - begin, kTokens[Below(std::size(kTokens))]);
  }

  std::mt19937 random_;
};

template <typename Fn>
void ExpectErrorOrGraph(Fn&& import, int& num_imported) {
  try {
    ImportedGraph program = import();
    VerifyGraph(program.graph);
    ++num_imported;
  } catch (const Error& error) {
    EXPECT_NE(error.kind(), ErrorKind::kInternal) << error.what();
  }
}

void FuzzProgram(const std::string& file) {
  std::string json = ReadProgramText(file);
  Mutator mutator(kSeed);
  int num_imported = 0;
  for (int i = 0; i < kNumPrograms / 2; ++i) {
    SCOPED_TRACE(testing::Message() << file << ", seed " << kSeed << ", iteration " << i);
    std::string mutated = mutator.Mutate(json, true);
    ExpectErrorOrGraph([&] { return ImportExportedProgram(mutated, {}); }, num_imported);
  }
  EXPECT_GT(num_imported, 0);
}

void FuzzArchive(const std::string& name) {
  std::string bytes = ReadFile(DataPath(name));
  TemporaryFile file("fuzz_" + name);
  Mutator mutator(kSeed);
  int num_imported = 0;
  for (int i = 0; i < kNumArchives / 2; ++i) {
    SCOPED_TRACE(testing::Message() << name << ", seed " << kSeed << ", iteration " << i);
    file.Write(mutator.Mutate(bytes, false));
    ExpectErrorOrGraph([&] { return ImportArchive(file.path()); }, num_imported);
  }
  EXPECT_GT(num_imported, 0);
}

TEST(ImportFuzz, Programs) {
  FuzzProgram("convolutions.pt2");
  FuzzProgram("views.pt2");
}

TEST(ImportFuzz, Archives) {
  FuzzArchive("convolutions.pt2");
  FuzzArchive("views.pt2");
}

}  // namespace
}  // namespace stator

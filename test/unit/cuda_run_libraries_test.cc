// Libraries are looked for in the documented order, and a missing one is a sentence, not an error.
#include <filesystem>
#include <fstream>

#include <gtest/gtest.h>

#include "cuda/run/cublaslt.h"
#include "cuda/run/cudnn.h"
#include "cuda/run/libraries.h"
#include "cuda/run/shared_library.h"

namespace stator {
namespace {

TEST(SharedLibrary, TakesALibraryThatIsLoaded) {
  constexpr const char* kNames[] = {"libnothing.so.1", "libc.so.6"};
  std::optional<SharedLibrary> library = SharedLibrary::Find(kNames);
  ASSERT_TRUE(library.has_value());
  EXPECT_NE(library->path().find("libc.so.6"), std::string::npos);
  auto length = library->FindFunction<size_t (*)(const char*)>("strlen");
  ASSERT_NE(length, nullptr);
  EXPECT_EQ(length("four"), 4u);
  EXPECT_EQ(library->FindFunction<void (*)()>("stator_has_no_such_function"), nullptr);
}

TEST(SharedLibrary, LooksInTheFoldersGiven) {
  // A copy of a system library under a name that no other place has.
  constexpr const char* kLibm[] = {"libm.so.6"};
  std::optional<SharedLibrary> libm = SharedLibrary::Find(kLibm);
  ASSERT_TRUE(libm.has_value());
  std::filesystem::path folder = std::filesystem::temp_directory_path() / "stator_libraries_test";
  std::filesystem::create_directories(folder);
  std::filesystem::copy_file(libm->path(), folder / "libstator_copy.so",
                             std::filesystem::copy_options::overwrite_existing);
  constexpr const char* kCopy[] = {"libstator_copy.so"};
  EXPECT_FALSE(SharedLibrary::Find(kCopy).has_value());
  AddLibraryFolder(folder.string());
  std::optional<SharedLibrary> copy = SharedLibrary::Find(kCopy);
  ASSERT_TRUE(copy.has_value());
  EXPECT_EQ(copy->path(), (folder / "libstator_copy.so").string());
  std::filesystem::remove_all(folder);
}

TEST(SharedLibrary, SaysWhyNot) {
  constexpr const char* kNames[] = {"libnothing.so.1", "libnothing.so.2"};
  std::string why_not;
  EXPECT_FALSE(SharedLibrary::Find(kNames, &why_not).has_value());
  EXPECT_NE(why_not.find("libnothing.so.1"), std::string::npos);
  EXPECT_NE(why_not.find("libnothing.so.2"), std::string::npos);
}

TEST(CudaLibraries, MissingOnesAreNull) {
  CudaLibraries libraries(nullptr, nullptr);
  EXPECT_EQ(libraries.FindCublasLt(), nullptr);
  EXPECT_EQ(libraries.FindCudnn(), nullptr);
  EXPECT_EQ(libraries.key(), "cuBLASLt 0, cuDNN 0");
}

}  // namespace
}  // namespace stator

// The cache of engines: what is a hit, what a miss and why, and that no damage to the folder or its
// files reaches a result.
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <thread>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "base/file_map.h"
#include "compile/cache_folder.h"
#include "compile/engine_cache.h"
#include "engine_check.h"
#include "ir/parse.h"

namespace stator {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;
using ::testing::StartsWith;

constexpr char kText[] = R"(graph @g(%x: f32[3, 4]) {
  weight %w0: f32[4, 5] = "fc.weight"
  literal %c0: f32[5] = [0.5, 1.0, 1.5, 2.0, 2.5]
  %0 = matmul(%x, %w0)
  %1 = add(%0, %c0)
  %2 = relu(%1)
  return %2
})";

Graph MakeGraph(const std::string& text = kText, float weight = 0.25f,
                const std::string& location = "model.py:1") {
  Graph graph = ParseGraph(text);
  for (ValueId id : graph.constants()) {
    Value& value = graph.mutable_value(id);
    if (value.kind != ValueKind::kWeight) continue;
    std::vector<float> elements(value.type.num_elements().value(), weight);
    std::span bytes = std::as_bytes(std::span(elements));
    value.data = MakeConstantData({bytes.begin(), bytes.end()});
  }
  for (NodeId id : graph.nodes()) {
    graph.mutable_node(id).origin = {.name = fmt::format("node_{}", id.index),
                                     .location = location};
  }
  return graph;
}

std::string Replaced(std::string text, const std::string& from, const std::string& to) {
  return text.replace(text.find(from), from.size(), to);
}

class EngineCacheTest : public ::testing::Test {
 protected:
  void SetUp() override {
    folder_ = fs::path(::testing::TempDir()) /
              fmt::format("{}_{}", ::testing::UnitTest::GetInstance()->current_test_info()->name(),
                          getpid());
    fs::remove_all(folder_);
  }
  void TearDown() override {
    unsetenv("STATOR_CACHE_SIZE");
    fs::remove_all(folder_);
  }

  // Through the cache, as the compiler does; the result must be what the graph computes.
  std::string Build(const Graph& graph, const std::string& context = "build 1\nlevel 3\n") {
    EngineCache cache(folder_.string());
    EngineKey key = MakeEngineKey(graph, context);
    CachedEngine found = cache.Find(key, graph);
    if (found.plan == nullptr) {
      found.plan = CompileGraph(graph, {.optimization_level = 0});
      cache.Store(key, *found.plan);
    }
    plan_ = found.plan;
    std::vector<HostTensor> inputs = RandomInputs(graph, 1);
    std::vector<TensorRef> refs = Refs(inputs);
    EXPECT_TRUE(IsClose(RunPlan(plan_, CpuDevice(), refs)[0].ref, EvaluateGraph(graph, refs)[0].ref,
                        Bounds{}));
    return found.status;
  }

  std::string EnginePath() const {
    std::vector<CacheFile> engines = ListEngines(folder_.string());
    EXPECT_EQ(engines.size(), 1u);
    return engines.at(0).path;
  }

  fs::path folder_;
  std::shared_ptr<const Plan> plan_;  // of the last Build
};

TEST_F(EngineCacheTest, AnEngineIsBuiltOnce) {
  EXPECT_EQ(Build(MakeGraph()), "miss: not cached");
  EXPECT_EQ(Build(MakeGraph()), "hit");
}

TEST_F(EngineCacheTest, EntriesHoldNoWeights) {
  Build(MakeGraph());
  EXPECT_EQ(Build(MakeGraph(kText, -7.0f)), "hit");  // and right: Build compares
  CacheEntry entry = ReadCacheEntry(EnginePath());
  ASSERT_EQ(entry.plan.weights.size(), 1u);
  EXPECT_EQ(entry.plan.weights[0].data.bytes, nullptr);
}

TEST_F(EngineCacheTest, WhateverTheGraphComputesIsInTheKey) {
  Build(MakeGraph());
  EXPECT_EQ(Build(MakeGraph(Replaced(kText, "relu", "tanh"))), "miss: not cached");
  EXPECT_EQ(Build(MakeGraph(Replaced(kText, "1.5", "1.50001"))), "miss: not cached");
  EXPECT_EQ(Build(MakeGraph(Replaced(kText, "f32[3, 4]", "f32[2, 4]"))), "miss: not cached");
  EXPECT_EQ(Build(MakeGraph(Replaced(kText, "fc.weight", "fc.weight2"))), "miss: not cached");
  EXPECT_EQ(Build(MakeGraph(Replaced(kText, "return %2", "return %1"))), "miss: not cached");
}

TEST_F(EngineCacheTest, AMissSaysWhichFactOfTheContextDiffers) {
  Build(MakeGraph());
  EXPECT_EQ(Build(MakeGraph(), "build 2\nlevel 3\n"),
            "miss: cached for `build 1`, not for `build 2`");
  EXPECT_EQ(Build(MakeGraph(), "build 1\nlevel 3\n"), "hit");
}

TEST_F(EngineCacheTest, StepsNameTheLinesOfTheGraphAtHand) {
  Build(MakeGraph());
  EXPECT_EQ(Build(MakeGraph(kText, 0.25f, "model.py:812")), "hit");
  ASSERT_FALSE(plan_->steps.empty());
  EXPECT_THAT(plan_->steps[0].origin, HasSubstr("model.py:812"));
}

TEST_F(EngineCacheTest, ADamagedEntryIsBuiltAgain) {
  Build(MakeGraph());
  std::string path = EnginePath();
  std::string whole(fs::file_size(path), '\0');
  std::ifstream(path, std::ios::binary).read(whole.data(), whole.size());
  std::mt19937 rng(3);
  for (int i = 0; i < 300; ++i) {
    SCOPED_TRACE(i);
    std::string damaged = whole;
    if (i % 3 == 0) {
      damaged.resize(rng() % whole.size());
    } else {
      damaged[rng() % whole.size()] ^= static_cast<char>(1 << rng() % 8);
    }
    std::ofstream(path, std::ios::binary) << damaged;
    ASSERT_THAT(Build(MakeGraph()), StartsWith("miss: " + path + " cannot be used: "));
    ASSERT_EQ(Build(MakeGraph()), "hit");
  }
}

TEST_F(EngineCacheTest, AnEntryUnderAnotherNameIsNotTaken) {
  Build(MakeGraph());
  std::string other = EnginePath();
  Build(MakeGraph(Replaced(kText, "relu", "tanh")));
  std::string own;
  for (const CacheFile& file : ListEngines(folder_.string())) {
    if (file.path != other) own = file.path;
  }
  fs::copy_file(own, other, fs::copy_options::overwrite_existing);
  EXPECT_THAT(Build(MakeGraph()), HasSubstr("holds another engine"));
}

TEST_F(EngineCacheTest, TheLeastRecentlyUsedGoWhenTheFolderIsFull) {
  Build(MakeGraph());
  int64_t one = static_cast<int64_t>(fs::file_size(EnginePath()));
  std::string contexts[] = {"build 1\nlevel 3\n", "build 2\nlevel 3\n", "build 3\nlevel 3\n"};
  Build(MakeGraph(), contexts[1]);
  for (const CacheFile& file : ListEngines(folder_.string())) {  // both used an hour ago
    fs::last_write_time(file.path, fs::file_time_type::clock::now() - std::chrono::hours(1));
  }
  EXPECT_EQ(Build(MakeGraph(), contexts[0]), "hit");  // now the second is the older one
  setenv("STATOR_CACHE_SIZE", fmt::to_string(2 * one).c_str(), 1);
  Build(MakeGraph(), contexts[2]);
  EXPECT_EQ(ListEngines(folder_.string()).size(), 2u);
  EXPECT_EQ(Build(MakeGraph(), contexts[0]), "hit");
  EXPECT_EQ(Build(MakeGraph(), contexts[2]), "hit");
}

TEST_F(EngineCacheTest, TheFolderIsForItsUserAlone) {
  Build(MakeGraph());
  EXPECT_EQ(fs::status(folder_).permissions(), fs::perms::owner_all);
  fs::permissions(folder_, fs::perms::owner_all | fs::perms::group_write);
  EXPECT_THAT(Build(MakeGraph()), HasSubstr("off: others may write to the cache folder"));
}

TEST_F(EngineCacheTest, AFolderThatIsNoneIsNotUsed) {
  std::ofstream(folder_) << "a file";
  EXPECT_THAT(Build(MakeGraph()), HasSubstr("is not a folder"));
  fs::remove(folder_);
  fs::path file = folder_;
  std::ofstream(file) << "a file";
  folder_ /= "below";
  EXPECT_THAT(Build(MakeGraph()), HasSubstr("off: cannot make the cache folder"));
  folder_ = file;
}

TEST_F(EngineCacheTest, ABadSizeIsNoCache) {
  setenv("STATOR_CACHE_SIZE", "1G", 1);
  EXPECT_THAT(Build(MakeGraph()), HasSubstr("off: STATOR_CACHE_SIZE is `1G`"));
}

TEST_F(EngineCacheTest, AFullDiskIsNoCache) {
  Build(MakeGraph());
  rlimit old;
  getrlimit(RLIMIT_FSIZE, &old);
  std::signal(SIGXFSZ, SIG_IGN);  // writes fail with EFBIG
  rlimit small{.rlim_cur = 100, .rlim_max = old.rlim_max};
  setrlimit(RLIMIT_FSIZE, &small);
  std::string status = Build(MakeGraph(), "build 2\nlevel 3\n");
  setrlimit(RLIMIT_FSIZE, &old);
  EXPECT_THAT(status, StartsWith("miss: "));
  EnginePath();  // the first alone, and no temporary file
  EXPECT_EQ(std::distance(fs::directory_iterator(folder_), {}), 1);
}

TEST_F(EngineCacheTest, ThreadsShareAFolder) {
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 20; ++i) {
        EngineCache cache(folder_.string());
        Graph graph = MakeGraph();
        EngineKey key = MakeEngineKey(graph, fmt::format("build {}\n", i));
        if (cache.Find(key, graph).plan) continue;
        cache.Store(key, *CompileGraph(graph, {.optimization_level = 0}));
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(ListEngines(folder_.string()).size(), 20u);
  EXPECT_EQ(ClearCache(folder_.string()), 20);
  EXPECT_TRUE(fs::is_empty(folder_));
}

}  // namespace
}  // namespace stator

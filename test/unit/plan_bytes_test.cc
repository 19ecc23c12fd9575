// The file form of a plan: exact round trip, constants in place, and no harm from damaged files.
#include <cstring>
#include <random>

#include <gtest/gtest.h>

#include "base/error.h"
#include "base/hash.h"
#include "sample_plan.h"

namespace stator {
namespace {

constexpr size_t kHeaderSize = 64, kVersionAt = 8, kFileSizeAt = 16, kChecksumAt = 24;

// Bytes at a 64-byte aligned address, as a mapped file is.
struct AlignedBytes {
  explicit AlignedBytes(std::span<const std::byte> bytes)
      : data(static_cast<std::byte*>(::operator new (bytes.size() + 1, std::align_val_t{64}))),
        size(bytes.size()) {
    std::memcpy(data, bytes.data(), size);
  }
  ~AlignedBytes() { ::operator delete (data, std::align_val_t{64}); }
  AlignedBytes(const AlignedBytes&) = delete;

  std::span<const std::byte> span() const { return {data, size}; }

  std::byte* data;
  size_t size;
};

// Makes a damaged file pass the header's checks, so that the fields behind it are tried.
void Reseal(std::vector<std::byte>& bytes) {
  if (bytes.size() < kHeaderSize) return;
  uint64_t size = bytes.size();
  std::memcpy(&bytes[kFileSizeAt], &size, sizeof(size));
  uint64_t checksum = Hash64(bytes.data() + kHeaderSize, bytes.size() - kHeaderSize);
  std::memcpy(&bytes[kChecksumAt], &checksum, sizeof(checksum));
}

ErrorKind KindOf(std::span<const std::byte> bytes) {
  try {
    PlanFromBytes(bytes, nullptr);
  } catch (const Error& error) {
    return error.kind();
  }
  return ErrorKind::kInternal;
}

TEST(PlanBytes, RoundTripsExactly) {
  Plan plan = MakeSamplePlan();
  plan.aux_streams = 2;
  std::vector<std::byte> bytes = PlanToBytes(plan);
  AlignedBytes file(bytes);
  Plan back = PlanFromBytes(file.span(), nullptr);
  EXPECT_EQ(PlanToText(back), PlanToText(plan));
  EXPECT_EQ(PlanToBytes(back), bytes);
}

TEST(PlanBytes, UsesConstantsInPlace) {
  AlignedBytes file(PlanToBytes(MakeSamplePlan()));
  auto owner = std::make_shared<int>(0);
  Plan plan = PlanFromBytes(file.span(), owner);
  for (const ConstantData* data :
       {&plan.weights[0].data, &plan.literals[0], &plan.code[0].binary}) {
    EXPECT_GE(data->bytes, file.data);
    EXPECT_LT(data->bytes, file.data + file.size);
    EXPECT_EQ((data->bytes - file.data) % 64, 0);
    EXPECT_EQ(data->owner, owner);
  }
}

TEST(PlanBytes, CopiesConstantsOfBytesThatAreNotAligned) {
  std::vector<std::byte> bytes = PlanToBytes(MakeSamplePlan());
  std::vector<std::byte> shifted(bytes.size() + 64);
  size_t shift = 64 - reinterpret_cast<uintptr_t>(shifted.data()) % 64 + 4;
  std::span<std::byte> odd(shifted.data() + shift % 64, bytes.size());
  std::memcpy(odd.data(), bytes.data(), bytes.size());
  Plan plan = PlanFromBytes(odd, nullptr);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(plan.weights[0].data.bytes) % 64, 0u);
  EXPECT_EQ(PlanToBytes(plan), bytes);
}

TEST(PlanBytes, KeepsUnboundWeightsUnbound) {
  Plan plan = MakeSamplePlan();
  plan.weights[0].data = {};
  Plan back = PlanFromBytes(PlanToBytes(plan), nullptr);
  EXPECT_EQ(back.weights[0].data.bytes, nullptr);
}

TEST(PlanBytes, TellsNewerVersionsFromDamage) {
  std::vector<std::byte> bytes = PlanToBytes(MakeSamplePlan());
  std::vector<std::byte> newer = bytes;
  newer[kVersionAt] = std::byte{kPlanVersion + 1};
  EXPECT_EQ(KindOf(newer), ErrorKind::kVersionMismatch);
  std::vector<std::byte> foreign = bytes;
  foreign[0] = std::byte{'P'};
  EXPECT_EQ(KindOf(foreign), ErrorKind::kCorruptFile);
  EXPECT_EQ(KindOf({}), ErrorKind::kCorruptFile);
}

// Any damage under an unchanged checksum is found by it.
TEST(PlanBytes, FindsEveryFlippedByte) {
  std::vector<std::byte> bytes = PlanToBytes(MakeSamplePlan());
  for (size_t i = 0; i < bytes.size(); ++i) {
    if (i >= 32 && i < kHeaderSize) continue;  // reserved, not read
    std::vector<std::byte> damaged = bytes;
    damaged[i] ^= std::byte{0x41};
    ErrorKind kind = KindOf(damaged);
    bool in_version = i >= kVersionAt && i < kVersionAt + 4;
    EXPECT_EQ(kind, in_version ? ErrorKind::kVersionMismatch : ErrorKind::kCorruptFile) << i;
  }
  for (size_t size = 0; size < bytes.size(); ++size) {
    EXPECT_EQ(KindOf(std::span(bytes).first(size)), ErrorKind::kCorruptFile) << size;
  }
}

// A hostile writer seals what it damages: the fields themselves must hold.
TEST(PlanBytes, SurvivesSealedDamage) {
  std::mt19937 rng(7);
  std::vector<std::byte> bytes = PlanToBytes(MakeSamplePlan());
  int num_valid = 0;
  for (int round = 0; round < 20000; ++round) {
    std::vector<std::byte> damaged = bytes;
    for (unsigned i = 0; i < 1 + rng() % 4; ++i) {
      size_t at =
          rng() % 2 == 0 ? 12 + rng() % 4 : kHeaderSize + rng() % (damaged.size() - kHeaderSize);
      if (at < kHeaderSize && rng() % 8 != 0) continue;  // the message's size, now and then
      switch (rng() % 3) {
        case 0: damaged[at] = static_cast<std::byte>(rng()); break;
        case 1: damaged[at] ^= static_cast<std::byte>(1u << rng() % 8); break;
        default: {
          size_t from = kHeaderSize + rng() % (damaged.size() - kHeaderSize);
          size_t size = std::min<size_t>({rng() % 24, damaged.size() - at, damaged.size() - from});
          std::memmove(&damaged[at], &damaged[from], size);
        }
      }
    }
    if (rng() % 10 == 0) damaged.resize(kHeaderSize + rng() % (damaged.size() - kHeaderSize));
    Reseal(damaged);
    try {
      Plan plan = PlanFromBytes(damaged, nullptr);
      PlanToText(plan);
      ++num_valid;
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::kCorruptFile) << round << ": " << error.what();
    }
  }
  EXPECT_GT(num_valid, 0);  // a changed origin or weight is a plan still
}

}  // namespace
}  // namespace stator

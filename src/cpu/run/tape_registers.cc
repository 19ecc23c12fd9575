#include "cpu/run/tape_registers.h"

#include <algorithm>
#include <limits>
#include <map>
#include <optional>

namespace stator {
namespace {

constexpr int kForEver = std::numeric_limits<int>::max();

class RegisterScan {
 public:
  RegisterScan(const TileShape& shape, std::span<TapeInstr> start, std::span<TapeInstr> instrs,
               TapeInstr::Place& result)
      : shape_(shape), start_(start), instrs_(instrs), result_(result) {}

  std::vector<int64_t> Run(int first_slot) {
    FindLives();
    for (const TapeInstr& instr : start_) Assign(instr.out.slot, {});
    for (size_t i = 0; i < instrs_.size(); ++i) {
      const TapeInstr& instr = instrs_[i];
      std::vector<int> ending = FindEnding(instr, static_cast<int>(i));
      if (instr.out.slot >= kFirstVirtual) {
        auto in_place = std::find_if(ending.begin(), ending.end(),
                                     [&](int slot) { return MayReplace(instr, slot); });
        bool replaces = in_place != ending.end();
        Assign(instr.out.slot, replaces ? std::optional(*in_place) : std::nullopt);
        if (replaces) ending.erase(in_place);
        if (lives_[instr.out.slot].last_use < 0) ending.push_back(instr.out.slot);
      }
      for (int slot : ending) free_[lives_[slot].bytes].push_back(lives_[slot].assigned);
    }
    Renumber(first_slot);
    return std::move(bytes_);
  }

 private:
  struct Life {
    int64_t bytes = 0;
    int last_use = -1;
    int assigned = -1;
  };

  int64_t BytesOf(const TapeInstr::Place& place) const {
    int64_t count =
        (place.extent & kRow ? shape_.rows : 1) * (place.extent & kColumn ? shape_.columns : 1);
    // One cache line more than needed: registers 4096 bytes apart alias in the store buffer.
    return (count * place.size + 63) / 64 * 64 + 64;
  }

  void FindLives() {
    for (const TapeInstr& instr : start_) {
      lives_[instr.out.slot] = {.bytes = BytesOf(instr.out), .last_use = kForEver};
    }
    for (size_t i = 0; i < instrs_.size(); ++i) {
      const TapeInstr& instr = instrs_[i];
      for (const TapeInstr::Place& in : instr.in) {
        if (in.slot < kFirstVirtual) continue;
        int& last_use = lives_[in.slot].last_use;
        last_use = std::max(last_use, static_cast<int>(i));
      }
      if (instr.out.slot >= kFirstVirtual) lives_[instr.out.slot].bytes = BytesOf(instr.out);
    }
    if (result_.slot >= kFirstVirtual) lives_[result_.slot].last_use = kForEver;
  }

  void Assign(int slot, std::optional<int> in_place_of) {
    Life& life = lives_[slot];
    std::vector<int>& pool = free_[life.bytes];
    if (in_place_of) {
      life.assigned = lives_[*in_place_of].assigned;
    } else if (!pool.empty()) {
      life.assigned = pool.back();
      pool.pop_back();
    } else {
      life.assigned = static_cast<int>(bytes_.size());
      bytes_.push_back(life.bytes);
    }
  }

  // The virtual registers that instruction i is the last to read.
  std::vector<int> FindEnding(const TapeInstr& instr, int i) {
    std::vector<int> ending;
    for (const TapeInstr::Place& in : instr.in) {
      if (in.slot < kFirstVirtual || lives_[in.slot].last_use != i) continue;
      if (std::find(ending.begin(), ending.end(), in.slot) == ending.end()) {
        ending.push_back(in.slot);
      }
    }
    return ending;
  }

  // Whether the result may overwrite an operand: element i is read before element i is written.
  static bool MayReplace(const TapeInstr& instr, int slot) {
    if (instr.kind != TapeInstr::kRun || instr.by_rows) return false;
    return std::all_of(instr.in.begin(), instr.in.end(), [&](const TapeInstr::Place& in) {
      return in.slot != slot || (in.size == instr.out.size && in.extent == instr.out.extent);
    });
  }

  void Renumber(int first_slot) {
    auto renumber = [&](TapeInstr::Place& place) {
      if (place.slot >= kFirstVirtual) place.slot = first_slot + lives_[place.slot].assigned;
    };
    for (std::span<TapeInstr> list : {start_, instrs_}) {
      for (TapeInstr& instr : list) {
        renumber(instr.out);
        for (TapeInstr::Place& in : instr.in) renumber(in);
      }
    }
    renumber(result_);
  }

  const TileShape& shape_;
  std::span<TapeInstr> start_, instrs_;
  TapeInstr::Place& result_;
  std::map<int, Life> lives_;                 // by virtual slot
  std::map<int64_t, std::vector<int>> free_;  // real registers to take again, by bytes
  std::vector<int64_t> bytes_;                // of each real register
};

}  // namespace

std::vector<int64_t> AssignRegisters(const TileShape& shape, int first_slot,
                                     std::span<TapeInstr> start, std::span<TapeInstr> instrs,
                                     TapeInstr::Place& result) {
  return RegisterScan(shape, start, instrs, result).Run(first_slot);
}

}  // namespace stator

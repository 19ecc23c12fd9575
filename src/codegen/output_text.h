// Kernels around one op that is not pointwise, with a thread per vector of its output: what they
// share.
//
// In:  a body: the op (anchor), which reads inputs of the body, then pointwise nodes on its
// output's dims (epilogue). Out: the thread's position in the output, and the statements behind the
// anchor's.
#pragma once

#include "codegen/body_text.h"
#include "codegen/vector_text.h"

namespace stator {

struct AnchoredBody {
  const Node* anchor = nullptr;
  ValueId y;
  // For each of the anchor's inputs its position among the site's, -1 for an absent one.
  std::vector<int> operands;
};

// Empty unless the body is as above, and all its outputs have the dims of the anchor's.
std::optional<AnchoredBody> FindAnchoredBody(const CudaSite& site);
// The same for a body that is one node.
std::optional<AnchoredBody> FindOneNode(const CudaSite& site);

class OutputText {
 public:
  // `names`: for each dim of the output, how its coordinate is called. `vec`: how many neighbours
  // along the innermost dim in memory a thread computes; the first one's coordinate is the name.
  OutputText(KernelText& text, const AnchoredBody& body, std::vector<std::string> names, int vec,
             bool moved = false);

  // The most neighbours along output dim `dim` that a thread can compute, as far as outputs and the
  // epilogue's inputs are concerned; 1 when another dim is the innermost in memory.
  static int FindVec(const CudaSite& site, const AnchoredBody& body, size_t dim, int max_vec);

  // Writes the coordinates of the thread's elements, a return for threads without, and the wait.
  void WritePosition(int block);
  // Blocks of the launch.
  Dim FindGrid(int block) const;
  // The epilogue's inputs of the output's size that are read as vectors; where one lies at the
  // thread's coordinates; and that it was read before, as this vector.
  std::vector<size_t> FindLargeInputs() const;
  std::string AddressOf(size_t input) { return vectors_.InputAddress(input); }
  void Provide(size_t input, const std::string& vec) { provided_[input] = vec; }
  // Writes the epilogue and the stores. `y`: the anchor's result for neighbour `j`, in its compute
  // type; or, of moved elements, as it is stored. `where`: a condition of the stores alone.
  void WriteResults(const std::string& y, const std::string& where = "");

 private:
  KernelText& text_;
  const AnchoredBody& body_;
  LoopDims loop_;
  int vec_;
  bool moved_;
  std::vector<std::string> names_;  // in the loop's order
  VectorText vectors_;
  BodyText values_;
  std::map<size_t, std::string> provided_;
};

}  // namespace stator

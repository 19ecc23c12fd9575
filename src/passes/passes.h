// Every pass, one function per file of this folder: rewrites to a fix point and answers whether it
// changed the graph. See pipeline.h for their order, and each file for an example.
#pragma once

#include "ir/rewriter.h"

namespace stator {

bool Simplify(Rewriter& rewriter);
bool SimplifyViews(Rewriter& rewriter);
bool SinkViews(Rewriter& rewriter);
bool FoldLiterals(Rewriter& rewriter);
bool EliminateCommon(Rewriter& rewriter);
bool EliminateDead(Rewriter& rewriter);
bool MatchActivations(Rewriter& rewriter);
bool MatchNorms(Rewriter& rewriter);
bool FoldBatchNorm(Rewriter& rewriter);
bool MatchAttention(Rewriter& rewriter);
bool SimplifyAttention(Rewriter& rewriter);
bool FlattenMatmuls(Rewriter& rewriter);
bool MergeMatmuls(Rewriter& rewriter);
bool AssignLayout(Rewriter& rewriter);

// Only for engines whose kernels ask for it.
bool DecomposeNorms(Rewriter& rewriter);
bool PackConvolutions(Rewriter& rewriter);
bool PatchesToProducts(Rewriter& rewriter);
bool PadProducts(Rewriter& rewriter);
bool PadProductsAlongColumns(Rewriter& rewriter);
bool SplitConcats(Rewriter& rewriter);
bool MatchRolls(Rewriter& rewriter);

// Only where asked for: they change results.
bool TruncateWide(Rewriter& rewriter);
bool ComputeInHalf(Rewriter& rewriter);
bool ComputeInBFloat16(Rewriter& rewriter);

}  // namespace stator

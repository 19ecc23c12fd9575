// The families of the op table. Each file of rows defines one of these; table.cc joins them.
#pragma once

#include <span>

#include "ir/op_def.h"

namespace stator {

std::span<const OpDef> SpecialRows();       // ids 1..49
std::span<const OpDef> ViewRows();          // 50..99
std::span<const OpDef> PointwiseRows();     // 100..399
std::span<const OpDef> ReduceRows();        // 400..409
std::span<const OpDef> ScanRows();          // 410..449
std::span<const OpDef> LinalgRows();        // 450..499
std::span<const OpDef> NormRows();          // 500..549
std::span<const OpDef> AttentionRows();     // 550..559
std::span<const OpDef> PoolRows();          // 560..569
std::span<const OpDef> ResampleRows();      // 570..579
std::span<const OpDef> GridSampleRows();    // 580..599
std::span<const OpDef> IndexRows();         // 600..610
std::span<const OpDef> EmbeddingBagRows();  // 611..613, 615..649
std::span<const OpDef> OrderRows();         // 650..652
std::span<const OpDef> ChooseRows();        // 653..699
std::span<const OpDef> CreateRows();        // 700..749

}  // namespace stator

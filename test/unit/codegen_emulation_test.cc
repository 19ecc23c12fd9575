// Kernel texts run in an emulator of a CUDA device and compared with the reference kernels: odd
// sizes, strides, dtypes, symbolic sizes; accesses out of bounds and missing barriers.
#include "cuda_emulation.h"

namespace stator::testing {
namespace {

// The text with each `_` before `[` or behind `= ` replaced by a dtype.
std::string InDType(const std::string& text, std::string_view dtype) {
  std::string typed = std::regex_replace(text, std::regex(R"(\b_\[)"), std::string(dtype) + "[");
  return std::regex_replace(typed, std::regex(R"(= _\b)"), "= " + std::string(dtype));
}

constexpr std::string_view kFloats[] = {"f16", "bf16", "f32", "f64"};

TEST(CudaEmulation, Pointwise) {
  Emulation emulation("pointwise");
  for (std::string_view dtype : kFloats) {
    auto add = [&](const std::string& body, std::vector<Layout> layouts = {}) {
      emulation.Add(
          {.kind = "pointwise", .body = InDType(body, dtype), .layouts = std::move(layouts)});
    };
    add(R"(graph @g(%x: _[3, 64], %y: _[64]) {
      %0 = add(%x, %y)
      %1 = gelu(%0)
      return %1
    })",
        {{}, {.constant = true}});
    add(R"(graph @g(%x: _[5, 7, 3], %y: _[7, 1]) {
      %0 = mul(%x, %y)
      %1 = sigmoid(%0)
      return %0, %1
    })");
    add(R"(graph @g(%x: _[2, 6, 4, 8]@0231, %y: _[6, 1, 1]) {
      literal %c: _[] = [0.5]
      %0 = mul(%x, %y) : _[2, 6, 4, 8]@0231
      %1 = add(%0, %c) : _[2, 6, 4, 8]@0231
      %2 = relu(%1) : _[2, 6, 4, 8]@0231
      return %2
    })");
    add("graph @g(%x: _[4, 40], %y: _[4, 40]) {\n %0 = maximum(%x, %y)\n return %0\n}",
        {{.gaps = true}, {.step = 3}, {}});
    add("graph @g(%x: _[4, 40]) {\n %0 = silu(%x)\n return %0\n}", {{.alignment = 8}, {}});
    add("graph @g(%x: _[4, 40]) {\n %0 = tanh(%x)\n return %0\n}", {{}, {.gaps = true}});
    add("graph @g(%x: _[]) {\n %0 = exp(%x)\n return %0\n}");
    add("graph @g(%x: _[3, 0]) {\n %0 = exp(%x)\n return %0\n}");
    emulation.Add({.kind = "pointwise",
                   .body = InDType("graph @g(%x: _[s0, 8], %y: _[s0, 1]) where s0 in [1, 99] {\n"
                                   " %0 = sub(%x, %y)\n return %0\n}",
                                   dtype),
                   .symbols = {{"s0", 13}}});
    emulation.Add({.kind = "pointwise",
                   .body = InDType("graph @g(%x: _[4, s0]) where s0 in [1, 99] {\n"
                                   " %0 = abs(%x)\n return %0\n}",
                                   dtype),
                   .symbols = {{"s0", 8}}});
  }
  emulation.Run();
}

TEST(CudaEmulation, Copy) {
  Emulation emulation("copy");
  for (const char* dtype : {"bool", "f16", "f32", "i64"}) {
    for (const char* types : {"_[5, 32]", "_[2, 3, 7]", "_[2, 8, 4, 4]", "_[]"}) {
      std::string body = InDType(fmt::format("graph @g(%x: {}) {{\n return %x\n}}", types), dtype);
      emulation.Add({.kind = "copy", .body = body});
      emulation.Add({.kind = "copy", .body = body, .layouts = {{.gaps = true}, {}}});
      emulation.Add({.kind = "copy", .body = body, .layouts = {{.step = 2}, {.gaps = true}}});
    }
  }
  emulation.Run();
}

TEST(CudaEmulation, LargeCopyOfSingleElements) {
  Emulation emulation("large_copy");
  emulation.Add({.kind = "copy",
                 .body = "graph @g(%x: f16[17, 5003]) {\n return %x\n}",
                 .layouts = {{.gaps = true}, {}}});
  emulation.Run();
}

TEST(CudaEmulation, Transpose) {
  Emulation emulation("transpose");
  for (const char* dtype : {"f16", "f32"}) {
    auto add = [&](const char* kind, const char* body, SymbolValues symbols = {}) {
      emulation.Add({.kind = kind, .body = InDType(body, dtype), .symbols = std::move(symbols)});
    };
    add("copy", "graph @g(%x: _[33, 70]@10) {\n %0 = cast(%x) {dtype = _}\n return %0\n}");
    add("pointwise", R"(graph @g(%x: _[2, 40, 5, 9], %y: _[2, 40, 5, 9]@0231, %z: _[40, 1, 1]) {
      %0 = add(%x, %z) : _[2, 40, 5, 9]@0231
      %1 = mul(%0, %y) : _[2, 40, 5, 9]@0231
      return %1, %0
    })");
    add("pointwise", R"(graph @g(%x: _[s0, 40, 8]@021) where s0 in [1, 9] {
      %0 = relu(%x)
      return %0
    })",
        {{"s0", 3}});
  }
  emulation.Run();
}

TEST(CudaEmulation, Reduce) {
  Emulation emulation("reduce");
  auto add = [&](const std::string& body, std::vector<Layout> layouts = {},
                 SymbolValues symbols = {}) {
    emulation.Add({.kind = "reduce",
                   .body = body,
                   .layouts = std::move(layouts),
                   .symbols = std::move(symbols),
                   .special = false,
                   .low = -3,
                   .high = 4,
                   .slack = 10,
                   .scale = {0.5}});
  };
  const char* kShapes[][2] = {{"_[2, 40, 18, 15]@0231", "axes = [2, 3], keepdim = true"},
                              {"_[5, 96]", "axes = [1], keepdim = false"},
                              {"_[96, 33]", "axes = [0], keepdim = true"},
                              {"_[2, 3, 7]", "axes = [0, 2], keepdim = false"},
                              {"_[2, 5, 3, 9]@0231", "axes = [2, 3], keepdim = false"},
                              {"_[3, 700]", "axes = [0, 1], keepdim = false"},
                              {"_[2, 5000]", "axes = [1], keepdim = false"}};
  for (auto [type, axes] : kShapes) {
    for (const char* op : {"sum", "mean", "amax", "amin", "prod", "any", "all"}) {
      std::string body =
          fmt::format("graph @g(%x: {}) {{\n %0 = {}(%x) {{{}}}\n return %0\n}}", type, op, axes);
      for (const char* dtype : {"f16", "f32", "f64", "i32"}) {
        bool is_mean = op == std::string("mean"), is_integer = dtype == std::string("i32");
        if (op == std::string("prod") && !is_integer) continue;
        if (is_mean && is_integer) continue;
        if (dtype == std::string("f64") && op != std::string("sum")) continue;
        add(InDType(body, dtype));
      }
    }
    add(InDType(fmt::format("graph @g(%x: {}) {{\n %0 = var(%x) {{correction = 1.0, {}}}\n"
                            " return %0\n}}",
                            type, axes),
                "f32"));
  }
  for (const char* dtype : {"f16", "i64"}) {
    for (const char* op : {"argmax", "argmin"}) {
      for (int axis : {0, 1}) {
        add(InDType(fmt::format("graph @g(%x: _[40, 70]) {{\n %0 = {}(%x) {{axes = [{}], "
                                "keepdim = false}}\n return %0\n}}",
                                op, axis),
                    dtype));
      }
    }
  }
  add("graph @g(%x: f16[5, 96], %y: f16[96]) {\n %0 = cast(%x) {dtype = f32}\n"
      " %1 = cast(%y) {dtype = f32}\n %2 = mul(%0, %1)\n"
      " %3 = sum(%2) {axes = [1], keepdim = true}\n return %3\n}",
      {{.gaps = true}});
  add("graph @g(%x: f32[0, 3]) {\n %0 = mean(%x) {axes = [0], keepdim = false}\n return %0\n}");
  add("graph @g(%x: f32[s0, 70]) where s0 in [1, 99] {\n"
      " %0 = mean(%x) {axes = [0], keepdim = false}\n return %0\n}",
      {}, {{"s0", 11}});
  add("graph @g(%x: f32[4, s0]) where s0 in [1, 99] {\n"
      " %0 = sum(%x) {axes = [1], keepdim = false}\n return %0\n}",
      {}, {{"s0", 75}});
  emulation.Run();
}

TEST(CudaEmulation, Rowwise) {
  Emulation emulation("rowwise");
  for (std::string_view dtype : kFloats) {
    auto add = [&](const std::string& body, std::vector<Layout> layouts = {},
                   SymbolValues symbols = {}) {
      emulation.Add({.kind = "rowwise",
                     .body = InDType(body, dtype),
                     .layouts = std::move(layouts),
                     .symbols = std::move(symbols),
                     .special = false,
                     .slack = 2});
    };
    add("graph @g(%x: _[5, 96]) {\n %0 = softmax(%x) {axis = 1}\n return %0\n}");
    add("graph @g(%x: _[3, 7]) {\n %0 = softmax(%x) {axis = 1}\n return %0\n}");
    add("graph @g(%x: _[3, 333]) {\n %0 = log_softmax(%x) {axis = 1}\n return %0\n}");
    add("graph @g(%x: _[9]) {\n %0 = log_softmax(%x) {axis = 0}\n return %0\n}", {{.step = 2}, {}});
    add("graph @g(%x: _[2, 40000]) {\n %0 = softmax(%x) {axis = 1}\n return %0\n}");
    add("graph @g(%x: _[3, s0]) where s0 in [1, 9999] {\n"
        " %0 = softmax(%x) {axis = 1}\n return %0\n}",
        {}, {{"s0", 77}});
    add(R"(graph @g(%x: _[2, 3, 64], %y: _[2, 3, 64], %w: _[64], %b: _[64]) {
      %0 = add(%x, %y)
      %1 = layer_norm(%0, %w, %b) {eps = 1e-05, num_dims = 1}
      %2 = gelu(%1)
      %3 = add(%2, %y)
      return %0, %3
    })",
        {{}, {}, {.constant = true}, {.constant = true}});
    add(R"(graph @g(%x: _[7, 5, 33], %w: _[5, 33]) {
      %0 = layer_norm(%x, %w) {eps = 1e-05, num_dims = 2}
      return %0
    })");
    add(R"(graph @g(%x: _[600, 24], %w: _[24]) {
      %0 = rms_norm(%x, %w) {eps = 1e-06, num_dims = 1}
      return %0
    })",
        {{.gaps = true}, {.constant = true}, {}});
    add(R"(graph @g(%x: _[3, 2048], %y: _[3, 1], %w: _[2048]) {
      %0 = mul(%x, %y)
      %1 = rms_norm(%0, %w) {eps = 1e-06, num_dims = 1}
      %2 = silu(%1)
      return %2, %0
    })");
    add(R"(graph @g(%x: _[s0, 48], %w: _[48]) where s0 in [1, 99] {
      %0 = layer_norm(%x, %w) {eps = 1e-06, num_dims = 1}
      return %0
    })",
        {}, {{"s0", 11}});
  }
  emulation.Run();
}

TEST(CudaEmulation, Samples) {
  Emulation emulation("samples");
  auto add = [&](const char* kind, std::set<DType> dtypes, std::initializer_list<const char*> ops) {
    for (const char* op : ops) {
      for (KernelCase& each : MakeSampleCases(op, kind, dtypes)) {
        // No kernel is written for these: torch runs them.
        if (each.body.find("reduce = ") != std::string::npos) continue;
        emulation.Add(std::move(each));
      }
    }
  };
  std::set<DType> moved = {DType::kFloat16, DType::kInt64, DType::kBool};
  std::set<DType> floats = {DType::kFloat16, DType::kFloat32};
  add("gather", moved, {"embedding", "index_select"});
  add("reference", moved, {"gather", "index", "pad", "flip", "roll", "tril", "triu", "full"});
  add("reference", {DType::kFloat32, DType::kInt32}, {"arange", "cumsum", "cumprod", "scatter"});
  add("pool", floats, {"max_pool", "avg_pool"});
  add("reference", floats, {"max_pool_indices", "adaptive_avg_pool"});
  add("conv", floats, {"conv"});
  add("gemm", {DType::kFloat16, DType::kFloat32, DType::kFloat64, DType::kInt32}, {"matmul"});
  add("attention", {DType::kBFloat16, DType::kFloat32, DType::kFloat64}, {"attention"});
  emulation.Run();
}

TEST(CudaEmulation, PaddedChannels) {
  Emulation emulation("padded_channels");
  for (const char* type : {"f16[2, 8, 5, 7]@0231", "f16[2, 6, 5, 7]@0231"}) {
    bool eight = std::string_view(type).starts_with("f16[2, 8");
    emulation.Add({.kind = "reference",
                   .body = fmt::format("graph @g(%x: f16[2, 3, 5, 7]) {{\n %0 = pad(%x) {{mode = "
                                       "\"constant\", pads = [0, 0, 0, {}, 0, 0, 0, 0], value = "
                                       "1.5}} : {}\n return %0\n}}",
                                       eight ? 5 : 3, type)});
  }
  emulation.Run();
}

TEST(CudaEmulation, PointwiseOps) {
  Emulation emulation("pointwise_ops");
  for (const OpDef* op : AllOps()) {
    if (!op->Is(kPointwise)) continue;
    for (KernelCase& each : MakeSampleCases(op->name, "pointwise", {DType::kFloat32})) {
      emulation.Add(std::move(each));
    }
  }
  emulation.Run();
}

TEST(CudaEmulation, TensorCores) {
  Emulation emulation("tensor_cores");
  auto add = [&](const char* kind, std::string_view dtype, const std::string& body,
                 std::vector<Layout> layouts = {}, SymbolValues symbols = {}) {
    emulation.Add({.kind = kind,
                   .body = InDType(body, dtype),
                   .layouts = std::move(layouts),
                   .symbols = std::move(symbols),
                   .special = false,
                   .slack = 30,
                   .scale = {0.5, 0.5, 0.5, 0.5}});
  };
  add("gemm", "f16", R"(graph @g(%a: _[70, 1032], %b: _[1032, 75]@10, %c: _[75]) {
    %0 = matmul(%a, %b)
    %1 = add(%0, %c)
    %2 = gelu(%1)
    return %2
  })",
      {{}, {.constant = true}, {.constant = true}});
  for (const char* dtype : {"f16", "bf16"}) {
    add("gemm", dtype, R"(graph @g(%a: _[2, 9, 200], %b: _[200, 72], %c: _[2, 9, 72]) {
      %0 = matmul(%a, %b)
      %1 = add(%0, %c)
      return %1, %0
    })",
        {{}, {.constant = true}});
  }
  add("gemm", "f16", R"(graph @g(%a: _[s0, 128], %b: _[128, 64]@10) where s0 in [1, 99] {
    %0 = matmul(%a, %b)
    return %0
  })",
      {}, {{"s0", 21}});
  add("conv", "bf16",
      R"(graph @g(%x: _[2, 64, 5, 7]@0231, %w: _[40, 64, 3, 3]@0231, %b: _[40], %r: _[2, 40, 5, 7]@0231) {
    %0 = conv(%x, %w, %b) {dilation = [1, 1], groups = 1, output_padding = [0, 0], padding = [1, 1], stride = [1, 1], transposed = false} : _[2, 40, 5, 7]@0231
    %1 = add(%0, %r) : _[2, 40, 5, 7]@0231
    %2 = relu(%1) : _[2, 40, 5, 7]@0231
    return %2
  })",
      {{}, {.constant = true}, {.constant = true}});
  add("conv", "f16", R"(graph @g(%x: _[1, 8, 5, 7]@0231, %w: _[24, 8, 3, 3]@0231) {
    %0 = conv(%x, %w) {dilation = [2, 1], groups = 1, output_padding = [0, 0], padding = [2, 0], stride = [1, 2], transposed = false} : _[1, 24, 5, 3]@0231
    return %0
  })");
  add("conv", "f16", R"(graph @g(%x: _[s0, 8, 9]@021, %w: _[24, 8, 3]@021) where s0 in [1, 99] {
    %0 = conv(%x, %w) {dilation = [1], groups = 1, output_padding = [0], padding = [1], stride = [2], transposed = false} : _[s0, 24, 5]@021
    return %0
  })",
      {}, {{"s0", 3}});
  emulation.Run();
}

TEST(CudaEmulation, LargeProducts) {
  Emulation emulation("large_products", 1);
  auto add = [&](const char* kind, const char* body, std::vector<Layout> layouts = {}) {
    emulation.Add({.kind = kind,
                   .body = body,
                   .layouts = std::move(layouts),
                   .special = false,
                   .slack = 30,
                   .scale = {0.5, 0.5, 0.5, 0.5}});
  };
  add("gemm", R"(graph @g(%a: f16[130, 200], %b: f16[200, 264]) {
    %0 = matmul(%a, %b)
    %1 = gelu(%0)
    return %1
  })");
  add("gemm",
      R"(graph @g(%a: f16[270, 264], %b: f16[264, 323]@10, %c: f16[323], %r: f16[270, 323]) {
    %0 = matmul(%a, %b)
    %1 = add(%0, %c)
    %2 = silu(%1)
    %3 = mul(%2, %r)
    return %3
  })",
      {{}, {.constant = true}, {.constant = true}, {.gaps = true}, {.gaps = true}});
  add("gemm", R"(graph @g(%a: bf16[2, 150, 64], %b: bf16[64, 256]@10) {
    %0 = matmul(%a, %b)
    return %0
  })",
      {{.gaps = true}});
  add("conv",
      R"(graph @g(%x: f16[2, 24, 12, 11]@0231, %w: f16[72, 24, 3, 3]@0231, %b: f16[72]) {
    %0 = conv(%x, %w, %b) {dilation = [1, 2], groups = 1, output_padding = [0, 0], padding = [1, 2], stride = [1, 1], transposed = false} : f16[2, 72, 12, 11]@0231
    %1 = gelu(%0) : f16[2, 72, 12, 11]@0231
    return %1
  })",
      {{}, {.constant = true}, {.constant = true}});
  emulation.Run();
}

TEST(CudaEmulation, Products) {
  Emulation emulation("products");
  for (const char* dtype : {"f16", "f32"}) {
    auto add = [&](const char* kind, const std::string& body, SymbolValues symbols = {}) {
      emulation.Add({.kind = kind,
                     .body = InDType(body, dtype),
                     .symbols = std::move(symbols),
                     .special = false,
                     .slack = 30,
                     .scale = {0.5, 0.5, 0.5}});
    };
    for (const char* rows : {"1", "5"}) {
      add("gemm", fmt::format(R"(graph @g(%a: _[{0}, 320], %b: _[320, 19]@10, %c: _[19]) {{
        %0 = matmul(%a, %b)
        %1 = add(%0, %c)
        %2 = relu(%1)
        return %2
      }})",
                              rows));
    }
    add("gemm", R"(graph @g(%a: _[1, 3, 37], %b: _[37, 33]@10) {
      %0 = matmul(%a, %b)
      return %0
    })");
    add("gemm", R"(graph @g(%a: _[2, 70, 33]@021, %b: _[2, 33, 65], %c: _[2, 70, 65]) {
      %0 = matmul(%a, %b)
      %1 = add(%0, %c)
      return %1
    })");
    add("gemm", R"(graph @g(%a: _[s0, 40], %b: _[40, 24]@10) where s0 in [1, 99] {
      %0 = matmul(%a, %b)
      return %0
    })",
        {{"s0", 6}});
    add("attention",
        R"(graph @g(%q: _[2, 4, 40, 64]@0213, %k: _[2, 2, 50, 64]@0213, %v: _[2, 2, 50, 48]) {
      %0 = attention(%q, %k, %v) {causal = true, scale = 0.125} : _[2, 4, 40, 48]@0213
      return %0
    })");
    add("attention",
        R"(graph @g(%q: _[1, 2, s0, 16], %k: _[1, 2, s1, 16], %v: _[1, 2, s1, 16], %m: _[1, 1, 1, s1]) where s0 in [1, 99], s1 in [1, 99] {
      %0 = attention(%q, %k, %v, %m) {causal = false, scale = 0.25}
      return %0
    })",
        {{"s0", 19}, {"s1", 37}});
  }
  emulation.Run();
}

TEST(CudaEmulation, Depthwise) {
  Emulation emulation("depthwise");
  auto add = [&](const char* dtype, const char* body, SymbolValues symbols = {}) {
    for (bool constant : {false, true}) {
      emulation.Add({.kind = "conv",
                     .body = InDType(body, dtype),
                     .layouts = {{}, {.constant = constant}},
                     .symbols = symbols,
                     .special = false,
                     .slack = 4});
    }
  };
  for (const char* dtype : {"f16", "bf16", "f32", "f64"}) {
    add(dtype, R"(graph @g(%x: _[2, 72, 9, 11]@0231, %w: _[72, 1, 7, 7], %b: _[72]) {
      %0 = conv(%x, %w, %b) {dilation = [1, 1], groups = 72, output_padding = [0, 0], padding = [3, 3], stride = [1, 1], transposed = false} : _[2, 72, 9, 11]@0231
      return %0
    })");
  }
  add("f16", R"(graph @g(%x: _[1, 70, 10, 9]@0231, %w: _[70, 1, 5, 3], %r: _[1, 70, 4, 5]@0231) {
    %0 = conv(%x, %w) {dilation = [1, 1], groups = 70, output_padding = [0, 0], padding = [1, 1], stride = [2, 2], transposed = false} : _[1, 70, 4, 5]@0231
    %1 = silu(%0) : _[1, 70, 4, 5]@0231
    %2 = add(%1, %r) : _[1, 70, 4, 5]@0231
    return %2
  })");
  add("f16", R"(graph @g(%x: _[3, 5, 6, 4]@0231, %w: _[5, 1, 3, 3]@0231) {
    %0 = conv(%x, %w) {dilation = [1, 1], groups = 5, output_padding = [0, 0], padding = [0, 2], stride = [1, 3], transposed = false} : _[3, 5, 4, 2]@0231
    return %0
  })");
  add("f16",
      R"(graph @g(%x: _[s0, 8, s1, 17]@0231, %w: _[8, 1, 3, 3]) where s0 in [1, 9], s1 in [2, 99] {
    %0 = conv(%x, %w) {dilation = [1, 1], groups = 8, output_padding = [0, 0], padding = [1, 1], stride = [1, 1], transposed = false} : _[s0, 8, s1, 17]@0231
    return %0
  })",
      {{"s0", 2}, {"s1", 7}});
  emulation.Run();
}

TEST(CudaEmulation, AttentionOnTensorCores) {
  Emulation emulation("mma_attention");
  auto add = [&](const char* dtype, const char* body, SymbolValues symbols = {}) {
    emulation.Add({.kind = "attention",
                   .body = InDType(body, dtype),
                   .symbols = std::move(symbols),
                   .special = false,
                   .slack = 64});  // the weights are rounded to 16 bits
  };
  add("f16",
      R"(graph @g(%q: _[2, 3, 49, 32]@0213, %k: _[2, 3, 49, 32]@0213, %v: _[2, 3, 49, 32]@0213, %m: _[1, 3, 49, 49]) {
    %0 = attention(%q, %k, %v, %m) {causal = false, scale = 0.5} : _[2, 3, 49, 32]@0213
    return %0
  })");
  add("bf16", R"(graph @g(%q: _[1, 4, 70, 40], %k: _[1, 2, 70, 40], %v: _[1, 2, 70, 24]) {
    %0 = attention(%q, %k, %v) {causal = true, scale = 0.25}
    %1 = relu(%0)
    return %1
  })");
  add("f16",
      R"(graph @g(%q: _[2, 3, 2, 18, 16], %k: _[2, 3, 2, 150, 16], %v: _[2, 3, 2, 150, 64], %m: bool[3, 1, 18, 150]) {
    %0 = attention(%q, %k, %v, %m) {causal = false, scale = 0.125}
    return %0
  })");
  add("f16",
      R"(graph @g(%q: _[s0, 2, s1, 64], %k: _[s0, 2, 9, 64], %v: _[s0, 2, 9, 64], %m: _[s1, 9]) where s0 in [1, 9], s1 in [1, 99] {
    %0 = attention(%q, %k, %v, %m) {causal = false, scale = 0.125}
    return %0
  })",
      {{"s0", 2}, {"s1", 33}});
  emulation.Run();
}

TEST(CudaEmulation, ChannelsLast) {
  Emulation emulation("channels_last");
  for (const char* dtype : {"f16", "f32"}) {
    auto add = [&](const char* kind, const std::string& body) {
      emulation.Add({.kind = kind,
                     .body = InDType(body, dtype),
                     .special = false,
                     .low = 0,
                     .high = 7,
                     .slack = 4});
    };
    add("conv",
        R"(graph @g(%x: _[2, 16, 9, 8]@0231, %w: _[16, 1, 3, 3], %b: _[16], %r: _[2, 16, 5, 4]@0231) {
      %0 = conv(%x, %w, %b) {dilation = [1, 1], groups = 16, output_padding = [0, 0], padding = [1, 1], stride = [2, 2], transposed = false} : _[2, 16, 5, 4]@0231
      %1 = add(%0, %r) : _[2, 16, 5, 4]@0231
      %2 = relu(%1) : _[2, 16, 5, 4]@0231
      return %2
    })");
    add("pool", R"(graph @g(%x: _[2, 24, 9, 8]@0231) {
      %0 = max_pool(%x) {ceil_mode = false, dilation = [1, 1], kernel = [3, 3], padding = [1, 1], stride = [2, 2]} : _[2, 24, 5, 4]@0231
      return %0
    })");
    add("pool", R"(graph @g(%x: _[2, 24, 9, 8]@0231) {
      %0 = avg_pool(%x) {ceil_mode = true, count_include_pad = false, divisor_override = 0, kernel = [3, 3], padding = [1, 1], stride = [2, 2]} : _[2, 24, 5, 5]@0231
      %1 = sigmoid(%0) : _[2, 24, 5, 5]@0231
      return %1
    })");
    add("gather", R"(graph @g(%w: _[7, 48], %i: i64[3, 5]) {
      %0 = embedding(%w, %i)
      return %0
    })");
  }
  emulation.Run();
}

}  // namespace
}  // namespace stator::testing

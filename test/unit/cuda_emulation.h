// Runs kernel texts in the emulator (cuda_emulator.h) and compares them with the reference kernels.
//
// In:  kernels: kind, body, layouts of operands. Out: gtest failures, which name kernel and
// variant. Every variant is run with its blocks' threads in ascending, descending and random order,
// on operands that end, then begin, at a page that cannot be read. The reference computes in
// double.
#pragma once

#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <memory>
#include <random>
#include <regex>
#include <set>
#include <string>
#include <vector>

#include <dlfcn.h>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include "codegen/cuda_kernel.h"
#include "ir/parse.h"
#include "ir/print.h"
#include "ops/evaluate.h"
#include "ops/samples.h"

namespace stator::testing {

// ---- operands
// Elements between pages that cannot be read.
class FencedTensor {
 public:
  // `at_end`: whether the last element touches the page behind, or the first one that before.
  FencedTensor(DType dtype, const Sizes& dims, const Sizes& strides, int alignment, bool at_end) {
    int64_t extent = 1, page = sysconf(_SC_PAGESIZE), size = static_cast<int64_t>(DTypeSize(dtype));
    for (size_t i = 0; i < dims.size(); ++i) extent += (dims[i] - 1) * strides[i];
    for (int64_t each : dims) extent = each == 0 ? 0 : extent;
    int64_t inside = (extent * size + alignment + page - 1) / page * page;
    bytes_ = inside + 2 * page;
    base_ = static_cast<std::byte*>(
        mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    mprotect(base_, page, PROT_NONE);
    mprotect(base_ + page + inside, page, PROT_NONE);
    inside_ = std::span(base_ + page, inside);
    std::fill(inside_.begin(), inside_.end(), std::byte{0xa5});
    int64_t offset = 0;
    if (at_end) offset = (inside - extent * size) / alignment * alignment;
    // An address that is a multiple of `alignment` and of no more.
    if (alignment < 16 && offset % (2 * alignment) == 0) {
      offset += offset >= alignment && at_end ? -alignment : alignment;
    }
    ref = {.data = inside_.data() + offset, .dtype = dtype, .dims = dims, .strides = strides};
  }
  ~FencedTensor() { munmap(base_, bytes_); }
  FencedTensor(const FencedTensor&) = delete;

  // Whether all bytes but those of the elements are as they were.
  bool IsAroundUntouched() const {
    std::vector<bool> is_element(inside_.size(), false);
    int64_t size = static_cast<int64_t>(DTypeSize(ref.dtype));
    ForEachOffset<1>(ref.dims, {ref.strides}, [&](const auto& at) {
      int64_t first = ref.data - inside_.data() + at[0] * size;
      for (int64_t i = 0; i < size; ++i) is_element[first + i] = true;
    });
    for (size_t i = 0; i < inside_.size(); ++i) {
      if (!is_element[i] && inside_[i] != std::byte{0xa5}) return false;
    }
    return true;
  }

  TensorRef ref;

 private:
  std::byte* base_;
  int64_t bytes_;
  std::span<std::byte> inside_;
};

inline double ElementAt(const TensorRef& tensor, int64_t offset) {
  double value = 0;
  DispatchDType(tensor.dtype, [&](auto zero) {
    value = scalar::CastTo<double>(Data<decltype(zero)>(tensor)[offset]);
  });
  return value;
}

// How an operand lies. By default as its type says, at an address that is a multiple of 16.
struct Layout {
  bool gaps = false;  // dims one wider than needed; the innermost stride is `step`
  int step = 1;
  int alignment = 16;
  bool constant = false;
};

struct KernelCase {
  std::string kind, body;            // a body with symbols takes their values from `symbols`
  std::vector<Layout> layouts = {};  // inputs, then outputs; missing ones are the default
  SymbolValues symbols = {};
  bool special = true;             // some elements are infinite, NaN or tiny
  int64_t low = -20, high = 20;    // range of integers
  double slack = 1;                // factor of the tolerances
  std::vector<double> scale = {};  // per input, factor of random floats
};

// The samples of an op's row, for the dtypes given, as cases of a kernel of this kind.
inline std::vector<KernelCase> MakeSampleCases(std::string_view op, const std::string& kind,
                                               const std::set<DType>& dtypes) {
  std::vector<KernelCase> cases;
  for (const SampleCase& sample : ExpandSamples(GetOp(op))) {
    if (sample.dtype && !dtypes.contains(*sample.dtype)) continue;
    KernelCase made{
        .kind = kind, .body = PrintGraph(MakeSampleGraph(sample)), .special = false, .slack = 4};
    if (sample.low != sample.high) made.low = sample.low, made.high = sample.high;
    cases.push_back(std::move(made));
  }
  return cases;
}

// ---- sources
class Emulation {
 public:
  // `num_sms`: 0, or the multiprocessors that the device is said to have.
  explicit Emulation(std::string name, int num_sms = 0)
      : name_(std::move(name)), device_(*FindTarget("sm_90a")) {
    if (num_sms > 0) device_.num_sms = num_sms;
  }

  // Adds a kernel in all its variants; it is a failure when there is none.
  void Add(KernelCase given) {
    auto prepared = std::make_unique<Prepared>();
    Prepared& p = *prepared;
    p.given = std::move(given);
    bool is_copy = p.given.kind == "copy";
    p.body = ParseGraph(p.given.body);
    p.resolved = p.body;
    ResolveSymbols(p.resolved, p.given.symbols);
    p.exact = ParseGraph(InDouble(p.given.body));
    for (const Graph* graph : {&p.body, &p.resolved}) {
      bool symbolic = graph == &p.body;
      auto& inputs = symbolic ? p.inputs : p.resolved_inputs;
      auto& outputs = symbolic ? p.outputs : p.resolved_outputs;
      size_t position = 0;
      for (ValueId id : graph->inputs())
        inputs.push_back(MakeOperand(p, position++, graph->type(id)));
      for (ValueId id : graph->outputs())
        outputs.push_back(MakeOperand(p, position++, graph->type(id)));
    }
    Graph empty;
    const Graph& chosen = is_copy ? empty : p.resolved;
    std::vector<Attrs> variants =
        FindCudaVariants(p.given.kind, chosen, p.resolved_inputs, p.resolved_outputs, device_);
    EXPECT_FALSE(variants.empty()) << p.given.kind << " " << p.given.body;
    for (const Attrs& variant : variants) {
      p.variants.push_back({variant, MakeCudaKernel(p.given.kind, is_copy ? empty : p.body,
                                                    p.inputs, p.outputs, device_, variant)});
      AddSource(p.variants.back().second);
    }
    cases_.push_back(std::move(prepared));
  }

  // Compiles and runs all.
  void Run() {
    std::filesystem::path folder = std::filesystem::temp_directory_path() /
                                   fmt::format("stator_emulation_{}_{}", name_, getpid());
    std::filesystem::create_directories(folder);
    std::string source = (folder / "kernels.cc").string(),
                library = (folder / "kernels.so").string();
    std::ofstream(source) << "#include \"test/unit/cuda_emulator.h\"\n" << source_;
    std::string command = fmt::format(
        "{} -std=c++20 -O1 -fno-strict-aliasing -fno-math-errno -w -shared -fPIC -I{} -I{}/src -o "
        "{} {}",
        STATOR_CXX, STATOR_SOURCE_DIR, STATOR_SOURCE_DIR, library, source);
    int status = std::system(command.c_str());
    ASSERT_EQ(status, 0) << command;
    void* handle = dlopen(library.c_str(), RTLD_NOW | RTLD_LOCAL);
    ASSERT_NE(handle, nullptr) << dlerror();
    std::filesystem::remove_all(folder);
    InstallHandler();
    size_t index = 0;
    for (const auto& prepared : cases_) {
      for (const auto& [variant, kernel] : prepared->variants) {
        auto launch =
            reinterpret_cast<LaunchFn>(dlsym(handle, fmt::format("launch_{}", index++).c_str()));
        ASSERT_NE(launch, nullptr);
        RunKernel(*prepared, variant, kernel, launch);
        if (::testing::Test::HasFailure()) {
          std::cerr << kernel.source << variant.ToString() << "\n";
          return;
        }
      }
    }
  }

 private:
  using LaunchFn = void (*)(void** parameters, const unsigned* grid, unsigned block, unsigned smem,
                            int order);

  struct Prepared {
    KernelCase given;
    Graph body, resolved, exact;
    std::vector<KernelOperand> inputs, outputs, resolved_inputs, resolved_outputs;
    std::vector<std::pair<Attrs, CudaKernel>> variants;
  };

  static std::string InDouble(const std::string& text) {
    std::string wide = std::regex_replace(text, std::regex(R"(\b(f16|bf16|f32)\[)"), "f64[");
    return std::regex_replace(wide, std::regex(R"(dtype = (f16|bf16|f32)\b)"), "dtype = f64");
  }

  static KernelOperand MakeOperand(const Prepared& p, size_t position, const TensorType& type) {
    Layout layout = position < p.given.layouts.size() ? p.given.layouts[position] : Layout{};
    KernelOperand operand{.dtype = type.dtype,
                          .dims = type.dims,
                          .strides = type.strides(),
                          .alignment = layout.alignment,
                          .constant = layout.constant};
    if (layout.gaps || layout.step != 1) {
      TensorType wide = type;
      if (layout.gaps) {
        for (Dim& dim : wide.dims) dim = dim + 1;
      }
      operand.strides = wide.strides();
      for (Dim& stride : operand.strides) stride = stride * layout.step;
    }
    return operand;
  }

  void AddSource(const CudaKernel& kernel) {
    std::string text = kernel.source, name = fmt::format("k{}", num_kernels_);
    auto replace = [&](std::string_view from, const std::string& to) {
      size_t at = text.find(from);
      ASSERT_NE(at, std::string::npos) << from << " in\n" << text;
      text.replace(at, from.size(), to);
    };
    replace(fmt::format("#include \"{}\"\n", kPreludeName), "");
    replace("extern \"C\" ", "");
    replace("namespace stator {", fmt::format("namespace stator::{} {{", name));
    source_ += fmt::format(
        "#undef EMULATED_SECTION\n#define EMULATED_SECTION \"emulated_{0}\"\n"
        "extern unsigned char __start_emulated_{0}[] __attribute__((weak, "
        "visibility(\"hidden\")));\n"
        "extern unsigned char __stop_emulated_{0}[] __attribute__((weak, "
        "visibility(\"hidden\")));\n",
        name);
    source_ += text;
    source_ += fmt::format(
        "extern \"C\" void launch_{0}(void** parameters, const unsigned* grid, unsigned block, "
        "unsigned smem, int order) {{\n"
        "  emulator::Launch(stator::k{0}::{1}, parameters,\n"
        "      {{.grid = {{grid[0], grid[1], grid[2]}}, .block = block, .smem = smem, .cluster = "
        "{2}, "
        ".order = order,\n"
        "       .shared_begin = __start_emulated_k{0}, .shared_end = "
        "__stop_emulated_k{0}}});\n}}\n\n",
        num_kernels_, kernel.entry, kernel.cluster);
    ++num_kernels_;
  }

  static void Fill(const TensorRef& tensor, std::mt19937& random, const KernelCase& given,
                   double scale) {
    constexpr float kInf = std::numeric_limits<float>::infinity();
    constexpr float kSpecial[] = {0.0f, -0.0f, kInf, -kInf, NAN, 1e-40f, -1e-40f, 88.0f, -104.0f};
    std::normal_distribution<float> normal(0.0f, static_cast<float>(scale));
    DispatchDType(tensor.dtype, [&](auto zero) {
      using T = decltype(zero);
      ForEachOffset<1>(tensor.dims, {tensor.strides}, [&](const auto& at) {
        double value = normal(random);
        if constexpr (std::is_same_v<T, bool>) {
          value = random() % 2;
        } else if constexpr (!scalar::kIsFloatElement<T>) {
          value = static_cast<double>(given.low) + random() % (given.high - given.low);
        } else if (given.special && random() % 50 == 0) {
          value = kSpecial[random() % std::size(kSpecial)];
        }
        Data<T>(tensor)[at[0]] = scalar::CastTo<T>(value);
      });
    });
  }

  void RunKernel(const Prepared& p, const Attrs& variant, const CudaKernel& kernel,
                 LaunchFn launch) {
    std::string what = fmt::format("{} {} {}", p.given.kind, p.given.body, variant.ToString());
    SCOPED_TRACE(what);
    running = what.c_str();
    for (int order = 0; order < 3; ++order) {
      std::mt19937 random(order);
      std::vector<std::unique_ptr<FencedTensor>> inputs, outputs;
      std::vector<HostTensor> wide;
      std::vector<TensorRef> exact_inputs;
      auto make = [&](const KernelOperand& operand) {
        return std::make_unique<FencedTensor>(operand.dtype, EvalDims(operand.dims, {}),
                                              EvalDims(operand.strides, {}), operand.alignment,
                                              order % 2 == 0);
      };
      for (size_t i = 0; i < p.resolved_inputs.size(); ++i) {
        inputs.push_back(make(p.resolved_inputs[i]));
        const TensorRef& ref = inputs.back()->ref;
        Fill(ref, random, p.given, i < p.given.scale.size() ? p.given.scale[i] : 2.0);
        bool is_float = IsFloat(ref.dtype);
        wide.push_back(MakeHostTensor(is_float ? DType::kFloat64 : ref.dtype, ref.dims));
        DispatchDType(ref.dtype, [&](auto zero) {
          using T = decltype(zero);
          using To = std::conditional_t<scalar::kIsFloatElement<T>, double, T>;
          ForEachOffset<2>(ref.dims, {wide.back().ref.strides, ref.strides}, [&](const auto& at) {
            Data<To>(wide.back().ref)[at[0]] = scalar::CastTo<To>(Data<T>(ref)[at[1]]);
          });
        });
        exact_inputs.push_back(wide.back().ref);
      }
      for (const KernelOperand& operand : p.resolved_outputs) outputs.push_back(make(operand));
      std::vector<HostTensor> expected = EvaluateGraph(p.exact, exact_inputs, p.given.symbols);

      std::vector<void*> pointers;
      std::vector<long long> symbols;
      for (auto& input : inputs) pointers.push_back(input->ref.data);
      for (auto& output : outputs) pointers.push_back(output->ref.data);
      for (const std::string& symbol : kernel.symbols)
        symbols.push_back(p.given.symbols.at(symbol));
      std::vector<void*> parameters;
      for (void*& pointer : pointers) parameters.push_back(&pointer);
      for (long long& symbol : symbols) parameters.push_back(&symbol);
      unsigned grid[3];
      for (int i = 0; i < 3; ++i) {
        grid[i] = static_cast<unsigned>(kernel.grid[i].Eval(p.given.symbols));
      }
      launch(parameters.data(), grid, kernel.block, kernel.smem, order);
      for (size_t i = 0; i < outputs.size(); ++i) {
        ExpectClose(outputs[i]->ref, expected[i].ref, p.given.slack);
        EXPECT_TRUE(outputs[i]->IsAroundUntouched());
      }
      if (::testing::Test::HasFailure()) return;
    }
  }

  static void ExpectClose(const TensorRef& found, const TensorRef& expected, double slack) {
    double rtol = 0, atol = 0, largest = INFINITY;
    switch (found.dtype) {
      case DType::kFloat16: rtol = 1e-3, atol = 1e-5, largest = 65504; break;
      case DType::kBFloat16: rtol = 8e-3, atol = 1e-5; break;
      case DType::kFloat32: rtol = 1.3e-6, atol = 1e-5; break;
      case DType::kFloat64: rtol = 1e-7, atol = 1e-7; break;
      default: break;
    }
    int64_t num_wrong = 0;
    ForEachOffset<2>(expected.dims, {found.strides, expected.strides}, [&](const auto& at) {
      double a = ElementAt(found, at[0]), b = ElementAt(expected, at[1]);
      if (a == b || (std::isnan(a) && std::isnan(b))) return;
      if (std::abs(a - b) <= slack * (atol + rtol * std::abs(b))) return;
      // Beyond the range of the dtype, or of float in which it is computed.
      double limit = std::min(largest, 3.4e38);
      if (IsFloat(found.dtype) && std::abs(b) > limit * (1 - slack * rtol) && std::abs(a) >= limit)
        return;
      if (num_wrong++ < 3) ADD_FAILURE() << "at offset " << at[1] << ": " << a << ", not " << b;
    });
    EXPECT_EQ(num_wrong, 0);
  }

  static void InstallHandler() {
    auto handler = [](int) {
      std::string text = fmt::format("emulation stopped in: {}\n", running);
      [[maybe_unused]] auto written = write(STDERR_FILENO, text.data(), text.size());
      _exit(1);
    };
    static std::vector<char> stack(64 << 10);
    stack_t alternate = {.ss_sp = stack.data(), .ss_flags = 0, .ss_size = stack.size()};
    sigaltstack(&alternate, nullptr);
    struct sigaction action = {};
    action.sa_handler = handler;
    action.sa_flags = SA_ONSTACK;
    for (int signal : {SIGSEGV, SIGBUS, SIGABRT, SIGFPE}) sigaction(signal, &action, nullptr);
  }

  static inline const char* running = "";

  std::string name_, source_;
  Target device_;
  int num_kernels_ = 0;
  std::vector<std::unique_ptr<Prepared>> cases_;
};

}  // namespace stator::testing

// Converters of recurrent layers: LSTM, GRU and plain RNN, and their cells, as one gemm for the
// inputs of all steps and, step by step, what depends on the step before.
#include "import/conversion.h"

namespace stator {
namespace {

using Values = std::vector<ValueId>;

// Nodes grow with the steps; what is longer is left to torch, whose kernel loops.
constexpr int64_t kMaxSteps = 128;

struct Weights {
  ValueId w_ih, w_hh, b_ih, b_hh;  // biases may be invalid
};

// What a step hands to the next: h, and c of an LSTM.
struct State {
  ValueId h, c;
};

// x[.., I] times w[O, I] transposed, plus the bias.
ValueId Linear(Conversion& c, ValueId x, ValueId w, ValueId b) {
  ValueId y = c.Add("matmul", {x, c.Transpose(w, 0, 1)});
  return b.valid() ? c.Add("add", {y, b}) : y;
}

ValueId Part(Conversion& c, ValueId gates, int index, const Dim& size) {
  return c.Slice(gates, 1, Dim(index) * size, Dim(index + 1) * size);
}

ValueId Multiply(Conversion& c, ValueId a, ValueId b) { return c.Add("mul", {a, b}); }

// One step: `x` holds the input's share of the gates, `h` the state's.
State StepLstm(Conversion& c, ValueId x, ValueId h, const State& state) {
  ValueId gates = c.Add("add", {x, h});
  const Dim size = c.type(state.h).dims.at(1);
  ValueId in = c.Add("sigmoid", {Part(c, gates, 0, size)});
  ValueId forget = c.Add("sigmoid", {Part(c, gates, 1, size)});
  ValueId cell = c.Add("tanh", {Part(c, gates, 2, size)});
  ValueId out = c.Add("sigmoid", {Part(c, gates, 3, size)});
  ValueId next = c.Add("add", {Multiply(c, forget, state.c), Multiply(c, in, cell)});
  return {.h = Multiply(c, out, c.Add("tanh", {next})), .c = next};
}

State StepGru(Conversion& c, ValueId x, ValueId h, const State& state) {
  const Dim size = c.type(state.h).dims.at(1);
  auto sum = [&](int part) {
    return c.Add("add", {Part(c, x, part, size), Part(c, h, part, size)});
  };
  ValueId reset = c.Add("sigmoid", {sum(0)}), update = c.Add("sigmoid", {sum(1)});
  ValueId hidden = Multiply(c, reset, Part(c, h, 2, size));
  ValueId fresh = c.Add("tanh", {c.Add("add", {Part(c, x, 2, size), hidden})});
  ValueId change = Multiply(c, c.Add("sub", {state.h, fresh}), update);
  return {.h = c.Add("add", {change, fresh}), .c = {}};
}

// `kind`: "lstm", "gru", or the activation of a plain RNN.
State Step(Conversion& c, std::string_view kind, ValueId x, const Weights& weights,
           const State& state) {
  ValueId h = Linear(c, state.h, weights.w_hh, weights.b_hh);
  if (kind == "lstm") return StepLstm(c, x, h, state);
  if (kind == "gru") return StepGru(c, x, h, state);
  return {.h = c.Add(kind, {c.Add("add", {x, h})}), .c = {}};
}

// One direction of a layer over x[T, B, I]; returns its outputs [T, B, H] and leaves the last state
// in `state`.
ValueId Layer(Conversion& c, std::string_view kind, ValueId x, const Weights& weights, bool reverse,
              State& state) {
  ValueId gates = Linear(c, x, weights.w_ih, weights.b_ih);
  const Dims dims = c.type(gates).dims;
  int64_t num_steps = dims[0].value();
  Values outputs(num_steps);
  for (int64_t i = 0; i < num_steps; ++i) {
    int64_t t = reverse ? num_steps - 1 - i : i;
    ValueId step = c.Reshape(c.Slice(gates, 0, t, t + 1), {dims[1], dims[2]});
    state = Step(c, kind, step, weights, state);
    outputs[t] = c.Unsqueeze(state.h, 0);
  }
  return num_steps == 1 ? outputs[0] : c.Add("concat", std::move(outputs), {{"dim", Dim(0)}});
}

// Slice `index` of a state [layers * directions, B, H].
ValueId PickState(Conversion& c, ValueId states, int64_t index) {
  const Dims dims = c.type(states).dims;
  return c.Reshape(c.Slice(states, 0, index, index + 1), {dims[1], dims[2]});
}

Values ConvertRecurrent(Conversion& c, std::string_view kind) {
  bool is_lstm = kind == "lstm";
  int64_t num_layers = c.Int("num_layers");
  bool has_biases = c.Bool("has_biases"), batch_first = c.Bool("batch_first");
  int num_directions = c.Bool("bidirectional") ? 2 : 1;
  c.Require(!c.Bool("train") || c.Float("dropout") == 0, "dropout between layers");
  Values params = c.Tensors("params");
  size_t per_layer = has_biases ? 4 : 2;
  c.Require(params.size() == per_layer * num_layers * num_directions, "an LSTM with projections");
  ValueId x = c.Tensor("input");
  c.Require(c.type(x).rank() == 3, "a recurrent layer over packed sequences");
  if (batch_first) x = c.Transpose(x, 0, 1);
  const Dim num_steps = c.type(x).dims[0];
  c.Require(num_steps.is_static() && num_steps.value() >= 1 && num_steps.value() <= kMaxSteps,
            "a recurrent layer over a symbolic or a large number of steps");
  ValueId hx = is_lstm ? c.Tensors("hx").at(0) : c.Tensor("hx");
  ValueId cx = is_lstm ? c.Tensors("hx").at(1) : ValueId{};

  Values last_h, last_c;
  for (int64_t layer = 0; layer < num_layers; ++layer) {
    Values directions;
    for (int direction = 0; direction < num_directions; ++direction) {
      int64_t index = layer * num_directions + direction;
      const ValueId* own = &params[index * per_layer];
      Weights weights{.w_ih = own[0], .w_hh = own[1], .b_ih = {}, .b_hh = {}};
      if (has_biases) weights = {own[0], own[1], own[2], own[3]};
      State state{.h = PickState(c, hx, index), .c = is_lstm ? PickState(c, cx, index) : ValueId{}};
      directions.push_back(Layer(c, kind, x, weights, direction == 1, state));
      last_h.push_back(c.Unsqueeze(state.h, 0));
      if (is_lstm) last_c.push_back(c.Unsqueeze(state.c, 0));
    }
    x = directions.size() == 1 ? directions[0]
                               : c.Add("concat", std::move(directions), {{"dim", Dim(2)}});
  }
  auto join = [&](Values parts) {
    return parts.size() == 1 ? parts[0] : c.Add("concat", std::move(parts), {{"dim", Dim(0)}});
  };
  Values results = {batch_first ? c.Transpose(x, 0, 1) : x, join(std::move(last_h))};
  if (is_lstm) results.push_back(join(std::move(last_c)));
  return results;
}

Values ConvertCell(Conversion& c, std::string_view kind) {
  bool is_lstm = kind == "lstm";
  Weights weights{.w_ih = c.Tensor("w_ih"),
                  .w_hh = c.Tensor("w_hh"),
                  .b_ih = c.FindTensor("b_ih"),
                  .b_hh = c.FindTensor("b_hh")};
  State state{.h = is_lstm ? c.Tensors("hx").at(0) : c.Tensor("hx"),
              .c = is_lstm ? c.Tensors("hx").at(1) : ValueId{}};
  ValueId x = Linear(c, c.Tensor("input"), weights.w_ih, weights.b_ih);
  state = Step(c, kind, x, weights, state);
  return is_lstm ? Values{state.h, state.c} : Values{state.h};
}

constexpr Converter kRows[] = {
    {"aten.lstm.input", ConvertRecurrent, "lstm"},
    {"aten.gru.input", ConvertRecurrent, "gru"},
    {"aten.rnn_tanh.input", ConvertRecurrent, "tanh"},
    {"aten.rnn_relu.input", ConvertRecurrent, "relu"},
    {"aten.lstm_cell.default", ConvertCell, "lstm"},
    {"aten.gru_cell.default", ConvertCell, "gru"},
    {"aten.rnn_tanh_cell.default", ConvertCell, "tanh"},
    {"aten.rnn_relu_cell.default", ConvertCell, "relu"},
};

}  // namespace

std::span<const Converter> RecurrentConverters() { return kRows; }

}  // namespace stator

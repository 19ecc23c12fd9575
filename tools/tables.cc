// stator ops, passes, knobs: the tables of op rows, passes and environment variables, for people
// (docs/generated) and programs.
#include <memory>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "base/knobs.h"
#include "ops/describe.h"
#include "passes/pipeline.h"
#include "tools/cli.h"

namespace stator {
namespace {

using Json = nlohmann::json;

std::string Join(const Json& texts) {
  std::string joined;
  for (const Json& text : texts) joined += (joined.empty() ? "" : ", ") + text.get<std::string>();
  return joined;
}

std::string CountToString(const Json& op) {
  int min = op["min_inputs"], max = op["max_inputs"];
  if (max < 0) return fmt::format("{}+", min);
  return min == max ? fmt::to_string(min) : fmt::format("{}-{}", min, max);
}

// A table cell must not hold what ends it.
std::string Cell(std::string text) {
  for (size_t at = 0; (at = text.find('|', at)) != std::string::npos; at += 2) {
    text.insert(at, 1, '\\');
  }
  return text;
}

std::string OpToMarkdown(const Json& op) {
  std::string text =
      fmt::format("### {}\n\n{} (id {}, {} inputs", op["name"].get<std::string>(),
                  op["doc"].get<std::string>(), op["id"].get<int>(), CountToString(op));
  if (!op["traits"].empty()) text += "; " + Join(op["traits"]);
  if (op["decomposes"]) text += "; decomposes";
  text += ")\n\n";
  if (!op["scalar_body"].get<std::string>().empty()) {
    text += fmt::format("Computes `{}`.\n\n", op["scalar_body"].get<std::string>());
  }
  if (!op["aten"].empty()) text += fmt::format("ATen: {}\n\n", Join(op["aten"]));
  if (!op["attrs"].empty()) text += "| attribute | kind | meaning |\n|---|---|---|\n";
  for (const Json& attr : op["attrs"]) {
    text += fmt::format("| {} | {}{} | {} |\n", attr["name"].get<std::string>(),
                        attr["kind"].get<std::string>(), attr["required"] ? "" : ", optional",
                        Cell(attr["doc"].get<std::string>()));
  }
  return op["attrs"].empty() ? text : text + "\n";
}

std::string OpsToMarkdown() {
  std::string text =
      "# Ops\n\nEvery row of the op table (src/ops). Written by `stator ops --markdown`; `make "
      "golden` renews it.\n\n";
  for (const Json& op : Json::parse(OpTableToJson())) text += OpToMarkdown(op);
  text.pop_back();  // one newline at the end
  return text;
}

std::string KnobsToMarkdown() {
  std::string text =
      "# Knobs\n\nEvery environment variable that the compiler and runtime read. Written by "
      "`stator "
      "knobs`; `make golden` renews it.\n\n| variable | default | meaning |\n|---|---|---|\n";
  for (const Knob& knob : AllKnobs()) {
    text +=
        fmt::format("| {} | {} | {} |\n", knob.name, knob.fallback, Cell(std::string(knob.doc)));
  }
  return text;
}

}  // namespace

void AddTables(CLI::App& app) {
  CLI::App* ops = app.add_subcommand("ops", "Print the op table");
  auto json = std::make_shared<bool>(false);
  CLI::Option* as_json = ops->add_flag("--json", *json, "as JSON (src/ops/describe.h)");
  ops->add_flag("--markdown")->description("as docs/generated/ops.md (default)")->excludes(as_json);
  ops->callback([json] { fmt::print("{}", *json ? OpTableToJson() + "\n" : OpsToMarkdown()); });

  app.add_subcommand("passes", "Print the passes in the order of the pipeline")->callback([] {
    fmt::print("{}", PassesToMarkdown());
  });
  app.add_subcommand("knobs", "Print the environment variables")->callback([] {
    fmt::print("{}", KnobsToMarkdown());
  });
}

}  // namespace stator

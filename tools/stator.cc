// The `stator` command line tool. Exit codes: 0, 1 for what went wrong, 2 for wrong usage.
#include <cstdio>
#include <exception>

#include "base/error.h"
#include "tools/cli.h"

int main(int argc, char** argv) {
  CLI::App app("Compiles PyTorch models and runs them, without Python.", "stator");
  app.require_subcommand(1);
  stator::AddCompile(app);
  stator::AddRun(app);
  stator::AddInspect(app);
  stator::AddBench(app);
  stator::AddOpt(app);
  stator::AddReduce(app);
  stator::AddCache(app);
  stator::AddTables(app);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 2;
  } catch (const std::exception& error) {
    fmt::print(stderr, "stator: {}\n", error.what());
    return 1;
  }
  return 0;
}

// The `stator` command line tool: one function per subcommand adds it to the app.
//
// A subcommand runs while the arguments are parsed (CLI11 callbacks), writes its result to stdout
// and raises stator::Error, which main turns into one line on stderr and exit code 1. None of them
// needs Python or libtorch.
#pragma once

#include <CLI/CLI.hpp>

namespace stator {

void AddCompile(CLI::App& app);
void AddOpt(CLI::App& app);
void AddRun(CLI::App& app);
void AddBench(CLI::App& app);
void AddInspect(CLI::App& app);
void AddReduce(CLI::App& app);
void AddCache(CLI::App& app);
void AddTables(CLI::App& app);  // ops, passes, knobs

}  // namespace stator

// farwarp: run programs on vGPUs, and look after the pool.
#include <grpc/support/log.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <utility>
#include <vector>

#include "client/cli/admin.h"
#include "client/cli/doctor.h"
#include "client/cli/exit_code.h"
#include "client/cli/run.h"
#include "client/cli/settings.h"

namespace farwarp::cli {
namespace {

struct Arguments {
  std::string controller;
  std::string driver;
  AskText ask;
  std::vector<std::string> node_labels;
  std::vector<std::string> command;
  std::string output = "text";
  std::string node;
  bool quiet = false;
};

void AddController(CLI::App& app, Arguments& arguments) {
  app.add_option("--controller", arguments.controller,
                 "host:port of the controller (FARWARP_CONTROLLER)");
}

void AddAsk(CLI::App& app, Arguments& arguments) {
  AddController(app, arguments);
  app.add_option("-n,--count", arguments.ask.count, "number of vGPUs (default 1)");
  app.add_option("-m,--memory", arguments.ask.memory,
                 "memory of each vGPU, for example 8Gi or 512Mi, or one size per vGPU: 1Gi,2Gi");
  app.add_option("-p,--fraction", arguments.ask.fraction,
                 "part of a device for each vGPU, memory and compute: 0.5 is half; with -m it is "
                 "the part of the compute only");
  app.add_option("--compute", arguments.ask.compute,
                 "percent of a device's compute for each vGPU (default: in proportion to memory)");
  app.add_option("--wait", arguments.ask.wait,
                 "how long to wait for vGPUs, for example 30s or 10m (default: not at all)");
  app.add_option("--node-label", arguments.node_labels,
                 "only nodes with this KEY=VALUE label; may be repeated")
      ->allow_extra_args(false);
  app.add_option("--driver", arguments.driver,
                 "without a controller: softgpu, or the path of a libcuda.so.1");
  app.add_flag("-q,--quiet", arguments.quiet, "do not report waiting");
}

void AddOutput(CLI::App& app, Arguments& arguments) {
  AddController(app, arguments);
  app.add_option("--output", arguments.output, "text or json")
      ->check(CLI::IsMember({"text", "json"}));
}

// Completes "host" to "host:7460"; what cannot be an address is refused with the place it is from.
Status CompleteAddress(Setting& controller) {
  std::string& address = controller.value;
  const std::size_t colon = address.rfind(':');
  const bool has_port = colon != std::string::npos && address.find(']', colon) == std::string::npos;
  if (!has_port) address += ":7460";
  const std::string port = address.substr(address.rfind(':') + 1);
  const bool number = !port.empty() && port.size() <= 5 &&
                      port.find_first_not_of("0123456789") == std::string::npos;
  if (!number || std::stoul(port) == 0 || std::stoul(port) > 65535 || address.front() == ':') {
    return Status::Invalid("'" + address.substr(0, 80) + "' (from " + controller.origin +
                           ") is not the address of a controller; write host:port");
  }
  return Status::Ok();
}

// What was not given on the command line comes from environment and files.
Result<Settings> Merge(Arguments& arguments) {
  const Environment environment = [](const char* name) { return std::getenv(name); };
  auto settings = LoadSettings(environment, ConfigFiles(environment));
  if (!settings.ok()) return settings;
  if (!arguments.controller.empty())
    settings->controller = Setting{arguments.controller, "--controller"};
  if (settings->controller) FARWARP_RETURN_IF_ERROR(CompleteAddress(*settings->controller));
  if (!arguments.driver.empty() && settings->controller) {
    return Status::Invalid(
        "--driver chooses what a private pool runs on, and a controller is configured (by " +
        settings->controller->origin +
        "), whose nodes choose for themselves; leave --driver out, " +
        "or the controller (FARWARP_CONTROLLER= turns it off)");
  }
  if (!arguments.driver.empty()) settings->driver = Setting{arguments.driver, "--driver"};
  const auto complete = [](std::string& text, const std::optional<Setting>& setting) {
    if (text.empty() && setting) text = setting->value;
  };
  AskText& ask = arguments.ask;
  // Sizes on the command line replace all sizes from elsewhere.
  const bool sized = !(ask.memory + ask.fraction + ask.compute + ask.count).empty();
  complete(ask.wait, settings->wait);
  if (sized) return settings;
  complete(ask.count, settings->count);
  complete(ask.memory, settings->memory);
  complete(ask.fraction, settings->fraction);
  complete(ask.compute, settings->compute);
  return settings;
}

struct Commands {
  CLI::App* run;
  CLI::App* grant;
  CLI::App* smi;
  CLI::App* ps;
  CLI::App* nodes;
  CLI::App* drain;
  CLI::App* undrain;
  CLI::App* forget;
  CLI::App* doctor;
  CLI::App* first_kernel;
};

Commands Declare(CLI::App& app, Arguments& arguments) {
  app.set_version_flag("--version", std::string("farwarp ") + FARWARP_VERSION);
  app.require_subcommand(1);
  Commands commands{};
  commands.run = app.add_subcommand("run", "run a program on vGPUs");
  AddAsk(*commands.run, arguments);
  // Everything from the first word that is no option of ours is the program's.
  commands.run->prefix_command();
  commands.run->footer(
      "Usage: farwarp run [OPTIONS] -- PROGRAM [ARGUMENTS...]\n"
      "The program's own exit code passes through; 125: farwarp failed, 126: the program cannot\n"
      "be executed, 127: it was not found, 128+n: signal n ended it.");
  commands.grant = app.add_subcommand("grant", "")->group("");
  AddAsk(*commands.grant, arguments);
  commands.smi = app.add_subcommand("smi", "show the pool: devices, shares, leases");
  AddOutput(*commands.smi, arguments);
  commands.ps = app.add_subcommand("ps", "list leases and waiting requests");
  AddOutput(*commands.ps, arguments);
  commands.nodes = app.add_subcommand("nodes", "list GPU nodes");
  AddOutput(*commands.nodes, arguments);
  commands.drain = app.add_subcommand("drain", "keep new leases off a node");
  commands.undrain = app.add_subcommand("undrain", "let a node take leases again");
  commands.forget = app.add_subcommand("forget", "drop a lost node and its leases");
  for (CLI::App* command : {commands.drain, commands.undrain, commands.forget}) {
    AddController(*command, arguments);
    command->add_option("node", arguments.node, "the node's name")->required();
  }
  commands.doctor = app.add_subcommand("doctor", "check one by one what a program needs");
  AddController(*commands.doctor, arguments);
  commands.first_kernel = app.add_subcommand("first-kernel", "")->group("");
  return commands;
}

// Cuts what follows the first "--" off `words`: the program, which no option parser may see.
std::vector<std::string> CutProgram(std::vector<std::string>& words) {
  const auto dashes = std::find(words.begin(), words.end(), "--");
  if (dashes == words.end()) return {};
  std::vector<std::string> program(dashes + 1, words.end());
  words.erase(dashes, words.end());
  return program;
}

// The program of `run`: what was cut off, or, without "--", what CLI11 left over.
Status TakeCommand(const Commands& commands, std::vector<std::string> program,
                   Arguments& arguments) {
  if (!*commands.run) {
    if (program.empty()) return Status::Ok();
    return Status::Invalid("only 'farwarp run' takes a program after --");
  }
  std::vector<std::string> rest = commands.run->remaining();
  if (!rest.empty() && (rest.front().starts_with("-") || !program.empty())) {
    return Status::Invalid("unknown option or word '" + rest.front() +
                           "'; 'farwarp run --help' lists the options");
  }
  arguments.command = program.empty() ? std::move(rest) : std::move(program);
  if (arguments.command.empty()) {
    return Status::Invalid("which program? Write: farwarp run [options] -- PROGRAM [ARGUMENTS...]");
  }
  return Status::Ok();
}

int Dispatch(const Commands& commands, Arguments& arguments) {
  if (*commands.first_kernel) return FirstKernel();
  const auto settings = Merge(arguments);
  const bool running = *commands.run || *commands.grant;
  if (!settings.ok()) {
    std::fprintf(stderr, "farwarp: %s\n", settings.status().message().c_str());
    return running ? kRunFailed : kUsageError;
  }
  if (running) {
    const RunOptions options{arguments.ask, *settings, arguments.node_labels, arguments.command,
                             arguments.quiet};
    return *commands.run ? Run(options) : Grant(options);
  }
  const Output output = arguments.output == "json" ? Output::kJson : Output::kText;
  if (*commands.smi) return ShowPool(*settings, output);
  if (*commands.ps) return ShowLeases(*settings, output);
  if (*commands.nodes) return ShowNodes(*settings, output);
  if (*commands.forget) return ForgetNode(*settings, arguments.node);
  if (*commands.doctor) return Diagnose(*settings);
  return SetDraining(*settings, arguments.node, bool{*commands.drain});
}

int Main(int argc, char** argv) {
  // What went wrong is said in our words, once.
  gpr_set_log_function([](gpr_log_func_args*) {});
  CLI::App app{"Runs unmodified CUDA programs on GPUs of other machines.", "farwarp"};
  Arguments arguments;
  const Commands commands = Declare(app, arguments);
  std::vector<std::string> words(argv + 1, argv + argc);
  std::vector<std::string> program = CutProgram(words);
  std::reverse(words.begin(), words.end());  // As CLI11 takes them.
  try {
    app.parse(std::move(words));
  } catch (const CLI::ParseError& error) {
    // CLI11 misses the command before it would name the option that stands in its place.
    if (dynamic_cast<const CLI::RequiredError*>(&error) != nullptr && argc > 1 &&
        argv[1][0] == '-') {
      std::fprintf(stderr, "farwarp: unknown option '%s'; farwarp --help lists the commands\n",
                   argv[1]);
      return kUsageError;
    }
    if (app.exit(error) == 0) return kSuccess;
    return *commands.run || *commands.grant ? kRunFailed : kUsageError;
  }
  const Status status = TakeCommand(commands, std::move(program), arguments);
  if (!status.ok()) {
    std::fprintf(stderr, "farwarp: %s\n", status.message().c_str());
    return *commands.run ? kRunFailed : kUsageError;
  }
  return Dispatch(commands, arguments);
}

}  // namespace
}  // namespace farwarp::cli

int main(int argc, char** argv) {  // NOLINT(bugprone-exception-escape): it ends the process.
  return farwarp::cli::Main(argc, argv);
}

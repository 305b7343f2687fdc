// The `farwarp` program as users call it: with a real controller in this process, fake nodes, and a
// fake server for private pools.
#include "tests/unit/cli/program.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <sstream>

#include "controller/service/server.h"
#include "farwarp/base/bytes.h"
#include "farwarp/wire/grant.h"
#include "tests/unit/controller/fake_node.h"

namespace farwarp::cli {
namespace {

using farwarp::testing::Eventually;
using farwarp::testing::FakeNode;
using farwarp::testing::Finished;
using farwarp::testing::MakeHello;
using farwarp::testing::Program;
namespace v1 = ::farwarp::control::v1;

using Variables = std::map<std::string, std::string>;

std::string ReadFile(const std::string& path) {
  std::ostringstream text;
  text << std::ifstream(path).rdbuf();
  return text.str();
}

// An installation of its own: hard links of the built programs, fake server and fake drivers.
class ProgramTest : public ::testing::Test {
 protected:
  ProgramTest() {
    char name[] = "/tmp/farwarp-cli-XXXXXX";
    root_ = ::mkdtemp(name);
    std::filesystem::create_directories(root_ + "/bin");
    std::filesystem::create_directories(root_ + "/lib/softgpu");
    std::filesystem::copy_file(FARWARP_PROGRAM, root_ + "/bin/farwarp");
    std::filesystem::copy_file(FAKE_SERVER, root_ + "/bin/farwarp-server");
    std::filesystem::copy_file(FAKE_DRIVER, root_ + "/lib/softgpu/libcuda.so.1");
    std::ofstream(root_ + "/lib/libcuda.so.1") << "never loaded here";
  }
  ~ProgramTest() override {
    controller_.reset();
    std::filesystem::remove_all(root_);
  }

  void StartController() {
    controller::Config config;
    config.listen = address_.empty() ? "127.0.0.1:0" : address_;
    config.state = root_ + "/controller.db";
    config.heartbeat_interval = std::chrono::milliseconds(100);
    config.pool.lease_grace = std::chrono::milliseconds(50);
    config.pool.queue_news = std::chrono::milliseconds(20);
    auto started = controller::ControllerServer::Start(config);
    ASSERT_TRUE(started.ok()) << started.status().message();
    controller_ = std::move(*started);
    address_ = controller_->address();
  }
  Variables Environment() const {
    return {{"FARWARP_CONTROLLER", address_},
            {"HOME", root_},
            {"XDG_CONFIG_HOME", ""},
            {"FAKE_SERVER_LOG", root_ + "/server.log"}};
  }
  std::vector<std::string> Command(const std::vector<std::string>& arguments) const {
    std::vector<std::string> command = {root_ + "/bin/farwarp"};
    command.insert(command.end(), arguments.begin(), arguments.end());
    return command;
  }
  Finished Run(const std::vector<std::string>& arguments, const Variables& more = {}) {
    Variables variables = Environment();
    for (const auto& [name, value] : more) variables[name] = value;
    Program program(Command(arguments), variables);
    program.CloseInput();
    return program.Wait();
  }

  std::string root_;
  std::string address_;
  std::unique_ptr<controller::ControllerServer> controller_;
};

TEST_F(ProgramTest, RunsAProgramWithAGrantAndPassesItsExitCodeOn) {
  StartController();
  FakeNode node(address_, MakeHello("a", {8 * kGiB}));
  ASSERT_TRUE(Eventually([&] { return node.attached(); }));
  const Finished finished =
      Run({"run", "-n", "2", "-m", "1Gi,2Gi", "--wait", "5s", "--", "/bin/sh", "-c",
           "echo \"$FARWARP_GRANT\"; echo \"$LD_LIBRARY_PATH\"; exit 7"},
          {{"LD_LIBRARY_PATH", "/before"}});
  EXPECT_EQ(finished.code, 7) << finished.err;
  const auto grant = wire::ParseGrant(finished.out.substr(0, finished.out.find('\n')));
  ASSERT_TRUE(grant.ok()) << grant.status().message() << finished.out << finished.err;
  ASSERT_EQ(grant->gpus.size(), 2u);
  EXPECT_EQ(grant->gpus[0].memory_bytes, kGiB);
  EXPECT_EQ(grant->gpus[1].memory_bytes, 2 * kGiB);
  EXPECT_EQ(grant->gpus[1].endpoint, "127.0.0.1:7401");
  EXPECT_EQ(grant->gpus[1].ordinal, 1u);
  EXPECT_NE(finished.out.find("\n" + root_ + "/lib:/before\n"), std::string::npos) << finished.out;
  EXPECT_TRUE(Eventually([&] { return node.leases().empty(); }));
}

TEST_F(ProgramTest, ExitCodesAreThoseOfEnv) {
  StartController();
  FakeNode node(address_, MakeHello("a", {8 * kGiB}));
  ASSERT_TRUE(Eventually([&] { return node.attached(); }));
  EXPECT_EQ(Run({"run", "-m", "1Gi", "--", "no-such-program"}).code, 127);
  EXPECT_EQ(Run({"run", "-m", "1Gi", "--", "/etc/passwd"}).code, 126);
  EXPECT_EQ(Run({"run", "-m", "1Gi", "--wait", "5s", "--", "/bin/sh", "-c", "kill -9 $$"}).code,
            137);
  EXPECT_EQ(Run({"run", "-m", "1Gi", "--wait", "5s", "/bin/sh", "-c", "exit 3"}).code, 3);
  // A script without an interpreter that exists.
  std::ofstream(root_ + "/script") << "#!/no/such/interpreter\n";
  ::chmod((root_ + "/script").c_str(), 0755);
  EXPECT_EQ(Run({"run", "-m", "1Gi", "--wait", "5s", "--", root_ + "/script"}).code, 127);
  EXPECT_TRUE(Eventually([&] { return node.leases().empty(); }));
}

TEST_F(ProgramTest, PassesSignalsOn) {
  StartController();
  FakeNode node(address_, MakeHello("a", {8 * kGiB}));
  ASSERT_TRUE(Eventually([&] { return node.attached(); }));
  Program program(Command({"run", "-m", "1Gi", "--", "/bin/sh", "-c",
                           "trap 'echo got it; exit 9' TERM; echo ready; while :; do read x || "
                           "wait; done"}),
                  Environment());
  ASSERT_TRUE(program.WaitForOutput("ready"));
  ::kill(program.pid(), SIGTERM);
  program.CloseInput();
  const Finished finished = program.Wait();
  EXPECT_EQ(finished.code, 9) << finished.err;
  EXPECT_NE(finished.out.find("got it"), std::string::npos);
}

TEST_F(ProgramTest, SaysWhyItWaitsAndGivesUpInTime) {
  StartController();
  FakeNode node(address_, MakeHello("a", {4 * kGiB}));
  ASSERT_TRUE(Eventually([&] { return node.attached(); }));
  Program holder(Command({"run", "-m", "4Gi", "--", "/bin/sh", "-c", "echo holding; read x"}),
                 Environment());
  ASSERT_TRUE(holder.WaitForOutput("holding"));
  const Finished refused = Run({"run", "-m", "1Gi", "--", "/bin/true"});
  EXPECT_EQ(refused.code, 125);
  EXPECT_NE(refused.err.find("the most free is 0 B of memory"), std::string::npos) << refused.err;
  const Finished expired = Run({"run", "-m", "1Gi", "--wait", "300ms", "--", "/bin/true"});
  EXPECT_EQ(expired.code, 125);
  EXPECT_NE(expired.err.find("waiting (place 1 of 1)"), std::string::npos) << expired.err;
  EXPECT_NE(expired.err.find("waited in vain"), std::string::npos) << expired.err;

  Program patient(Command({"run", "-m", "1Gi", "--wait", "1m", "--", "/bin/true"}), Environment());
  ASSERT_TRUE(patient.WaitForError("waiting"));
  const Finished ps = Run({"ps"});
  EXPECT_NE(ps.out.find("waiting:"), std::string::npos) << ps.out;
  holder.CloseInput();
  EXPECT_EQ(holder.Wait().code, 1);
  EXPECT_EQ(patient.Wait().code, 0);
}

TEST_F(ProgramTest, AnInterruptedWaitLeavesTheQueue) {
  StartController();
  Program waiting(Command({"run", "--wait", "1m", "--", "/bin/true"}), Environment());
  ASSERT_TRUE(waiting.WaitForError("no GPU node is attached"));
  ::kill(waiting.pid(), SIGINT);
  EXPECT_EQ(waiting.Wait().code, 130);
  EXPECT_TRUE(Eventually(
      [&] { return Run({"ps", "--output", "json"}).out == "{\"leases\":[],\"waiting\":[]}\n"; }));
}

TEST_F(ProgramTest, AKilledLauncherGivesTheLeaseBack) {
  StartController();
  FakeNode node(address_, MakeHello("a", {4 * kGiB}));
  ASSERT_TRUE(Eventually([&] { return node.attached(); }));
  Program holder(Command({"run", "-m", "4Gi", "--", "/bin/sh", "-c", "echo holding; read x"}),
                 Environment());
  ASSERT_TRUE(holder.WaitForOutput("holding"));
  EXPECT_EQ(node.leases().size(), 1u);
  ::kill(holder.pid(), SIGKILL);
  EXPECT_TRUE(Eventually([&] { return node.leases().empty(); }));
}

TEST_F(ProgramTest, ALeaseSurvivesARestartOfTheController) {
  StartController();
  FakeNode node(address_, MakeHello("a", {4 * kGiB}));
  ASSERT_TRUE(Eventually([&] { return node.attached(); }));
  Program holder(Command({"run", "-m", "4Gi", "--", "/bin/sh", "-c", "echo holding; read x"}),
                 Environment());
  ASSERT_TRUE(holder.WaitForOutput("holding"));
  controller_.reset();
  StartController();
  EXPECT_TRUE(Eventually([&] {
    const std::string json = Run({"ps", "--output", "json"}).out;
    return json.find("\"launcher_attached\":true") != std::string::npos;
  }));
  EXPECT_EQ(node.leases().size(), 1u);
  holder.CloseInput();
  holder.Wait();
  EXPECT_TRUE(Eventually([&] { return node.leases().empty(); }));
}

TEST_F(ProgramTest, AWaitingRequestSurvivesARestartOfTheController) {
  StartController();
  Program waiting(Command({"run", "-m", "1Gi", "--wait", "1m", "--", "/bin/sh", "-c", "exit 6"}),
                  Environment());
  ASSERT_TRUE(waiting.WaitForError("waiting (place 1 of 1)"));
  controller_.reset();
  ASSERT_TRUE(waiting.WaitForError("Trying again"));
  StartController();
  FakeNode node(address_, MakeHello("a", {4 * kGiB}));
  EXPECT_EQ(waiting.Wait().code, 6);
}

TEST_F(ProgramTest, ALostNodeIsReportedWhileTheProgramGoesOn) {
  StartController();
  auto node = std::make_unique<FakeNode>(address_, MakeHello("a", {4 * kGiB}));
  ASSERT_TRUE(Eventually([&] { return node->attached(); }));
  Program holder(
      Command({"run", "-m", "4Gi", "--", "/bin/sh", "-c", "echo holding; read x; exit 5"}),
      Environment());
  ASSERT_TRUE(holder.WaitForOutput("holding"));
  node->RefuseWith("no such driver any more");
  node->Restart();
  ASSERT_TRUE(
      holder.WaitForError("the vGPUs are gone: node a restarted and could not take the "
                          "lease again: no such driver any more"));
  holder.CloseInput();
  EXPECT_EQ(holder.Wait().code, 5);
}

TEST_F(ProgramTest, GrantHoldsTheLeaseUntilItsInputEnds) {
  StartController();
  FakeNode node(address_, MakeHello("a", {4 * kGiB}));
  ASSERT_TRUE(Eventually([&] { return node.attached(); }));
  Program grant(Command({"grant", "-m", "1Gi"}), Environment());
  ASSERT_TRUE(grant.WaitForOutput("\n"));
  EXPECT_EQ(node.leases().size(), 1u);
  grant.CloseInput();
  const Finished finished = grant.Wait();
  EXPECT_EQ(finished.code, 0);
  EXPECT_TRUE(wire::ParseGrant(finished.out).ok()) << finished.out;
  EXPECT_TRUE(Eventually([&] { return node.leases().empty(); }));
}

TEST_F(ProgramTest, ShowsThePool) {
  StartController();
  FakeNode node(address_, MakeHello("big-node", {8 * kGiB}));
  ASSERT_TRUE(Eventually([&] { return node.attached(); }));
  const Finished smi = Run({"smi"});
  EXPECT_EQ(smi.code, 0) << smi.err;
  EXPECT_NE(smi.out.find("big-node"), std::string::npos);
  EXPECT_NE(smi.out.find("Fake GPU"), std::string::npos);
  const Finished json = Run({"smi", "--output", "json"});
  EXPECT_NE(json.out.find("\"memory_bytes\":8589934592"), std::string::npos) << json.out;
  EXPECT_NE(json.out.find("\"nodes_attached\":1"), std::string::npos);
  EXPECT_NE(Run({"nodes"}).out.find("ready"), std::string::npos);
  EXPECT_EQ(Run({"drain", "big-node"}).code, 0);
  EXPECT_NE(Run({"nodes"}).out.find("draining"), std::string::npos);
  EXPECT_EQ(Run({"undrain", "big-node"}).code, 0);
  const Finished unknown = Run({"drain", "nobody"});
  EXPECT_EQ(unknown.code, 1);
  EXPECT_NE(unknown.err.find("no node named 'nobody'"), std::string::npos);
}

TEST_F(ProgramTest, ArgumentErrorsAreNamed) {
  const Finished run = Run({"run", "--no-such-option", "--", "/bin/true"});
  EXPECT_EQ(run.code, 125);
  EXPECT_NE(run.err.find("--no-such-option"), std::string::npos) << run.err << run.out;
  EXPECT_EQ(Run({"smi", "--no-such-option"}).code, 2);
  EXPECT_EQ(Run({"--no-such-option"}).code, 2);
  EXPECT_EQ(Run({"no-such-command"}).code, 2);
  EXPECT_EQ(Run({}).code, 2);
  EXPECT_EQ(Run({"run"}).code, 125);
  EXPECT_EQ(Run({"run", "--"}).code, 125);
  EXPECT_EQ(Run({"smi", "--output", "xml"}).code, 2);
  EXPECT_EQ(Run({"drain"}).code, 2);
  const Finished size = Run({"run", "-m", "lots", "--", "/bin/true"});
  EXPECT_EQ(size.code, 125);
  EXPECT_NE(size.err.find("'lots' is not a size"), std::string::npos) << size.err;
  const Finished variable = Run({"run", "--", "/bin/true"}, {{"FARWARP_WAIT", "x"}});
  EXPECT_NE(variable.err.find("'x' is not a duration"), std::string::npos) << variable.err;
  EXPECT_EQ(Run({"--help"}).code, 0);
  EXPECT_EQ(Run({"run", "--help"}).code, 0);
  EXPECT_EQ(Run({"--version"}).code, 0);
}

TEST_F(ProgramTest, NoControllerThere) {
  for (const std::vector<std::string>& arguments :
       {std::vector<std::string>{"smi"}, {"ps"}, {"nodes"}, {"drain", "a"}}) {
    const Finished finished = Run(arguments, {{"FARWARP_CONTROLLER", "127.0.0.1:1"}});
    EXPECT_EQ(finished.code, 1);
    EXPECT_NE(finished.err.find("cannot reach the controller at 127.0.0.1:1: Connection refused"),
              std::string::npos)
        << finished.err;
  }
  const Finished run =
      Run({"run", "--wait", "1m", "--", "/bin/true"}, {{"FARWARP_CONTROLLER", "127.0.0.1:1"}});
  EXPECT_EQ(run.code, 125);
  EXPECT_NE(run.err.find("the address comes from FARWARP_CONTROLLER"), std::string::npos)
      << run.err;
  for (const char* bad : {":7460", "host:", "host:x", "host:99999", "host:0"}) {
    const Finished finished = Run({"smi", "--controller", bad});
    EXPECT_EQ(finished.code, 2);
    EXPECT_NE(finished.err.find("(from --controller) is not the address of a controller"),
              std::string::npos)
        << finished.err;
  }
  const Finished none = Run({"smi"}, {{"FARWARP_CONTROLLER", ""}});
  EXPECT_EQ(none.code, 1);
  EXPECT_NE(none.err.find("no controller is configured"), std::string::npos);
}

TEST_F(ProgramTest, APrivatePoolNeedsNoController) {
  const Variables alone = {{"FARWARP_CONTROLLER", ""}, {"FARWARP_DRIVER", "softgpu"}};
  const Finished finished =
      Run({"run", "-n", "2", "-p", "0.5", "--", "/bin/sh", "-c", "echo \"$FARWARP_GRANT\"; exit 4"},
          alone);
  EXPECT_EQ(finished.code, 4) << finished.err;
  const auto grant = wire::ParseGrant(finished.out);
  ASSERT_TRUE(grant.ok()) << finished.out << finished.err;
  ASSERT_EQ(grant->gpus.size(), 2u);
  EXPECT_EQ(grant->gpus[0].endpoint, "127.0.0.1:4321");
  EXPECT_EQ(grant->gpus[0].memory_bytes, 2 * kGiB);
  EXPECT_EQ(grant->gpus[0].compute_percent, 50u);
  EXPECT_EQ(grant->gpus[1].ordinal, 1u);

  std::istringstream log(ReadFile(root_ + "/server.log"));
  std::string lease, driver;
  pid_t server = 0;
  log >> lease >> driver >> server;
  EXPECT_EQ(driver, "softgpu");
  EXPECT_EQ(lease, "v1;lease=" + HexEncode(grant->lease) + ";secret=" + HexEncode(grant->secret) +
                       ";gpu=0/2147483648/50;gpu=0/2147483648/50");
  // Gone with the program.
  EXPECT_NE(::kill(server, 0), 0);
}

TEST_F(ProgramTest, AKilledPrivatePoolEndsItsServer) {
  Variables alone = Environment();
  alone["FARWARP_CONTROLLER"] = "";
  alone["FARWARP_DRIVER"] = "softgpu";
  Program holder(Command({"run", "--", "/bin/sh", "-c", "echo holding; read x"}), alone);
  ASSERT_TRUE(holder.WaitForOutput("holding"));
  std::istringstream log(ReadFile(root_ + "/server.log"));
  std::string lease, driver;
  pid_t server = 0;
  log >> lease >> driver >> server;
  ASSERT_EQ(::kill(server, 0), 0);
  ::kill(holder.pid(), SIGKILL);
  EXPECT_TRUE(Eventually([&] {
    const std::string status = ReadFile("/proc/" + std::to_string(server) + "/stat");
    return status.empty() || status.find(") Z") != std::string::npos;
  }));
}

TEST_F(ProgramTest, PrivatePoolFailuresSayWhy) {
  const Variables alone = {{"FARWARP_CONTROLLER", ""}, {"FARWARP_DRIVER", "softgpu"}};
  const auto failure = [&](std::vector<std::string> options, Variables more) {
    more.insert(alone.begin(), alone.end());
    options.insert(options.begin(), "run");
    options.insert(options.end(), {"--", "/bin/true"});
    const Finished finished = Run(options, more);
    EXPECT_EQ(finished.code, 125);
    return finished.err;
  };
  EXPECT_NE(failure({"-m", "9Gi"}, {})
                .find("do not fit this machine: 2 devices (Fake GPU 0), the "
                      "largest with 4 GiB of memory"),
            std::string::npos);
  EXPECT_NE(failure({}, {{"FAKE_SERVER_FAIL", "1"}}).find("the driver is broken"),
            std::string::npos);
  EXPECT_NE(failure({}, {{"FAKE_DRIVER_DEVICES", "0"}}).find("has no device"), std::string::npos);
  EXPECT_NE(failure({}, {{"FAKE_DRIVER_CRASH", "1"}}).find("crashed"), std::string::npos);
  EXPECT_NE(failure({"--driver", "/nonexistent.so"}, {}).find("/nonexistent.so"),
            std::string::npos);
  EXPECT_NE(failure({"--driver", root_ + "/bin/farwarp"}, {}).find("driver " + root_),
            std::string::npos);
  std::filesystem::remove(root_ + "/bin/farwarp-server");
  EXPECT_NE(failure({}, {}).find("set FARWARP_CONTROLLER to use a pool"), std::string::npos);
}

TEST_F(ProgramTest, WarnsAboutStaticRuntimesAndMissingLibraries) {
  StartController();
  FakeNode node(address_, MakeHello("a", {4 * kGiB}));
  ASSERT_TRUE(Eventually([&] { return node.attached(); }));
  const Finished with = Run({"run", "-m", "1Gi", "--", "/bin/true"});
  EXPECT_EQ(with.err.find("warning"), std::string::npos) << with.err;
  std::filesystem::remove(root_ + "/lib/libcuda.so.1");
  const Finished without = Run({"run", "-m", "1Gi", "--wait", "5s", "--", "/bin/true"});
  EXPECT_NE(without.err.find("there is no libcuda.so.1 in " + root_ + "/lib"), std::string::npos);
}

TEST_F(ProgramTest, DoctorNamesWhatIsWrong) {
  Finished finished = Run({"doctor"}, {{"FARWARP_CONTROLLER", "127.0.0.1:1"}});
  EXPECT_EQ(finished.code, 1);
  EXPECT_NE(finished.out.find("FAIL  controller"), std::string::npos) << finished.out;
  EXPECT_NE(finished.out.find("FAIL  libraries    libcudart.so.13 missing"), std::string::npos)
      << finished.out;
  StartController();
  finished = Run({"doctor"});
  EXPECT_EQ(finished.code, 1);
  EXPECT_NE(finished.out.find("no node is attached"), std::string::npos) << finished.out;
  v1::NodeHello hello = MakeHello("a", {4 * kGiB});
  hello.set_farwarp_version("0.0.9");
  hello.set_data_endpoint("127.0.0.1:1");
  FakeNode node(address_, hello);
  ASSERT_TRUE(Eventually([&] { return node.attached(); }));
  finished = Run({"doctor"});
  EXPECT_NE(finished.out.find("warn  version      node a is 0.0.9"), std::string::npos)
      << finished.out;
  EXPECT_NE(finished.out.find("data port 127.0.0.1:1: connect: Connection refused"),
            std::string::npos)
      << finished.out;
  EXPECT_NE(finished.out.find("--advertise"), std::string::npos) << finished.out;
  EXPECT_NE(finished.out.find("ok    grant"), std::string::npos) << finished.out;
}

TEST_F(ProgramTest, AFailedProgramsUnreachableNodeIsNamed) {
  StartController();
  v1::NodeHello hello = MakeHello("far-away", {4 * kGiB});
  hello.set_data_endpoint("127.0.0.1:1");
  FakeNode node(address_, hello);
  ASSERT_TRUE(Eventually([&] { return node.attached(); }));
  const Finished failed = Run({"run", "--", "/bin/false"});
  EXPECT_EQ(failed.code, 1);
  EXPECT_NE(failed.err.find("node far-away cannot be reached at 127.0.0.1:1"), std::string::npos)
      << failed.err;
  EXPECT_NE(failed.err.find("--advertise"), std::string::npos) << failed.err;
  EXPECT_EQ(Run({"run", "--", "/bin/true"}).err.find("far-away"), std::string::npos);
}

TEST_F(ProgramTest, ADriverIsForPrivatePools) {
  const Finished both = Run({"run", "--driver", "softgpu", "--", "/bin/true"},
                            {{"FARWARP_CONTROLLER", "127.0.0.1:1"}});
  EXPECT_EQ(both.code, 125);
  EXPECT_NE(both.err.find("--driver chooses"), std::string::npos) << both.err;
  EXPECT_NE(both.err.find("by FARWARP_CONTROLLER"), std::string::npos) << both.err;
}

}  // namespace
}  // namespace farwarp::cli

// The real client library in a real program against a real server: what the program's user sees
// when things die.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "farwarp/wire/grant.h"
#include "tests/unit/daemon/server_process.h"

namespace farwarp::testing {
namespace {

using std::chrono::milliseconds;

const std::string kBuild = FARWARP_BUILD_DIR;

// A program of these tests with a grant for the vGPUs of `server`.
class Program {
 public:
  explicit Program(const ServerProcess& server, const std::string& name = "poll_program") {
    wire::Grant grant;
    grant.lease = server.lease();
    grant.secret = server.secret();
    grant.gpus.push_back({server.endpoint(), 0, std::uint64_t{256} << 20, 50});
    grant.gpus.push_back({server.endpoint(), 1, std::uint64_t{512} << 20, 100});
    std::vector<std::string> variables = {"LD_LIBRARY_PATH=" + kBuild + "/lib",
                                          "FARWARP_GRANT=" + wire::FormatGrant(grant),
                                          "PATH=/usr/bin:/bin"};
    std::vector<char*> environment;
    for (std::string& variable : variables) environment.push_back(variable.data());
    environment.push_back(nullptr);
    int ends[2] = {-1, -1};
    if (::pipe2(ends, O_CLOEXEC) != 0) return;
    output_.reset(ends[0]);
    const UniqueFd write_end(ends[1]);
    posix_spawn_file_actions_t actions;
    ::posix_spawn_file_actions_init(&actions);
    ::posix_spawn_file_actions_adddup2(&actions, write_end.get(), 1);
    std::string path = kBuild + "/tests/" + name;
    char* const arguments[] = {path.data(), nullptr};
    if (::posix_spawn(&pid_, path.c_str(), &actions, nullptr, arguments, environment.data()) != 0) {
      pid_ = -1;
    }
    ::posix_spawn_file_actions_destroy(&actions);
  }
  ~Program() { Kill(); }
  Program(const Program&) = delete;
  Program& operator=(const Program&) = delete;

  // "" when it ended or the time is over.
  std::string ReadLine(milliseconds time = kPatience) {
    const Deadline deadline = Deadline::After(time);
    std::string line;
    char byte = 0;
    for (;;) {
      pollfd wanted{output_.get(), POLLIN, 0};
      if (::poll(&wanted, 1, deadline.remaining_ms()) <= 0 ||
          ::read(output_.get(), &byte, 1) != 1) {
        return "";
      }
      if (byte == '\n') return line;
      line.push_back(byte);
    }
  }
  void Signal(int signal) const {
    if (pid_ > 0) ::kill(pid_, signal);
  }
  void Kill() {
    if (pid_ <= 0) return;
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
    pid_ = -1;
  }

 private:
  pid_t pid_ = -1;
  UniqueFd output_;
};

// Both numbers of "error A then B" are the same real error.
void ExpectStickyError(const std::string& line) {
  int first = 0;
  int second = 0;
  ASSERT_EQ(std::sscanf(line.c_str(), "error %d then %d", &first, &second), 2) << line;
  EXPECT_NE(first, 0);
  EXPECT_EQ(first, second);
}

TEST(Client, GetsAStickyErrorWithinASecondWhenItsWorkerCrashes) {
  ServerProcess server;
  Program victim(server);
  ASSERT_EQ(victim.ReadLine(), "ready") << server.log();
  const std::vector<pid_t> workers = server.workers();
  ASSERT_EQ(workers.size(), 1u);
  Program other(server);
  ASSERT_EQ(other.ReadLine(), "ready") << server.log();
  ::kill(workers[0], SIGKILL);  // What no sanitizer can put off.
  ExpectStickyError(victim.ReadLine(milliseconds(1000)));
  EXPECT_EQ(other.ReadLine(milliseconds(200)), "") << "the other one works on";
  EXPECT_TRUE(server.WaitForWorkers(1));
}

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__) && \
    !__has_feature(address_sanitizer) && !__has_feature(thread_sanitizer)
// Under a sanitizer a worker is unlimited.
TEST(Client, ThatUsesUpItsWorkersMemoryIsToldAndNobodyElse) {
  ServerProcess::Options options;
  options.arguments = {"--worker-memory", "512Mi"};
  ServerProcess server(options);
  Program other(server);
  ASSERT_EQ(other.ReadLine(), "ready") << server.log();
  std::string free_before;
  for (int i = 0; i < 2; ++i) {
    Program hog(server, "hog_program");
    const std::string free = hog.ReadLine();
    ASSERT_THAT(free, ::testing::StartsWith("free ")) << server.log();
    // All that the first one had of its vGPU is there for the second.
    if (i == 1) EXPECT_EQ(free, free_before);
    free_before = free;
    // Most of that time goes into using up the memory, page by page.
    ExpectStickyError(hog.ReadLine(milliseconds(20'000)));
    EXPECT_TRUE(server.WaitForLog("used up its host memory (see --worker-memory)"));
    EXPECT_TRUE(server.WaitForWorkers(1)) << server.log();
  }
  EXPECT_EQ(other.ReadLine(milliseconds(200)), "") << "the other one works on";
}
#endif

TEST(Client, GetsAStickyErrorWhenTheServerIsKilled) {
  ServerProcess server;
  Program program(server);
  ASSERT_EQ(program.ReadLine(), "ready") << server.log();
  server.Signal(SIGKILL);
  ExpectStickyError(program.ReadLine(milliseconds(2000)));
}

TEST(Client, GetsAStickyErrorWhenItsLeaseEnds) {
  ServerProcess server;
  Program program(server);
  ASSERT_EQ(program.ReadLine(), "ready") << server.log();
  server.EndLauncher();
  ExpectStickyError(program.ReadLine(milliseconds(2000)));
}

TEST(Client, ThatIsKilledLeavesNoWorker) {
  ServerProcess server;
  Program program(server);
  ASSERT_EQ(program.ReadLine(), "ready") << server.log();
  program.Kill();
  EXPECT_TRUE(server.WaitForWorkers(0, milliseconds(1000))) << server.log();
}

// ------------------------------------------------------------------------- on the software GPU

ServerProcess::Options OnSoftwareGpu() {
  ServerProcess::Options options;
  options.driver = "softgpu";
  options.vgpus = ";gpu=0/268435456/50;gpu=any/268435456/50";
  return options;
}

TEST(SoftwareGpu, KernelThatNeverEndsDoesNotOutliveItsClient) {
  ServerProcess server(OnSoftwareGpu());
  ASSERT_NE(server.endpoint(), "") << server.log();
  Program program(server, "spin_program");
  ASSERT_EQ(program.ReadLine(), "spinning") << server.log();
  ASSERT_EQ(server.workers().size(), 1u) << server.log();
  program.Kill();
  EXPECT_TRUE(server.WaitForWorkers(0, milliseconds(2000))) << server.log();
}

TEST(SoftwareGpu, KernelThatNeverEndsDoesNotOutliveItsLease) {
  ServerProcess server(OnSoftwareGpu());
  Program program(server, "spin_program");
  ASSERT_EQ(program.ReadLine(), "spinning") << server.log();
  server.EndLauncher();
  ExpectStickyError(program.ReadLine(milliseconds(4000)));
  EXPECT_EQ(server.WaitForEnd(milliseconds(4000)).exit_code, 0) << server.log();
}

TEST(SoftwareGpu, CrashUnderARunningKernelIsAStickyError) {
  ServerProcess server(OnSoftwareGpu());
  Program program(server, "spin_program");
  ASSERT_EQ(program.ReadLine(), "spinning") << server.log();
  ::kill(server.workers().at(0), SIGSEGV);
  ExpectStickyError(program.ReadLine(milliseconds(1500)));
}

TEST(SoftwareGpu, FaultOnOneVgpuSparesAnotherOfTheSameDevice) {
  ServerProcess::Options options = OnSoftwareGpu();
  options.vgpus = ";gpu=0/268435456/50;gpu=0/268435456/50";
  ServerProcess server(options);
  Program program(server, "fault_program");
  EXPECT_EQ(program.ReadLine(), "vgpu 0: error 700") << server.log();
  EXPECT_EQ(program.ReadLine(), "vgpu 1: error 0") << server.log();
}

// Of both sides: silence for more than six heartbeats, 300 ms, is death but for what the kernel
// says.
ServerProcess::Options WithFastHeart(const std::string& pause) {
  ServerProcess::Options options = OnSoftwareGpu();
  options.arguments = {"--heartbeat", "50ms", "--client-pause", pause};
  return options;
}

TEST(Stopped, ProgramsGoOnWhereTheyWere) {
  ServerProcess server(WithFastHeart("1m"));
  Program program(server, "pause_program");
  for (int stops = 0; stops < 4; ++stops) {
    ASSERT_NE(program.ReadLine(), "") << server.log();
    program.Signal(SIGSTOP);
    // What it printed just before, and then nothing for five times what makes a silence.
    while (!program.ReadLine(milliseconds(1500)).empty()) {
    }
    ASSERT_EQ(server.workers().size(), 1u) << server.log();
    program.Signal(SIGCONT);
  }
  std::string line = program.ReadLine();
  while (line == "20" || line == "30" || line == "40" || line == "50" || line == "60") {
    line = program.ReadLine();
  }
  EXPECT_EQ(line, "right") << server.log();
  EXPECT_NE(server.log().find("it may be stopped"), std::string::npos) << server.log();
}

TEST(Stopped, ProgramsThatAreKilledAreCleanedUpAtOnce) {
  ServerProcess server(WithFastHeart("1m"));
  Program program(server, "pause_program");
  ASSERT_EQ(program.ReadLine(), "10") << server.log();
  program.Signal(SIGSTOP);
  EXPECT_TRUE(server.WaitForLog("it may be stopped"));
  ASSERT_EQ(server.workers().size(), 1u) << server.log();
  program.Kill();
  EXPECT_TRUE(server.WaitForWorkers(0, milliseconds(1000))) << server.log();
}

TEST(Stopped, ProgramsAreGivenUpInTheEnd) {
  ServerProcess server(WithFastHeart("1s"));
  Program program(server, "pause_program");
  ASSERT_EQ(program.ReadLine(), "10") << server.log();
  program.Signal(SIGSTOP);
  EXPECT_TRUE(server.WaitForWorkers(0)) << server.log();
  program.Signal(SIGCONT);
  std::string line = program.ReadLine();
  while (!line.empty() && line.find("error") == std::string::npos) line = program.ReadLine();
  ExpectStickyError(line);
}

}  // namespace
}  // namespace farwarp::testing

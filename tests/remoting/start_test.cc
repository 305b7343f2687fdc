// cuInit without a usable grant or server: the right error and a clear sentence, within two
// seconds. Each case runs in a process of its own, because a process starts once.
#include <gtest/gtest.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <fstream>
#include <string>
#include <thread>

#include "client/custom.h"
#include "client/driver/grant_source.h"
#include "farwarp/base/deadline.h"
#include "farwarp/transport/socket_channel.h"
#include "farwarp/wire/frame.h"
#include "farwarp/wire/handshake.h"

namespace farwarp::tests {
namespace {

namespace cu = client::custom;

std::string GrantFor(const std::string& endpoint) {
  wire::Grant grant;
  grant.secret.fill(3);
  grant.gpus.push_back({endpoint, 0, 1 << 30, 100});
  return wire::FormatGrant(grant);
}

// Leaves the process with 0 if cuInit answers `wanted` in time, and keeps answering it.
[[noreturn]] void Init(CUresult wanted) {
  const auto begin = std::chrono::steady_clock::now();
  const CUresult first = cu::cuInit(0);
  const auto took = std::chrono::steady_clock::now() - begin;
  int count = 0;
  const bool right = first == wanted && cu::cuInit(0) == wanted &&
                     cu::cuDeviceGetCount(&count) == wanted && took < std::chrono::seconds(4);
  _exit(right ? 0 : 1);
}

// A death test runs its whole test again in a process of its own. That one takes the file of the
// first, which removes it.
std::string ToolPath() {
  const std::string number = std::to_string(getpid());
  setenv("FARWARP_TEST_TOOL", number.c_str(), 0);
  return testing::TempDir() + "farwarp_tool_" + getenv("FARWARP_TEST_TOOL");
}

// A tool in place of `farwarp`: a shell script.
std::string Tool(const std::string& body) {
  const std::string path = ToolPath();
  std::ofstream(path) << "#!/bin/sh\n" << body << "\n";
  chmod(path.c_str(), 0700);
  return path;
}

class Start : public testing::Test {
 protected:
  void SetUp() override {
    GTEST_FLAG_SET(death_test_style, "threadsafe");
    unsetenv("FARWARP_GRANT");
    unsetenv("FARWARP_LOG");
    unsetenv("CUDA_VISIBLE_DEVICES");
  }
  void TearDown() override { unlink(ToolPath().c_str()); }
};

const auto kFine = testing::ExitedWithCode(0);

TEST_F(Start, WithoutGrantAndTool) {
  setenv("FARWARP_CLI", "/nonexistent/farwarp", 1);
  EXPECT_EXIT(Init(CUDA_ERROR_NO_DEVICE), kFine, "farwarp run");
}

TEST_F(Start, WithAGrantThatIsNone) {
  setenv("FARWARP_GRANT", "hello", 1);
  EXPECT_EXIT(Init(CUDA_ERROR_NO_DEVICE), kFine, "grant");
}

TEST_F(Start, WithATaciturnTool) {
  setenv("FARWARP_CLI", Tool("exit 3").c_str(), 1);
  EXPECT_EXIT(Init(CUDA_ERROR_NO_DEVICE), kFine, "without a grant");
}

TEST_F(Start, WithAToolThatNeverAnswers) {
  setenv("FARWARP_CLI", Tool("exec cat").c_str(), 1);
  setenv("FARWARP_GRANT_TIMEOUT_MS", "100", 1);
  EXPECT_EXIT(Init(CUDA_ERROR_NO_DEVICE), kFine, "FARWARP_GRANT_TIMEOUT_MS");
}

TEST_F(Start, WithAToolThatDoesNotEnd) {
  setenv("FARWARP_CLI", Tool("trap '' TERM; sleep 60").c_str(), 1);
  setenv("FARWARP_GRANT_TIMEOUT_MS", "100", 1);
  EXPECT_EXIT(Init(CUDA_ERROR_NO_DEVICE), kFine, "FARWARP_GRANT_TIMEOUT_MS");
}

// A tool that holds a lease, and makes the file `ended` when it has been told that the lease is
// over.
class Lease : public Start {
 protected:
  void SetUp() override {
    Start::SetUp();
    ended_ = testing::TempDir() + "farwarp_ended_" + std::to_string(getpid());
    unlink(ended_.c_str());
    setenv("FARWARP_CLI",
           Tool("echo '" + GrantFor("127.0.0.1:1") + "'; cat; echo yes > " + ended_).c_str(), 1);
  }
  bool Ended() const {
    const Deadline deadline = Deadline::After(std::chrono::seconds(10));
    while (access(ended_.c_str(), F_OK) != 0) {
      if (deadline.expired()) return false;
      std::this_thread::yield();
    }
    unlink(ended_.c_str());
    return true;
  }
  std::string ended_;  // Of this process: each case has its own.
};

TEST_F(Lease, IsNotTakenWhereNoDeviceIsVisible) {
  for (const char* none : {"", "-1", " ,0", "NoDevFiles"}) {
    EXPECT_EXIT(
        {
          setenv("CUDA_VISIBLE_DEVICES", none, 1);
          setenv("FARWARP_CLI", Tool("echo yes > " + ended_).c_str(), 1);
          const bool right =
              cu::cuInit(0) == CUDA_ERROR_NO_DEVICE && access(ended_.c_str(), F_OK) != 0;
          _exit(right ? 0 : 1);
        },
        kFine, "");
  }
}

// The tool takes signals although the program that starts it does not.
TEST_F(Lease, IsGivenUpWhereAllSignalsAreBlocked) {
  setenv("FARWARP_GRANT_TIMEOUT_MS", "100", 1);
  EXPECT_EXIT(
      {
        const std::string wait = "while :; do read -r line; sleep 0.01; done";
        setenv("FARWARP_CLI",
               Tool("trap 'echo yes > " + ended_ + "; exit 0' TERM; " + wait).c_str(), 1);
        sigset_t all;
        sigfillset(&all);
        pthread_sigmask(SIG_BLOCK, &all, nullptr);
        const bool right = !client::FindGrant().ok() && access(ended_.c_str(), F_OK) == 0;
        _exit(right ? 0 : 1);
      },
      kFine, "");
}

TEST_F(Lease, EndsWhenTheProcessCannotUseIt) {
  EXPECT_EXIT(
      {
        const bool right = cu::cuInit(0) == CUDA_ERROR_DEVICE_UNAVAILABLE && Ended();
        _exit(right ? 0 : 1);
      },
      kFine, "cannot connect");
}

TEST_F(Lease, OutlivesSignalsFromTheTerminal) {
  EXPECT_EXIT(
      {
        setpgid(0, 0);
        signal(SIGINT, [](int) {});
        bool right = client::FindGrant().ok();
        kill(0, SIGINT);
        right = right && access(ended_.c_str(), F_OK) != 0;
        // Only one that is still there can hear of the end.
        client::ReleaseGrant();
        _exit(right && Ended() ? 0 : 1);
      },
      kFine, "");
}

TEST_F(Lease, EndsWithItsProcessWhateverChildrenThatHas) {
  EXPECT_EXIT(
      {
        int child_of_child[2];
        if (pipe(child_of_child) != 0) _exit(2);
        const pid_t holder = fork();
        if (holder == 0) {
          if (!client::FindGrant().ok()) _exit(3);
          const pid_t child = fork();
          if (child == 0) {
            for (;;) pause();
          }
          _exit(write(child_of_child[1], &child, sizeof child) == sizeof child ? 0 : 4);
        }
        pid_t child = 0;
        int status = 1;
        const bool told = read(child_of_child[0], &child, sizeof child) == sizeof child;
        waitpid(holder, &status, 0);
        const bool right = told && status == 0 && Ended();
        if (told) kill(child, SIGKILL);
        _exit(right ? 0 : 1);
      },
      kFine, "");
}

TEST_F(Start, WithoutAServer) {
  // A port that was free a moment ago.
  auto listening = transport::ListenTcp("127.0.0.1:0");
  ASSERT_TRUE(listening.ok());
  const std::string grant = GrantFor(listening->second);
  listening->first.reset();
  setenv("FARWARP_GRANT", grant.c_str(), 1);
  EXPECT_EXIT(Init(CUDA_ERROR_DEVICE_UNAVAILABLE), kFine, "cannot connect");
  // The tool's answer is used as a grant from the environment is.
  unsetenv("FARWARP_GRANT");
  setenv("FARWARP_CLI", Tool("echo '" + grant + "'; exec cat").c_str(), 1);
  EXPECT_EXIT(Init(CUDA_ERROR_DEVICE_UNAVAILABLE), kFine, "cannot connect");
}

TEST_F(Start, WithAServerThatSaysNothing) {
  auto listening = transport::ListenTcp("127.0.0.1:0");
  ASSERT_TRUE(listening.ok());
  setenv("FARWARP_GRANT", GrantFor(listening->second).c_str(), 1);
  EXPECT_EXIT(Init(CUDA_ERROR_DEVICE_UNAVAILABLE), kFine, "farwarp: ");
}

TEST_F(Start, WithAServerThatRefuses) {
  EXPECT_EXIT(
      {
        auto listening = transport::ListenTcp("127.0.0.1:0");
        setenv("FARWARP_GRANT", GrantFor(listening->second).c_str(), 1);
        std::thread server([fd = listening->first.get()] {
          transport::SocketChannel channel(UniqueFd(accept(fd, nullptr, nullptr)));
          const auto payload =
              wire::Farewell{wire::RefusalCode::kUnauthenticated, "no such lease here"}.Encode();
          static_cast<void>(channel.Send(
              {wire::FrameKind::kRefused, 0, 0, static_cast<std::uint32_t>(payload.size()), 0, 0},
              payload, {}, Deadline::After(std::chrono::seconds(5))));
          // Until the client has gone.
          static_cast<void>(channel.ReceiveHeader(Deadline::After(std::chrono::seconds(5))));
        });
        server.detach();
        Init(CUDA_ERROR_DEVICE_UNAVAILABLE);
      },
      kFine, "no such lease here");
}

// A server that answers the first frame of a client with `kind` and `payload`.
void Answer(int listener, wire::FrameKind kind, const wire::Buffer& payload) {
  transport::SocketChannel channel(UniqueFd(accept(listener, nullptr, nullptr)));
  const Deadline deadline = Deadline::After(std::chrono::seconds(5));
  const auto header = channel.ReceiveHeader(deadline);
  wire::Buffer hello(header.ok() ? header->bytes : 0);
  static_cast<void>(channel.ReceivePayload(hello, deadline));
  static_cast<void>(channel.Send({kind, 0, 0, static_cast<std::uint32_t>(payload.size()), 0, 0},
                                 payload, {}, deadline));
  // Until the client has gone.
  static_cast<void>(channel.ReceiveHeader(deadline));
}

TEST_F(Start, WithAServerOfAnotherVersion) {
  const auto init = [](wire::FrameKind kind, const wire::Buffer& payload) {
    auto listening = transport::ListenTcp("127.0.0.1:0");
    setenv("FARWARP_GRANT", GrantFor(listening->second).c_str(), 1);
    std::thread([fd = listening->first.get(), kind, payload] {
      Answer(fd, kind, payload);
    }).detach();
    Init(CUDA_ERROR_SYSTEM_DRIVER_MISMATCH);
  };
  EXPECT_EXIT(init(wire::FrameKind::kRefused,
                   wire::Farewell{wire::RefusalCode::kVersion, "no common version"}.Encode()),
              kFine, "no common version");
  wire::Challenge challenge;
  challenge.versions = {7, 9};
  EXPECT_EXIT(init(wire::FrameKind::kChallenge, challenge.Encode()), kFine,
              "the client speaks protocol 1, the server speaks 7 to 9; use matching versions");
  // The versions agree, but it knows no command.
  EXPECT_EXIT(init(wire::FrameKind::kChallenge, wire::Challenge{}.Encode()), kFine,
              "too little in common");
}

TEST_F(Start, NothingWorksBefore) {
  EXPECT_EXIT(
      {
        int count = 0;
        CUcontext context = nullptr;
        const bool right = cu::cuInit(1) == CUDA_ERROR_INVALID_VALUE &&
                           cu::cuDeviceGetCount(&count) == CUDA_ERROR_NOT_INITIALIZED &&
                           cu::cuCtxGetCurrent(&context) == CUDA_ERROR_NOT_INITIALIZED &&
                           cu::cuCtxSynchronize() == CUDA_ERROR_NOT_INITIALIZED;
        const char* text = nullptr;
        _exit(right && cu::cuGetErrorName(CUDA_ERROR_NO_DEVICE, &text) == CUDA_SUCCESS &&
                      std::string(text) == "CUDA_ERROR_NO_DEVICE" &&
                      cu::cuGetErrorString(static_cast<CUresult>(12345), &text) ==
                          CUDA_ERROR_INVALID_VALUE
                  ? 0
                  : 1);
      },
      kFine, "");
}

TEST_F(Start, PrivateTablesAreRefusedWithAdvice) {
  EXPECT_EXIT(
      {
        const void* table = &kFine;
        const CUuuid id{};
        const bool right =
            cu::cuGetExportTable(&table, &id) == CUDA_ERROR_NOT_SUPPORTED && table == nullptr;
        _exit(right ? 0 : 1);
      },
      kFine, "nvcc --cudart shared");
}

}  // namespace
}  // namespace farwarp::tests

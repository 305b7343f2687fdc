// The daemon's parts that need no process: settings, the private lease, the probe's answer, the
// event loop, the worker's brief.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <unistd.h>

#include <cstdio>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "farwarp/base/bytes.h"
#include "server/daemon/config.h"
#include "server/daemon/event_loop.h"
#include "server/daemon/private_lease.h"
#include "server/daemon/probe.h"
#include "server/worker/brief.h"
#include "server/worker/isolation.h"
#include "server/worker/watch.h"

namespace farwarp::server {
namespace {

using std::chrono::milliseconds;
using ::testing::HasSubstr;

// ---------------------------------------------------------------------------------------- settings

class TemporaryFile {
 public:
  explicit TemporaryFile(const std::string& text) {
    const int fd = ::mkstemp(path_.data());
    EXPECT_GE(fd, 0);
    EXPECT_EQ(::write(fd, text.data(), text.size()), static_cast<ssize_t>(text.size()));
    ::close(fd);
  }
  ~TemporaryFile() { ::unlink(path_.c_str()); }
  const std::string& path() const { return path_; }

 private:
  std::string path_ = "/tmp/farwarp-config-XXXXXX";
};

TEST(Config, EnvironmentGoesOverTheFile) {
  const TemporaryFile file(
      "listen = \"10.0.0.1:7000\"\ngrace = \"3s\"\nmax_connections = 7\n"
      "[labels]\nzone = \"attic\"\n");
  Config config;
  ASSERT_TRUE(ReadConfigFile(file.path(), config).ok());
  const std::map<std::string, std::string> variables = {{"FARWARP_SERVER_GRACE", "250ms"},
                                                        {"FARWARP_SERVER_DRIVER", ""}};
  const Environment environment = [&](const char* name) -> const char* {
    const auto found = variables.find(name);
    return found == variables.end() ? nullptr : found->second.c_str();
  };
  ASSERT_TRUE(ReadConfigEnvironment(environment, config).ok());
  EXPECT_EQ(config.listen, "10.0.0.1:7000");
  EXPECT_EQ(config.grace, milliseconds(250));
  EXPECT_EQ(config.max_connections, 7u);
  EXPECT_EQ(config.labels.at("zone"), "attic");
  EXPECT_EQ(config.driver, "libcuda.so.1") << "an empty variable says nothing";
}

struct BadFile {
  const char* text;
  const char* says;
};
class BadConfigFile : public ::testing::TestWithParam<BadFile> {};

TEST_P(BadConfigFile, IsRefusedWithThePlace) {
  const TemporaryFile file(GetParam().text);
  Config config;
  const Status status = ReadConfigFile(file.path(), config);
  ASSERT_FALSE(status.ok());
  EXPECT_THAT(status.message(), HasSubstr(GetParam().says));
  EXPECT_THAT(status.message(), HasSubstr(file.path()));
}

INSTANTIATE_TEST_SUITE_P(
    All, BadConfigFile,
    ::testing::Values(BadFile{"listne = \"x\"\n", ":1: listne is not a setting; known are listen"},
                      BadFile{"\ngrace = true\n", ":2: grace must be text"},
                      BadFile{"grace = \"soon\"\n", "grace"},
                      BadFile{"driver = 5\n", "must be text"},
                      BadFile{"max_connections = 0\n", "at least 1"},
                      BadFile{"labels = \"x\"\n", "must be a table"},
                      BadFile{"[labels]\nzone = 5\n", "labels.zone must be text"},
                      BadFile{"listen = \n", ":1:"}));

TEST(Config, CompletesAndChecks) {
  Config config;
  config.controller = "pool.example";
  ASSERT_TRUE(CompleteConfig("host-3", config).ok());
  EXPECT_EQ(config.listen, "0.0.0.0:7461");
  EXPECT_EQ(config.node_name, "host-3");
  EXPECT_EQ(config.controller, "pool.example:7460");

  Config private_config;
  private_config.is_private = true;
  EXPECT_THAT(CompleteConfig("h", private_config).message(), HasSubstr("--lease-fd"));
  private_config.lease_fd = 3;
  private_config.address_fd = 4;
  private_config.controller = "ignored:1";
  ASSERT_TRUE(CompleteConfig("h", private_config).ok());
  EXPECT_EQ(private_config.listen, "127.0.0.1:0");
  EXPECT_EQ(private_config.controller, "");

  Config alone;
  EXPECT_THAT(CompleteConfig("h", alone).message(), HasSubstr("no controller is named"));

  Config bad;
  bad.lease_fd = 3;
  EXPECT_FALSE(CompleteConfig("h", bad).ok());
  bad = {};
  bad.node_name = "a b";
  EXPECT_THAT(CompleteConfig("h", bad).message(), HasSubstr("a b"));
  bad = {};
  bad.log_level = "loud";
  EXPECT_THAT(CompleteConfig("h", bad).message(), HasSubstr("loud"));
  bad = {};
  bad.handshake_timeout = milliseconds(0);
  EXPECT_FALSE(CompleteConfig("h", bad).ok());
  Config v6;
  v6.controller = "[::1]";
  ASSERT_TRUE(CompleteConfig("h", v6).ok());
  EXPECT_EQ(v6.controller, "[::1]:7460");
}

TEST(Config, AdvertisesWhatProgramsCanReach) {
  Config config;
  EXPECT_EQ(AdvertisedEndpoint(config, "127.0.0.1:4000", "host"), "127.0.0.1:4000");
  EXPECT_EQ(AdvertisedEndpoint(config, "0.0.0.0:4000", "host"), "host:4000");
  EXPECT_EQ(AdvertisedEndpoint(config, "[::]:4000", "host"), "host:4000");
  config.advertise = "gpu.example";
  EXPECT_EQ(AdvertisedEndpoint(config, "0.0.0.0:4000", "host"), "gpu.example:4000");
  config.advertise = "gpu.example:0";
  EXPECT_EQ(AdvertisedEndpoint(config, "0.0.0.0:4000", "host"), "gpu.example:4000");
  config.advertise = "gpu.example:99";
  EXPECT_EQ(AdvertisedEndpoint(config, "0.0.0.0:4000", "host"), "gpu.example:99");
  config.advertise = "[fd00::1]";
  EXPECT_EQ(AdvertisedEndpoint(config, "0.0.0.0:4000", "host"), "[fd00::1]:4000");
}

// ----------------------------------------------------------------------------- lease, probe, brief

DriverFacts TwoDevices() {
  DriverFacts facts;
  facts.version = 13000;
  facts.devices.resize(2);
  facts.devices[0].memory_bytes = 4 * kGiB;
  facts.devices[1].ordinal = 1;
  facts.devices[1].memory_bytes = 8 * kGiB;
  return facts;
}

std::string LeaseLine(const std::string& gpus) {
  return "v1;lease=" + std::string(32, 'a') + ";secret=" + std::string(64, 'b') + gpus;
}

TEST(PrivateLease, PlacesAnyWhereMostIsLeft) {
  const std::string five = std::to_string(5 * kGiB);
  const std::string two = std::to_string(2 * kGiB);
  const auto lease = ParsePrivateLease(
      LeaseLine(";gpu=any/" + five + "/10;gpu=any/" + two + "/20;gpu=1/" + two + "/30"),
      TwoDevices());
  ASSERT_TRUE(lease.ok()) << lease.status().ToString();
  ASSERT_EQ(lease->vgpus.size(), 3u);
  EXPECT_EQ(lease->vgpus[0].device, 1u);
  EXPECT_EQ(lease->vgpus[1].device, 0u);
  EXPECT_EQ(lease->vgpus[2].device, 1u);
  EXPECT_EQ(lease->vgpus[2].compute_percent, 30u);
  EXPECT_EQ(lease->id[0], 0xaa);
  EXPECT_EQ(lease->secret[31], 0xbb);
  EXPECT_FALSE(
      ParsePrivateLease(LeaseLine(";gpu=1/" + five + "/1;gpu=1/" + five + "/1"), TwoDevices()).ok())
      << "together more than the device has";
}

TEST(PrivateLease, SurvivesAnyLine) {
  const std::string good = LeaseLine(";gpu=0/1048576/50;gpu=1/2097152/100");
  ASSERT_TRUE(ParsePrivateLease(good, TwoDevices()).ok());
  for (const char* bad :
       {"", "v1", "v2;lease=", "v1;lease=zz;secret=;gpu=", "v1;x=1", "v1;gpu=0/1/1"}) {
    EXPECT_FALSE(ParsePrivateLease(bad, TwoDevices()).ok()) << bad;
  }
  EXPECT_FALSE(ParsePrivateLease(good + ";lease=" + std::string(32, 'a'), TwoDevices()).ok());
  EXPECT_FALSE(ParsePrivateLease(good, DriverFacts{}).ok());
  std::mt19937 random(7);
  for (int i = 0; i < 20'000; ++i) {
    std::string line = good;
    for (int changes = static_cast<int>(random() % 4); changes >= 0; --changes) {
      line[random() % line.size()] = static_cast<char>(random() % 96 + 32);
    }
    line.resize(line.size() - random() % 8);
    const auto lease = ParsePrivateLease(line, TwoDevices());
    if (!lease.ok()) continue;
    for (const BriefVgpu& vgpu : lease->vgpus) {
      EXPECT_LT(vgpu.device, 2u);
      EXPECT_GT(vgpu.memory_bytes, 0u);
      EXPECT_LE(vgpu.compute_percent, 100u);
    }
  }
}

TEST(Probe, ReadsAnswersAndRefusesNonsense) {
  const std::string device = "device\t0\t1024\t121\t16\tGPU-1\tA GPU\twith a tab\n";
  const auto facts = ParseProbe("version\t13000\n" + device + "end\n", "d");
  ASSERT_TRUE(facts.ok()) << facts.status().ToString();
  EXPECT_EQ(facts->version, 13000);
  ASSERT_EQ(facts->devices.size(), 1u);
  EXPECT_EQ(facts->devices[0].compute_capability, 121u);
  EXPECT_EQ(facts->devices[0].name, "A GPU\twith a tab");
  EXPECT_EQ(ParseProbe("error\tno such thing\n", "d").status().message(), "no such thing");
  for (const std::string& bad :
       {std::string(), std::string("version\t13000\n") + device, std::string("version\tx\nend\n"),
        std::string("device\t0\t0\t1\t1\tu\tn\nend\n"), std::string("device\t0\nend\n"),
        std::string("end")}) {
    EXPECT_FALSE(ParseProbe(bad, "d").ok()) << bad;
  }
}

TEST(WorkerBrief, ComesBackAsItWasAndRefusesTheRest) {
  WorkerBrief brief;
  brief.daemon_pid = 17;
  brief.driver = "libcuda.so.1";
  brief.lease.fill(3);
  brief.quota_slot = 5;
  brief.memory_limit = 3 * kGiB;
  brief.heartbeat_ms = 200;
  brief.client_pause_ms = 5000;
  brief.vgpus = {{1, kGiB, 50}, {0, kMiB, 100}};
  brief.hello.resize(48, std::byte{9});
  brief.proof.resize(40, std::byte{8});
  const wire::Buffer encoded = brief.Encode();
  const auto decoded = WorkerBrief::Decode(encoded);
  ASSERT_TRUE(decoded.ok());
  EXPECT_EQ(decoded->vgpus[0].memory_bytes, kGiB);
  EXPECT_EQ(decoded->memory_limit, 3 * kGiB);
  EXPECT_EQ(decoded->heartbeat_ms, 200u);
  EXPECT_EQ(decoded->client_pause_ms, 5000u);
  EXPECT_EQ(decoded->hello, brief.hello);
  EXPECT_EQ(decoded->proof, brief.proof);
  EXPECT_EQ(decoded->Encode(), encoded);
  for (std::size_t bytes = 0; bytes < encoded.size(); bytes += 8) {
    EXPECT_FALSE(WorkerBrief::Decode(std::span(encoded).first(bytes)).ok()) << bytes;
  }
}

TEST(Devices, OfSoftwareAreOneOfAKindInAPool) {
  DriverFacts facts;
  facts.devices.resize(2);
  facts.devices[1].ordinal = 1;
  for (ProbedDevice& device : facts.devices) device.uuid = "GPU-of-every-host";
  DriverFacts a = facts;
  DriverFacts again = facts;
  DriverFacts b = facts;
  NameDevicesAfter("a", a);
  NameDevicesAfter("a", again);
  NameDevicesAfter("b", b);
  EXPECT_EQ(a.devices[0].uuid, again.devices[0].uuid);
  EXPECT_NE(a.devices[0].uuid, a.devices[1].uuid);
  EXPECT_NE(a.devices[0].uuid, b.devices[0].uuid);
  EXPECT_EQ(a.devices[0].uuid.size(),
            std::string("GPU-11111111-1111-1111-1111-111111111111").size());
}

TEST(Pause, HasSettingsWithLimits) {
  Config config;
  config.controller = "pool.example";
  EXPECT_EQ(config.client_pause, std::chrono::minutes(10));
  ASSERT_TRUE(SetConfig(config, "client_pause", "2h", "--client-pause").ok());
  EXPECT_EQ(config.client_pause, std::chrono::hours(2));
  ASSERT_TRUE(SetConfig(config, "heartbeat", "200ms", "--heartbeat").ok());
  EXPECT_EQ(config.heartbeat, milliseconds(200));
  EXPECT_TRUE(CompleteConfig("host", config).ok());
  config.client_pause = std::chrono::hours(200);
  EXPECT_THAT(CompleteConfig("host", config).message(), HasSubstr("client_pause"));
  config.client_pause = milliseconds(0);
  EXPECT_TRUE(CompleteConfig("host", config).ok());
  for (const milliseconds wrong : {milliseconds(1), milliseconds(100'000)}) {
    config.heartbeat = wrong;
    EXPECT_THAT(CompleteConfig("host", config).message(), HasSubstr("heartbeat"));
  }
}

// --------------------------------------------------------------------------------- memory of a
// worker

TEST(WorkerMemory, IsASettingWithALeastSize) {
  Config config;
  ASSERT_TRUE(SetConfig(config, "worker_memory", "2Gi", "--worker-memory").ok());
  EXPECT_EQ(config.worker_memory, 2 * kGiB);
  EXPECT_FALSE(SetConfig(config, "worker_memory", "much", "--worker-memory").ok());
  config.worker_memory = kMiB;
  EXPECT_THAT(CompleteConfig("host", config).message(), HasSubstr("worker_memory"));
}

long MillisecondsUntilTheEnd() {
  itimerval timer{};
  ::getitimer(ITIMER_REAL, &timer);
  return timer.it_value.tv_sec * 1000 + timer.it_value.tv_usec / 1000;
}

TEST(WorkerEndDeathTest, WaitsOnceHoweverOftenItBegins) {
  EXPECT_EXIT(
      {
        BeginEnd(std::chrono::minutes(10), 1);
        bool good = MillisecondsUntilTheEnd() > 60'000;
        BeginEnd(std::chrono::minutes(1), 2);
        good = good && MillisecondsUntilTheEnd() <= 60'000;
        BeginEnd(std::chrono::minutes(5), 3);
        good = good && MillisecondsUntilTheEnd() <= 60'000;
        // The last one says what became of it, and nothing holds up the end.
        if (good) BeginEnd(milliseconds(1), kExitServed);
        while (good) ::pause();
        ::_exit(1);
      },
      ::testing::ExitedWithCode(kExitServed), "");
}

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__) && \
    !__has_feature(address_sanitizer) && !__has_feature(thread_sanitizer)
// The sanitizers' own mappings are beyond any limit.

void* Map(std::size_t bytes, int protection, int flags, int fd) {
  return ::mmap(nullptr, bytes, protection, flags | MAP_NORESERVE, fd, 0);
}

TEST(WorkerMemoryDeathTest, CountsNeitherReservedNorSharedMemory) {
  EXPECT_EXIT(
      {
        bool good = LimitMemory(kGiB).ok();
        constexpr int kAnonymous = MAP_PRIVATE | MAP_ANONYMOUS;
        good = good && Map(64 * kGiB, PROT_NONE, kAnonymous, -1) != MAP_FAILED;
        const int fd = ::memfd_create("device", 0);
        good = good && ::ftruncate(fd, static_cast<off_t>(4 * kGiB)) == 0;
        good = good && Map(4 * kGiB, PROT_READ | PROT_WRITE, MAP_SHARED, fd) != MAP_FAILED;
        good = good && Map(2 * kGiB, PROT_READ | PROT_WRITE, kAnonymous, -1) == MAP_FAILED;
        ::_exit(good ? 0 : 1);
      },
      ::testing::ExitedWithCode(0), "");
}

TEST(WorkerMemoryDeathTest, EndsWithAMessageWhenItIsUsedUp) {
  const auto use_up = []() noexcept {
    std::vector<std::unique_ptr<std::byte[]>> kept;
    for (int i = 0; i < 64; ++i) kept.emplace_back(new std::byte[64 * kMiB]);
  };
  EXPECT_EXIT(
      {
        if (LimitMemory(kGiB).ok()) use_up();
        ::_exit(1);
      },
      ::testing::ExitedWithCode(kExitOverMemory), "out of memory; see --worker-memory");
}
#endif

// -------------------------------------------------------------------------------------- event loop

TEST(EventLoop, RunsTimersInOrderAndForgetsCancelledOnes) {
  auto created = EventLoop::Create();
  ASSERT_TRUE(created.ok());
  EventLoop& loop = **created;
  std::vector<int> order;
  loop.After(milliseconds(6), [&] { loop.Stop(); });
  loop.After(milliseconds(4), [&] { order.push_back(2); });
  const auto cancelled = loop.After(milliseconds(1), [&] { order.push_back(9); });
  loop.After(milliseconds(0), [&] {
    order.push_back(1);
    loop.Cancel(cancelled);
  });
  loop.Run();
  EXPECT_EQ(order, (std::vector<int>{1, 2}));
}

TEST(EventLoop, TakesWorkFromOtherThreads) {
  auto created = EventLoop::Create();
  ASSERT_TRUE(created.ok());
  EventLoop& loop = **created;
  int done = 0;
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 250; ++i) {
        loop.Post([&] {
          if (++done == 1000) loop.Stop();
        });
      }
    });
  }
  loop.Run();
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(done, 1000);
}

TEST(EventLoop, GivesNoEventOfAClosedDescriptorToItsSuccessor) {
  auto created = EventLoop::Create();
  ASSERT_TRUE(created.ok());
  EventLoop& loop = **created;
  // Both are readable in the same round. Whichever comes first closes the other and opens a new
  // one, which gets the same number and is not readable.
  UniqueFd fds[2] = {UniqueFd(::eventfd(1, EFD_NONBLOCK)), UniqueFd(::eventfd(1, EFD_NONBLOCK))};
  int first_round = 0;
  int wrong = 0;
  for (int i = 0; i < 2; ++i) {
    const auto watch = [&, i](std::uint32_t) {
      ++first_round;
      const int other = fds[1 - i].get();
      loop.Remove(other);
      loop.Remove(fds[i].get());
      fds[1 - i].reset();
      fds[1 - i].reset(::eventfd(0, EFD_NONBLOCK));
      EXPECT_EQ(fds[1 - i].get(), other);
      EXPECT_TRUE(loop.Add(other, EPOLLIN, [&](std::uint32_t) { ++wrong; }).ok());
      loop.After(milliseconds(5), [&] { loop.Stop(); });
    };
    ASSERT_TRUE(loop.Add(fds[i].get(), EPOLLIN, watch).ok());
  }
  loop.Run();
  EXPECT_EQ(first_round, 1);
  EXPECT_EQ(wrong, 0);
}

}  // namespace
}  // namespace farwarp::server

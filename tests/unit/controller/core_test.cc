// Core without gRPC: many threads at once against one pool, so that the thread sanitizer sees every
// lock. (gRPC's library is not built for it and would drown what matters in false alarms.)
#include "controller/service/core.h"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <thread>
#include <vector>

#include "controller/service/server.h"
#include "farwarp/base/bytes.h"

namespace farwarp::controller {
namespace {

constexpr auto kPatience = std::chrono::seconds(30);

// Confirms what it is told, from a thread of its own, as a node would.
class ObedientNode final : public NodeSink {
 public:
  ObedientNode(Core& core, const std::string& name) : core_(core) {
    session_ = core_.AddNode(*this);
    pool::NodeInfo info;
    info.name = name;
    info.instance_id = name;
    info.data_endpoint = name + ":1";
    info.devices.push_back({0, "GPU-" + name, "device", 16 * kGiB, 90, 8});
    core_.NodeAttached(session_, info, {});
    thread_ = std::thread([this] { Run(); });
  }
  ~ObedientNode() override {
    {
      MutexLock lock(mutex_);
      stopping_ = true;
      changed_.NotifyAll();
    }
    thread_.join();
    core_.RemoveNode(session_);
  }
  void Send(const pool::Action& command) override {
    MutexLock lock(mutex_);
    commands_.push_back(command);
    changed_.NotifyAll();
  }
  void Close(pool::CloseKind, const std::string&) override {}
  void Stop() override {}
  std::size_t held() {
    MutexLock lock(mutex_);
    return held_.size();
  }

 private:
  void Run() {
    MutexLock lock(mutex_);
    while (!stopping_) {
      if (commands_.empty()) {
        changed_.WaitUntil(mutex_,
                           std::chrono::steady_clock::now() + std::chrono::milliseconds(50));
      }
      std::vector<pool::Action> commands;
      commands.swap(commands_);
      std::vector<std::pair<pool::LeaseId, bool>> answers;
      for (const pool::Action& command : commands) {
        if (const auto* prepare = std::get_if<pool::SendPrepare>(&command)) {
          held_[prepare->lease] = {prepare->lease, 0, prepare->vgpus};
          answers.emplace_back(prepare->lease, false);
        } else if (const auto* revoke = std::get_if<pool::SendRevoke>(&command)) {
          held_.erase(revoke->lease);
          answers.emplace_back(revoke->lease, true);
        }
      }
      std::vector<pool::HeldLease> report;
      for (const auto& [id, lease] : held_) report.push_back(lease);
      mutex_.unlock();
      for (const auto& [lease, revoke] : answers)
        core_.NodeAnswered(session_, lease, revoke, Status::Ok());
      core_.NodeReported(session_, report);
      mutex_.lock();
    }
  }

  Core& core_;
  pool::SessionId session_;
  Mutex mutex_;
  CondVar changed_;
  std::vector<pool::Action> commands_ GUARDED_BY(mutex_);
  std::map<pool::LeaseId, pool::HeldLease> held_ GUARDED_BY(mutex_);
  bool stopping_ GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

class Launcher final : public LauncherSink {
 public:
  void Tell(const pool::Action& event) override {
    MutexLock lock(mutex_);
    if (const auto* granted = std::get_if<pool::TellGranted>(&event)) granted_ = *granted;
    if (std::holds_alternative<pool::TellRefused>(event)) refused_ = true;
    changed_.NotifyAll();
  }
  void Stop() override {}
  // The grant, or nothing when refused or out of patience.
  std::optional<pool::TellGranted> Wait() {
    const auto until = std::chrono::steady_clock::now() + kPatience;
    MutexLock lock(mutex_);
    while (!granted_ && !refused_ && std::chrono::steady_clock::now() < until)
      changed_.WaitUntil(mutex_, until);
    return granted_;
  }

 private:
  Mutex mutex_;
  CondVar changed_;
  std::optional<pool::TellGranted> granted_ GUARDED_BY(mutex_);
  bool refused_ GUARDED_BY(mutex_) = false;
};

TEST(Core, ServesManyThreadsAtOnce) {
  Config config;
  config.pool.heartbeat_timeout = kPatience;
  auto store = Store::Open(":memory:");
  ASSERT_TRUE(store.ok());
  const auto credentials = RandomCredentials();
  Core core(config, **store, *credentials);
  ASSERT_TRUE(core.Start().ok());
  std::atomic<int> grants{0};
  {
    ObedientNode first(core, "a");
    ObedientNode second(core, "b");
    std::vector<std::thread> threads;
    for (int t = 0; t < 6; ++t) {
      threads.emplace_back([&core, &grants, t] {
        for (int i = 0; i < 25; ++i) {
          Launcher launcher;
          const pool::RequestId id = core.AddLauncher(launcher);
          pool::Request request;
          request.vgpus = {{5 * kGiB, 0, 30}};
          request.wait = kPatience;
          core.Requested(id, request);
          if (const auto granted = launcher.Wait()) {
            ++grants;
            EXPECT_TRUE(core.Released(granted->lease, granted->secret).ok());
          }
          if (i % 5 == t % 5) EXPECT_TRUE(core.SetDraining("a", i % 2 == 0).ok());
          core.HolderGone(id);
          core.RemoveLauncher(id);
        }
      });
    }
    std::thread reader([&core] {
      for (int i = 0; i < 200; ++i)
        core.View([](const pool::Pool& pool, pool::Time) { return pool.leases().size(); });
    });
    for (std::thread& thread : threads) thread.join();
    reader.join();
    const auto until = std::chrono::steady_clock::now() + kPatience;
    while (first.held() + second.held() > 0 && std::chrono::steady_clock::now() < until)
      std::this_thread::yield();
    EXPECT_EQ(first.held() + second.held(), 0u);
    core.Stop();
  }
  EXPECT_EQ(grants, 6 * 25);
  EXPECT_TRUE(core.store_error().empty());
}

TEST(Core, StopLeavesLeasesOnDiskAndIgnoresWhatFollows) {
  Config config;
  auto store = Store::Open(":memory:");
  ASSERT_TRUE(store.ok());
  const auto credentials = RandomCredentials();
  Core core(config, **store, *credentials);
  ASSERT_TRUE(core.Start().ok());
  Launcher launcher;
  {
    ObedientNode node(core, "a");
    const pool::RequestId id = core.AddLauncher(launcher);
    pool::Request request;
    request.vgpus = {{kGiB, 0, 0}};
    core.Requested(id, request);
    ASSERT_TRUE(launcher.Wait());
    core.Stop();
    core.HolderGone(id);
    core.RemoveLauncher(id);
  }
  const auto stored = (*store)->Load();
  ASSERT_TRUE(stored.ok());
  EXPECT_EQ(stored->leases.size(), 1u);
}

// The disk is full from here to there; simulated by a limit on the size of files.
class FullDisk {
 public:
  FullDisk() : before_(std::signal(SIGXFSZ, SIG_IGN)) {
    ::getrlimit(RLIMIT_FSIZE, &limit_);
    const rlimit none{0, limit_.rlim_max};
    ::setrlimit(RLIMIT_FSIZE, &none);
  }
  ~FullDisk() {
    ::setrlimit(RLIMIT_FSIZE, &limit_);
    std::signal(SIGXFSZ, before_);
  }

 private:
  void (*before_)(int);
  rlimit limit_{};
};

TEST(Core, GoesOnWhenTheDiskIsFullAndSavesEverythingLater) {
  const std::string path = ::testing::TempDir() + "/core-test-" + std::to_string(::getpid());
  Config config;
  std::string before, during, after;
  {
    auto store = Store::Open(path);
    ASSERT_TRUE(store.ok());
    const auto credentials = RandomCredentials();
    Core core(config, **store, *credentials);
    ASSERT_TRUE(core.Start().ok());
    Launcher launcher;
    ObedientNode node(core, "a");
    const pool::RequestId id = core.AddLauncher(launcher);
    before = core.store_error();
    {
      const FullDisk full;
      pool::Request request;
      request.vgpus = {{kGiB, 0, 0}};
      core.Requested(id, request);
      EXPECT_TRUE(launcher.Wait());
      during = core.store_error();
    }
    const auto until = std::chrono::steady_clock::now() + kPatience;
    do {
      after = core.store_error();
      std::this_thread::yield();
    } while (!after.empty() && std::chrono::steady_clock::now() < until);
    core.Stop();
    core.RemoveLauncher(id);
  }
  EXPECT_EQ(before, "");
  EXPECT_NE(during, "");
  EXPECT_EQ(after, "");
  auto store = Store::Open(path);
  ASSERT_TRUE(store.ok());
  EXPECT_EQ((*store)->Load()->leases.size(), 1u);
  for (const char* suffix : {"", "-wal", "-shm"}) std::filesystem::remove(path + suffix);
}

}  // namespace
}  // namespace farwarp::controller

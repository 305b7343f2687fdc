// Signals: a kernel's faults are the launch's, all others stay the program's.
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mman.h>

#include <atomic>
#include <thread>

#include "tests/ptx/case_file.h"

namespace farwarp::softgpu {
namespace {

constexpr const char* kPrints = R"(
.version 7.8
.target sm_75
.address_size 64
.extern .func (.param .b32 r) vprintf (.param .b64 f, .param .b64 a);
.global .align 1 .b8 text[3] = {104, 105, 0};
.visible .entry test(.param .u64 in, .param .u64 out) {
  .reg .b64 %rd<4>;
  .reg .b32 %r<2>;
  mov.u64 %rd1, text;
  cvta.global.u64 %rd2, %rd1;
  {
    .param .b64 f;
    .param .b64 a;
    .param .b32 r;
    st.param.b64 [f], %rd2;
    st.param.b64 [a], 0;
    call.uni (r), vprintf, (f, a);
    ld.param.b32 %r1, [r];
  }
  ret;
}
)";

constexpr const char* kWild = R"(
.version 7.8
.target sm_75
.address_size 64
.visible .entry test(.param .u64 in, .param .u64 out) {
  .reg .b64 %rd<2>;
  .reg .b32 %r<2>;
  ld.param.u64 %rd1, [out];
  ld.global.u32 %r1, [%rd1+4096];
  st.global.u32 [%rd1], %r1;
  ret;
}
)";

// A page of the program's that its own signal handler makes accessible at the first access.
struct LazyPage {
  LazyPage() {
    page = mmap(nullptr, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    current = this;
  }
  ~LazyPage() { munmap(page, 4096); }
  volatile int* word() const { return static_cast<volatile int*>(page); }

  void* page;
  std::atomic<int> handled{0};
  std::atomic<bool> usr1_blocked{false};
  static inline std::atomic<LazyPage*> current{nullptr};
};

struct sigaction chained;
void OnProgramFault(int number, siginfo_t* info, void* context) {
  LazyPage* const lazy = LazyPage::current;
  const auto at = reinterpret_cast<uintptr_t>(info->si_addr);
  const auto page = reinterpret_cast<uintptr_t>(lazy->page);
  if (at < page || at >= page + 4096) {
    if ((chained.sa_flags & SA_SIGINFO) != 0) return chained.sa_sigaction(number, info, context);
    _exit(99);
  }
  sigset_t blocked;
  pthread_sigmask(SIG_BLOCK, nullptr, &blocked);
  lazy->usr1_blocked = sigismember(&blocked, SIGUSR1) == 1 && sigismember(&blocked, SIGSEGV) == 1;
  ++lazy->handled;
  mprotect(lazy->page, 4096, PROT_READ | PROT_WRITE);
}

void InstallProgramHandler() {
  struct sigaction action{};
  action.sa_sigaction = OnProgramFault;
  action.sa_flags = SA_SIGINFO;
  sigemptyset(&action.sa_mask);
  sigaddset(&action.sa_mask, SIGUSR1);
  sigaction(SIGSEGV, &action, &chained);
}

// Touches the page while the kernel prints, as a program's own code may that a kernel calls into.
class TouchingSink final : public TextSink {
 public:
  explicit TouchingSink(LazyPage& page) : page_(page) {}
  void Write(std::string_view) noexcept override { *page_.word() = 7; }

 private:
  LazyPage& page_;
};

Fault RunText(const char* text, TextSink* sink) {
  TestPlacer placer;
  auto module = Module::Load(text, placer, nullptr);
  if (!module.ok()) {
    ADD_FAILURE() << module.status().message();
    return {};
  }
  const DeviceWords out(4, 0);
  const uint64_t params[] = {0, out.address()};
  WorkerPool pool(0);
  LaunchRequest request;
  request.kernel = (*module)->FindKernel("test");
  request.params = std::as_bytes(std::span(params));
  request.print = sink;
  return Run(request, pool);
}

TEST(Guard, LeavesFaultsOutsideDeviceMemoryToTheProgram) {
  LazyPage page;
  InstallProgramHandler();
  TouchingSink sink(page);
  const Fault fault = RunText(kPrints, &sink);
  EXPECT_EQ(fault.kind, FaultKind::kNone) << fault.text;
  EXPECT_EQ(*page.word(), 7);
  EXPECT_EQ(page.handled, 1);
  EXPECT_TRUE(page.usr1_blocked) << "the signals that the handler wanted blocked";
  EXPECT_EQ(RunText(kWild, nullptr).kind, FaultKind::kIllegalAddress);
}

TEST(Guard, WorksBesideAHandlerInstalledLater) {
  EXPECT_EQ(RunText(kWild, nullptr).kind, FaultKind::kIllegalAddress);
  LazyPage page;
  InstallProgramHandler();  // Passes on what is not its own.
  *page.word() = 1;
  EXPECT_EQ(page.handled, 1);
  EXPECT_EQ(RunText(kWild, nullptr).kind, FaultKind::kIllegalAddress);
  // In front of it now, and still passing on to it.
  LazyPage other;
  *other.word() = 1;
  EXPECT_EQ(other.handled, 1);
}

TEST(Guard, LeavesSentSignalsAlone) {
  struct sigaction ignore{};
  ignore.sa_handler = SIG_IGN;
  sigaction(SIGBUS, &ignore, nullptr);
  EXPECT_EQ(RunText(kWild, nullptr).kind, FaultKind::kIllegalAddress);
  EXPECT_EQ(raise(SIGBUS), 0);  // Ignored as the program wanted it, not fatal.
}

TEST(Guard, FaultsOfManyThreadsAreTheirOwn) {
  std::vector<std::thread> threads;
  std::atomic<int> faults{0};
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      for (int k = 0; k < 20; ++k)
        faults += RunText(kWild, nullptr).kind == FaultKind::kIllegalAddress ? 1 : 0;
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(faults, 80);
}

}  // namespace
}  // namespace farwarp::softgpu

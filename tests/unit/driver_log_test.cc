// The error log of cuLogs*, as CUDA documents it.
#include "proto/cuda/driver_log.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdio>
#include <fstream>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

namespace farwarp::cuda {
namespace {

std::string Since(CUlogIterator* iterator, std::size_t room = 25600) {
  std::vector<char> buffer(room, 'x');
  std::size_t size = room;
  EXPECT_EQ(DriverLog::Get().DumpToMemory(iterator, buffer.data(), &size, 0), CUDA_SUCCESS);
  EXPECT_LT(size, room);
  EXPECT_EQ(buffer[size], '\0');
  return {buffer.data(), size};
}

CUlogIterator Now() {
  CUlogIterator iterator = 0;
  EXPECT_EQ(DriverLog::Get().Current(&iterator, 0), CUDA_SUCCESS);
  return iterator;
}

TEST(DriverLog, KeepsErrorsAndWarningsThatTheLogDoesNotShow) {
  SetLogLevel(LogLevel::kOff);
  CUlogIterator since = Now();
  FARWARP_LOG(kError, "first %d", 1);
  FARWARP_LOG(kWarn, "second");
  FARWARP_LOG(kInfo, "not an error");
  EXPECT_EQ(Since(&since), "[E] first 1\n[W] second\n");
  EXPECT_EQ(Since(&since), "");  // The iterator has moved on.
}

TEST(DriverLog, SaysWhatDoesNotFit) {
  CUlogIterator since = Now();
  for (int i = 0; i < 4; ++i) FARWARP_LOG(kError, "message %d", i);
  CUlogIterator again = since;
  const std::string all = "[E] message 0\n[E] message 1\n[E] message 2\n[E] message 3\n";
  EXPECT_EQ(Since(&again, all.size() + 1), all);
  again = since;
  const std::string cut = "[W] older messages are lost\n[E] message 3\n";
  EXPECT_EQ(Since(&again, cut.size() + 1), cut);

  again = since;
  char little[8] = "xxxxxxx";
  std::size_t size = sizeof little;
  EXPECT_EQ(DriverLog::Get().DumpToMemory(&again, little, &size, 0), CUDA_ERROR_INVALID_VALUE);
  EXPECT_EQ(size, 0u);
  EXPECT_STREQ(little, "");
  EXPECT_EQ(again, since);
}

TEST(DriverLog, KeepsTheLatestHundredAndSaysThatOlderOnesAreLost) {
  CUlogIterator since = Now();
  for (int i = 0; i < 150; ++i) FARWARP_LOG(kError, "%d", i);
  const std::string text = Since(&since);
  EXPECT_EQ(text.find("[W] older messages are lost\n[E] 50\n[E] 51\n"), 0u) << text;
  EXPECT_NE(text.find("[E] 149\n"), std::string::npos);
  EXPECT_EQ(Since(nullptr), text);
}

TEST(DriverLog, AppendsToAFile) {
  char path[] = "/tmp/farwarp_driver_log_XXXXXX";
  ::close(::mkstemp(path));
  CUlogIterator since = Now();
  FARWARP_LOG(kError, "one");
  EXPECT_EQ(DriverLog::Get().DumpToFile(&since, path, 0), CUDA_SUCCESS);
  FARWARP_LOG(kError, "two");
  EXPECT_EQ(DriverLog::Get().DumpToFile(&since, path, 0), CUDA_SUCCESS);
  std::ostringstream text;
  text << std::ifstream(path).rdbuf();
  std::remove(path);
  EXPECT_EQ(text.str(), "[E] one\n[E] two\n");
}

TEST(DriverLog, TellsWhoRegistered) {
  using Told = std::vector<std::pair<CUlogLevel, std::string>>;
  Told told;
  const auto listen = [](void* data, CUlogLevel level, char* message, std::size_t length) {
    static_cast<Told*>(data)->emplace_back(level, std::string(message, length));
  };
  CUlogsCallbackHandle handle = nullptr;
  ASSERT_EQ(DriverLog::Get().Register(listen, &told, &handle), CUDA_SUCCESS);
  FARWARP_LOG(kError, "bad");
  FARWARP_LOG(kWarn, "worse");
  EXPECT_EQ(told, (Told{{CU_LOG_LEVEL_ERROR, "bad"}, {CU_LOG_LEVEL_WARNING, "worse"}}));
  EXPECT_EQ(DriverLog::Get().Unregister(handle), CUDA_SUCCESS);
  EXPECT_EQ(DriverLog::Get().Unregister(handle), CUDA_ERROR_INVALID_VALUE);
  FARWARP_LOG(kError, "unheard");
  EXPECT_EQ(told.size(), 2u);
}

TEST(DriverLog, AFunctionMayUnregisterItself) {
  static CUlogsCallbackHandle handle = nullptr;
  static int calls = 0;
  const auto once = [](void*, CUlogLevel, char*, std::size_t) {
    ++calls;
    EXPECT_EQ(DriverLog::Get().Unregister(handle), CUDA_SUCCESS);
  };
  ASSERT_EQ(DriverLog::Get().Register(once, nullptr, &handle), CUDA_SUCCESS);
  FARWARP_LOG(kError, "once");
  FARWARP_LOG(kError, "twice");
  EXPECT_EQ(calls, 1);
}

TEST(DriverLog, RefusesWhatCudaRefuses) {
  DriverLog& log = DriverLog::Get();
  CUlogIterator iterator = 0;
  char buffer[64];
  std::size_t size = sizeof buffer;
  EXPECT_EQ(log.Register(nullptr, nullptr, nullptr), CUDA_ERROR_INVALID_VALUE);
  EXPECT_EQ(log.Current(nullptr, 0), CUDA_ERROR_INVALID_VALUE);
  EXPECT_EQ(log.Current(&iterator, 1), CUDA_ERROR_INVALID_VALUE);
  EXPECT_EQ(log.DumpToMemory(&iterator, nullptr, &size, 0), CUDA_ERROR_INVALID_VALUE);
  EXPECT_EQ(log.DumpToMemory(&iterator, buffer, nullptr, 0), CUDA_ERROR_INVALID_VALUE);
  EXPECT_EQ(log.DumpToMemory(&iterator, buffer, &size, 1), CUDA_ERROR_INVALID_VALUE);
  EXPECT_EQ(log.DumpToFile(&iterator, nullptr, 0), CUDA_ERROR_INVALID_VALUE);
  EXPECT_EQ(log.DumpToFile(&iterator, "/nonexistent/file", 0), CUDA_ERROR_INVALID_VALUE);
}

}  // namespace
}  // namespace farwarp::cuda

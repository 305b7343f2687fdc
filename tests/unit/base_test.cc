// The base library against published vectors and its own promises.
#include <gtest/gtest.h>

#include <cstring>
#include <string>
#include <string_view>

#include "farwarp/base/deadline.h"
#include "farwarp/base/hmac.h"
#include "farwarp/base/log.h"
#include "farwarp/base/status.h"

namespace farwarp {
namespace {

std::span<const std::byte> Bytes(std::string_view text) {
  return std::as_bytes(std::span<const char>(text.data(), text.size()));
}

std::string Hex(const Digest& digest) {
  std::string text;
  for (const std::byte b : digest) {
    constexpr char kDigits[] = "0123456789abcdef";
    text += kDigits[std::to_integer<unsigned>(b) >> 4];
    text += kDigits[std::to_integer<unsigned>(b) & 15];
  }
  return text;
}

TEST(Sha256, MatchesFipsExamples) {
  EXPECT_EQ(Hex(Sha256({})), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_EQ(Hex(Sha256(Bytes("abc"))),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(Hex(Sha256(Bytes("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq"))),
            "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
  EXPECT_EQ(Hex(Sha256(Bytes(std::string(1'000'000, 'a')))),
            "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

TEST(HmacSha256, MatchesRfc4231) {
  EXPECT_EQ(Hex(HmacSha256(Bytes(std::string(20, '\x0b')), Bytes("Hi There"))),
            "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7");
  EXPECT_EQ(Hex(HmacSha256(Bytes("Jefe"), Bytes("what do ya want for nothing?"))),
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
  EXPECT_EQ(Hex(HmacSha256(Bytes(std::string(131, '\xaa')),
                           Bytes("Test Using Larger Than Block-Size Key - Hash Key First"))),
            "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54");
}

TEST(Digests, EqualOnlyWhenEveryByteIs) {
  Digest a = Sha256(Bytes("x"));
  Digest b = a;
  EXPECT_TRUE(DigestsEqual(a, b));
  b[31] ^= std::byte{1};
  EXPECT_FALSE(DigestsEqual(a, b));
}

TEST(Status, CarriesCodeAndSentence) {
  const Status status = Status::Limit("asked for 9 GiB, the lease has 8 GiB");
  EXPECT_FALSE(status.ok());
  EXPECT_EQ(status.ToString(), "limit: asked for 9 GiB, the lease has 8 GiB");
  const Result<int> result = status;
  EXPECT_FALSE(result.ok());
  EXPECT_EQ(result.status().code(), StatusCode::kLimit);
  EXPECT_EQ(*Result<int>(7), 7);
}

TEST(Deadline, NeverReportsNegativeTime) {
  EXPECT_EQ(Deadline::After(std::chrono::seconds(-5)).remaining_ms(), 0);
  EXPECT_TRUE(Deadline::After(std::chrono::seconds(-5)).expired());
  EXPECT_FALSE(Deadline::After(std::chrono::hours(1)).expired());
}

TEST(Log, ParsesLevels) {
  EXPECT_EQ(ParseLogLevel("debug"), LogLevel::kDebug);
  EXPECT_EQ(ParseLogLevel("nonsense"), LogLevel::kOff);
}

std::string last_line;

TEST(Log, StrangersNamesCannotForgeLinesOrCommandTheTerminal) {
  SetLogSink([](LogLevel, const char* line) { last_line = line; });
  SetLogLevel(LogLevel::kInfo);
  const auto logged = [](const std::string& name) {
    LogFormatted(LogLevel::kInfo, "serves %s.", name.c_str());
    return last_line;
  };
  EXPECT_EQ(logged("python3"), "serves python3.");
  EXPECT_EQ(logged("a\nb\r\t\x1b[2J\x7f"), "serves a\\x0ab\\x0d\\x09\\x1b[2J\\x7f.");
  EXPECT_EQ(logged("gr\u00fc\u00dfe \u20ac"), "serves gr\u00fc\u00dfe \u20ac.");
  EXPECT_EQ(logged("\u009b2J\xc2z"), "serves \xc2\\x9b2J\xc2z.");
  EXPECT_LT(logged(std::string(5000, '\n')).size(), 1024u);
  SetLogSink(nullptr);
  SetLogLevel(LogLevel::kOff);
}

TEST(Log, AListenerHearsWhatTheLogDoesNotShow) {
  static std::string shown;
  static std::string heard;
  SetLogSink([](LogLevel, const char* line) { shown += line; });
  SetLogListener(LogLevel::kWarn, [](LogLevel, const char* line) { heard += line; });
  SetLogLevel(LogLevel::kError);
  FARWARP_LOG(kError, "e");
  FARWARP_LOG(kWarn, "w");
  FARWARP_LOG(kInfo, "i");
  EXPECT_EQ(shown, "e");
  EXPECT_EQ(heard, "ew");
  EXPECT_TRUE(LogEnabled(LogLevel::kWarn));
  EXPECT_FALSE(LogShown(LogLevel::kWarn));
  SetLogLevel(LogLevel::kInfo);
  FARWARP_LOG(kInfo, "i");
  EXPECT_EQ(shown, "ei");
  EXPECT_EQ(heard, "ew");
  SetLogListener(LogLevel::kOff, nullptr);
  SetLogLevel(LogLevel::kOff);
  SetLogSink(nullptr);
}

}  // namespace
}  // namespace farwarp

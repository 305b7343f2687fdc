// Encoder and Decoder: values survive, and hostile bytes yield zeros and one sticky failure.
#include <gtest/gtest.h>

#include <limits>
#include <string>

#include "farwarp/wire/decoder.h"
#include "farwarp/wire/encoder.h"
#include "farwarp/wire/handle.h"

namespace farwarp::wire {
namespace {

enum class Colour : std::int32_t { kRed = -1, kBlue = 7 };
struct Point {
  std::int32_t x, y, z;
};

void PutEverything(Encoder& encoder) {
  encoder.Put(std::uint8_t{200});
  encoder.Put(std::int16_t{-2});
  encoder.Put(std::numeric_limits<std::int64_t>::min());
  encoder.Put(1.5f);
  encoder.Put(-2.25);
  encoder.Put(true);
  encoder.Put(Colour::kRed);
  encoder.PutStruct(Point{1, 2, 3});
  encoder.PutString("kernel");
  encoder.PutBlob("abc", 3);
}

TEST(Codec, ValuesSurvive) {
  Buffer buffer;
  Encoder encoder(buffer);
  PutEverything(encoder);
  EXPECT_EQ(buffer.size() % 8, 0u);
  Decoder decoder(buffer);
  EXPECT_EQ(decoder.Get<std::uint8_t>(), 200);
  EXPECT_EQ(decoder.Get<std::int16_t>(), -2);
  EXPECT_EQ(decoder.Get<std::int64_t>(), std::numeric_limits<std::int64_t>::min());
  EXPECT_EQ(decoder.Get<float>(), 1.5f);
  EXPECT_EQ(decoder.Get<double>(), -2.25);
  EXPECT_TRUE(decoder.Get<bool>());
  EXPECT_EQ(decoder.Get<Colour>(), Colour::kRed);
  EXPECT_EQ(decoder.GetStruct<Point>().z, 3);
  EXPECT_EQ(decoder.GetString(), "kernel");
  EXPECT_EQ(decoder.GetBlob(16).size(), 3u);
  EXPECT_TRUE(decoder.finished());
}

TEST(Codec, EveryTruncationFailsAndYieldsNothing) {
  Buffer whole;
  Encoder encoder(whole);
  PutEverything(encoder);
  for (std::size_t bytes = 0; bytes < whole.size(); ++bytes) {
    Decoder decoder(std::span(whole).first(bytes));
    decoder.Get<std::uint8_t>(), decoder.Get<std::int16_t>(), decoder.Get<std::int64_t>(),
        decoder.Get<float>();
    decoder.Get<double>(), decoder.Get<bool>(), decoder.Get<Colour>(), decoder.GetStruct<Point>();
    decoder.GetString(), decoder.GetBlob(16);
    EXPECT_TRUE(decoder.failed()) << bytes;
    EXPECT_EQ(decoder.Get<std::uint64_t>(), 0u);
    EXPECT_FALSE(decoder.finished());
  }
}

TEST(Codec, RejectsWhatNoEncoderWrites) {
  Buffer buffer;
  Encoder encoder(buffer);
  encoder.Put(std::uint64_t{256});
  EXPECT_EQ(Decoder(buffer).Get<std::uint8_t>(), 0);
  Decoder narrow(buffer);
  narrow.Get<std::uint8_t>();
  EXPECT_TRUE(narrow.failed());
  Decoder boolean(buffer);
  boolean.Get<bool>();
  EXPECT_TRUE(boolean.failed());
}

TEST(Codec, CountsAreCheckedAgainstWhatRemains) {
  Buffer buffer;
  Encoder encoder(buffer);
  encoder.Put(std::uint64_t{1} << 61);
  encoder.Put(0);
  Decoder count(buffer);
  EXPECT_EQ(count.GetCount(std::numeric_limits<std::size_t>::max()), 0u);
  EXPECT_TRUE(count.failed());
  Decoder blob(buffer);
  EXPECT_TRUE(blob.GetBlob(std::numeric_limits<std::size_t>::max()).empty());
  EXPECT_TRUE(blob.failed());
}

TEST(Codec, StringsWithNulAreRefused) {
  Buffer buffer;
  Encoder encoder(buffer);
  encoder.PutString(std::string("a\0b", 3));
  Decoder decoder(buffer);
  EXPECT_EQ(decoder.GetString(), "");
  EXPECT_TRUE(decoder.failed());
}

TEST(Codec, PatchOverwritesAWord) {
  Buffer buffer(8);
  Encoder encoder(buffer);
  encoder.Put(0), encoder.Put(5);
  encoder.Patch(0, 9);
  Decoder decoder(std::span(buffer).subspan(8));
  EXPECT_EQ(decoder.Get<int>(), 9);
  EXPECT_EQ(decoder.Get<int>(), 5);
}

TEST(Handle, KeepsItsPartsAndIsNeverCanonical) {
  const Handle handle(HandleKind::kEvent, 65535, 123456);
  EXPECT_TRUE(handle.Is(HandleKind::kEvent));
  EXPECT_FALSE(handle.Is(HandleKind::kStream));
  EXPECT_EQ(handle.generation(), 65535);
  EXPECT_EQ(handle.index(), 123456u);
  EXPECT_EQ(FromPointer(ToPointer<void*>(handle)).bits(), handle.bits());
  EXPECT_FALSE(Handle(2).tagged());
}

}  // namespace
}  // namespace farwarp::wire

#include "farwarp/wire/handshake.h"

#include <cstring>

namespace farwarp::wire {
namespace {

constexpr char kProofLabel[] = "farwarp proof 1";

template <std::size_t size>
void GetArray(Decoder& decoder, std::array<std::uint8_t, size>& to) {
  const auto raw = decoder.GetRaw(size);
  if (raw.size() == size) std::memcpy(to.data(), raw.data(), size);
}

// The end of every Decode: the payload must have been read exactly.
template <typename Message>
Result<Message> Finished(const Decoder& decoder, Message message, const char* name) {
  if (!decoder.finished()) return Status::Invalid(std::string("malformed ") + name);
  return message;
}

}  // namespace

Buffer Hello::Encode() const {
  Buffer payload;
  Encoder encoder(payload);
  encoder.Put(versions.oldest);
  encoder.Put(versions.newest);
  encoder.Put(table_hash);
  encoder.PutRaw(lease.data(), lease.size());
  encoder.PutRaw(nonce.data(), nonce.size());
  encoder.Put(process_id);
  encoder.PutString(process_name);
  encoder.Put(std::uint64_t{windows.size()});
  for (const AddressWindow& window : windows) {
    encoder.Put(window.base);
    encoder.Put(window.bytes);
  }
  return payload;
}

Result<Hello> Hello::Decode(std::span<const std::byte> payload) {
  Decoder decoder(payload);
  Hello hello;
  hello.versions.oldest = decoder.Get<std::uint32_t>();
  hello.versions.newest = decoder.Get<std::uint32_t>();
  hello.table_hash = decoder.Get<std::uint64_t>();
  GetArray(decoder, hello.lease);
  GetArray(decoder, hello.nonce);
  hello.process_id = decoder.Get<std::uint32_t>();
  hello.process_name = decoder.GetString(256);
  hello.windows.resize(decoder.GetCount(kMaxWindows, 16));
  for (AddressWindow& window : hello.windows) {
    window.base = decoder.Get<std::uint64_t>();
    window.bytes = decoder.Get<std::uint64_t>();
  }
  return Finished(decoder, std::move(hello), "Hello");
}

Buffer Challenge::Encode() const {
  Buffer payload;
  Encoder encoder(payload);
  encoder.Put(versions.oldest);
  encoder.Put(versions.newest);
  encoder.Put(table_hash);
  encoder.PutRaw(nonce.data(), nonce.size());
  PutTable(encoder, table);
  return payload;
}

Result<Challenge> Challenge::Decode(std::span<const std::byte> payload) {
  Decoder decoder(payload);
  Challenge challenge;
  challenge.versions.oldest = decoder.Get<std::uint32_t>();
  challenge.versions.newest = decoder.Get<std::uint32_t>();
  challenge.table_hash = decoder.Get<std::uint64_t>();
  GetArray(decoder, challenge.nonce);
  challenge.table = GetTable(decoder);
  return Finished(decoder, std::move(challenge), "Challenge");
}

Buffer Proof::Encode() const {
  Buffer payload;
  Encoder encoder(payload);
  encoder.PutRaw(digest.data(), digest.size());
  PutTable(encoder, table);
  return payload;
}

Result<Proof> Proof::Decode(std::span<const std::byte> payload) {
  Decoder decoder(payload);
  Proof proof;
  const auto raw = decoder.GetRaw(proof.digest.size());
  if (raw.size() == proof.digest.size()) std::memcpy(proof.digest.data(), raw.data(), raw.size());
  proof.table = GetTable(decoder);
  return Finished(decoder, std::move(proof), "Proof");
}

Digest ComputeProof(const LeaseSecret& secret, std::span<const std::byte> hello,
                    std::span<const std::byte> challenge, std::span<const PeerEntry> table) {
  Buffer transcript;
  const auto append = [&transcript](std::span<const std::byte> bytes) {
    transcript.insert(transcript.end(), bytes.begin(), bytes.end());
  };
  append(std::as_bytes(std::span(kProofLabel, sizeof kProofLabel - 1)));
  append(hello);
  append(challenge);
  Buffer table_payload;
  Encoder encoder(table_payload);
  PutTable(encoder, table);
  append(table_payload);
  return HmacSha256(std::as_bytes(std::span(secret)), transcript);
}

Buffer Welcome::Encode() const {
  Buffer payload;
  Encoder encoder(payload);
  encoder.Put(protocol);
  encoder.Put(table_hash);
  encoder.Put(driver_version);
  encoder.Put(loading_mode);
  encoder.Put(window);
  encoder.Put(heartbeat_ms);
  encoder.Put(credit.command_bytes);
  encoder.Put(credit.bulk_bytes);
  encoder.Put(std::uint64_t{devices.size()});
  for (const DeviceSnapshot& device : devices) device.EncodeTo(encoder);
  return payload;
}

Result<Welcome> Welcome::Decode(std::span<const std::byte> payload) {
  Decoder decoder(payload);
  Welcome welcome;
  welcome.protocol = decoder.Get<std::uint32_t>();
  welcome.table_hash = decoder.Get<std::uint64_t>();
  welcome.driver_version = decoder.Get<std::int32_t>();
  welcome.loading_mode = decoder.Get<std::int32_t>();
  welcome.window = decoder.Get<std::uint32_t>();
  welcome.heartbeat_ms = decoder.Get<std::uint32_t>();
  welcome.credit.command_bytes = decoder.Get<std::uint64_t>();
  welcome.credit.bulk_bytes = decoder.Get<std::uint64_t>();
  const std::size_t count = decoder.GetCount(kMaxDevices, 64);
  for (std::size_t i = 0; i < count; ++i)
    welcome.devices.push_back(DeviceSnapshot::DecodeFrom(decoder));
  return Finished(decoder, std::move(welcome), "Welcome");
}

Buffer Farewell::Encode() const {
  Buffer payload;
  Encoder encoder(payload);
  encoder.Put(code);
  encoder.PutString(std::string_view(reason).substr(0, 1024));
  return payload;
}

Result<Farewell> Farewell::Decode(std::span<const std::byte> payload) {
  Decoder decoder(payload);
  Farewell farewell;
  farewell.code = decoder.Get<RefusalCode>();
  farewell.reason = decoder.GetString(1024);
  return Finished(decoder, std::move(farewell), "Farewell");
}

}  // namespace farwarp::wire

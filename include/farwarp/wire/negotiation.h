// What a client and a server of different builds have in common: one version of the protocol, and
// the commands that mean the same to both.
//
// Each build has an ApiTable, generated from its sources (cuda/wire_table.h): the number of every
// command and a signature of what its bytes mean. Builds with equal hashes have everything in
// common and send no table. Otherwise each sends its own in the handshake (handshake.h), and a
// command counts as common if number and signature are in both; neither side sends or executes any
// other. A client that gives no hash answers itself for what it sends.
//
// Value types; KnownIds under its owner's lock.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "farwarp/base/status.h"
#include "farwarp/wire/decoder.h"
#include "farwarp/wire/encoder.h"
#include "farwarp/wire/frame.h"

namespace farwarp::wire {

struct VersionRange {
  std::uint32_t oldest = kProtocolVersion;
  std::uint32_t newest = kProtocolVersion;
};

// The newest version that both speak.
std::optional<std::uint32_t> HighestCommon(VersionRange a, VersionRange b) noexcept;
// The sentence for when there is none.
Status NoCommonVersion(VersionRange client, VersionRange server);

// A command of this build.
struct TableEntry {
  std::uint32_t id;
  std::uint32_t signature;
  const char* name;  // For logs.
};

// Of this build: entries by rising id, which outlive whoever is given the table.
struct ApiTable {
  std::uint64_t hash = 0;  // 0: none.
  std::span<const TableEntry> entries;
};

// A command as its build tells it to another.
struct PeerEntry {
  std::uint32_t id = 0;
  std::uint32_t signature = 0;
};
static_assert(sizeof(PeerEntry) == 8);

inline constexpr std::size_t kMaxTableEntries = 4096;  // 32 KiB: half of a handshake's payload.

// table := count:u64 (id:u32 signature:u32)*, both in the same 8 bytes, by rising id.
std::vector<PeerEntry> Told(const ApiTable& table);
void PutTable(Encoder& encoder, std::span<const PeerEntry> table);
// Fails the decoder if the table is too long or does not rise.
std::vector<PeerEntry> GetTable(Decoder& decoder);

// Whether a side with the first hash must send its table to a client or server with the other one.
// `client` is 0 for a client that gives none.
constexpr bool TablesTravel(std::uint64_t client, std::uint64_t server) noexcept {
  return client != 0 && client != server;
}

// Which of our commands the peer knows, too.
class KnownIds {
 public:
  // All that there are, whatever their number.
  KnownIds() = default;
  KnownIds(const ApiTable& ours, std::span<const PeerEntry> theirs);

  bool Has(std::uint32_t id) const noexcept { return all_ || Find(id); }
  // True the first time that it is asked about a command of ours, and once for all others together:
  // each is worth one line in the log.
  bool FirstRefusal(std::uint32_t id) noexcept;
  // Ours, "?" if it is none.
  const char* NameOf(std::uint32_t id) const noexcept;
  std::size_t common() const noexcept;  // Meaningless if all are.
  bool all() const noexcept { return all_; }

 private:
  bool Find(std::uint32_t id) const noexcept;
  std::size_t PlaceOf(std::uint32_t id) const noexcept;  // entries_.size() if there is none.

  bool all_ = true;
  std::span<const TableEntry> entries_;
  // By place in entries_; a peer's numbers never index anything.
  std::vector<bool> common_;
  std::vector<bool> said_;
  bool said_other_ = false;
};

// What both sides make of the tables: which commands are common, or why there can be no session.
// `theirs` must be empty where none was to be sent.
Result<KnownIds> Negotiate(const ApiTable& ours, bool tables_travel,
                           std::span<const PeerEntry> theirs);

}  // namespace farwarp::wire

#include "farwarp/wire/negotiation.h"

#include <algorithm>

#include "farwarp/wire/internal_command.h"

namespace farwarp::wire {
namespace {

// Without these there is no session: every command runs in a context, and a stream that waits for
// a host function must be let go on.
constexpr InternalCommand kIndispensable[] = {InternalCommand::kSetContext,
                                              InternalCommand::kHostFunctionDone};

std::string Text(VersionRange range) {
  std::string text = std::to_string(range.oldest);
  if (range.newest != range.oldest) text += " to " + std::to_string(range.newest);
  return text;
}

}  // namespace

std::optional<std::uint32_t> HighestCommon(VersionRange a, VersionRange b) noexcept {
  const std::uint32_t newest = std::min(a.newest, b.newest);
  if (newest < std::max(a.oldest, b.oldest)) return std::nullopt;
  return newest;
}

Status NoCommonVersion(VersionRange client, VersionRange server) {
  return Status::Version("the client speaks protocol " + Text(client) + ", the server speaks " +
                         Text(server) + "; use matching versions of Farwarp");
}

std::vector<PeerEntry> Told(const ApiTable& table) {
  std::vector<PeerEntry> told;
  told.reserve(table.entries.size());
  for (const TableEntry& entry : table.entries) told.push_back({entry.id, entry.signature});
  return told;
}

void PutTable(Encoder& encoder, std::span<const PeerEntry> table) {
  encoder.Put(std::uint64_t{table.size()});
  encoder.PutRaw(table.data(), table.size_bytes());
}

std::vector<PeerEntry> GetTable(Decoder& decoder) {
  std::vector<PeerEntry> table(decoder.GetCount(kMaxTableEntries, sizeof(PeerEntry)));
  const auto raw = decoder.GetRaw(table.size() * sizeof(PeerEntry));
  if (!raw.empty()) std::memcpy(table.data(), raw.data(), raw.size());
  const auto fall = std::adjacent_find(
      table.begin(), table.end(),
      [](const PeerEntry& before, const PeerEntry& after) { return before.id >= after.id; });
  if (fall != table.end()) decoder.Fail();
  if (decoder.failed()) table.clear();
  return table;
}

KnownIds::KnownIds(const ApiTable& ours, std::span<const PeerEntry> theirs)
    : all_(false),
      entries_(ours.entries),
      common_(ours.entries.size(), false),
      said_(ours.entries.size(), false) {
  auto peer = theirs.begin();
  for (std::size_t place = 0; place < entries_.size(); ++place) {
    const TableEntry& entry = entries_[place];
    while (peer != theirs.end() && peer->id < entry.id) ++peer;
    common_[place] =
        peer != theirs.end() && peer->id == entry.id && peer->signature == entry.signature;
  }
}

std::size_t KnownIds::PlaceOf(std::uint32_t id) const noexcept {
  const auto found = std::lower_bound(
      entries_.begin(), entries_.end(), id,
      [](const TableEntry& entry, std::uint32_t wanted) { return entry.id < wanted; });
  if (found == entries_.end() || found->id != id) return entries_.size();
  return static_cast<std::size_t>(found - entries_.begin());
}

bool KnownIds::Find(std::uint32_t id) const noexcept {
  const std::size_t place = PlaceOf(id);
  return place < entries_.size() && common_[place];
}

bool KnownIds::FirstRefusal(std::uint32_t id) noexcept {
  const std::size_t place = PlaceOf(id);
  if (place < entries_.size()) {
    if (said_[place]) return false;
    said_[place] = true;
    return true;
  }
  if (said_other_) return false;
  said_other_ = true;
  return true;
}

const char* KnownIds::NameOf(std::uint32_t id) const noexcept {
  const std::size_t place = PlaceOf(id);
  return place < entries_.size() ? entries_[place].name : "?";
}

std::size_t KnownIds::common() const noexcept {
  return static_cast<std::size_t>(std::count(common_.begin(), common_.end(), true));
}

Result<KnownIds> Negotiate(const ApiTable& ours, bool tables_travel,
                           std::span<const PeerEntry> theirs) {
  if (!tables_travel) {
    if (!theirs.empty()) return Status::Invalid("the peer sent a table that nobody needs");
    return KnownIds();
  }
  KnownIds known(ours, theirs);
  for (const InternalCommand command : kIndispensable) {
    if (known.Has(IdOf(command))) continue;
    return Status::Version(
        "client and server come from versions of Farwarp that have too little in common; use "
        "matching versions");
  }
  return known;
}

}  // namespace farwarp::wire

// Fuzzes generated handlers: a wire number and the body of its command. The driver behind them
// touches every byte that a handler hands it, so a length that was believed too early shows.
#include <cstring>

#include "tests/gen/loopback.h"

extern "C" int LLVMFuzzerTestOneInput(const unsigned char* data, std::size_t bytes) {
  using namespace farwarp;
  static const bool filled = (loopback::FillDriver(), true);
  static_cast<void>(filled);
  std::uint32_t id;
  if (bytes < sizeof id) return 0;
  std::memcpy(&id, data, sizeof id);
  loopback::Get().bound.clear();
  loopback::Get().checked.clear();
  const auto body = std::as_bytes(std::span(data, bytes)).subspan(sizeof id);
  wire::Buffer reply;
  static_cast<void>(loopback::Dispatch(id, body, &reply));
  return 0;
}

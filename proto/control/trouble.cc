#include "proto/control/trouble.h"

namespace farwarp::control {
namespace {

struct Words {
  const char* theirs;
  const char* ours;
};

// The first that is found counts: details before what they are wrapped in.
constexpr Words kWords[] = {
    {"Connection refused", "Connection refused"},
    {"No route to host", "No route to host"},
    {"Network is unreachable", "Network is unreachable"},
    {"Connection timed out", "Connection timed out"},
    {"Domain name not found", "the name of the host is unknown"},
    {"DNS resolution failed", "the name of the host cannot be resolved"},
    {"SETTINGS", "it accepts connections but does not answer"},
    {"shutting down", "it is shutting down"},
    {"Connection reset by peer", "the connection broke"},
    {"Broken pipe", "the connection broke"},
    {"Socket closed", "the connection broke"},
    {"GOAWAY", "the connection broke"},
    {"handshaker", "the connection broke"},
    {"CANCELLED", "the connection broke"},
    {"Timeout", "it does not answer"},
    {"imed out", "it does not answer"},
};

}  // namespace

std::string WhyUnreachable(const std::string& message) {
  for (const Words& words : kWords) {
    if (message.find(words.theirs) != std::string::npos) return words.ours;
  }
  return "there is no connection";
}

}  // namespace farwarp::control

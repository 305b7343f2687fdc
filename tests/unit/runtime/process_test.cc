// What needs a process of its own: no driver, old drivers, drivers that refuse, registration, fork.
#include <gtest/gtest.h>

#include <array>
#include <cstdio>
#include <string>

namespace {

// Runs the probe with environment settings in front; returns what it printed.
std::string Probe(const std::string& environment, const std::string& what) {
  const std::string command =
      "env " + environment + " timeout 20 " + RUNTIME_PROBE + " " + what + " 2>/dev/null";
  FILE* pipe = popen(command.c_str(), "r");
  if (pipe == nullptr) return "cannot run";
  std::string output;
  std::array<char, 256> buffer;
  while (std::fgets(buffer.data(), buffer.size(), pipe) != nullptr) output += buffer.data();
  return pclose(pipe) == 0 ? output : "failed: " + output;
}

const std::string kFake = std::string("LD_LIBRARY_PATH=") + FAKE_DRIVER_DIR + " ";

TEST(RuntimeProcess, WithoutADriverEverythingButTheVersionIs35) {
  EXPECT_EQ(Probe("LD_LIBRARY_PATH=", "start"),
            "version 0 0, devices 0, count 35, malloc 35, last 35, device 35, name "
            "cudaErrorInsufficientDriver\n");
}

TEST(RuntimeProcess, AnOldDriverIs35AndTellsItsVersion) {
  EXPECT_EQ(Probe(kFake + "FAKE_CUDA_VERSION=12090", "start"),
            "version 0 12090, devices 0, count 35, malloc 35, last 35, device 35, name "
            "cudaErrorInsufficientDriver\n");
}

TEST(RuntimeProcess, ANewerDriverIsAccepted) {
  EXPECT_EQ(Probe(kFake + "FAKE_CUDA_VERSION=14000", "start"),
            "version 0 14000, devices 2, count 0, malloc 0, last 0, device 0, name cudaSuccess\n");
}

TEST(RuntimeProcess, FailuresOfInitialisationMapThrough) {
  for (const std::string code : {"100", "3", "46", "999"}) {
    const std::string printed = Probe(kFake + "FAKE_CUDA_INIT=" + code, "start");
    EXPECT_EQ(printed.substr(0, printed.find(", device ")),
              "version 0 13000, devices 0, count " + code + ", malloc " + code + ", last " + code);
  }
}

TEST(RuntimeProcess, ADriverWithoutDevicesIsNoDevice) {
  EXPECT_EQ(Probe(kFake + "FAKE_CUDA_DEVICES=0", "start"),
            "version 0 13000, devices 0, count 100, malloc 100, last 100, device 100, name "
            "cudaErrorNoDevice\n");
}

TEST(RuntimeProcess, RegistrationDoesNotLoadTheDriver) {
  EXPECT_EQ(Probe(kFake, "registration"), "loaded 0 0 0, kernel 0\n");
}

TEST(RuntimeProcess, AForkedChildIsRefusedOnlyIfTheParentUsedCuda) {
  EXPECT_EQ(Probe(kFake, "fork"),
            "fresh 0 0 0, parent 0 0 0, used 3 3 3, thread 3 3 3, parent again 0 0 0\n");
}

}  // namespace

// A farwarp-server for the tests of private pools: keeps the contract of --private and nothing
// more. It writes what it was given to the file FAKE_SERVER_LOG. FAKE_SERVER_FAIL: says why on
// standard error and ends at once.
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

int main(int argc, char** argv) {
  int lease_fd = -1;
  int address_fd = -1;
  std::string driver;
  for (int i = 1; i + 1 < argc; ++i) {
    if (std::strcmp(argv[i], "--lease-fd") == 0) lease_fd = std::atoi(argv[i + 1]);
    if (std::strcmp(argv[i], "--address-fd") == 0) address_fd = std::atoi(argv[i + 1]);
    if (std::strcmp(argv[i], "--driver") == 0) driver = argv[i + 1];
  }
  if (std::getenv("FAKE_SERVER_FAIL") != nullptr) {
    std::fprintf(stderr, "fake server: the driver is broken\n");
    return 3;
  }
  std::string lease;
  char c = 0;
  while (read(lease_fd, &c, 1) == 1 && c != '\n') lease += c;
  if (FILE* log = std::fopen(std::getenv("FAKE_SERVER_LOG"), "w"); log != nullptr) {
    std::fprintf(log, "%s\n%s\n%d\n", lease.c_str(), driver.c_str(), static_cast<int>(getpid()));
    std::fclose(log);
  }
  const std::string address = "127.0.0.1:4321\n";
  if (write(address_fd, address.data(), address.size()) < 0) return 1;
  close(address_fd);
  while (read(lease_fd, &c, 1) == 1) {
  }
  return 0;
}

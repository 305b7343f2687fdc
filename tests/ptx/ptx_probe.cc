// ptx_probe FILE: says for each instruction form of FILE (forms.txt) whether the engine reads it
// and whether it would run it: one line each, "executed", "parsed" or "unknown". For coverage.py.
#include <cstdio>
#include <fstream>
#include <string>

#include "tests/ptx/case_file.h"

namespace farwarp::softgpu {
namespace {

std::string ProgramOf(const std::string& head, const std::string& instruction) {
  return ".version 9.0\n.target sm_120\n.address_size 64\n" + head + instruction + "\n  ret;\n}\n";
}

const char* StateOf(const std::string& program) {
  TestPlacer placer;
  JitLog log;
  auto module = Module::Load(program, placer, &log);
  if (!module.ok()) return "unknown";
  const Kernel* const kernel = (*module)->FindKernel("test");
  if (kernel == nullptr) return "unknown";
  const Status prepared = kernel->Prepare();
  if (prepared.ok()) return "executed";
  return prepared.message().find("not supported by the software GPU") != std::string::npos
             ? "parsed"
             : "unknown";
}

}  // namespace
}  // namespace farwarp::softgpu

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "ptx_probe FILE\n");
    return 2;
  }
  std::ifstream file(argv[1]);
  std::string line;
  std::string head;
  while (std::getline(file, line) && line != "---") {
    if (!line.starts_with("#")) head += line + "\n";
  }
  while (std::getline(file, line)) {
    if (line.empty() || line.starts_with("#")) continue;
    const size_t at = line.starts_with("[sm_") ? line.find(']') + 1 : 0;
    std::puts(farwarp::softgpu::StateOf(farwarp::softgpu::ProgramOf(head, line.substr(at))));
  }
  return 0;
}

// Large PTX as libraries have it, generated: for the benchmark and the tests of lazy loading. Pure
// functions.
#pragma once

#include <cstddef>
#include <string>

namespace farwarp::bench {

// Appends the kernel `name`(u64 out) of about `instructions` instructions, which stores what it
// computes.
inline void AppendKernel(std::string& text, const std::string& name, std::size_t instructions) {
  text += ".visible .entry " + name +
          "(.param .u64 out)\n{\n\t.reg .b64 %rd<3>;\n\t.reg .b32 %r<64>;\n\t.reg .pred %p<2>;\n"
          "\tld.param.u64 \t%rd1, [out];\n\tcvta.to.global.u64 \t%rd2, %rd1;\n"
          "\tmov.u32 \t%r1, %tid.x;\n";
  constexpr const char* kOperations[] = {
      "\tmad.lo.s32 \t%rD, %rS, 1664525, 1013904223;\n", "\txor.b32 \t%rD, %rS, %r1;\n",
      "\tshf.l.wrap.b32 \t%rD, %rS, %rS, 7;\n", "\tadd.s32 \t%rD, %rS, %r1;\n",
      "\tst.global.u32 \t[%rd2+4], %rS;\n\tmov.u32 \t%rD, %rS;\n"};
  for (std::size_t i = 0; i < instructions; ++i) {
    std::string line = kOperations[i % 5];
    const std::string from = std::to_string(1 + i % 60);
    const std::string to = std::to_string(1 + (i + 1) % 60);
    for (std::size_t at; (at = line.find("%rS")) != std::string::npos;) {
      line.replace(at, 3, "%r" + from);
    }
    for (std::size_t at; (at = line.find("%rD")) != std::string::npos;) {
      line.replace(at, 3, "%r" + to);
    }
    text += line;
  }
  text += "\tst.global.u32 \t[%rd2], %r1;\n\tret;\n}\n\n";
}

// A module of `kernels` kernels k0, k1, … of `instructions` instructions each.
inline std::string LargePtx(std::size_t kernels, std::size_t instructions) {
  std::string text = ".version 8.0\n.target sm_80\n.address_size 64\n\n";
  std::string body;
  AppendKernel(body, "k", instructions);
  const std::size_t name = body.find(" k(") + 2;
  text.reserve(kernels * (body.size() + 8) + 64);
  for (std::size_t i = 0; i < kernels; ++i) {
    text.append(body, 0, name);
    text += std::to_string(i);
    text.append(body, name);
  }
  return text;
}

// As large as the largest of NVIDIA's libraries: 40 MB, 1,265 kernels.
inline std::string LibrarySizedPtx() {
  return LargePtx(1265, 830);
}

}  // namespace farwarp::bench

// Runs a program to its end, or talks to it while it runs. Every wait has a deadline.
//
// One thread per object.
#pragma once

#include <sys/types.h>

#include <map>
#include <string>
#include <vector>

namespace farwarp::testing {

struct Finished {
  int code = -1;  // 128 + n for signal n.
  std::string out;
  std::string err;
};

class Program {
 public:
  // Variables with an empty value are removed from the inherited environment.
  Program(const std::vector<std::string>& command,
          const std::map<std::string, std::string>& variables);
  ~Program();  // Kills it.
  Program(const Program&) = delete;
  Program& operator=(const Program&) = delete;

  pid_t pid() const { return pid_; }
  void CloseInput();
  // Waits until the output so far contains the text; false when the program ended or patience did.
  bool WaitForOutput(const std::string& text);
  bool WaitForError(const std::string& text);
  Finished Wait();

 private:
  bool Pump();
  bool WaitFor(const std::string& where, const std::string& text);

  pid_t pid_ = -1;
  int in_ = -1;
  int out_ = -1;
  int err_ = -1;
  Finished finished_;
};

}  // namespace farwarp::testing

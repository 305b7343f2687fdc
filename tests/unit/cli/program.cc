#include "tests/unit/cli/program.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <utility>

#include "farwarp/base/deadline.h"

namespace farwarp::testing {
namespace {

constexpr auto kPatience = std::chrono::seconds(30);

}  // namespace

Program::Program(const std::vector<std::string>& command,
                 const std::map<std::string, std::string>& variables) {
  std::vector<std::string> environment;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    const std::string text = *entry;
    const std::string name = text.substr(0, text.find('='));
    if (!variables.contains(name) && !name.starts_with("FARWARP_")) environment.push_back(text);
  }
  for (const auto& [name, value] : variables) {
    if (!value.empty()) environment.push_back(name + "=" + value);
  }
  std::vector<char*> arguments, values;
  for (const std::string& text : command) arguments.push_back(const_cast<char*>(text.c_str()));
  for (const std::string& text : environment) values.push_back(const_cast<char*>(text.c_str()));
  arguments.push_back(nullptr);
  values.push_back(nullptr);

  int in[2], out[2], err[2];
  if (::pipe2(in, O_CLOEXEC) != 0 || ::pipe2(out, O_CLOEXEC) != 0 || ::pipe2(err, O_CLOEXEC) != 0)
    return;
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, in[0], 0);
  posix_spawn_file_actions_adddup2(&actions, out[1], 1);
  posix_spawn_file_actions_adddup2(&actions, err[1], 2);
  if (::posix_spawn(&pid_, arguments[0], &actions, nullptr, arguments.data(), values.data()) != 0)
    pid_ = -1;
  posix_spawn_file_actions_destroy(&actions);
  for (const int fd : {in[0], out[1], err[1]}) ::close(fd);
  in_ = in[1], out_ = out[0], err_ = err[0];
}

Program::~Program() {
  if (pid_ > 0) {
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
  }
  CloseInput();
  for (const int fd : {out_, err_}) ::close(fd);
}

void Program::CloseInput() {
  if (in_ >= 0) ::close(std::exchange(in_, -1));
}

// Reads what there is; false when both streams have ended.
bool Program::Pump() {
  pollfd ready[] = {{out_, POLLIN, 0}, {err_, POLLIN, 0}};
  ::poll(ready, 2, 100);
  bool open = false;
  for (int i = 0; i < 2; ++i) {
    if (ready[i].revents == 0) {
      open = true;
      continue;
    }
    char buffer[4096];
    const ssize_t got = ::read(ready[i].fd, buffer, sizeof buffer);
    if (got <= 0) continue;
    open = true;
    (i == 0 ? finished_.out : finished_.err).append(buffer, static_cast<std::size_t>(got));
  }
  return open;
}

bool Program::WaitFor(const std::string& where, const std::string& text) {
  const Deadline deadline = Deadline::After(kPatience);
  const std::string& stream = where == "out" ? finished_.out : finished_.err;
  while (stream.find(text) == std::string::npos) {
    if (deadline.expired() || !Pump()) return stream.find(text) != std::string::npos;
  }
  return true;
}

bool Program::WaitForOutput(const std::string& text) {
  return WaitFor("out", text);
}
bool Program::WaitForError(const std::string& text) {
  return WaitFor("err", text);
}

Finished Program::Wait() {
  const Deadline deadline = Deadline::After(kPatience);
  int status = 0;
  while (pid_ > 0 && ::waitpid(pid_, &status, WNOHANG) == 0) {
    Pump();
    if (deadline.expired()) return finished_;
  }
  pid_ = -1;
  // What is in the pipes still; a grandchild may keep them open.
  for (;;) {
    pollfd ready[] = {{out_, POLLIN, 0}, {err_, POLLIN, 0}};
    if (::poll(ready, 2, 0) <= 0 || !Pump()) break;
  }
  finished_.code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  return finished_;
}

}  // namespace farwarp::testing

#include "client/driver/thread_state.h"

#include <pthread.h>

#include <new>

#include "client/driver/process.h"
#include "client/driver/stream/stream.h"

namespace farwarp::client {
namespace {

pthread_key_t key;
pthread_once_t key_once = PTHREAD_ONCE_INIT;
bool have_key = false;
// The pointer is all that the fast path needs; the key exists for its destructor.
thread_local ThreadState* current = nullptr;

void EndThread(void* state) {
  auto* thread = static_cast<ThreadState*>(state);
  if (Process* process = Process::Get(); process != nullptr) EndThreadStreams(*process, *thread);
  // A later destructor of this thread may still call CUDA: it gets a fresh state.
  current = nullptr;
  delete thread;
}

void MakeKey() {
  have_key = pthread_key_create(&key, EndThread) == 0;
}

}  // namespace

ThreadState* ThreadState::Get() noexcept {
  if (current != nullptr) return current;
  pthread_once(&key_once, MakeKey);
  current = new (std::nothrow) ThreadState;
  if (current != nullptr && have_key) pthread_setspecific(key, current);
  return current;
}

}  // namespace farwarp::client

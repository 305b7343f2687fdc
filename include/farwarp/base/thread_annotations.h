// Clang thread-safety annotations, and the mutex types they check. Other compilers see plain
// mutexes.
#pragma once

#include <condition_variable>
#include <mutex>

#if defined(__clang__)
#define FARWARP_ANNOTATION(x) __attribute__((x))
#else
#define FARWARP_ANNOTATION(x)
#endif

// Three of these names are Abseil's too, with the same meaning; its headers come with gRPC.
#ifndef GUARDED_BY
#define GUARDED_BY(x) FARWARP_ANNOTATION(guarded_by(x))
#endif
#ifndef PT_GUARDED_BY
#define PT_GUARDED_BY(x) FARWARP_ANNOTATION(pt_guarded_by(x))
#endif
#define REQUIRES(...) FARWARP_ANNOTATION(requires_capability(__VA_ARGS__))
#define EXCLUDES(...) FARWARP_ANNOTATION(locks_excluded(__VA_ARGS__))
#define ACQUIRE(...) FARWARP_ANNOTATION(acquire_capability(__VA_ARGS__))
#define RELEASE(...) FARWARP_ANNOTATION(release_capability(__VA_ARGS__))
#define TRY_ACQUIRE(...) FARWARP_ANNOTATION(try_acquire_capability(__VA_ARGS__))
#ifndef NO_THREAD_SAFETY_ANALYSIS
#define NO_THREAD_SAFETY_ANALYSIS FARWARP_ANNOTATION(no_thread_safety_analysis)
#endif

namespace farwarp {

class FARWARP_ANNOTATION(capability("mutex")) Mutex {
 public:
  void lock() ACQUIRE() { mutex_.lock(); }
  void unlock() RELEASE() { mutex_.unlock(); }
  bool try_lock() TRY_ACQUIRE(true) { return mutex_.try_lock(); }

 private:
  std::mutex mutex_;
};

class FARWARP_ANNOTATION(scoped_lockable) MutexLock {
 public:
  explicit MutexLock(Mutex& mutex) ACQUIRE(mutex) : mutex_(mutex) { mutex_.lock(); }
  ~MutexLock() RELEASE() { mutex_.unlock(); }
  MutexLock(const MutexLock&) = delete;
  MutexLock& operator=(const MutexLock&) = delete;

 private:
  Mutex& mutex_;
};

// A condition variable for Mutex. Callers hold the mutex and always pass a point in time.
class CondVar {
 public:
  template <typename Clock, typename Duration>
  std::cv_status WaitUntil(Mutex& mutex, std::chrono::time_point<Clock, Duration> when)
      REQUIRES(mutex) {
    return cv_.wait_until(mutex, when);
  }
  void Wait(Mutex& mutex) REQUIRES(mutex) { cv_.wait(mutex); }
  void NotifyOne() noexcept { cv_.notify_one(); }
  void NotifyAll() noexcept { cv_.notify_all(); }

 private:
  std::condition_variable_any cv_;
};

}  // namespace farwarp

// What the thread sanitizer takes for errors of our programs and is none. It asks for these by
// name.

extern "C" {

[[gnu::visibility("default"), gnu::used]] const char* __tsan_default_options() {
  // The client's threads live as long as its process: nobody joins them at exit.
  return "ignore_noninstrumented_modules=1 report_thread_leaks=0 atexit_sleep_ms=0";
}

[[gnu::visibility("default"), gnu::used]] const char* __tsan_default_suppressions() {
  // Libraries built without the sanitizer, whose locks it cannot see; and kernels of the software
  // GPU, whose races are the kernel's own.
  return "race:libgrpc\n"
         "race:libgpr\n"
         "race:libabsl\n"
         "race:libprotobuf\n"
         "race:farwarp::softgpu::*::StoreTo<\n"
         "race:farwarp::softgpu::*::Load<\n";
}

}  // extern "C"

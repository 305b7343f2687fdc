// Options for our programs under the thread sanitizer, which asks for them by name.

extern "C" [[gnu::visibility("default"), gnu::used]] const char* __tsan_default_options() {
  return FARWARP_TSAN_OPTIONS;
}

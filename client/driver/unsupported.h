// What generated code calls of ours. Thread-safe.
#pragma once

// The log line of a stub, once per name; both are literals. Outside the namespace, because stubs of
// several libraries name it.
void FarwarpSayUnsupported(const char* name, const char* reason) noexcept;

namespace farwarp::client {

// The return address of the calling thread's last export that wants to know it; set by generated
// code.
void SetExportCaller(const void* address) noexcept;

}  // namespace farwarp::client

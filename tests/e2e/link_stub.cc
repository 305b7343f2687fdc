// Completes the generated library that driver-API programs are linked against, as programs link
// against the toolkit's stub: when it is loaded by mistake every call fails.
void E2eStubCalled(const char* name, const char* reason) noexcept;
void E2eStubCalled(const char* /*name*/, const char* /*reason*/) noexcept {}

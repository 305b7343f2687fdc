// Stands in for the real header of this name: handlers of generated code begin in
// tests/gen/loopback.h.
#pragma once

#include "tests/gen/loopback.h"

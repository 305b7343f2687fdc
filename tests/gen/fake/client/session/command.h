// Stands in for the real header of this name: commands of generated code end in
// tests/gen/loopback.h.
#pragma once

#include "tests/gen/loopback.h"

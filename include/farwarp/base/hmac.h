// SHA-256 and HMAC-SHA-256 (FIPS 180-4, RFC 2104), and a constant-time comparison.
//
// Ours, because the libraries loaded into the application may link nothing beyond libc, and proving
// a lease needs exactly one keyed hash. Pure functions, thread-safe.
#pragma once

#include <array>
#include <cstddef>
#include <span>

namespace farwarp {

using Digest = std::array<std::byte, 32>;

Digest Sha256(std::span<const std::byte> message) noexcept;
Digest HmacSha256(std::span<const std::byte> key, std::span<const std::byte> message);
// Compares without revealing by its duration where the first difference is.
bool DigestsEqual(const Digest& a, const Digest& b) noexcept;

}  // namespace farwarp

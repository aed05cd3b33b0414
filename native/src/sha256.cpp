#include "sha256.hpp"

#include <algorithm>
#include <cstdio>
#include <cstring>

namespace scanwright {

namespace {

constexpr std::array<std::uint32_t, 64> constants{
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

std::uint32_t rotated(std::uint32_t value, unsigned amount) {
    return (value >> amount) | (value << (32 - amount));
}

}  // namespace

void Sha256::compress(const unsigned char* block) {
    std::array<std::uint32_t, 64> w{};
    for (std::size_t i = 0; i < 16; ++i) {
        const unsigned char* four = block + 4 * i;
        w[i] = (std::uint32_t{four[0]} << 24) | (std::uint32_t{four[1]} << 16) |
               (std::uint32_t{four[2]} << 8) | four[3];
    }
    for (std::size_t i = 16; i < 64; ++i) {
        const std::uint32_t low = rotated(w[i - 15], 7) ^ rotated(w[i - 15], 18) ^ (w[i - 15] >> 3);
        const std::uint32_t high = rotated(w[i - 2], 17) ^ rotated(w[i - 2], 19) ^ (w[i - 2] >> 10);
        w[i] = w[i - 16] + low + w[i - 7] + high;
    }
    auto [a, b, c, d, e, f, g, h] = state_;
    for (std::size_t i = 0; i < 64; ++i) {
        const std::uint32_t high = rotated(e, 6) ^ rotated(e, 11) ^ rotated(e, 25);
        const std::uint32_t first = h + high + ((e & f) ^ (~e & g)) + constants[i] + w[i];
        const std::uint32_t low = rotated(a, 2) ^ rotated(a, 13) ^ rotated(a, 22);
        const std::uint32_t second = low + ((a & b) ^ (a & c) ^ (b & c));
        h = g, g = f, f = e, e = d + first, d = c, c = b, b = a, a = first + second;
    }
    const std::array<std::uint32_t, 8> added{a, b, c, d, e, f, g, h};
    for (std::size_t i = 0; i < 8; ++i) state_[i] += added[i];
}

void Sha256::update(std::string_view bytes) {
    length_ += bytes.size();
    while (!bytes.empty()) {
        const std::size_t count = std::min(bytes.size(), pending_.size() - filled_);
        std::memcpy(pending_.data() + filled_, bytes.data(), count);
        filled_ += count;
        bytes.remove_prefix(count);
        if (filled_ == pending_.size()) {
            compress(pending_.data());
            filled_ = 0;
        }
    }
}

std::string Sha256::hexadecimal() {
    const std::uint64_t bits = 8 * length_;
    const std::string_view one("\x80", 1), zero("\0", 1);
    update(one);
    while (filled_ != 56) update(zero);
    for (unsigned shift = 64; shift > 0; shift -= 8) {
        const char byte = static_cast<char>((bits >> (shift - 8)) & 0xFF);
        update(std::string_view(&byte, 1));
    }
    std::string text;
    for (const std::uint32_t word : state_) {
        std::array<char, 9> buffer{};
        std::snprintf(buffer.data(), buffer.size(), "%08x", word);
        text += buffer.data();
    }
    return text;
}

}  // namespace scanwright

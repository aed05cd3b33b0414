#include "decay.hpp"

#include <cmath>
#include <cstring>

namespace scanwright {

namespace {

constexpr std::int32_t arguments = 1 << exponent_bits;
constexpr int mantissa_fraction = 24;
constexpr int segment_bits = exponent_fraction - 5;
constexpr std::int32_t offset_mask = (1 << segment_bits) - 1;
constexpr int narrow_decay_bits = 12;  // of the kernel

// 2**-argument with `decay_bits` fraction bits of every argument, golden/operations/exponent.py.
Integers decay_table(const LinearTable& table, int decay_bits) {
    Integers decays(arguments);
    for (std::int32_t argument = 0; argument < arguments; ++argument) {
        const std::int32_t fraction = argument & ((1 << exponent_fraction) - 1);
        const auto segment = static_cast<std::size_t>(fraction >> segment_bits);
        const double mantissa = std::ldexp(table.base[segment], mantissa_fraction - 16) -
                                static_cast<double>(table.slope[segment]) *
                                    (fraction & offset_mask);
        const int shift = (argument >> exponent_fraction) + mantissa_fraction - decay_bits;
        decays[static_cast<std::size_t>(argument)] =
            static_cast<std::int32_t>(std::nearbyint(std::ldexp(mantissa, -shift)));
    }
    return decays;
}

}  // namespace

DecayTable::DecayTable(const LinearTable& table, int decay_bits)
    : all(decay_table(table, decay_bits)),
      lines(exponent_segments, 0),
      narrow(decay_bits == narrow_decay_bits) {
    const auto fits = [](std::int32_t half) { return half >= INT16_MIN && half <= INT16_MAX; };
    for (std::int32_t i = 0; i < exponent_segments; ++i) {
        const auto segment = static_cast<std::size_t>(exponent_segments - 1 - i);
        const std::int32_t low = table.slope[segment] - 2048;
        const std::int32_t high =
            2 * table.base[segment] - table.slope[segment] - 2048 * i - (1 << 16);
        narrow = narrow && fits(low) && fits(high);
        lines[static_cast<std::size_t>(i)] =
            static_cast<std::int32_t>(static_cast<std::uint32_t>(high) << 16 |
                                      (static_cast<std::uint32_t>(low) & 0xFFFF));
    }
    for (std::int32_t i = 0; i < arguments && narrow; ++i) {
        narrow = narrow_decay(i) == all[static_cast<std::size_t>(i)];
    }
}

std::int32_t DecayTable::narrow_decay(std::int32_t argument) const {
    const std::int32_t negated = (127 << exponent_fraction) - argument;
    const std::int32_t line =
        lines[static_cast<std::size_t>(negated >> segment_bits) % exponent_segments];
    const std::int32_t low = static_cast<std::int16_t>(line & 0xFFFF), high = line >> 16;
    const std::int32_t sum = low * (negated & offset_mask) + high * 128;
    const std::uint32_t bits =
        (static_cast<std::uint32_t>(negated) << 11) + static_cast<std::uint32_t>(sum);
    float decay = 0;
    std::memcpy(&decay, &bits, sizeof decay);
    return static_cast<std::int32_t>(std::nearbyint(std::ldexp(decay, narrow_decay_bits)));
}

}  // namespace scanwright

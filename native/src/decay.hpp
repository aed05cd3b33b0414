// 2**-x of the selective scan, for every argument; golden/operations/exponent.py.
#pragma once

#include "program.hpp"
#include "requantizer.hpp"

namespace scanwright {

// The definition, tabulated, and the constants of a kernel that computes the same in registers.
//
// The kernel has the argument x = k + f as the float 2048 + x, whose low bits b are x in steps of
// 2**-12: k, five bits of segment, seven bits of offset. With m = (base << 8) - slope offset, the
// mantissa of 2**-f in steps of 2**-24, the integer
//
//     (125 << 23) + m - (k << 23)
//
// is the bit pattern of the float m 2**(-24 - k), since m lies in [2**23, 2**24]. Subtracting
// b << 11 in place of k << 23 spares a mask; it takes f << 11 too much, which a line of the table
// gives back: low half 2048 - slope, high half base + 1024 segment - 2**15, to be multiplied by
// offset and 2**8 and added, which is one instruction.
struct DecayTable {
    DecayTable(const LinearTable& table, int decay_bits);

    static constexpr std::uint32_t first = (126U << 23);  // what the lines are added to

    Integers all;   // 2**-argument of all 2**16 arguments, `decay_bits` fraction bits
    Values lines;   // one a segment
    bool narrow;    // the kernel's decays are those of the table, for every argument

private:
    std::int32_t narrow_decay(std::int32_t argument) const;
};

}  // namespace scanwright

// 2**-x of the selective scan, for every argument; golden/operations/exponent.py.
#pragma once

#include "program.hpp"
#include "requantizer.hpp"

namespace scanwright {

// The definition, tabulated, and the constants of a kernel that computes the same in registers.
//
// The kernel has the argument x = k + f, in steps of 2**-12, as the float 2175 - x, whose low bits b
// are (127 << 12) - x: below k the negated fraction f' = -f, five bits of segment, seven of offset.
// With m = (base << 8) - slope (128 - offset), the mantissa of 2**-f in steps of 2**-24, the integer
//
//     (b << 11) - (1 << 23) + m - (f' << 11)
//
// is the bit pattern of the float m 2**(-24 - k), since m lies in [2**23, 2**24]. All but b << 11 is a
// line of the table, low half slope - 2048, high half 2 base - slope - 2048 segment - 2**16, to be
// multiplied by offset and 2**7 and added, which is one instruction. Where f' is a multiple of 128
// the definition takes the next segment's line; loading finds both equal, or no kernel is used.
struct DecayTable {
    DecayTable(const LinearTable& table, int decay_bits);

    Integers all;   // 2**-argument of all 2**16 arguments, `decay_bits` fraction bits
    Values lines;   // one a segment of f'
    bool narrow;    // the kernel's decays are those of the table, for every argument

private:
    std::int32_t narrow_decay(std::int32_t argument) const;
};

}  // namespace scanwright

"""Five ternary weights in a byte, in a code whose decoder is a few look-up tables.

A byte has four fields of two bits. Field values 0, 1 and 3 are the trits 0, 1 and -1 in two's
complement; 2 is the escape. Without an escape the fields are the first four trits and the fifth is
0: 81 codes. Else the fifth is 1 or -1, and it and the first trit, six cases, are told by which
fields are escapes: one of four fields (27 codes each), or two with or without field 0 (27 each, as
the second trit then says which two). The other fields hold the other trits, all but one of them in
its own place. These are 81 + 162 = 243 codes, all that there are. In base 3, every bit of a trit
would depend on the whole byte.
"""

from __future__ import annotations

from collections.abc import Sequence

from amaranth.hdl import Cat, Const, Mux, Value

__all__ = ["TRITS_A_BYTE", "dense_bits", "pack_dense", "unpack_dense"]

TRITS_A_BYTE = 5
_ESCAPE = 2
_CASES = ((0, 1), (1, -1), (-1, -1), (0, -1), (1, 1), (-1, 1))
"""First and fifth trit of: an escape in field 0, 1, 2, 3; in field 0 and another; in two others."""
_WITH_FIRST = (1, 2, 3)
"""The escape beside field 0, by the second trit plus 1."""
_WITHOUT_FIRST = ((1, 2), (1, 3), (2, 3))


def dense_bits(count: int) -> int:
    """Return the bits of ``count`` trits: 8 for every five, 2 for each of the rest."""
    return 8 * (count // TRITS_A_BYTE) + 2 * (count % TRITS_A_BYTE)


def _fields(trits: Sequence[int]) -> list[int]:
    """Return the four fields of five trits."""
    first, second, third, fourth, fifth = trits
    fields = [first, second, third, fourth]
    if fifth == 0:
        return fields
    case = _CASES.index((first, fifth))
    if case < len(fields):
        fields[0] = fields[case]
        fields[case] = _ESCAPE
        return fields
    if case == len(fields):
        partner = _WITH_FIRST[second + 1]
        rest = {1: (0, third, fourth), 2: (third, 0, fourth), 3: (fourth, third, 0)}[partner]
        fields = [_ESCAPE, *rest]
        fields[partner] = _ESCAPE
        return fields
    pair = _WITHOUT_FIRST[second + 1]
    fields = {(1, 2): [third, 0, 0, fourth], (1, 3): [fourth, 0, third, 0],
              (2, 3): [third, fourth, 0, 0]}[pair]  # fmt: skip
    for place in pair:
        fields[place] = _ESCAPE
    return fields


def pack_dense(trits: Sequence[int]) -> int:
    """Pack trits into a word of :func:`dense_bits`, the first lowest."""
    whole = len(trits) - len(trits) % TRITS_A_BYTE
    fields: list[int] = []
    for start in range(0, whole, TRITS_A_BYTE):
        fields += _fields(trits[start : start + TRITS_A_BYTE])
    fields += trits[whole:]
    return sum((field & 3) << 2 * place for place, field in enumerate(fields))


def _decoded(byte: Value) -> list[Value]:
    """Return the five trits of a byte in two bits each."""
    fields = [byte.word_select(place, 2) for place in range(4)]
    escape = [field == _ESCAPE for field in fields]
    some = escape[1] | escape[2] | escape[3]
    two = (escape[1] & escape[2]) | (escape[1] & escape[3]) | (escape[2] & escape[3])
    zero, plus, minus = Const(0, 2), Const(1, 2), Const(3, 2)
    by_partner = Mux(escape[1], minus, Mux(escape[2], zero, plus))
    by_pair = Mux(escape[3], Mux(escape[2], plus, zero), minus)
    first = Mux(escape[1], plus, Mux(escape[2], minus, zero))
    first = Mux(escape[0], Mux(some, plus, zero), Mux(two, minus, Mux(some, first, fields[0])))
    second = Mux(escape[1], fields[0], fields[1])
    second = Mux(escape[0] & some, by_partner, Mux(two, by_pair, second))
    third = Mux(escape[2], Mux(escape[0], fields[1], fields[0]), fields[2])
    fourth = Mux(escape[3], Mux(escape[0] | escape[2], fields[1], fields[0]), fields[3])
    fifth = Mux(escape[0] | two, plus, Mux(some, minus, zero))
    return [first, second, third, fourth, fifth]


def unpack_dense(word: Value, count: int) -> Value:
    """Return ``count`` trits, two bits each, of a word of :func:`dense_bits`."""
    bytes_of = count // TRITS_A_BYTE
    trits = [trit for place in range(bytes_of) for trit in _decoded(word.word_select(place, 8))]
    return Cat(*trits, word[8 * bytes_of :])

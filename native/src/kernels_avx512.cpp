// The inner loops for AVX-512 with VNNI.
#if defined(__x86_64__)
#include <immintrin.h>

#include "kernels.hpp"

// GCC 12 takes the deliberately undefined registers of its own intrinsics for a mistake.
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif

#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,bmi,bmi2,lzcnt")
#pragma GCC target("prefer-vector-width=512")

#define SCANWRIGHT_HAS_MULTIPLY
#define SCANWRIGHT_HAS_ACTIVATION
#define SCANWRIGHT_HAS_SCAN

namespace scanwright {
namespace {

inline __m512i load(const void* from) { return _mm512_load_si512(from); }

inline __m512i add_product(__m512i sums, __m512i inputs, __m512i weight, std::int8_t) {
    return _mm512_dpbusd_epi32(sums, inputs, weight);
}

inline __m512i add_product(__m512i sums, __m512i inputs, __m512i weight, std::int16_t) {
    return _mm512_dpwssd_epi32(sums, inputs, weight);
}

// The sums of `blocks` blocks of rows for `tokens` tokens, all in registers.
template <std::size_t group_size, int blocks, int tokens, typename Weight, typename Input>
inline void multiply_tile(const Product<Weight, Input>& own, std::size_t block, std::size_t token) {
    __m512i sums[blocks][tokens];
    for (int b = 0; b < blocks; ++b) {
        const __m512i start = load(own.start + (block + static_cast<std::size_t>(b)) * lanes);
        for (int t = 0; t < tokens; ++t) sums[b][t] = start;
    }
    const Rows<Weight> rows = rows_of<group_size>(own, block);
    const Input* inputs = own.inputs + token * own.input_stride;
    for (std::size_t group = 0; group < own.groups; ++group) {
        __m512i x[tokens];
        for (int t = 0; t < tokens; ++t) {
            std::int32_t word;
            __builtin_memcpy(&word,
                             inputs + static_cast<std::size_t>(t) * own.input_stride +
                                 group * group_size,
                             sizeof word);
            x[t] = _mm512_set1_epi32(word);
        }
        const Weight* weight = rows.first + group * rows.stride;
        for (int b = 0; b < blocks; ++b) {
            const __m512i packed = load(weight + static_cast<std::size_t>(b) * lanes * group_size);
            for (int t = 0; t < tokens; ++t) {
                sums[b][t] = add_product(sums[b][t], x[t], packed, Weight{});
            }
        }
    }
    for (int t = 0; t < tokens; ++t) {
        std::int32_t* totals =
            own.totals + (token + static_cast<std::size_t>(t)) * own.total_stride + block * lanes;
        for (int b = 0; b < blocks; ++b) {
            _mm512_store_si512(totals + static_cast<std::size_t>(b) * lanes, sums[b][t]);
        }
    }
}

template <std::size_t group_size, int tokens, typename Weight, typename Input>
void multiply_tokens(const Product<Weight, Input>& own, std::size_t token) {
    std::size_t block = 0;
    // A tile stays inside a chunk: chunks begin at multiples of eight blocks.
    if constexpr (tokens == 1) {
        for (; block + 8 <= own.row_blocks; block += 8) {
            multiply_tile<group_size, 8, tokens>(own, block, token);
        }
    }
    for (; block + 4 <= own.row_blocks; block += 4) {
        multiply_tile<group_size, 4, tokens>(own, block, token);
    }
    for (; block + 2 <= own.row_blocks; block += 2) {
        multiply_tile<group_size, 2, tokens>(own, block, token);
    }
    if (block < own.row_blocks) multiply_tile<group_size, 1, tokens>(own, block, token);
}

template <std::size_t group_size, typename Weight, typename Input>
void multiply_all(const Product<Weight, Input>& own) {
    std::size_t token = 0;
    for (; token + 4 <= own.tokens; token += 4) multiply_tokens<group_size, 4>(own, token);
    for (; token < own.tokens; ++token) multiply_tokens<group_size, 1>(own, token);
}

void multiply_bytes(const Product<std::int8_t, std::uint8_t>& own) { multiply_all<byte_group>(own); }

void multiply_words(const Product<std::int16_t, std::int16_t>& own) { multiply_all<word_group>(own); }

// relu(x) + sign correction(|x|)
template <int sign>
inline void activation(const std::int32_t* x, const ActivationTable& table, std::int32_t* out,
                       std::size_t count) {
    const __m512i beyond = _mm512_set1_epi32(512), zero = _mm512_setzero_si512();
    for (std::size_t i = 0; i < count; i += lanes) {
        const __m512i value = load(x + i);
        const __m512i magnitude = _mm512_abs_epi32(value);
        const __m512i segment = _mm512_min_epi32(_mm512_srli_epi32(magnitude, 7), beyond);
        const __m512i base = _mm512_i32gather_epi32(segment, table.base, 4);
        const __m512i slope = _mm512_i32gather_epi32(segment, table.slope, 4);
        const __m512i offset = _mm512_and_si512(magnitude, _mm512_set1_epi32(127));
        const __m512i correction =
            _mm512_add_epi32(base, _mm512_mullo_epi32(slope, offset));
        const __m512i rectified = _mm512_slli_epi32(_mm512_max_epi32(value, zero), 11);
        _mm512_store_si512(out + i, sign > 0 ? _mm512_add_epi32(rectified, correction)
                                             : _mm512_sub_epi32(rectified, correction));
    }
}


}  // namespace
}  // namespace scanwright

#include "kernels.inc"

namespace scanwright {
namespace {

constexpr int nearest = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
constexpr int downwards = _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC;
constexpr int twelve_bits = (12 << 4) | nearest;
constexpr std::size_t narrow_states = 256;

// Registers that every step of the narrow scan reads.
struct NarrowConstants {
    __m512 base_low, base_high, slope_low, slope_high, low, high;

    explicit NarrowConstants(const ScanConstants& own)
        : base_low(_mm512_load_ps(own.mantissa_base)),
          base_high(_mm512_load_ps(own.mantissa_base + lanes)),
          slope_low(_mm512_load_ps(own.mantissa_slope)),
          slope_high(_mm512_load_ps(own.mantissa_slope + lanes)),
          low(_mm512_set1_ps(static_cast<float>(own.state.low))),
          high(_mm512_set1_ps(static_cast<float>(own.state.high))) {}
};

// 2**-(delta rate) with 12 fraction bits, all in one: nothing is shifted out of float32.
inline __m512 narrow_decay(__m512 delta, const float* rate, const NarrowConstants& own) {
    // The sum lies in [2048, 4096), where float32 has steps of 2**-12: one rounding, half to even.
    const __m512 argument =
        _mm512_min_ps(_mm512_fmadd_ps(delta, _mm512_load_ps(rate), _mm512_set1_ps(2048.0F)),
                      _mm512_set1_ps(2063.999755859375F));  // saturated just below 16
    const __m512i bits = _mm512_castps_si512(argument);
    const __m512i segment = _mm512_srli_epi32(bits, 7);  // permutations read the low five bits
    const __m512 base = _mm512_permutex2var_ps(own.base_low, segment, own.base_high);
    const __m512 slope = _mm512_permutex2var_ps(own.slope_low, segment, own.slope_high);
    const __m512 fraction = _mm512_reduce_ps(argument, downwards);
    const __m512 mantissa = _mm512_fnmadd_ps(slope, fraction, base);
    // The argument's integer part leaves the exponent; its fraction takes back what was added.
    const __m512i scaled =
        _mm512_sub_epi32(_mm512_castps_si512(mantissa), _mm512_slli_epi32(bits, 11));
    return _mm512_roundscale_ps(_mm512_castsi512_ps(scaled), twelve_bits);
}

// The update of one state, drive b rounded to 12 fraction bits of a state's step.
inline __m512 exact_update(__m512 product, float b, __m512 scale) {
    const auto half = [&](__m256 values, __m256 scales) {
        const __m512d exact = _mm512_mul_pd(_mm512_cvtps_pd(values), _mm512_set1_pd(b));
        const __m512d scaled = _mm512_mul_pd(exact, _mm512_cvtps_pd(scales));
        return _mm512_cvtpd_ps(_mm512_roundscale_pd(scaled, twelve_bits));
    };
    const __m256 low = half(_mm512_castps512_ps256(product), _mm512_castps512_ps256(scale));
    const __m256 high = half(_mm512_extractf32x8_ps(product, 1), _mm512_extractf32x8_ps(scale, 1));
    return _mm512_insertf32x8(_mm512_castps256_ps512(low), high, 1);
}

// Advances 16 channels by one token; `wide` if a product of drive and b may exceed 24 bits, `shared`
// if all states of a channel decay alike.
template <bool wide, bool shared>
__m512 narrow_step(const ScanConstants& own, const NarrowConstants& constants, __m512 delta,
                          __m512 product, __m512 scale, const float* b, const float* c,
                          const float* rate, float* state, __m512 y) {
    const __m512 drive = _mm512_mul_ps(product, scale);
    __m512 factor = narrow_decay(delta, rate, constants);
    for (std::size_t n = 0; n < own.states; ++n) {
        if (!shared && n > 0) factor = narrow_decay(delta, rate + n * lanes, constants);
        const __m512 update =
            wide ? exact_update(product, b[n], scale)
                 : _mm512_roundscale_ps(_mm512_mul_ps(drive, _mm512_set1_ps(b[n])), twelve_bits);
        const __m512 total = _mm512_fmadd_ps(factor, _mm512_load_ps(state + n * lanes), update);
        const __m512 rounded = _mm512_roundscale_ps(total, nearest);
        const __m512 next = _mm512_min_ps(_mm512_max_ps(rounded, constants.low), constants.high);
        _mm512_store_ps(state + n * lanes, next);
        y = _mm512_fmadd_ps(next, _mm512_set1_ps(c[n]), y);
    }
    return y;
}

void scan(const ScanConstants& own, const ScanTokens& tokens, float* state) {
    if (!own.narrow) {
        scan_general(own, tokens, state);
        return;
    }
    float b[token_limit][narrow_states], c[token_limit][narrow_states], peak[token_limit];
    for (std::size_t token = 0; token < tokens.tokens; ++token) {
        float most = 0;
        for (std::size_t n = 0; n < own.states; ++n) {
            b[token][n] = static_cast<float>(tokens.b[token * tokens.bc_stride + n]);
            c[token][n] = static_cast<float>(tokens.c[token * tokens.bc_stride + n]);
            const float magnitude = b[token][n] < 0 ? -b[token][n] : b[token][n];
            most = magnitude > most ? magnitude : most;
        }
        peak[token] = most;
    }
    const NarrowConstants constants(own);
    for (std::size_t block = 0; block < own.blocks; ++block) {
        const std::size_t first = block * lanes;
        const float* rate = own.rate + first * (own.shared_rate ? 1 : own.states);
        float* h = state + first * own.states;
        const __m512 scale = _mm512_load_ps(own.drive_scale + first);
        for (std::size_t token = 0; token < tokens.tokens; ++token) {
            const std::size_t at = token * tokens.stride + first;
            const __m512 delta = _mm512_cvtepi32_ps(load(tokens.delta + at));
            const __m512 u = _mm512_cvtepi32_ps(load(tokens.u + at));
            const __m512 product = _mm512_mul_ps(delta, u);
            const __m512 largest =
                _mm512_mul_ps(_mm512_abs_ps(product), _mm512_set1_ps(peak[token]));
            const bool wide =
                _mm512_cmp_ps_mask(largest, _mm512_set1_ps(0x1p24F), _CMP_GT_OQ) != 0;
            const __m512d skip_low = _mm512_load_pd(own.skip + first);
            const __m512d skip_high = _mm512_load_pd(own.skip + first + 8);
            const __m512 skip = _mm512_insertf32x8(
                _mm512_castps256_ps512(_mm512_cvtpd_ps(skip_low)), _mm512_cvtpd_ps(skip_high), 1);
            const __m512 through = _mm512_mul_ps(skip, u);
            const auto step = own.shared_rate ? (wide ? narrow_step<true, true>
                                                      : narrow_step<false, true>)
                                              : (wide ? narrow_step<true, false>
                                                      : narrow_step<false, false>);
            const __m512 y = step(own, constants, delta, product, scale, b[token], c[token], rate,
                                  h, through);
            float sums[lanes];
            _mm512_storeu_ps(sums, y);
            for (std::size_t e = 0; e < lanes; ++e) {
                tokens.y[at + e] =
                    as_integer(narrowed(sums[e] * own.output_scale[first + e], own.output));
            }
        }
    }
}

}  // namespace
}  // namespace scanwright

#pragma GCC pop_options

const scanwright::Kernels scanwright::avx512_kernels = scanwright::all_kernels;
#endif

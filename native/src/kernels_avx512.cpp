// The inner loops for AVX-512 with VNNI.
#if defined(__x86_64__)
#include <immintrin.h>

#include <type_traits>

#include "hadamard.hpp"
#include "kernels.hpp"

// GCC 12 takes the deliberately undefined registers of its own intrinsics for a mistake.
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif

#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,bmi,bmi2,lzcnt")
#pragma GCC target("prefer-vector-width=512")

#define SCANWRIGHT_HAS_ROUND
#define SCANWRIGHT_HAS_MULTIPLY
#define SCANWRIGHT_HAS_ACTIVATION
#define SCANWRIGHT_HAS_CONVOLVE
#define SCANWRIGHT_HAS_MULTIPLY_INTEGERS
#define SCANWRIGHT_HAS_ROTATE
#define SCANWRIGHT_HAS_SCAN

namespace scanwright {
namespace {

inline __m512i load(const void* from) { return _mm512_load_si512(from); }

inline __m512i load_bytes(const std::uint8_t* from) {
    return _mm512_cvtepu8_epi32(_mm_load_si128(reinterpret_cast<const __m128i*>(from)));
}

inline __m512i saturated(__m512i values, const Rounding& own) {
    return _mm512_min_epi32(_mm512_max_epi32(values, _mm512_set1_epi32(own.low)),
                            _mm512_set1_epi32(own.high));
}

// Values of the channels from `at` on as `rounding` says; null leaves them alone.
inline __m512i rounded(__m512i values, const Rounding* rounding, std::size_t at) {
    if (rounding == nullptr) return values;
    const Rounding& own = *rounding;
    if (own.exponents != nullptr) {
        const __m512 scale =
            _mm512_castsi512_ps(_mm512_slli_epi32(load_bytes(own.exponents + at), 23));
        const __m512 scaled = _mm512_mul_ps(_mm512_cvtepi32_ps(values), scale);
        const __m512 above = _mm512_max_ps(scaled, _mm512_set1_ps(own.single_low));
        return _mm512_cvtps_epi32(_mm512_min_ps(above, _mm512_set1_ps(own.single_high)));
    }
    if (own.shift >= 0) {
        if (own.shift == 0) return saturated(values, own);
        const __m128i shift = _mm_cvtsi32_si128(own.shift);
        const __m512i odd = _mm512_and_si512(_mm512_sra_epi32(values, shift), _mm512_set1_epi32(1));
        const __m512i half = _mm512_set1_epi32((1 << (own.shift - 1)) - 1);
        const __m512i sum = _mm512_add_epi32(_mm512_add_epi32(values, half), odd);
        return saturated(_mm512_sra_epi32(sum, shift), own);
    }
    // Half of the last bit that stays, less one where it would be even; nothing without a shift.
    const __m512i one = _mm512_set1_epi32(1), shift = load_bytes(own.shifts + at);
    const __m512i half = _mm512_srli_epi32(_mm512_sllv_epi32(one, shift), 1);
    const __m512i even = _mm512_andnot_si512(_mm512_srav_epi32(values, shift),
                                             _mm512_min_epi32(shift, one));
    const __m512i sum = _mm512_add_epi32(values, _mm512_sub_epi32(half, even));
    return saturated(_mm512_srav_epi32(sum, shift), own);
}

void round(const std::int32_t* values, const Rounding& rounding, std::int32_t* out,
           std::size_t count) {
    const Rounding own = rounding;
    for (std::size_t i = 0; i < count; i += lanes) {
        _mm512_store_si512(out + i, rounded(load(values + i), &own, i));
    }
}

void multiply_integers(const std::int32_t* left, const std::int32_t* right,
                       const Rounding& rounding, std::int32_t* out, std::size_t count) {
    const Rounding own = rounding;
    for (std::size_t i = 0; i < count; i += lanes) {
        const __m512i product = _mm512_mullo_epi32(load(left + i), load(right + i));
        _mm512_store_si512(out + i, rounded(product, &own, i));
    }
}

void convolve(const std::int32_t* const* rows, const ConvolutionConstants& own,
              const Rounding* rounding, std::int32_t* kept, std::int32_t* out) {
    for (std::size_t first = 0; first < own.channels; first += lanes) {
        __m512i sum = load(own.bias + first), row{};
        for (std::size_t tap = 0; tap < own.count; ++tap) {
            const std::int8_t* weights = own.taps + tap * own.channels + first;
            const __m512i weight =
                _mm512_cvtepi8_epi32(_mm_load_si128(reinterpret_cast<const __m128i*>(weights)));
            row = load(rows[tap] + first);
            sum = _mm512_add_epi32(sum, _mm512_mullo_epi32(row, weight));
        }
        if (kept != nullptr) _mm512_store_si512(kept + first, row);
        _mm512_store_si512(out + first, rounded(sum, rounding, first));
    }
}

}  // namespace
}  // namespace scanwright

#include "avx512_activation.inc"
#include "avx512_products.inc"
#include "avx512_rotation.inc"
#include "kernels.inc"
#include "selection.inc"
#include "avx512_scan.inc"

#pragma GCC pop_options

const scanwright::Kernels scanwright::avx512_kernels = scanwright::all_kernels;
#endif

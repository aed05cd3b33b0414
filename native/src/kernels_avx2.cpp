// The inner loops for AVX2 and FMA.
#if defined(__x86_64__)
#include <immintrin.h>

#include "kernels.hpp"

#pragma GCC push_options
#pragma GCC target("avx2,fma,bmi,bmi2,lzcnt")

#define SCANWRIGHT_HAS_MULTIPLY

namespace scanwright {
namespace {

// Adds one group of 8 rows, four bytes each, times four inputs; a row's sums are in two lanes.
inline __m256i add_bytes(__m256i sums, const std::int8_t* weight, __m256i x) {
    const __m128i packed = _mm_load_si128(reinterpret_cast<const __m128i*>(weight));
    return _mm256_add_epi32(sums, _mm256_madd_epi16(_mm256_cvtepi8_epi16(packed), x));
}

void multiply_bytes(const Product<std::int8_t, std::uint8_t>& own) {
    for (std::size_t token = 0; token < own.tokens; ++token) {
        const std::uint8_t* inputs = own.inputs + token * own.input_stride;
        std::int32_t* totals = own.totals + token * own.total_stride;
        for (std::size_t block = 0; block < own.row_blocks; ++block) {
            const Rows<std::int8_t> rows = rows_of<byte_group>(own, block);
            __m256i sums[4] = {_mm256_setzero_si256(), _mm256_setzero_si256(),
                               _mm256_setzero_si256(), _mm256_setzero_si256()};
            for (std::size_t group = 0; group < own.groups; ++group) {
                const std::int8_t* weight = rows.first + group * rows.stride;
                std::int32_t four;
                __builtin_memcpy(&four, inputs + group * byte_group, sizeof four);
                const __m256i x = _mm256_cvtepu8_epi16(_mm_set1_epi32(four));
                for (std::size_t i = 0; i < 4; ++i) {
                    sums[i] = add_bytes(sums[i], weight + 16 * i, x);
                }
            }
            for (std::size_t half = 0; half < 2; ++half) {
                const std::size_t first = block * lanes + 8 * half;
                // hadd leaves the 64-bit pairs of rows in the order 0 2 1 3.
                const __m256i added = _mm256_permute4x64_epi64(
                    _mm256_hadd_epi32(sums[2 * half], sums[2 * half + 1]), 0xD8);
                const __m256i start =
                    _mm256_loadu_si256(reinterpret_cast<const __m256i*>(own.start + first));
                _mm256_storeu_si256(reinterpret_cast<__m256i*>(totals + first),
                                    _mm256_add_epi32(start, added));
            }
        }
    }
}

void multiply_words(const Product<std::int16_t, std::int16_t>& own) {
    for (std::size_t token = 0; token < own.tokens; ++token) {
        const std::int16_t* inputs = own.inputs + token * own.input_stride;
        std::int32_t* totals = own.totals + token * own.total_stride;
        for (std::size_t block = 0; block < own.row_blocks; ++block) {
            const Rows<std::int16_t> rows = rows_of<word_group>(own, block);
            for (std::size_t half = 0; half < 2; ++half) {
                const std::size_t first = block * lanes + 8 * half;
                __m256i sums =
                    _mm256_loadu_si256(reinterpret_cast<const __m256i*>(own.start + first));
                for (std::size_t group = 0; group < own.groups; ++group) {
                    std::int32_t two;
                    __builtin_memcpy(&two, inputs + group * word_group, sizeof two);
                    const __m256i weight = _mm256_load_si256(reinterpret_cast<const __m256i*>(
                        rows.first + group * rows.stride + 16 * half));
                    sums = _mm256_add_epi32(sums, _mm256_madd_epi16(weight, _mm256_set1_epi32(two)));
                }
                _mm256_storeu_si256(reinterpret_cast<__m256i*>(totals + first), sums);
            }
        }
    }
}

}  // namespace
}  // namespace scanwright

#include "kernels.inc"

#pragma GCC pop_options

const scanwright::Kernels scanwright::avx2_kernels = scanwright::all_kernels;
#endif

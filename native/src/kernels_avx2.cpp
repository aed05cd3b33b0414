// The inner loops for AVX2 and FMA.
#if defined(__x86_64__)
#include <immintrin.h>

#include "hadamard.hpp"
#include "kernels.hpp"

#pragma GCC push_options
#pragma GCC target("avx2,fma,bmi,bmi2,lzcnt")

#define SCANWRIGHT_HAS_MULTIPLY
#define SCANWRIGHT_HAS_SCAN

namespace scanwright {
namespace {

void round_row(std::int32_t* row, const Rounding* rounding, std::size_t count);

// What eight rows' sums start from: their bias, less what the offset of the weights adds.
template <typename Weight, typename Input>
inline __m256i start_of(const Product<Weight, Input>& own, std::size_t token, std::size_t row,
                        int offset_log2) {
    const __m256i added = _mm256_slli_epi32(_mm256_set1_epi32(own.input_sums[token]), offset_log2);
    const __m256i bias =
        own.bias == nullptr
            ? _mm256_setzero_si256()
            : _mm256_loadu_si256(reinterpret_cast<const __m256i*>(own.bias + row));
    return _mm256_sub_epi32(bias, added);
}

// Adds one group of 8 rows, four bytes each, times four inputs; a row's sums are in two lanes.
inline __m256i add_bytes(__m256i sums, const std::uint8_t* weight, __m256i x) {
    const __m128i packed = _mm_load_si128(reinterpret_cast<const __m128i*>(weight));
    return _mm256_add_epi32(sums, _mm256_madd_epi16(_mm256_cvtepu8_epi16(packed), x));
}

void multiply_bytes(const Product<std::uint8_t, std::int8_t>& own) {
    for (std::size_t token = 0; token < own.tokens; ++token) {
        const std::int8_t* inputs = own.inputs + token * own.input_stride;
        std::int32_t* totals = own.totals + token * own.total_stride;
        for (std::size_t block = 0; block < own.row_blocks; ++block) {
            const Rows<std::uint8_t> rows = rows_of<byte_group>(own, block);
            __m256i sums[4] = {_mm256_setzero_si256(), _mm256_setzero_si256(),
                               _mm256_setzero_si256(), _mm256_setzero_si256()};
            for (std::size_t group = 0; group < own.groups; ++group) {
                const std::uint8_t* weight = rows.first + group * rows.stride;
                std::int32_t four;
                __builtin_memcpy(&four, inputs + group * byte_group, sizeof four);
                const __m256i x = _mm256_cvtepi8_epi16(_mm_set1_epi32(four));
                for (std::size_t i = 0; i < 4; ++i) {
                    sums[i] = add_bytes(sums[i], weight + 16 * i, x);
                }
            }
            for (std::size_t half = 0; half < 2; ++half) {
                const std::size_t first = block * lanes + 8 * half;
                // hadd leaves the 64-bit pairs of rows in the order 0 2 1 3.
                const __m256i added = _mm256_permute4x64_epi64(
                    _mm256_hadd_epi32(sums[2 * half], sums[2 * half + 1]), 0xD8);
                const __m256i start = start_of(own, token, first, byte_offset_log2);
                _mm256_storeu_si256(reinterpret_cast<__m256i*>(totals + first),
                                    _mm256_add_epi32(start, added));
            }
        }
        round_row(totals, own.rounding, own.row_blocks * lanes);
    }
}

// The sums of eight rows; a product of nibble and byte has 12 bits, so that four fit 16.
inline __m256i sum_nibbles(const Nibbles* weight, std::size_t stride, const std::int8_t* x,
                           std::size_t groups, __m256i sums) {
    const __m256i mask = _mm256_set1_epi8(0x0F), ones = _mm256_set1_epi16(1);
    for (std::size_t group = 0; group < groups; ++group, weight += stride, x += 2 * nibble_group) {
        std::int32_t low, high;
        __builtin_memcpy(&low, x, sizeof low);
        __builtin_memcpy(&high, x + nibble_group, sizeof high);
        const __m256i packed = _mm256_load_si256(reinterpret_cast<const __m256i*>(weight));
        const __m256i low_part = _mm256_and_si256(packed, mask);
        const __m256i high_part = _mm256_and_si256(_mm256_srli_epi16(packed, 4), mask);
        const __m256i products =
            _mm256_add_epi16(_mm256_maddubs_epi16(low_part, _mm256_set1_epi32(low)),
                             _mm256_maddubs_epi16(high_part, _mm256_set1_epi32(high)));
        sums = _mm256_add_epi32(sums, _mm256_madd_epi16(products, ones));
    }
    return sums;
}

void multiply_nibbles(const Product<Nibbles, std::int8_t>& own) {
    for (std::size_t token = 0; token < own.tokens; ++token) {
        const std::int8_t* inputs = own.inputs + token * own.input_stride;
        std::int32_t* totals = own.totals + token * own.total_stride;
        for (std::size_t first = 0; first < own.row_blocks * lanes; first += 8) {
            const Rows<Nibbles> rows = rows_of<nibble_group>(own, first / lanes);
            _mm256_storeu_si256(
                reinterpret_cast<__m256i*>(totals + first),
                sum_nibbles(rows.first + first % lanes * nibble_group, rows.stride, inputs,
                            own.groups, start_of(own, token, first, nibble_offset_log2)));
        }
        round_row(totals, own.rounding, own.row_blocks * lanes);
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
                __m256i sums = own.bias == nullptr
                                   ? _mm256_setzero_si256()
                                   : _mm256_loadu_si256(
                                         reinterpret_cast<const __m256i*>(own.bias + first));
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
        round_row(totals, own.rounding, own.row_blocks * lanes);
    }
}

}  // namespace
}  // namespace scanwright

#include "kernels.inc"
#include "selection.inc"
#include "avx2_scan.inc"

#pragma GCC pop_options

const scanwright::Kernels scanwright::avx2_kernels = scanwright::all_kernels;
#endif

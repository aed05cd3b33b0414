// Formats and their limits: docs/numerics.md, "Formats and rounding".
#pragma once

#include <cstddef>
#include <cstdint>
#include <new>
#include <vector>

namespace scanwright {

// Smallest and largest integer of a format, in floating point, which carries integers exactly.
struct Limits {
    double low;
    double high;

    static Limits of_signed(int bits) {
        const auto half = static_cast<double>(std::int64_t{1} << (bits - 1));
        return {-half, half - 1};
    }
    static Limits of_unsigned(int bits) {
        return {0, static_cast<double>((std::int64_t{1} << bits) - 1)};
    }
};

// Vectors are padded to whole registers, so that no inner loop has a rest.
constexpr std::size_t lanes = 16;

inline std::size_t padded(std::size_t size) { return (size + lanes - 1) / lanes * lanes; }

constexpr std::size_t alignment = 64;

template <typename T>
struct AlignedAllocator {
    using value_type = T;
    AlignedAllocator() = default;
    template <typename Other>
    AlignedAllocator(const AlignedAllocator<Other>&) noexcept {}  // NOLINT: conversion is meant

    T* allocate(std::size_t count) {
        return static_cast<T*>(::operator new(count * sizeof(T), std::align_val_t{alignment}));
    }
    void deallocate(T* pointer, std::size_t) noexcept {
        ::operator delete(pointer, std::align_val_t{alignment});
    }
    template <typename Other>
    bool operator==(const AlignedAllocator<Other>&) const noexcept { return true; }
    template <typename Other>
    bool operator!=(const AlignedAllocator<Other>&) const noexcept { return false; }
};

// A vector that starts on a cache line.
template <typename T>
using Aligned = std::vector<T, AlignedAllocator<T>>;

using Values = Aligned<std::int32_t>;

}  // namespace scanwright

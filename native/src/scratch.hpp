// Memory that each thread keeps from call to call, so that a step allocates nothing.
#pragma once

#include "fixed_point.hpp"

namespace scanwright {

// Room for `count` values; what the last caller with this type wrote is lost.
template <typename T>
T* thread_scratch(std::size_t count) {
    thread_local Aligned<T> buffer;
    if (buffer.size() < count) buffer.resize(count);
    return buffer.data();
}

}  // namespace scanwright

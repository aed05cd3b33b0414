// What one of several threads computes of a program.
#pragma once

#include "program.hpp"

namespace scanwright {

// Throws Error unless so many threads can compute a stream of the program together.
void check_threads(const Network& network, std::size_t threads);

// The program with the channels and the rows of the head that thread `index` of `threads` computes.
// x_proj and out_proj are whole; `Network::share` says which of their columns meet the channels.
Network share_of(const Network& network, std::size_t index, std::size_t threads);

}  // namespace scanwright

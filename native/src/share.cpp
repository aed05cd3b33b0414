#include "share.hpp"

#include <algorithm>
#include <string>

#include "fixed_point.hpp"

namespace scanwright {

namespace {

// The share of one thread, in whole registers.
Share part_of(std::size_t size, std::size_t index, std::size_t threads) {
    const std::size_t blocks = padded(size) / lanes;
    const std::size_t first = blocks * index / threads * lanes;
    const std::size_t end = std::min(size, blocks * (index + 1) / threads * lanes);
    return {first, end - first};
}

// Keeps the share's of `width` values each; what a program has not stays empty.
void keep(Integers& values, Share share, std::size_t width = 1) {
    if (values.empty()) return;
    const auto begin = values.begin() + static_cast<std::ptrdiff_t>(share.first * width);
    values = Integers(begin, begin + static_cast<std::ptrdiff_t>(share.count * width));
}

void keep_rows(Matrix& matrix, Share share) {
    keep(matrix.weight, share, matrix.columns);
    keep(matrix.fraction_bits, share);
    keep(matrix.bias, share);
    matrix.rows = share.count;
}

// Puts the rows of `below` under those of `matrix`.
void append(Matrix& matrix, const Matrix& below) {
    for (auto member : {&Matrix::weight, &Matrix::fraction_bits, &Matrix::bias}) {
        Integers& values = matrix.*member;
        values.insert(values.end(), (below.*member).begin(), (below.*member).end());
    }
    matrix.rows += below.rows;
}

void keep_channels(Layer& layer, const Shape& shape, Share share) {
    Matrix gate = layer.in_proj;
    keep_rows(layer.in_proj, share);
    if (shape.gated) {
        keep_rows(gate, {shape.gate_row() + share.first, share.count});
        append(layer.in_proj, gate);
    }
    keep_rows(layer.convolution, share);
    keep_rows(layer.dt_proj, share);
    keep(layer.decay_rate, share, shape.d_state);
    for (Integers* values :
         {&layer.skip, &layer.x_shift, &layer.z_shift, &layer.convolution_shift, &layer.u_shift,
          &layer.scan_u_shift, &layer.dt_shift, &layer.update_shift, &layer.scan_output_shift,
          &layer.gated_shift, &layer.u_zero}) {
        keep(*values, share);
    }
}

}  // namespace

void check_threads(const Network& network, std::size_t threads) {
    const Shape& shape = network.shape;
    const std::string asked = "threads = " + std::to_string(threads);
    const std::size_t most = padded(std::min(shape.d_inner, shape.vocabulary)) / lanes;
    if (threads < 1) throw Error(asked + " is below 1; give 1 or more");
    if (threads == 1) return;
    if (!network.tokens || shape.has_heads() || shape.mlp != 0 || shape.average) {
        throw Error(asked + ": several threads compute language models of Mamba-1 blocks only, "
                    "without an MLP; use one thread");
    }
    if (threads > most) {
        throw Error(asked + " exceeds the program's " + std::to_string(most) +
                    " blocks of 16 channels or logits; use fewer threads");
    }
}

Network share_of(const Network& network, std::size_t index, std::size_t threads) {
    Network own = network;
    own.share = part_of(network.shape.d_inner, index, threads);
    for (Layer& layer : own.layers) keep_channels(layer, network.shape, *own.share);
    own.shape.d_inner = own.share->count;
    const Share logits = part_of(network.shape.vocabulary, index, threads);
    keep_rows(own.head, logits);
    keep(own.head_shift, logits);
    return own;
}

}  // namespace scanwright

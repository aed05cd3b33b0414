// The integer program as golden/program.py and golden/layer.py define it, with the shifts derived.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "artifact.hpp"
#include "scanwright/scanwright.hpp"

namespace scanwright {

using Integers = std::vector<std::int32_t>;

// Bits of the formats that hardware fixes; golden/piecewise.py, golden/operations.
constexpr int activation_input_bits = 18;
constexpr int activation_input_fraction = 12;
constexpr int activation_output_fraction = 23;
constexpr int activation_segments = 512;
constexpr int exponent_fraction = 12;
constexpr int exponent_bits = 16;
constexpr int exponent_segments = 32;
constexpr int reciprocal_segments = 512;
constexpr int normalized_fraction = 17;
constexpr int normalized_bits = 18;

// Coefficients of a piecewise-linear function, one line a segment.
struct LinearTable {
    Integers base;
    Integers slope;
};

struct Tables {
    LinearTable silu, softplus, exponent, reciprocal;
    LinearTable sigmoid;  // of moving averages
};

// W4A5-SE: a code and one flag that selects the scale.
struct DualScale {
    int code_bits = 0;
    int ratio_log2 = 0;

    int code_limit() const { return (1 << (code_bits - 1)) - 1; }
    int value_bits() const { return code_bits + ratio_log2; }
};

// Widths in bits of every kind of number.
struct Scheme {
    std::string name;
    int weight_bits = 0, embedding_bits = 0, feature_bits = 0, convolution_weight_bits = 0;
    int activation_bits = 0, residual_bits = 0, norm_weight_bits = 0, decay_rate_bits = 0;
    int delta_bits = 0, decay_bits = 0, state_bits = 0, skip_bits = 0, scan_output_bits = 0;
    int gate_bits = 0, logit_bits = 0;
    std::optional<DualScale> dual_scale;
    std::optional<int> rotation_bits;
    std::optional<int> weight_group;     // columns of a block's matrix that share a scale
    std::optional<int> head_bits;        // of the head's weights, if not embedding_bits
    std::optional<int> projection_bits;  // what in_proj, x_proj and out_proj read, if not the same
    bool ternary = false;                // the blocks' matrices hold -1, 0 and 1
    bool asymmetric = false;             // u's codes have a zero point a channel

    int head_weight_bits() const { return head_bits.value_or(embedding_bits); }
    int projection_input_bits() const { return projection_bits.value_or(activation_bits); }
    int scan_input_bits() const { return dual_scale ? dual_scale->value_bits() : activation_bits; }
    int gated_bits() const { return rotation_bits.value_or(projection_input_bits()); }
    // Width of a moving average, and the fraction bits that it has more than its input.
    int average_bits() const {
        return state_bits > scan_input_bits() ? state_bits : scan_input_bits();
    }
    int lift() const { return average_bits() - scan_input_bits(); }
    // Width of what a sequence leaves behind, a scan's states or averages.
    int kept_bits(bool average) const { return average ? average_bits() : state_bits; }
    int update_bits() const { return state_bits + decay_bits + 2; }
};

// Integer weights of a matrix-vector product, row by row, in the unit of their row; `bias` is empty
// where there is none.
struct Matrix {
    std::size_t rows = 0, columns = 0;
    Integers weight;
    Integers fraction_bits;
    Integers bias;
};

// A norm's weight, sqrt(D) w, and the bits dropped behind it.
struct NormWeight {
    Integers weight;
    int shift = 0;
};

// How Mamba-2 selects: a step size and decay a head, B and C a group, and a gated norm.
struct HeadSelection {
    Integers dt_bias;      // one a head
    Integers norm_weight;  // (e)
    int delta_low = 0, delta_high = 0;
    int product = 0;  // fraction bits of y SiLU(z), which the gated norm reads
    int norm_shift = 0;
};

// One block of any family; what a family has not is empty. Shifts are the bits that each requantizer drops; negative ones shift left.
struct Layer {
    int inputs = 0;  // width of what its matrices read
    NormWeight norm;
    Matrix in_proj, convolution, out_proj;
    Matrix x_proj, dt_proj;              // Mamba-1's selection; dt_proj of a moving average
    std::optional<HeadSelection> heads;  // Mamba-2's
    Integers decay_rate;                 // (e, n), with heads one a head
    Integers skip;                       // (e)

    Integers x_shift, z_shift, convolution_shift, u_shift, scan_u_shift, projected_shift, dt_shift;
    Integers update_shift, scan_output_shift, gated_shift, out_shift;
    Integers rotated_shift;  // empty without rotation
    Integers u_zero;         // zero points of u's codes, empty in symmetric schemes
    int gate_shift = 0, delta_shift = 0, argument_shift = 0;
};

// The gated MLP behind a block's mixer, r += down(up SiLU(z)); golden/mlp.py.
struct MlpLayer {
    NormWeight norm;
    Matrix gate, up, down;
    Integers z_shift, up_shift, gated_shift, out_shift;
    int gate_shift = 0;
};

// How tokens enter the residual stream: table[token] << shift[token].
struct TokenEmbedding {
    Integers table;  // (V, d)
    Integers shift;  // (V)
};

// How a frame's features enter it: (projection x + bias[t]) >> shift. With patches x is made of rows
// that are projected first.
struct FeatureEmbedding {
    Matrix rows;
    Integers rows_shift;
    Matrix projection;
    Integers bias;  // (T, d)
    Integers shift;
};

// The hidden layer of a frame network: silu(W x + bias).
struct PooledHead {
    Matrix hidden;
    Integers hidden_shift;
    int output_shift = 0;
};

// The largest magnitude that `count` rows from `first` on accumulate, for inputs of `input_bits`.
std::int64_t accumulator_bound(const Matrix& matrix, const Integers& bias, int input_bits,
                               std::size_t first, std::size_t count);

// `size` eps in the scale of the integer sum of squares.
std::int64_t norm_epsilon(std::size_t size, int fraction);

// The channels of every mixer that one of several threads computes, src/share.hpp.
struct Share {
    std::size_t first = 0, count = 0;
};

struct Network {
    Shape shape;
    Scheme scheme;
    Tables tables;
    std::optional<TokenEmbedding> tokens;
    std::optional<FeatureEmbedding> features;
    std::optional<PooledHead> pooled;
    std::vector<Layer> layers;
    std::vector<MlpLayer> mlps;  // one behind each layer, or none
    NormWeight final_norm;
    Matrix head;
    Integers head_shift;
    int residual_fraction = 0;
    int logit_fraction = 0;

    std::optional<Share> share;  // none where one thread computes all
    bool hybrid = false;  // the matrices of some layers read a width of their own

    // Width that holds u: what x_proj reads, or what the scan does where there is no x_proj.
    int u_bits() const {
        return shape.has_heads() ? scheme.activation_bits
                                 : scheme.projection_input_bits() + (scheme.asymmetric ? 1 : 0);
    }
    // Whether the scan's input is another tensor than u.
    bool separate_scan_input() const {
        return scheme.dual_scale || u_bits() != scheme.activation_bits || scheme.asymmetric ||
               (hybrid && !shape.has_heads());
    }
    // Width of what a mixer hands to out_proj, or to the rotation before it.
    int mixed_bits(const Layer& layer) const {
        return scheme.rotation_bits.value_or(layer.inputs);
    }

    // Throws Error where golden.validation would refuse.
    static Network of(const Artifact& artifact);
};

}  // namespace scanwright

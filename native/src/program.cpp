#include "program.hpp"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <fstream>
#include <iterator>

#include "reader.hpp"

namespace scanwright {

namespace {

constexpr std::int64_t size_limit = 1 << 20;

std::size_t size_within(const Json& object, const std::string& name, std::int64_t low) {
    return static_cast<std::size_t>(integer_within(object, name, low, size_limit));
}

void read_heads(const Json& content, Shape& shape) {
    check_members("the program's heads", content, {"size", "groups"});
    shape.head_size = size_within(content, "size", 1);
    shape.groups = size_within(content, "groups", 1);
    if (shape.d_inner % shape.head_size != 0 || shape.step_sizes() % shape.groups != 0) {
        throw Error("d_inner = " + std::to_string(shape.d_inner) + " does not divide into heads of " +
                    std::to_string(shape.head_size) + " and those into " +
                    std::to_string(shape.groups) + " groups; choose divisors");
    }
    if (shape.dt_rank != 0) {
        throw Error("dt_rank = " + std::to_string(shape.dt_rank) +
                    ", a shape with heads has no projection of the step size; leave it out");
    }
}

void read_frame(const Json& content, Shape& shape) {
    check_members("the program's frame", content, {"features", "tokens", "hidden", "patch"});
    constexpr std::int64_t token_count_limit = 1 << 12;
    const auto count = [](const Json& own, const char* name, std::int64_t high) {
        return static_cast<std::size_t>(integer_within(own, name, 1, high));
    };
    shape.features = size_within(content, "features", 1);
    shape.tokens = count(content, "tokens", token_count_limit);
    if (content.has("hidden")) shape.hidden = size_within(content, "hidden", 1);
    if (shape.hidden != 0 && (shape.tokens & (shape.tokens - 1)) != 0) {
        throw Error("tokens = " + std::to_string(shape.tokens) + " is not a power of two; pad the "
                    "frame, the head's mean over its tokens is a shift");
    }
    if (const Json* patch = content.find("patch")) {
        check_members("the program's patch", *patch, {"width", "kernel", "stride"});
        shape.patch_width = size_within(*patch, "width", 1);
        shape.patch_kernel = count(*patch, "kernel", token_count_limit);
        shape.patch_stride =
            count(*patch, "stride", static_cast<std::int64_t>(shape.patch_kernel));
    }
}

void read_average(const Json& content, Shape& shape) {
    check_members("the program's average", content, {"gated"});
    shape.average = true;
    shape.gated = !content.has("gated") || content.at("gated").boolean();
    if (!shape.is_frame_network() || shape.has_heads() || shape.d_conv % 2 == 0 ||
        shape.d_state != 1 || shape.dt_rank != shape.d_inner) {
        throw Error("a moving average mixes frames, with an odd d_conv, d_state 1 and dt_rank "
                    "d_inner; regenerate the artifact with model.quantize");
    }
}

Shape read_shape(const Json& content) {
    check_members("the program's shape", content,
                  {"vocabulary", "d_model", "d_inner", "d_state", "d_conv", "dt_rank", "n_layer",
                   "mlp", "frame", "heads", "average"});
    Shape shape;
    shape.vocabulary = size_within(content, "vocabulary", 2);
    shape.d_model = size_within(content, "d_model", 2);
    shape.d_inner = size_within(content, "d_inner", 2);
    shape.d_state = size_within(content, "d_state", 1);
    shape.d_conv = size_within(content, "d_conv", content.has("average") ? 1 : 2);
    const bool heads = content.has("heads");
    shape.dt_rank = size_within(content, "dt_rank", heads ? 0 : 1);
    if (heads) read_heads(content.at("heads"), shape);
    shape.n_layer = size_within(content, "n_layer", 1);
    if (content.has("mlp")) shape.mlp = size_within(content, "mlp", 2);
    if (const Json* frame = content.find("frame")) read_frame(*frame, shape);
    if (const Json* average = content.find("average")) read_average(*average, shape);
    if (shape.is_frame_network() && (heads || shape.mlp != 0)) {
        throw Error("a frame network has heads or an MLP; only language models have these");
    }
    return shape;
}

Scheme read_scheme(const Json& content) {
    check_members("the program's scheme", content,
                  {"name", "weight_bits", "embedding_bits", "feature_bits",
                   "convolution_weight_bits", "activation_bits", "residual_bits",
                   "norm_weight_bits", "decay_rate_bits", "delta_bits", "decay_bits", "state_bits",
                   "skip_bits", "scan_output_bits", "gate_bits", "logit_bits", "dual_scale",
                   "rotation_bits", "projection_bits", "head_bits", "ternary", "asymmetric",
                   "weight_group"});
    Scheme scheme;
    scheme.name = content.at("name").text();
    scheme.weight_bits = integer_within(content, "weight_bits", 2, 8);
    scheme.embedding_bits = integer_within(content, "embedding_bits", 4, 16);
    scheme.feature_bits = integer_within(content, "feature_bits", 8, 16);
    scheme.convolution_weight_bits = integer_within(content, "convolution_weight_bits", 4, 8);
    scheme.activation_bits = integer_within(content, "activation_bits", 4, 16);
    scheme.residual_bits = integer_within(content, "residual_bits", 10, 18);
    scheme.norm_weight_bits = integer_within(content, "norm_weight_bits", 8, 16);
    scheme.decay_rate_bits = integer_within(content, "decay_rate_bits", 4, 16);
    scheme.delta_bits = integer_within(content, "delta_bits", 4, 16);
    scheme.decay_bits = integer_within(content, "decay_bits", 4, 16);
    scheme.state_bits = integer_within(content, "state_bits", 6, 18);
    scheme.skip_bits = integer_within(content, "skip_bits", 8, 16);
    scheme.scan_output_bits = integer_within(content, "scan_output_bits", 6, 18);
    scheme.gate_bits = integer_within(content, "gate_bits", 6, 18);
    scheme.logit_bits = integer_within(content, "logit_bits", 8, 20);
    if (const Json* dual = content.find("dual_scale")) {
        check_members("the program's dual scale", *dual, {"code_bits", "ratio_log2"});
        scheme.dual_scale = DualScale{integer_within(*dual, "code_bits", 2, 8),
                                      integer_within(*dual, "ratio_log2", 0, 4)};
    }
    if (content.has("rotation_bits")) {
        scheme.rotation_bits = integer_within(content, "rotation_bits", 8, 18);
    }
    if (content.has("head_bits")) {
        scheme.head_bits = integer_within(content, "head_bits", 4, 16);
    }
    if (content.has("projection_bits")) {
        scheme.projection_bits = integer_within(content, "projection_bits", 4, 16);
    }
    scheme.ternary = content.has("ternary") && content.at("ternary").boolean();
    if (content.has("asymmetric") && scheme.projection_input_bits() > 15) {
        throw Error("scheme " + scheme.name + " is asymmetric with projections of 16 bits; codes "
                    "with zero points have 15 at most");
    }
    if (content.has("weight_group")) {
        scheme.weight_group = integer_within(content, "weight_group", 4, 1024);
    }
    scheme.asymmetric = content.has("asymmetric") && content.at("asymmetric").boolean();
    return scheme;
}

void read_tokens_front(const Reader& reader, Network& network) {
    const Shape& shape = network.shape;
    TokenEmbedding front;
    front.table = reader.tensor("front.table", {shape.vocabulary, shape.d_model},
                                network.scheme.embedding_bits);
    front.shift = reader.tensor("front.shift", {shape.vocabulary}, 5, false);
    const std::int64_t limit = std::int64_t{1} << (network.scheme.residual_bits - 1);
    for (std::size_t i = 0; i < front.table.size(); ++i) {
        const std::int64_t factor = std::int64_t{1} << front.shift[i / shape.d_model];
        const std::int64_t value = front.table[i] * factor;
        if (value < -limit || value >= limit) {
            throw Error("a shifted embedding is " + std::to_string(value) + ", outside the " +
                        std::to_string(network.scheme.residual_bits) +
                        "-bit residual; quantize with fewer residual fraction bits");
        }
    }
    network.tokens = std::move(front);
}

void read_features_front(const Reader& reader, const Json& content, Network& network) {
    const Shape& shape = network.shape;
    const Scheme& scheme = network.scheme;
    FeatureEmbedding front;
    int inputs = fraction_of(content, "fraction");
    if (shape.has_patches() != content.has("rows")) {
        throw Error("the program has patches without a projection of their rows, or the other way "
                    "round; regenerate the artifact with model.quantize");
    }
    if (shape.has_patches()) {
        const int projected = fraction_of(content.at("rows"), "fraction");
        front.rows = reader.matrix("front.rows.linear", shape.patch_width, shape.features,
                                   scheme.embedding_bits, scheme.feature_bits, true);
        front.rows_shift = checked_shifts("rows", shape.patch_width, [&](std::size_t i) {
            return front.rows.fraction_bits[i] + inputs - projected;
        });
        inputs = projected;
    }
    front.projection = reader.matrix("front.projection", shape.d_model, shape.embedded(),
                                     scheme.embedding_bits, scheme.feature_bits);
    front.bias = reader.tensor("front.bias", {shape.tokens, shape.d_model}, 32);
    reader.tensor("front.channel", {shape.features}, 8);  // for whoever makes the features
    Integers largest(shape.d_model, 0);
    for (std::size_t i = 0; i < front.bias.size(); ++i) {
        if (front.bias[i] == INT32_MIN) throw Error("front.bias holds -2^31, beyond its accumulator");
        std::int32_t& own = largest[i % shape.d_model];
        own = std::max(own, std::abs(front.bias[i]));
    }
    check_accumulator("features", front.projection, largest, scheme.feature_bits);
    front.shift = checked_shifts("features", shape.d_model, [&](std::size_t i) {
        return front.projection.fraction_bits[i] + inputs - network.residual_fraction;
    });
    network.features = std::move(front);
}

// Reads front, hidden layer and head; returns the fraction bits of the head's input.
int read_ends(const Reader& reader, const Json& content, Network& network) {
    const Shape& shape = network.shape;
    const Scheme& scheme = network.scheme;
    const int norm_fraction = fraction_of(content, "final_norm_fraction");
    const bool frames = shape.is_frame_network();
    if ((shape.hidden != 0) != content.has("pooled") || frames != content.at("front").has("projection")) {
        throw Error("the program's shape is not that of its front and head; regenerate the "
                    "artifact with model.quantize");
    }
    network.head = reader.matrix("head", shape.vocabulary, shape.head_inputs(),
                                 scheme.head_weight_bits(), scheme.activation_bits, frames);
    if (!frames) {
        read_tokens_front(reader, network);
        return norm_fraction;
    }
    read_features_front(reader, content.at("front"), network);
    if (shape.hidden == 0) return norm_fraction;
    PooledHead pooled;
    pooled.hidden = reader.matrix("pooled.hidden", shape.hidden, shape.d_model,
                                  scheme.head_weight_bits(), scheme.activation_bits, true);
    pooled.hidden_shift = checked_shifts("hidden", shape.hidden, [&](std::size_t i) {
        return pooled.hidden.fraction_bits[i] + norm_fraction - activation_input_fraction;
    });
    const int hidden_fraction = fraction_of(content.at("pooled"), "hidden_fraction");
    pooled.output_shift =
        checked_shift("hidden output", activation_output_fraction - hidden_fraction);
    network.pooled = std::move(pooled);
    return hidden_fraction;
}

}  // namespace

std::int64_t norm_epsilon(std::size_t size, int fraction) {
    constexpr double epsilon = 1e-5;
    const double scaled = static_cast<double>(size) * epsilon * std::ldexp(1.0, 2 * fraction);
    return std::max<std::int64_t>(1, static_cast<std::int64_t>(std::nearbyint(scaled)));
}

Network Network::of(const Artifact& artifact) {
    const Json& content = artifact.program;
    check_members("the program", content,
                  {"shape", "scheme", "layers", "tables", "front", "residual_fraction",
                   "final_norm_weight_fraction", "final_norm_fraction", "head", "logit_fraction",
                   "provenance", "pooled", "mlps"});
    const Reader reader(artifact);
    Network network;
    network.shape = read_shape(content.at("shape"));
    network.scheme = read_scheme(content.at("scheme"));
    network.tables = {reader.table("silu", activation_segments),
                      reader.table("softplus", activation_segments),
                      reader.table("exponent", exponent_segments),
                      reader.table("reciprocal", reciprocal_segments),
                      {}};
    if (network.shape.average) {
        network.tables.sigmoid = reader.table("sigmoid", activation_segments);
    }
    network.residual_fraction = fraction_of(content, "residual_fraction");
    network.logit_fraction = fraction_of(content, "logit_fraction");
    const int head_input = read_ends(reader, content, network);
    network.head_shift = checked_shifts("head", network.shape.vocabulary, [&](std::size_t i) {
        return network.head.fraction_bits[i] + head_input - network.logit_fraction;
    });
    network.final_norm =
        reader.norm("final_norm_weight", network, fraction_of(content, "final_norm_weight_fraction"),
                    fraction_of(content, "final_norm_fraction"));
    read_layers(reader, content, network);
    return network;
}

Program Program::from_bytes(std::string_view bytes, const std::string& name) {
    const Artifact artifact = Artifact::parse(bytes, name);
    try {
        return Program(std::make_shared<const Network>(Network::of(artifact)));
    } catch (const Error& error) {
        throw Error(name + ": " + error.what());
    }
}

Program Program::load(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    if (!file) {
        throw Error("no artifact at " + path + "; write it with: python -m model.quantize "
                    "--preset NAME --scheme NAME --out FILE");
    }
    const std::string bytes{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
    return from_bytes(bytes, path);
}

const Shape& Program::shape() const { return network_->shape; }
const std::string& Program::scheme() const { return network_->scheme.name; }
int Program::logit_fraction() const { return network_->logit_fraction; }

}  // namespace scanwright

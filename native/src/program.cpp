#include "program.hpp"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <fstream>
#include <iterator>

#include "hadamard.hpp"
#include "reader.hpp"

namespace scanwright {

namespace {

constexpr std::int64_t size_limit = 1 << 20;

std::size_t size_within(const Json& object, const std::string& name, std::int64_t low) {
    return static_cast<std::size_t>(integer_within(object, name, low, size_limit));
}

Shape read_shape(const Json& content) {
    check_members("the program's shape", content,
                  {"vocabulary", "d_model", "d_inner", "d_state", "d_conv", "dt_rank", "n_layer",
                   "mlp", "frame"});
    Shape shape;
    shape.vocabulary = size_within(content, "vocabulary", 2);
    shape.d_model = size_within(content, "d_model", 2);
    shape.d_inner = size_within(content, "d_inner", 2);
    shape.d_state = size_within(content, "d_state", 1);
    shape.d_conv = size_within(content, "d_conv", 2);
    shape.dt_rank = size_within(content, "dt_rank", 1);
    shape.n_layer = size_within(content, "n_layer", 1);
    if (content.has("mlp")) shape.mlp = size_within(content, "mlp", 2);
    if (const Json* frame = content.find("frame")) {
        check_members("the program's frame", *frame, {"features", "tokens", "hidden"});
        shape.features = size_within(*frame, "features", 1);
        shape.tokens = static_cast<std::size_t>(integer_within(*frame, "tokens", 1, 1 << 12));
        shape.hidden = size_within(*frame, "hidden", 1);
        if ((shape.tokens & (shape.tokens - 1)) != 0) {
            throw Error("tokens = " + std::to_string(shape.tokens) + " is not a power of two; pad "
                        "the frame, the head's mean over its tokens is a shift");
        }
    }
    return shape;
}

Scheme read_scheme(const Json& content) {
    check_members("the program's scheme", content,
                  {"name", "weight_bits", "embedding_bits", "feature_bits",
                   "convolution_weight_bits", "activation_bits", "residual_bits",
                   "norm_weight_bits", "decay_rate_bits", "delta_bits", "decay_bits", "state_bits",
                   "skip_bits", "scan_output_bits", "gate_bits", "logit_bits", "dual_scale",
                   "rotation_bits", "projection_bits", "ternary"});
    Scheme scheme;
    scheme.name = content.at("name").text();
    scheme.weight_bits = integer_within(content, "weight_bits", 2, 8);
    scheme.embedding_bits = integer_within(content, "embedding_bits", 4, 8);
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
    if (content.has("projection_bits")) {
        scheme.projection_bits = integer_within(content, "projection_bits", 4, 16);
    }
    scheme.ternary = content.has("ternary") && content.at("ternary").boolean();
    return scheme;
}

// A fraction that the manifest holds as a number; the limits only keep sums of them in an int.
int fraction(const Json& content, const std::string& name) {
    return integer_within(content, name, -1000, 1000);
}

NormWeight read_norm(const Reader& reader, const std::string& name, const Network& network,
                     int weight_fraction, int output_fraction) {
    NormWeight norm;
    norm.weight = reader.tensor(name, {network.shape.d_model}, network.scheme.norm_weight_bits);
    norm.shift = checked_shift(name, normalized_fraction + weight_fraction - output_fraction);
    return norm;
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
    front.projection = reader.matrix("front.projection", shape.d_model, shape.features,
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
    const int inputs = fraction(content, "fraction");
    front.shift = checked_shifts("features", shape.d_model, [&](std::size_t i) {
        return front.projection.fraction_bits[i] + inputs - network.residual_fraction;
    });
    network.features = std::move(front);
}

// Reads front, hidden layer and head; returns the fraction bits of the head's input.
int read_ends(const Reader& reader, const Json& content, Network& network) {
    const Shape& shape = network.shape;
    const Scheme& scheme = network.scheme;
    const int norm_fraction = fraction(content, "final_norm_fraction");
    const bool frames = shape.is_frame_network();
    if (frames != content.has("pooled") || frames != content.at("front").has("projection")) {
        throw Error("the program's shape is not that of its front and head; regenerate the "
                    "artifact with model.quantize");
    }
    network.head = reader.matrix("head", shape.vocabulary, frames ? shape.hidden : shape.d_model,
                                 scheme.embedding_bits, scheme.activation_bits, frames);
    if (!frames) {
        read_tokens_front(reader, network);
        return norm_fraction;
    }
    read_features_front(reader, content.at("front"), network);
    PooledHead pooled;
    pooled.hidden = reader.matrix("pooled.hidden", shape.hidden, shape.d_model,
                                  scheme.embedding_bits, scheme.activation_bits, true);
    pooled.hidden_shift = checked_shifts("hidden", shape.hidden, [&](std::size_t i) {
        return pooled.hidden.fraction_bits[i] + norm_fraction - activation_input_fraction;
    });
    const int hidden_fraction = fraction(content.at("pooled"), "hidden_fraction");
    pooled.output_shift =
        checked_shift("hidden output", activation_output_fraction - hidden_fraction);
    network.pooled = std::move(pooled);
    return hidden_fraction;
}

// The fraction bits of one layer: numbers, and vectors with one entry a channel.
struct LayerFormats {
    int norm_weight, norm, u, dt, b, c, decay_rate, delta, gate, gated;
    std::optional<int> rotation;
    Integers x, u_channel, scan_u, state, scan_output, gated_channel;

    LayerFormats(const Reader& reader, const Json& content, const std::string& name,
                 std::size_t channels) {
        const Json& formats = content.at("formats");
        check_members(name + ".formats", formats,
                      {"norm_weight", "norm", "u", "dt", "b", "c", "decay_rate", "delta", "gate",
                       "gated", "rotation"});
        norm_weight = fraction(formats, "norm_weight");
        norm = fraction(formats, "norm");
        u = fraction(formats, "u");
        dt = fraction(formats, "dt");
        b = fraction(formats, "b");
        c = fraction(formats, "c");
        decay_rate = fraction(formats, "decay_rate");
        delta = fraction(formats, "delta");
        gate = fraction(formats, "gate");
        gated = fraction(formats, "gated");
        if (formats.has("rotation")) rotation = fraction(formats, "rotation");
        const auto vector = [&](const char* tensor) {
            return reader.tensor(name + ".formats." + tensor, {channels}, 8);
        };
        x = vector("x");
        u_channel = vector("u_channel");
        scan_u = vector("scan_u");
        state = vector("state");
        scan_output = vector("scan_output");
        gated_channel = vector("gated_channel");
    }
};

void check_formats(const LayerFormats& formats, const Scheme& scheme, std::size_t channels,
                   const std::string& name) {
    if (formats.rotation.has_value() != scheme.rotation_bits.has_value()) {
        throw Error(name + " and scheme " + scheme.name + " disagree on a rotation; give both a "
                    "format or neither");
    }
    if (scheme.rotation_bits) check_hadamard_order(channels);
    const bool separate =
        scheme.dual_scale || scheme.projection_input_bits() != scheme.activation_bits;
    for (std::size_t e = 0; e < channels && !separate; ++e) {
        if (formats.scan_u[e] != formats.u + formats.u_channel[e]) {
            throw Error(name + " gives channel " + std::to_string(e) + " of the scan input and of "
                        "x_proj's other fraction bits; scheme " + scheme.name +
                        " stores one tensor, so they must be equal");
        }
    }
}

void read_shifts(const LayerFormats& formats, const Network& network, const std::string& name,
                 MambaLayer& layer) {
    const Shape& shape = network.shape;
    const std::size_t e = shape.d_inner, r = shape.dt_rank, n = shape.d_state;
    const auto channels = [&](const char* what, const auto& shift) {
        return checked_shifts(name + " " + what, e, shift);
    };
    const Integers& in_fraction = layer.in_proj.fraction_bits;
    layer.x_shift = channels(
        "x", [&](std::size_t i) { return in_fraction[i] + formats.norm - formats.x[i]; });
    layer.z_shift = channels("z", [&](std::size_t i) {
        return in_fraction[e + i] + formats.norm - activation_input_fraction;
    });
    layer.convolution_shift = channels("convolution", [&](std::size_t i) {
        return layer.convolution.fraction_bits[i] + formats.x[i] - activation_input_fraction;
    });
    layer.u_shift = channels("u", [&](std::size_t i) {
        return activation_output_fraction - (formats.u + formats.u_channel[i]);
    });
    layer.scan_u_shift = channels("scan_u", [&](std::size_t i) {
        return activation_output_fraction - formats.scan_u[i];
    });
    layer.projected_shift = checked_shifts(name + " projected", r + 2 * n, [&](std::size_t i) {
        const int output = i < r ? formats.dt : i < r + n ? formats.b : formats.c;
        return layer.x_proj.fraction_bits[i] + formats.u - output;
    });
    layer.dt_shift = channels("dt", [&](std::size_t i) {
        return layer.dt_proj.fraction_bits[i] + formats.dt - activation_input_fraction;
    });
    layer.update_shift = channels("update", [&](std::size_t i) {
        return formats.delta + formats.scan_u[i] + formats.b -
               (formats.state[i] + network.scheme.decay_bits);
    });
    layer.scan_output_shift = channels("scan_output", [&](std::size_t i) {
        return formats.c + formats.state[i] - formats.scan_output[i];
    });
    layer.gated_shift = channels("gated", [&](std::size_t i) {
        const int gated = formats.gated + formats.gated_channel[i];
        return formats.scan_output[i] + formats.gate - formats.rotation.value_or(gated);
    });
    layer.out_shift = checked_shifts(name + " out", shape.d_model, [&](std::size_t i) {
        return layer.out_proj.fraction_bits[i] + formats.gated - network.residual_fraction;
    });
    if (formats.rotation) {
        layer.rotated_shift = channels("rotated", [&](std::size_t i) {
            return *formats.rotation - (formats.gated + formats.gated_channel[i]);
        });
    }
    layer.gate_shift = checked_shift(name + " gate", activation_output_fraction - formats.gate);
    layer.delta_shift = checked_shift(name + " delta", activation_output_fraction - formats.delta);
    layer.argument_shift = checked_shift(
        name + " argument", formats.delta + formats.decay_rate - exponent_fraction);
}

// Throws Error if the read-out of the scan can leave an int32.
void check_read_out(const MambaLayer& layer, const Network& network, const std::string& name) {
    const Scheme& scheme = network.scheme;
    std::int64_t largest_skip = 0;
    for (const std::int32_t skip : layer.skip) {
        largest_skip = std::max(largest_skip, std::abs(std::int64_t{skip}));
    }
    const std::int64_t sum =
        (static_cast<std::int64_t>(network.shape.d_state)
         << (scheme.activation_bits + scheme.state_bits - 2)) +
        (largest_skip << (scheme.scan_input_bits() - 1));
    if (sum > INT32_MAX) {
        throw Error(name + "'s read-out can reach " + std::to_string(sum) + ", the limit is " +
                    std::to_string(INT32_MAX) + "; use fewer state bits");
    }
}

MambaLayer read_layer(const Reader& reader, const Json& content, const Network& network,
                      const std::string& name) {
    check_members(name, content,
                  {"in_proj", "convolution", "x_proj", "dt_proj", "out_proj", "formats"});
    const Shape& shape = network.shape;
    const Scheme& scheme = network.scheme;
    const std::size_t d = shape.d_model, e = shape.d_inner, r = shape.dt_rank, n = shape.d_state;
    const int inputs = scheme.projection_input_bits();
    const auto matrix = [&](const char* own, std::size_t rows, std::size_t columns, int bits,
                            bool biased = false) {
        return reader.block_matrix(name + own, rows, columns, scheme, bits, biased);
    };
    const LayerFormats formats(reader, content, name, e);
    check_formats(formats, scheme, e, name);
    MambaLayer layer;
    layer.norm = read_norm(reader, name + ".norm_weight", network, formats.norm_weight, formats.norm);
    layer.in_proj = matrix(".in_proj", 2 * e, d, inputs);
    layer.convolution = reader.matrix(name + ".convolution", e, shape.d_conv,
                                      scheme.convolution_weight_bits, scheme.activation_bits,
                                      true);
    layer.x_proj = matrix(".x_proj", r + 2 * n, e, inputs);
    layer.dt_proj = matrix(".dt_proj", e, r, scheme.activation_bits, true);
    layer.out_proj = matrix(".out_proj", d, e, inputs);
    layer.decay_rate =
        reader.tensor(name + ".decay_rate", {e, n}, scheme.decay_rate_bits, false);
    layer.skip = reader.tensor(name + ".skip", {e}, scheme.skip_bits);
    check_read_out(layer, network, name);
    read_shifts(formats, network, name, layer);
    return layer;
}

MlpLayer read_mlp(const Reader& reader, const Json& content, const Network& network,
                  const std::string& name) {
    check_members(name, content, {"gate", "up", "down", "formats"});
    const Json& formats = content.at("formats");
    check_members(name + ".formats", formats, {"norm_weight", "norm", "gate", "gated"});
    const std::size_t d = network.shape.d_model, m = network.shape.mlp;
    const Scheme& scheme = network.scheme;
    const int inputs = scheme.projection_input_bits(), norm = fraction(formats, "norm");
    const int gate = fraction(formats, "gate"), gated = fraction(formats, "gated");
    const Integers up = reader.tensor(name + ".formats.up", {m}, 8);
    const Integers gated_channel = reader.tensor(name + ".formats.gated_channel", {m}, 8);
    MlpLayer mlp;
    mlp.norm = read_norm(reader, name + ".norm_weight", network, fraction(formats, "norm_weight"),
                         norm);
    mlp.gate = reader.block_matrix(name + ".gate", m, d, scheme, inputs);
    mlp.up = reader.block_matrix(name + ".up", m, d, scheme, inputs);
    mlp.down = reader.block_matrix(name + ".down", d, m, scheme, inputs);
    mlp.z_shift = checked_shifts(name + " z", m, [&](std::size_t i) {
        return mlp.gate.fraction_bits[i] + norm - activation_input_fraction;
    });
    mlp.up_shift = checked_shifts(
        name + " up", m, [&](std::size_t i) { return mlp.up.fraction_bits[i] + norm - up[i]; });
    mlp.gated_shift = checked_shifts(name + " gated", m, [&](std::size_t i) {
        return up[i] + gate - (gated + gated_channel[i]);
    });
    mlp.out_shift = checked_shifts(name + " out", d, [&](std::size_t i) {
        return mlp.down.fraction_bits[i] + gated - network.residual_fraction;
    });
    mlp.gate_shift = checked_shift(name + " gate", activation_output_fraction - gate);
    return mlp;
}

void read_mlps(const Reader& reader, const Json& content, Network& network) {
    const std::size_t count = content.has("mlps") ? content.at("mlps").items().size() : 0;
    if (count != (network.shape.mlp == 0 ? 0 : network.shape.n_layer)) {
        throw Error("the program has " + std::to_string(count) + " MLPs, its shape says mlp = " +
                    std::to_string(network.shape.mlp) + " behind each of " +
                    std::to_string(network.shape.n_layer) +
                    " mixers; regenerate the artifact with model.quantize");
    }
    for (std::size_t i = 0; i < count; ++i) {
        network.mlps.push_back(read_mlp(reader, content.at("mlps").items()[i], network,
                                        "mlps." + std::to_string(i)));
    }
}

}  // namespace

std::int64_t Network::epsilon() const {
    constexpr double norm_epsilon = 1e-5;
    const double scaled = static_cast<double>(shape.d_model) * norm_epsilon *
                          std::ldexp(1.0, 2 * residual_fraction);
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
                      reader.table("reciprocal", reciprocal_segments)};
    network.residual_fraction = fraction(content, "residual_fraction");
    network.logit_fraction = fraction(content, "logit_fraction");
    const int head_input = read_ends(reader, content, network);
    network.head_shift = checked_shifts("head", network.shape.vocabulary, [&](std::size_t i) {
        return network.head.fraction_bits[i] + head_input - network.logit_fraction;
    });
    network.final_norm =
        read_norm(reader, "final_norm_weight", network,
                  fraction(content, "final_norm_weight_fraction"),
                  fraction(content, "final_norm_fraction"));
    const std::vector<Json>& layers = content.at("layers").items();
    if (layers.size() != network.shape.n_layer) {
        throw Error("the program has " + std::to_string(layers.size()) + " layers, its shape says " +
                    std::to_string(network.shape.n_layer) +
                    "; regenerate the artifact with model.quantize");
    }
    for (std::size_t i = 0; i < layers.size(); ++i) {
        network.layers.push_back(
            read_layer(reader, layers[i], network, "layers." + std::to_string(i)));
    }
    read_mlps(reader, content, network);
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

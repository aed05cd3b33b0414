// Reads the blocks of a network: weights, formats, and the shifts between them.
#include <algorithm>
#include <cstdlib>

#include "hadamard.hpp"
#include "reader.hpp"

namespace scanwright {

namespace {

// The fraction bits of one layer: numbers, and vectors with one entry a channel.
struct LayerFormats {
    int norm_weight = 0, norm = 0, u = 0, gate = 0, gated = 0;
    int dt = 0, b = 0, c = 0, decay_rate = 0, delta = 0;  // of a selective scan
    std::optional<int> rotation;
    Integers x, u_channel;  // one entry a convolved channel
    Integers scan_u, state, scan_output, gated_channel;

    LayerFormats(const Reader& reader, const Json& content, const std::string& name,
                 const Shape& shape) {
        const Json& formats = content.at("formats");
        if (shape.average) {
            check_members(name + ".formats", formats,
                          {"norm_weight", "norm", "u", "gate", "gated", "rotation", "projection_bits"});
        } else {
            check_members(name + ".formats", formats,
                          {"norm_weight", "norm", "u", "dt", "b", "c", "decay_rate", "delta",
                           "gate", "gated", "rotation", "projection_bits"});
            dt = fraction_of(formats, "dt");
            b = fraction_of(formats, "b");
            c = fraction_of(formats, "c");
            decay_rate = fraction_of(formats, "decay_rate");
            delta = fraction_of(formats, "delta");
        }
        norm_weight = fraction_of(formats, "norm_weight");
        norm = fraction_of(formats, "norm");
        u = fraction_of(formats, "u");
        gate = fraction_of(formats, "gate");
        gated = fraction_of(formats, "gated");
        if (formats.has("rotation")) rotation = fraction_of(formats, "rotation");
        const auto vector = [&](const char* tensor, std::size_t size) {
            return reader.tensor(name + ".formats." + tensor, {size}, 8);
        };
        x = vector("x", shape.convolution_channels());
        u_channel = vector("u_channel", shape.convolution_channels());
        scan_u = vector("scan_u", shape.d_inner);
        gated_channel = vector("gated_channel", shape.d_inner);
        if (shape.average) return;
        state = vector("state", shape.d_inner);
        scan_output = vector("scan_output", shape.d_inner);
    }
};

void check_formats(const LayerFormats& formats, const Network& network, const std::string& name) {
    const Scheme& scheme = network.scheme;
    const std::size_t channels = network.shape.d_inner;
    if (formats.rotation.has_value() != scheme.rotation_bits.has_value()) {
        throw Error(name + " and scheme " + scheme.name + " disagree on a rotation; give both a "
                    "format or neither");
    }
    if (scheme.rotation_bits) check_hadamard_order(channels);
    for (std::size_t e = 0; e < channels && !network.separate_scan_input(); ++e) {
        if (formats.scan_u[e] != formats.u + formats.u_channel[e]) {
            throw Error(name + " gives channel " + std::to_string(e) + " of the scan input and of "
                        "x_proj's other fraction bits; scheme " + scheme.name +
                        " stores one tensor, so they must be equal");
        }
    }
}

// The width of what a block's matrices read, and the zero points of u's codes.
void read_widths(const Reader& reader, const Json& formats, const Network& network,
                 const std::string& name, Layer& layer) {
    const Shape& shape = network.shape;
    layer.inputs = network.scheme.projection_input_bits();
    if (formats.has("projection_bits")) {
        if (shape.is_frame_network()) {
            throw Error(name + " has projection_bits of its own; the blocks of a frame network "
                        "have those of the scheme");
        }
        layer.inputs = integer_within(formats, "projection_bits", 4, layer.inputs);
    }
    if (!network.scheme.asymmetric) return;
    if (shape.is_frame_network() || shape.has_heads()) {
        throw Error("scheme " + network.scheme.name + " is asymmetric, which is for Mamba-1 "
                    "language models; use a symmetric one");
    }
    layer.u_zero = reader.tensor(name + ".formats.u_zero", {shape.convolution_channels()},
                                 layer.inputs, false);
}

// The shifts that every block has.
void read_shifts(const LayerFormats& formats, const Network& network, const std::string& name,
                 Layer& layer) {
    const Shape& shape = network.shape;
    const std::size_t e = shape.d_inner, convolved = shape.convolution_channels();
    const auto channels = [&](const char* what, std::size_t count, const auto& shift) {
        return checked_shifts(name + " " + what, count, shift);
    };
    const Integers& in_fraction = layer.in_proj.fraction_bits;
    layer.x_shift = channels("x", convolved, [&](std::size_t i) {
        return in_fraction[i] + formats.norm - formats.x[i];
    });
    layer.z_shift = channels("z", shape.gated ? e : 0, [&](std::size_t i) {
        return in_fraction[shape.gate_row() + i] + formats.norm - activation_input_fraction;
    });
    layer.convolution_shift = channels("convolution", shape.is_convolved() ? convolved : 0, [&](std::size_t i) {
        return layer.convolution.fraction_bits[i] + formats.x[i] - activation_input_fraction;
    });
    layer.u_shift = channels("u", convolved, [&](std::size_t i) {
        return activation_output_fraction - (formats.u + formats.u_channel[i]);
    });
    layer.scan_u_shift = channels("scan_u", e, [&](std::size_t i) {
        return activation_output_fraction - formats.scan_u[i];
    });
    layer.out_shift = checked_shifts(name + " out", shape.d_model, [&](std::size_t i) {
        return layer.out_proj.fraction_bits[i] + formats.gated - network.residual_fraction;
    });
    if (formats.rotation) {
        layer.rotated_shift = channels("rotated", e, [&](std::size_t i) {
            return *formats.rotation - (formats.gated + formats.gated_channel[i]);
        });
    }
    layer.gate_shift = checked_shift(name + " gate", activation_output_fraction - formats.gate);
}

// Those of a selective scan.
void read_scan_shifts(const LayerFormats& formats, const Network& network, const std::string& name,
                      Layer& layer) {
    const std::size_t e = network.shape.d_inner;
    layer.update_shift = checked_shifts(name + " update", e, [&](std::size_t i) {
        return formats.delta + formats.scan_u[i] + formats.b -
               (formats.state[i] + network.scheme.decay_bits);
    });
    layer.scan_output_shift = checked_shifts(name + " scan_output", e, [&](std::size_t i) {
        return formats.c + formats.state[i] - formats.scan_output[i];
    });
    layer.delta_shift = checked_shift(name + " delta", activation_output_fraction - formats.delta);
    layer.argument_shift = checked_shift(
        name + " argument", formats.delta + formats.decay_rate - exponent_fraction);
}

// Mamba-1: dt, B and C are projections of u, and dt's is projected again.
void read_projections(const Reader& reader, const LayerFormats& formats, const Network& network,
                      const std::string& name, Layer& layer) {
    const Scheme& scheme = network.scheme;
    const std::size_t e = network.shape.d_inner, r = network.shape.dt_rank,
                      n = network.shape.d_state;
    layer.x_proj =
        reader.block_matrix(name + ".x_proj", r + 2 * n, e, scheme, network.u_bits());
    layer.dt_proj =
        reader.block_matrix(name + ".dt_proj", e, r, scheme, scheme.activation_bits, true);
    layer.projected_shift = checked_shifts(name + " projected", r + 2 * n, [&](std::size_t i) {
        const int output = i < r ? formats.dt : i < r + n ? formats.b : formats.c;
        return layer.x_proj.fraction_bits[i] + formats.u - output;
    });
    layer.dt_shift = checked_shifts(name + " dt", e, [&](std::size_t i) {
        return layer.dt_proj.fraction_bits[i] + formats.dt - activation_input_fraction;
    });
    layer.gated_shift = checked_shifts(name + " gated", e, [&](std::size_t i) {
        const int gated = formats.gated + formats.gated_channel[i];
        return formats.scan_output[i] + formats.gate - formats.rotation.value_or(gated);
    });
}

// Mamba-2: B and C are convolved beside x, dt is a row of in_proj a head.
void read_head_selection(const Reader& reader, const Json& content, const LayerFormats& formats,
                         const Network& network, const std::string& name, Layer& layer) {
    const Shape& shape = network.shape;
    const Scheme& scheme = network.scheme;
    const std::size_t e = shape.d_inner, states = shape.groups * shape.d_state;
    HeadSelection own;
    own.dt_bias = reader.tensor(name + ".dt_bias", {shape.step_sizes()}, activation_input_bits);
    own.norm_weight = reader.tensor(name + ".gate_norm_weight", {e}, scheme.norm_weight_bits);
    own.delta_low = integer_within(content, "delta_low", 0, (1 << scheme.delta_bits) - 1);
    own.delta_high =
        integer_within(content, "delta_high", own.delta_low, (1 << scheme.delta_bits) - 1);
    own.product = fraction_of(content, "product");
    for (std::size_t i = 0; i < 2 * states; ++i) {
        const int wanted = i < states ? formats.b : formats.c;
        if (formats.dt != activation_input_fraction ||
            formats.u + formats.u_channel[e + i] != wanted) {
            throw Error(name + " gives dt, B or C other fraction bits than with heads they have; "
                        "regenerate the artifact with model.quantize");
        }
    }
    for (std::size_t i = 0; i < e && !formats.rotation; ++i) {
        if (formats.gated_channel[i] != 0) {
            throw Error(name + " has channels of different format behind the gated norm; its "
                        "weight levels them, use gated_channel = 0");
        }
    }
    own.norm_shift = checked_shift(
        name + " normed", normalized_fraction + fraction_of(content, "gate_norm_fraction") -
                              formats.rotation.value_or(formats.gated));
    layer.dt_shift = checked_shifts(name + " dt", shape.step_sizes(), [&](std::size_t i) {
        return layer.in_proj.fraction_bits[shape.convolution_channels() + i] + formats.norm -
               formats.dt;
    });
    layer.gated_shift = checked_shifts(name + " gated", e, [&](std::size_t i) {
        return formats.scan_output[i] + formats.gate - own.product;
    });
    layer.heads = std::move(own);
}

// Throws Error if the read-out of the scan can leave an int32.
void check_read_out(const Layer& layer, const Network& network, const std::string& name) {
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

// A moving average: one projection of u gives the argument of its sigmoid.
void read_average(const Reader& reader, const LayerFormats& formats, const Network& network,
                  const std::string& name, Layer& layer) {
    const Scheme& scheme = network.scheme;
    const std::size_t e = network.shape.d_inner;
    layer.dt_proj = reader.block_matrix(name + ".dt_proj", e, e, scheme,
                                        scheme.projection_input_bits(), true);
    layer.projected_shift = checked_shifts(name + " projected", e, [&](std::size_t i) {
        return layer.dt_proj.fraction_bits[i] + formats.u - activation_input_fraction;
    });
    layer.gated_shift = checked_shifts(name + " gated", e, [&](std::size_t i) {
        const int gated = formats.gated + formats.gated_channel[i];
        return formats.scan_u[i] + scheme.lift() + formats.gate - formats.rotation.value_or(gated);
    });
    for (std::size_t i = 0; i < e && !network.shape.is_convolved(); ++i) {
        if (formats.x[i] != activation_input_fraction) {
            throw Error(name + "'s x has other than 12 fraction bits, but without a convolution it "
                        "is SiLU's input");
        }
    }
}

void read_scan(const Reader& reader, const Json& content, const LayerFormats& formats,
               const Network& network, const std::string& name, Layer& layer) {
    const Shape& shape = network.shape;
    const std::vector<std::size_t> rates =
        shape.has_heads() ? std::vector<std::size_t>{shape.step_sizes(), 1}
                          : std::vector<std::size_t>{shape.d_inner, shape.d_state};
    layer.decay_rate =
        reader.tensor(name + ".decay_rate", rates, network.scheme.decay_rate_bits, false);
    layer.skip = reader.tensor(name + ".skip", {shape.d_inner}, network.scheme.skip_bits);
    check_read_out(layer, network, name);
    read_scan_shifts(formats, network, name, layer);
    if (shape.has_heads()) {
        read_head_selection(reader, content, formats, network, name, layer);
    } else {
        read_projections(reader, formats, network, name, layer);
    }
}

void check_layer_members(const Json& content, const Shape& shape, const std::string& name) {
    if (shape.has_heads()) {
        check_members(name, content,
                      {"in_proj", "convolution", "out_proj", "formats", "delta_low", "delta_high",
                       "product", "gate_norm_fraction"});
    } else if (shape.average && !shape.is_convolved()) {
        check_members(name, content, {"in_proj", "dt_proj", "out_proj", "formats"});
    } else if (shape.average) {
        check_members(name, content, {"in_proj", "convolution", "dt_proj", "out_proj", "formats"});
    } else {
        check_members(name, content,
                      {"in_proj", "convolution", "x_proj", "dt_proj", "out_proj", "formats"});
    }
}

Layer read_layer(const Reader& reader, const Json& content, const Network& network,
                 const std::string& name) {
    const Shape& shape = network.shape;
    const Scheme& scheme = network.scheme;
    const std::size_t d = shape.d_model, e = shape.d_inner;
    check_layer_members(content, shape, name);
    const LayerFormats formats(reader, content, name, shape);
    check_formats(formats, network, name);
    Layer layer;
    read_widths(reader, content.at("formats"), network, name, layer);
    const int inputs = layer.inputs;
    layer.norm = reader.norm(name + ".norm_weight", network, formats.norm_weight, formats.norm);
    layer.in_proj = reader.block_matrix(
        name + ".in_proj", shape.gate_row() + (shape.gated ? e : 0), d, scheme, inputs);
    if (shape.is_convolved()) {
        layer.convolution =
            reader.matrix(name + ".convolution", shape.convolution_channels(), shape.d_conv,
                          scheme.convolution_weight_bits, scheme.activation_bits, true);
    }
    layer.out_proj = reader.block_matrix(name + ".out_proj", d, e, scheme, inputs);
    read_shifts(formats, network, name, layer);
    if (shape.average) {
        read_average(reader, formats, network, name, layer);
    } else {
        read_scan(reader, content, formats, network, name, layer);
    }
    return layer;
}

MlpLayer read_mlp(const Reader& reader, const Json& content, const Network& network, int inputs,
                  const std::string& name) {
    check_members(name, content, {"gate", "up", "down", "formats"});
    const Json& formats = content.at("formats");
    check_members(name + ".formats", formats, {"norm_weight", "norm", "gate", "gated"});
    const std::size_t d = network.shape.d_model, m = network.shape.mlp;
    const Scheme& scheme = network.scheme;
    const int norm = fraction_of(formats, "norm");
    const int gate = fraction_of(formats, "gate"), gated = fraction_of(formats, "gated");
    const Integers up = reader.tensor(name + ".formats.up", {m}, 8);
    const Integers gated_channel = reader.tensor(name + ".formats.gated_channel", {m}, 8);
    MlpLayer mlp;
    mlp.norm = reader.norm(name + ".norm_weight", network, fraction_of(formats, "norm_weight"),
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
                                        network.layers[i].inputs, "mlps." + std::to_string(i)));
    }
}

}  // namespace

void read_layers(const Reader& reader, const Json& content, Network& network) {
    const std::vector<Json>& layers = content.at("layers").items();
    if (layers.size() != network.shape.n_layer) {
        throw Error("the program has " + std::to_string(layers.size()) + " layers, its shape says " +
                    std::to_string(network.shape.n_layer) +
                    "; regenerate the artifact with model.quantize");
    }
    network.hybrid = std::any_of(layers.begin(), layers.end(), [](const Json& layer) {
        return layer.at("formats").has("projection_bits");
    });
    for (std::size_t i = 0; i < layers.size(); ++i) {
        network.layers.push_back(
            read_layer(reader, layers[i], network, "layers." + std::to_string(i)));
    }
    read_mlps(reader, content, network);
}

}  // namespace scanwright

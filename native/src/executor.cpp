#include <algorithm>
#include <cmath>
#include <iterator>
#include <numeric>
#include <string>

#include "block.hpp"
#include "team.hpp"

namespace scanwright {

namespace {

// Tokens whose values fit the first caches together with a block's weights.
constexpr std::size_t block_tokens = 8;
static_assert(block_tokens <= token_limit);

// Bytes of the first block's inputs of all tokens, up to which they are tabulated.
constexpr std::size_t table_limit = 1 << 20;

const Kernels& kernels_of(Instructions instructions) {
#if defined(__x86_64__)
    if (instructions == Instructions::avx512) return avx512_kernels;
    if (instructions == Instructions::avx2) return avx2_kernels;
#endif
    (void)instructions;
    return portable_kernels;
}

bool has_instructions(Instructions instructions) {
#if defined(__x86_64__)
    if (instructions == Instructions::avx512) {
        return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
               __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
               __builtin_cpu_supports("avx512vnni") &&
               has_instructions(Instructions::avx2);
    }
    if (instructions == Instructions::avx2) {
        return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
               __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2") &&
               __builtin_cpu_supports("lzcnt");
    }
#endif
    return instructions == Instructions::portable;
}

constexpr Instructions all_instructions[] = {Instructions::avx512, Instructions::avx2,
                                             Instructions::portable};

// The residual and what head and front compute; one for each thread.
struct Workspace {
    Rows32 input, rows, residual, norm, hidden, logits, gathered, sums, all_norms;

    static Workspace& of_thread() {
        thread_local Workspace workspace;
        return workspace;
    }
};

}  // namespace

std::vector<Instructions> available_instructions() {
    std::vector<Instructions> available;
    std::copy_if(std::begin(all_instructions), std::end(all_instructions),
                 std::back_inserter(available), has_instructions);
    return available;
}

const char* instructions_name(Instructions instructions) {
    switch (instructions) {
        case Instructions::avx512: return "avx512";
        case Instructions::avx2: return "avx2";
        default: return "portable";
    }
}

Instructions find_instructions(const std::string& name) {
    std::string known;
    for (const Instructions instructions : available_instructions()) {
        if (name == instructions_name(instructions)) return instructions;
        known += (known.empty() ? "" : ", ") + std::string(instructions_name(instructions));
    }
    throw Error("instructions '" + name + "' are unknown or not this processor's; choose one of " +
                known);
}

struct Executor::Prepared {
    Program program;
    const Kernels& kernels;
    std::vector<std::vector<std::unique_ptr<Block>>> layers;  // mixer, and MLP if there is one
    MixerBlock* first = nullptr;  // the first of them
    Values embedded;  // (V, d), shifted into the residual's scale
    Linear rows;  // projects a frame's rows in front of patches
    LinearProduct features;
    Requantizer features_requantizer;
    Normalization norm;
    Linear hidden, head;
    Requantizer mean;  // over a frame's tokens
    Activation silu;
    Requantizer hidden_output;

    Prepared(const Program& own, Instructions instructions);
    void prepare_front();

    const Network& network() const { return program.network(); }
    std::size_t width() const { return padded(program.shape().d_model); }
    void embed(const std::int64_t* tokens, std::size_t count, Rows32& residual) const;
    void read_frame(const std::int64_t* values, Workspace& own, const Probes& probes) const;
    void embed_features(const Workspace& own, std::size_t first, std::size_t count,
                        Rows32& residual) const;
    void pool(Workspace& own, const Probes& probes) const;
    void tabulate_first();
    // `ids` are those of tokens, null of a frame.
    void run_blocks(const std::int64_t* ids, Rows32& residual, std::size_t count,
                    std::vector<BlockState>& state, const Probes& probes) const;
    // Runs frame `number` of all `features`, advances the state and writes its row of `outputs`.
    void frame(std::size_t number, const std::int64_t* features, std::vector<BlockState>& state,
               std::int32_t* outputs, const Probes& probes) const;
    std::size_t frame_size() const {
        return program.shape().frame_rows() * program.shape().features;
    }
    void check_features(const std::int64_t* features, std::size_t frames) const;
};

Executor::Prepared::Prepared(const Program& own, Instructions instructions)
    : program(own), kernels(kernels_of(instructions)) {
    const Scheme& scheme = network().scheme;
    const int inputs = scheme.activation_bits;
    const auto decay =
        std::make_shared<const DecayTable>(network().tables.exponent, scheme.decay_bits);
    for (std::size_t i = 0; i < network().layers.size(); ++i) {
        layers.emplace_back();
        std::unique_ptr<MixerBlock> mixer;
        if (network().shape.average) {
            mixer = std::make_unique<AverageBlock>(network(), i);
        } else {
            mixer = std::make_unique<MambaBlock>(network(), i, decay);
        }
        if (i == 0) first = mixer.get();
        layers.back().push_back(std::move(mixer));
        if (!network().mlps.empty()) {
            layers.back().push_back(std::make_unique<MlpBlock>(network(), i));
        }
    }
    prepare_front();
    norm = Normalization(network(), network().final_norm, inputs);
    head = Linear(network().head, inputs, network().head_shift,
                  Limits::of_signed(scheme.logit_bits));
    if (const auto& pooled = network().pooled) {
        const auto tokens = static_cast<double>(own.shape().tokens);
        mean = Requantizer(Integers(own.shape().d_model, std::ilogb(tokens)),
                           Limits::of_signed(scheme.residual_bits),
                           std::ldexp(tokens, scheme.residual_bits - 1));
        hidden = Linear(pooled->hidden, inputs, pooled->hidden_shift,
                        Limits::of_signed(activation_input_bits));
        silu = Activation(Activation::Kind::silu, network().tables.silu);
        hidden_output = Requantizer(Integers(pooled->hidden.rows, pooled->output_shift),
                                    Limits::of_signed(inputs), 1 << 30);
    }
}

void Executor::Prepared::prepare_front() {
    const std::size_t d = program.shape().d_model;
    if (const auto& front = network().tokens) {
        embedded.assign(program.shape().vocabulary * width(), 0);
        for (std::size_t i = 0; i < front->table.size(); ++i) {
            embedded[i / d * width() + i % d] = front->table[i] * (1 << front->shift[i / d]);
        }
        tabulate_first();
    }
    if (const auto& front = network().features) {
        const int bits = network().scheme.feature_bits;
        if (program.shape().has_patches()) {
            rows = Linear(front->rows, bits, front->rows_shift, Limits::of_signed(bits));
        }
        features = LinearProduct(front->projection, bits);
        features_requantizer =
            Requantizer(front->shift, Limits::of_signed(network().scheme.residual_bits), 0x1p31);
    }
}

void Executor::Prepared::embed(const std::int64_t* tokens, std::size_t count,
                               Rows32& residual) const {
    residual.shape(count, program.shape().d_model);
    for (std::size_t i = 0; i < count; ++i) {
        const auto row = static_cast<std::size_t>(tokens[i]);
        std::copy_n(embedded.data() + row * width(), width(), residual.row(i));
    }
}

// Widens the features of a frame, (rows, F), and makes its tokens' inputs, (T, F or P C).
void Executor::Prepared::read_frame(const std::int64_t* values, Workspace& own,
                                    const Probes& probes) const {
    const Shape& shape = program.shape();
    const std::size_t count = shape.frame_rows();
    own.input.shape(count, shape.features);
    for (std::size_t t = 0; t < count; ++t) {
        std::fill_n(own.input.row(t), own.input.stride(), 0);
        for (std::size_t i = 0; i < shape.features; ++i) {
            own.input.row(t)[i] = static_cast<std::int32_t>(values[t * shape.features + i]);
        }
    }
    if (!shape.has_patches()) return;
    rows.run(kernels, own.input, count, own.rows);
    probes("rows", -1, own.rows, count);
    own.input.shape(shape.tokens, shape.embedded());
    for (std::size_t t = 0; t < shape.tokens; ++t) {
        std::fill_n(own.input.row(t), own.input.stride(), 0);
        for (std::size_t p = 0; p < shape.patch_kernel; ++p) {
            std::copy_n(own.rows.row(t * shape.patch_stride + p), shape.patch_width,
                        own.input.row(t) + p * shape.patch_width);
        }
    }
}

// Writes the residual of the tokens from `first` on.
void Executor::Prepared::embed_features(const Workspace& own, std::size_t first, std::size_t count,
                                        Rows32& residual) const {
    const std::size_t d = program.shape().d_model;
    features.run(kernels, own.input, first, count, nullptr, residual);
    for (std::size_t t = 0; t < count; ++t) {
        const std::int32_t* bias = network().features->bias.data() + (first + t) * d;
        for (std::size_t i = 0; i < d; ++i) residual.row(t)[i] += bias[i];
    }
    features_requantizer.run(kernels, residual, count, residual);
}

// What the first block computes of every token alone, where it fits a cache.
void Executor::Prepared::tabulate_first() {
    const std::size_t vocabulary = program.shape().vocabulary;
    if (first == nullptr || first->table_bytes(vocabulary) > table_limit) return;
    Rows32 residual;
    std::vector<std::int64_t> ids(token_limit);
    for (std::size_t from = 0; from < vocabulary; from += token_limit) {
        const std::size_t count = std::min(token_limit, vocabulary - from);
        std::iota(ids.begin(), ids.end(), static_cast<std::int64_t>(from));
        embed(ids.data(), count, residual);
        first->tabulate(kernels, residual, from, count, vocabulary);
    }
}

void Executor::Prepared::run_blocks(const std::int64_t* ids, Rows32& residual, std::size_t count,
                                    std::vector<BlockState>& state, const Probes& probes) const {
    probes("residual", -1, residual, count);
    const bool tabulated = ids != nullptr && !probes && first != nullptr && first->is_tabulated();
    for (std::size_t i = 0; i < layers.size(); ++i) {
        for (const auto& block : layers[i]) {
            if (tabulated && block.get() == first) {
                first->run_tabulated(kernels, ids, residual, count, state[i]);
            } else {
                block->run(kernels, residual, count, state[i], probes);
            }
        }
    }
}

void Executor::Prepared::frame(std::size_t number, const std::int64_t* values,
                               std::vector<BlockState>& state, std::int32_t* outputs,
                               const Probes& probes) const {
    const Shape& shape = program.shape();
    Workspace& own = Workspace::of_thread();
    read_frame(values + number * frame_size(), own, probes);
    own.sums.shape(1, shape.d_model);
    std::fill_n(own.sums.row(0), width(), 0);
    own.all_norms.shape(1, shape.tokens * shape.d_model);
    std::fill_n(own.all_norms.row(0), own.all_norms.stride(), 0);
    // A moving average's convolution looks ahead over the whole frame.
    const std::size_t at_once = shape.average ? shape.tokens : block_tokens;
    for (std::size_t first = 0; first < shape.tokens; first += at_once) {
        const std::size_t count = std::min(at_once, shape.tokens - first);
        embed_features(own, first, count, own.residual);
        run_blocks(nullptr, own.residual, count, state, probes);
        if (shape.hidden == 0) norm.run(kernels, own.residual, count, own.norm);
        for (std::size_t t = 0; t < count; ++t) {
            for (std::size_t i = 0; i < width(); ++i) own.sums.row(0)[i] += own.residual.row(t)[i];
            if (shape.hidden != 0) continue;
            std::copy_n(own.norm.row(t), shape.d_model,
                        own.all_norms.row(0) + (first + t) * shape.d_model);
        }
    }
    if (shape.hidden != 0) {
        pool(own, probes);
        head.run(kernels, own.hidden, 1, own.logits);
    } else {
        probes("norm", -1, own.all_norms, 1);
        head.run(kernels, own.all_norms, 1, own.logits);
    }
    probes("logits", -1, own.logits, 1);
    std::copy_n(own.logits.row(0), shape.vocabulary, outputs + number * shape.vocabulary);
}

// Computes the hidden layer from the sum over the frame's tokens.
void Executor::Prepared::pool(Workspace& own, const Probes& probes) const {
    mean.run(kernels, own.sums, 1, own.sums);
    probes("pooled", -1, own.sums, 1);
    norm.run(kernels, own.sums, 1, own.norm);
    probes("norm", -1, own.norm, 1);
    hidden.run(kernels, own.norm, 1, own.hidden);
    silu.run(kernels, own.hidden, 1, hidden_output, own.hidden);
    probes("hidden", -1, own.hidden, 1);
}

void Executor::Prepared::check_features(const std::int64_t* values, std::size_t frames) const {
    if (!network().features) {
        throw Error("the program is a language model, it reads tokens and not features");
    }
    const std::int64_t limit = std::int64_t{1} << (network().scheme.feature_bits - 1);
    for (std::size_t i = 0; i < frames * frame_size(); ++i) {
        if (values[i] < -limit || values[i] >= limit) {
            throw Error("feature " + std::to_string(values[i]) + " is outside " +
                        std::to_string(-limit) + ".." + std::to_string(limit - 1) + " of " +
                        std::to_string(network().scheme.feature_bits) +
                        " bits; saturate the features to that range");
        }
    }
}

Executor::Executor(const Program& program, Instructions instructions)
    : prepared_(std::make_unique<Prepared>(program, instructions)) {}
Executor::~Executor() = default;
Executor::Executor(Executor&&) noexcept = default;
Executor& Executor::operator=(Executor&&) noexcept = default;

const Program& Executor::program() const { return prepared_->program; }

void Executor::step(std::int64_t token, State& state, std::int32_t* logits) const {
    forward(&token, 1, state, logits);
}

void Executor::check_tokens(const std::int64_t* tokens, std::size_t count) const {
    const auto vocabulary = static_cast<std::int64_t>(program().shape().vocabulary);
    if (!prepared_->network().tokens) {
        throw Error("the program is a frame network, it reads features and not tokens");
    }
    for (std::size_t i = 0; i < count; ++i) {
        if (tokens[i] < 0 || tokens[i] >= vocabulary) {
            throw Error("token " + std::to_string(tokens[i]) + " is outside 0.." +
                        std::to_string(vocabulary - 1) +
                        "; encode the text with the model's vocabulary");
        }
    }
}

void Executor::forward(const std::int64_t* tokens, std::size_t count, State& state,
                       std::int32_t* logits, const Probe& probe) const {
    check_tokens(tokens, count);
    const Prepared& own = *prepared_;
    const std::size_t vocabulary = own.program.shape().vocabulary;
    const Probes probes(probe);
    Workspace& work = Workspace::of_thread();
    for (std::size_t first = 0; first < count; first += block_tokens) {
        const std::size_t some = std::min(block_tokens, count - first);
        own.embed(tokens + first, some, work.residual);
        own.run_blocks(tokens + first, work.residual, some, state.blocks_, probes);
        own.norm.run(own.kernels, work.residual, some, work.norm);
        probes("norm", -1, work.norm, some);
        own.head.run(own.kernels, work.norm, some, work.logits);
        probes("logits", -1, work.logits, some);
        const Rows32* all = &work.logits;
        if (own.network().share) {  // each thread of a team has some
            Seat::of_thread().gather(work.logits, some, work.gathered);
            all = &work.gathered;
        }
        for (std::size_t i = 0; logits != nullptr && i < some; ++i) {
            std::copy_n(all->row(i), vocabulary, logits + (first + i) * vocabulary);
        }
    }
}

void Executor::generate(std::int64_t token, std::size_t count, State& state,
                        std::int64_t* tokens) const {
    std::vector<std::int32_t> logits(prepared_->program.shape().vocabulary);
    for (std::size_t i = 0; i < count; ++i) {
        step(token, state, logits.data());
        token = static_cast<std::int64_t>(prepared_->kernels.arg_max(logits.data(), logits.size()));
        tokens[i] = token;
    }
}

void Executor::frames(const std::int64_t* features, std::size_t count, std::int32_t* outputs,
                      const Probe& probe) const {
    const Prepared& own = *prepared_;
    own.check_features(features, count);
    State state(own.program);
    for (std::size_t i = 0; i < count; ++i) {
        state.reset();
        own.frame(i, features, state.blocks_, outputs, Probes(probe));
    }
}

void Executor::advance(const std::int64_t* features, std::size_t count, State& state,
                       std::int32_t* outputs, const Probe& probe) const {
    const Prepared& own = *prepared_;
    own.check_features(features, count);
    for (std::size_t i = 0; i < count; ++i) {
        own.frame(i, features, state.blocks_, outputs, Probes(probe));
    }
}

}  // namespace scanwright

// scanwright's integer programs in C++17: the integers of the golden model, computed fast.
//
//     const auto program = scanwright::Program::load("bytelm-w8a8.safetensors");
//     const scanwright::Executor executor(program);
//     scanwright::State state(program);
//     std::vector<std::int32_t> logits(program.shape().vocabulary);
//     executor.step(token, state, logits.data());  // `advance` of a frame network
//
// A Program and an Executor are immutable; any number of States may use one Executor, each from one
// thread at a time. What the numbers mean is defined in docs/numerics.md.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace scanwright {

// Input that cannot be used; the message is one line and names the value, the limit, the remedy.
class Error : public std::runtime_error {
public:
    using std::runtime_error::runtime_error;
};

// Sizes of a network in the symbols of the Mamba paper; what a network has not is 0.
struct Shape {
    std::size_t vocabulary = 0;  // V; of a frame network the number of outputs
    std::size_t d_model = 0;     // D
    std::size_t d_inner = 0;     // E
    std::size_t d_state = 0;     // N
    std::size_t d_conv = 0;      // K
    std::size_t dt_rank = 0;     // R
    std::size_t n_layer = 0;     // L
    std::size_t mlp = 0;         // hidden width of the MLP behind each mixer
    std::size_t features = 0;    // values a token of a frame, F
    std::size_t tokens = 0;      // tokens a frame, T
    std::size_t hidden = 0;      // width of a frame network's hidden layer, H

    std::size_t patch_width = 0;   // values that a row of a frame is projected to, C
    std::size_t patch_kernel = 0;  // rows that a token sees, P
    std::size_t patch_stride = 0;  // rows from one token to the next, S
    bool average = false;          // a moving average in place of the scan
    bool gated = true;             // whether the mixer has a gate
    std::size_t head_size = 0;   // channels that share step size and decay, P (Mamba-2)
    std::size_t groups = 1;      // groups of channels that share B and C, G

    bool is_frame_network() const { return tokens != 0; }
    bool has_patches() const { return patch_kernel != 0; }
    bool is_convolved() const { return d_conv > 1; }
    // Rows of features a frame, and values that become one token.
    std::size_t frame_rows() const {
        return has_patches() ? (tokens - 1) * patch_stride + patch_kernel : tokens;
    }
    std::size_t embedded() const { return has_patches() ? patch_kernel * patch_width : features; }
    std::size_t head_inputs() const {
        return !is_frame_network() ? d_model : hidden != 0 ? hidden : tokens * d_model;
    }
    // Inputs that a convolution keeps; that of a moving average looks over whole frames.
    std::size_t window_rows() const { return average ? 0 : d_conv - 1; }
    bool has_heads() const { return head_size != 0; }
    std::size_t step_sizes() const { return has_heads() ? d_inner / head_size : d_inner; }
    // Channels of the convolution: x, and with heads B and C.
    std::size_t convolution_channels() const {
        return has_heads() ? d_inner + 2 * groups * d_state : d_inner;
    }
    // First row of z in in_proj, behind x and with heads B, C and dt.
    std::size_t gate_row() const {
        return convolution_channels() + (has_heads() ? step_sizes() : 0);
    }
};

struct Network;     // the parsed program, src/program.hpp
struct BlockState;  // what one block leaves behind, src/block.hpp
class TeamExecutor;
class TeamState;

// An integer program, read and checked.
class Program {
public:
    // Reads an artifact, a safetensors file with a manifest. Throws Error if it is missing,
    // truncated, corrupt, of another version, or breaks one of its formats.
    static Program load(const std::string& path);

    // The same of bytes in memory; `name` only names the source in errors.
    static Program from_bytes(std::string_view bytes, const std::string& name);

    const Shape& shape() const;
    const std::string& scheme() const;
    int logit_fraction() const;
    const Network& network() const { return *network_; }

private:
    friend class TeamExecutor;
    explicit Program(std::shared_ptr<const Network> network) : network_(std::move(network)) {}
    std::shared_ptr<const Network> network_;
};

// What a sequence of tokens, or a stream of frames, leaves behind in the machine. Copying saves it,
// assigning restores it.
class State {
public:
    // The state at the start of a sequence.
    explicit State(const Program& program);
    State(const State& other);
    State& operator=(const State& other);
    ~State();

    void reset();

    // The last K - 1 convolution inputs, oldest first, (layers, K - 1, channels). A convolution that
    // looks ahead keeps to its frame and leaves none.
    std::vector<std::int32_t> window() const;

    // The recurrent state h, (layers, e, n), or the moving averages, (layers, e).
    std::vector<std::int32_t> scan() const;

    // Replaces both, in the same orders. Throws Error if a size or a value is not the program's.
    void restore(const std::vector<std::int32_t>& window, const std::vector<std::int32_t>& scan);

private:
    friend class Executor;
    friend class TeamState;
    Program program_;
    std::vector<BlockState> blocks_;
};

// Called with the name of a value, its layer (-1 outside the layers) and its integers, (count,
// width), in the order in which the golden model names them.
using Probe = std::function<void(const char* name, int layer, const std::int32_t* values,
                                 std::size_t count, std::size_t width)>;

// Instruction sets that the inner loops exist for; all compute the same integers.
enum class Instructions { portable, avx2, avx512 };

// Those that this processor has, the best first.
std::vector<Instructions> available_instructions();
inline Instructions best_instructions() { return available_instructions().front(); }

// The name, "portable", "avx2" or "avx512", and back; throws Error if there is no such set or this
// processor lacks it.
const char* instructions_name(Instructions instructions);
Instructions find_instructions(const std::string& name);

// Runs a program; it holds constants only.
class Executor {
public:
    explicit Executor(const Program& program, Instructions instructions = best_instructions());
    ~Executor();
    Executor(Executor&&) noexcept;
    Executor& operator=(Executor&&) noexcept;

    const Program& program() const;

    // Runs one token of a language model, writes V logits and advances the state. Throws Error if
    // the token is outside the vocabulary or the program is a frame network.
    void step(std::int64_t token, State& state, std::int32_t* logits) const;

    // The same of `count` tokens: `logits` is (count, V). Equal to that many steps.
    void forward(const std::int64_t* tokens, std::size_t count, State& state, std::int32_t* logits,
                 const Probe& probe = {}) const;

    // Writes `count` tokens, each the arg-max of the logits before it, the lowest index among
    // equals; the first follows `token`.
    void generate(std::int64_t token, std::size_t count, State& state, std::int64_t* tokens) const;

    // Runs `count` frames of a frame network, (count, rows, F), each from a state of zeros; `outputs`
    // is (count, V). Throws Error if a feature is too wide or the program is a language model.
    void frames(const std::int64_t* features, std::size_t count, std::int32_t* outputs,
                const Probe& probe = {}) const;

    // The same of frames that continue one stream: each begins with the state that the one before
    // left behind, the first with `state`, which is advanced.
    void advance(const std::int64_t* features, std::size_t count, State& state,
                 std::int32_t* outputs, const Probe& probe = {}) const;

private:
    friend class TeamExecutor;
    struct Prepared;
    void check_tokens(const std::int64_t* tokens, std::size_t count) const;

    std::unique_ptr<Prepared> prepared_;
};

class Team;  // threads that meet, src/team.hpp

// Runs one stream by several threads, each with a share of the channels; the same integers as an
// Executor. Throws Error if the program is not of Mamba-1 blocks, or too small for so many threads.
class TeamExecutor {
public:
    TeamExecutor(const Program& program, std::size_t threads,
                 Instructions instructions = best_instructions());
    TeamExecutor(TeamExecutor&&) noexcept = default;
    TeamExecutor& operator=(TeamExecutor&&) noexcept = default;

    const Program& program() const { return program_; }

    // As those of Executor.
    void step(std::int64_t token, TeamState& state, std::int32_t* logits) const;
    void forward(const std::int64_t* tokens, std::size_t count, TeamState& state,
                 std::int32_t* logits) const;
    void generate(std::int64_t token, std::size_t count, TeamState& state,
                  std::int64_t* tokens) const;

private:
    friend class TeamState;
    Program program_;
    std::vector<Executor> shares_;
};

// The state of a stream, each thread's share by itself, and the threads, which sleep between calls. A
// copy has threads of its own. As for a State, calls come from one thread at a time.
class TeamState {
public:
    explicit TeamState(const TeamExecutor& executor);
    TeamState(const TeamState& other);
    TeamState& operator=(const TeamState& other) = delete;
    ~TeamState();

    void reset();

    // As those of State.
    std::vector<std::int32_t> window() const;
    std::vector<std::int32_t> scan() const;
    void restore(const std::vector<std::int32_t>& window, const std::vector<std::int32_t>& scan);

private:
    friend class TeamExecutor;
    Program program_;
    std::vector<State> shares_;
    std::unique_ptr<Team> team_;
};

}  // namespace scanwright

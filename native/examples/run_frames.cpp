// Runs a frame network on a stream of frames from a file and prints the outputs of every frame.
//
//     run_frames ARTIFACT FRAMES [INSTRUCTIONS]
//
// FRAMES holds whitespace-separated features, a frame a line, row by row. Every frame begins with the
// state that the one before left behind; an empty line ends the stream. The output has the same form.
// The exit code is 0, or 2 with one line of reason on stderr.
#include <iostream>

#include "command.hpp"

namespace {

void run_lines(const scanwright::Executor& executor, std::ifstream& file) {
    const scanwright::Shape& shape = executor.program().shape();
    scanwright::State state(executor.program());
    std::vector<std::int32_t> outputs(shape.vocabulary);
    for (std::string line; std::getline(file, line);) {
        const std::vector<std::int64_t> frame = parse_line(line, "frames");
        if (frame.empty()) {
            state.reset();
            std::cout << '\n';
            continue;
        }
        if (frame.size() != shape.frame_rows() * shape.features) {
            throw scanwright::Error("a frame has " + std::to_string(frame.size()) +
                                    " features, the program reads " +
                                    std::to_string(shape.frame_rows()) + " rows of " +
                                    std::to_string(shape.features) + "; give whole frames");
        }
        executor.advance(frame.data(), 1, state, outputs.data());
        const char* separator = "";
        for (const std::int32_t output : outputs) {
            std::cout << separator << output;
            separator = " ";
        }
        std::cout << '\n';
    }
}

void run(const std::vector<std::string>& words) {
    if (words.size() < 2 || words.size() > 3) {
        throw scanwright::Error("usage: run_frames ARTIFACT FRAMES [INSTRUCTIONS]");
    }
    const auto program = scanwright::Program::load(words[0]);
    if (!program.shape().is_frame_network()) {
        throw scanwright::Error(words[0] + " is a language model; run it by run_tokens");
    }
    std::ifstream file = open_lines(words[1], "frames");
    run_lines(scanwright::Executor(program, parse_instructions(words, 2)), file);
}

}  // namespace

int main(int count, char** words) { return exit_code(run, count, words); }

// What the examples have in common: lines of numbers from a file, and how they end.
#pragma once

#include <cstdint>
#include <cstdio>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "scanwright/scanwright.hpp"

// The file of the `what` at a path.
inline std::ifstream open_lines(const std::string& path, const std::string& what) {
    std::ifstream file(path);
    if (!file) throw scanwright::Error("no " + what + " at " + path + "; name a readable file");
    return file;
}

// The whitespace-separated numbers of a line of them.
inline std::vector<std::int64_t> parse_line(const std::string& line, const std::string& what) {
    std::istringstream words(line);
    std::vector<std::int64_t> numbers;
    for (std::int64_t number = 0; words >> number;) numbers.push_back(number);
    if (!words.eof()) {
        throw scanwright::Error("the " + what + " hold something that is no number");
    }
    return numbers;
}

// The instruction set that a command's words name in place `index`, the best if they do not.
inline scanwright::Instructions parse_instructions(const std::vector<std::string>& words,
                                                   std::size_t index) {
    return words.size() > index ? scanwright::find_instructions(words[index])
                                : scanwright::best_instructions();
}

// Runs a command's words and returns its exit code: 0, or 2 with one line of reason on stderr.
template <typename Command>
int exit_code(const Command& command, int count, char** words) {
    try {
        command(std::vector<std::string>(words + 1, words + count));
    } catch (const scanwright::Error& error) {
        std::fprintf(stderr, "error: %s\n", error.what());
        return 2;
    }
    return 0;
}

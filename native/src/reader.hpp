// Takes tensors and numbers out of an artifact and checks each against its format.
#pragma once

#include <functional>
#include <initializer_list>
#include <string>
#include <vector>

#include "program.hpp"

namespace scanwright {

class Reader {
public:
    explicit Reader(const Artifact& artifact) : artifact_(artifact) {}

    // The tensor `name`, of that shape and within `bits`.
    Integers tensor(const std::string& name, const std::vector<std::size_t>& shape, int bits,
                    bool is_signed = true) const;

    // A matrix whose accumulator holds every input of `input_bits`, with its bias if it has one.
    Matrix matrix(const std::string& name, std::size_t rows, std::size_t columns, int weight_bits,
                  int input_bits, bool biased = false) const;

    // The same of a block's matrix, in the scheme's weights.
    Matrix block_matrix(const std::string& name, std::size_t rows, std::size_t columns,
                        const Scheme& scheme, int input_bits, bool biased = false) const;

    NormWeight norm(const std::string& name, const Network& network, int weight_fraction,
                    int output_fraction) const;

    LinearTable table(const std::string& name, std::size_t segments) const;

private:
    // Brings the weights of every group of columns to the unit of their row.
    void scale_groups(const std::string& name, std::size_t group, Matrix& matrix) const;

    const Artifact& artifact_;
};

// Throws Error if a row's sum can leave an int32 for some input of `input_bits`.
void check_accumulator(const std::string& name, const Matrix& matrix, const Integers& bias,
                       int input_bits);

// Throws Error if an object has a member that is not listed: a program may ask for what this
// release does not know, and must not run without it.
void check_members(const std::string& name, const Json& object,
                   std::initializer_list<const char*> known);

// The integer `name` of an object within limits.
int integer_within(const Json& object, const std::string& name, std::int64_t low,
                   std::int64_t high);

// Fraction bits that the manifest holds as a number, in limits that keep sums of them in an int.
int fraction_of(const Json& object, const std::string& name);

// The result of `shift` for every index, checked to be a shift that the hardware has.
Integers checked_shifts(const std::string& name, std::size_t count,
                        const std::function<std::int64_t(std::size_t)>& shift);
int checked_shift(const std::string& name, std::int64_t shift);

// Reads the blocks of a network whose shape and scheme are known; src/layers.cpp.
void read_layers(const Reader& reader, const Json& program, Network& network);

}  // namespace scanwright

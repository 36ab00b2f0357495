#pragma once

#include <array>
#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "core/error.h"
#include "parallel/checkpoint_save.h"

// Checkpoints of made-up tensors for tests.

namespace trireme::test {

struct TestTensor {
    std::string name;
    std::array<int64_t, 2> global;
    bool is_vector;
    DType dtype;
    std::vector<char> bytes;  // the whole logical tensor, row-major
};

TestTensor make_tensor(const std::string& name, std::array<int64_t, 2> global, bool is_vector,
                       DType dtype, uint32_t seed);
// Four of them, odd in shape, name and type.
std::vector<TestTensor> make_tensors(uint32_t seed = 0);
// A box's bytes, row-major.
std::vector<char> box_of(const TestTensor& tensor, const Box& box);

// Pieces of one rank with the memory that they point to.
struct RankPieces {
    std::vector<CheckpointPiece> pieces;
    std::vector<std::vector<char>> memory;

    void add(const TestTensor& tensor, const Box& box);
};

// Cuts a box into random ones.
std::vector<Box> random_tiling(const Box& whole, std::mt19937& random);
// All tensors in random pieces, spread over ranks.
std::vector<RankPieces> random_pieces(const std::vector<TestTensor>& tensors, int ranks,
                                      std::mt19937& random);

CheckpointState make_state(int64_t step, int ranks);
// Saves from as many ranks as there are entries. What each rank threw (exit code ok: nothing).
std::vector<Error> save(const std::string& folder, int64_t step,
                        const std::vector<RankPieces>& pieces);
void save_well(const std::string& folder, int64_t step, const std::vector<RankPieces>& pieces);

// Reads every tensor whole and in random boxes.
void check_equal(const std::string& folder, const std::vector<TestTensor>& tensors,
                 std::mt19937& random);
// Opens the checkpoint and reads all of it. What was found wrong.
std::vector<std::string> faults_of(const std::string& folder);

std::vector<std::string> names_in(const std::string& folder);  // sorted
void overwrite(const std::string& path, const std::string& content);

}  // namespace trireme::test

#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <vector>

// What instructions of a warp (tensor_core.cpp) need of the emulated block.
namespace cuda_emulation {

enum class WarpInstruction : uint8_t { shuffle, barrier, multiply_add, load_matrices };

// The calling thread's lane, and what every lane of its warp gives: from lane 0 on, once all of
// them have called this; valid until the caller's next exchange in the warp. Ends the program when
// lanes meet in different instructions or one for tensor cores lacks some of 32.
using WarpWords = std::array<uint64_t, 3>;
int lane_of_warp();
const WarpWords* share_in_warp(WarpInstruction instruction, const WarpWords& words);

[[noreturn]] void fail(const char* what);

// Copies to shared memory that a thread has asked for and not yet waited for.
class LateCopies {
public:
    // 16 bytes, or zeros. Until they arrive there is rubbish.
    void ask(void* to, const void* from, bool zeros);
    void mark();         // ends a group
    void wait(int but);  // for all groups but this many newest ones
    bool empty() const;

private:
    struct Copy {
        void* to;
        const void* from;
        bool zeros;
    };
    std::vector<Copy> open_;  // since the last mark
    std::deque<std::vector<Copy>> groups_;
};
LateCopies& copies_of_thread();

}  // namespace cuda_emulation

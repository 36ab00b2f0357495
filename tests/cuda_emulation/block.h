#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <vector>

// What instructions of a warp (tensor_core.cpp) need of the emulated block.
namespace cuda_emulation {

// The calling thread's lane, and what every lane of its warp gives: from lane 0 on, once all of
// them have called this; valid until the caller's next exchange in the warp.
using WarpWords = std::array<uint64_t, 3>;
int lane_of_warp();
const WarpWords* share_in_warp(const WarpWords& words);

// Copies to shared memory that a thread has asked for and not yet waited for.
class LateCopies {
public:
    // 16 bytes, of which those behind `bytes` are zeros. Until they arrive there is rubbish.
    void ask(void* to, const void* from, int bytes);
    void mark();         // ends a group
    void wait(int but);  // for all groups but this many newest ones
    bool empty() const;

private:
    struct Copy {
        void* to;
        const void* from;
        int bytes;
    };
    std::vector<Copy> open_;  // since the last mark
    std::deque<std::vector<Copy>> groups_;
};
LateCopies& copies_of_thread();

}  // namespace cuda_emulation

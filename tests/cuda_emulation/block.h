#pragma once

#include <cstdint>
#include <deque>
#include <vector>

// What instructions of a warp (tensor_core.cpp) need of the emulated block.
namespace cuda_emulation {

// What all 32 lanes of a warp do as one: called once, when each of them has come to do_together
// with the same work, with the arguments that they gave, from lane 0 on. Ends the program when
// lanes meet that do different things.
using WarpWork = void (*)(void* const* arguments);
void do_together(WarpWork work, void* argument);

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

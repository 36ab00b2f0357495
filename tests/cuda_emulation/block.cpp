// The threads of one block as fibers of the thread that runs their stream: each runs until it
// reaches a barrier, then the next one goes on.

#include <sys/mman.h>
#if !defined(__x86_64__)
#include <ucontext.h>
#endif

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <memory>
#include <mutex>
#include <vector>

#include <cuda_runtime.h>

#include "tests/cuda_emulation/block.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#endif
#if defined(__SANITIZE_THREAD__)
#include <sanitizer/tsan_interface.h>
#endif

namespace cuda_emulation {

void fail(const char* what) {
    std::fprintf(stderr, "CUDA emulation: %s\n", what);
    std::abort();
}

namespace {

constexpr size_t kStackBytes = size_t{128} << 10;
constexpr int kWarp = 32;
constexpr int kMostThreads = 1024;

// A place to go on from. ucontext's own switch asks the kernel for the signal mask each time, which
// takes most of an emulated kernel's time; on x86-64 the registers are saved here instead.
#if defined(__x86_64__)
struct Context {
    void* stack_pointer = nullptr;
};

extern "C" void cuda_emulation_switch(void** from_stack_pointer, void* to_stack_pointer);
asm(R"(
    .text
    .globl cuda_emulation_switch
    .type cuda_emulation_switch, @function
cuda_emulation_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
    .size cuda_emulation_switch, . - cuda_emulation_switch
)");

void prepare(Context& context, char* stack, size_t bytes, void (*entry)()) {
    // As if entry had been called, which leaves the stack 8 bytes off a multiple of 16, and had
    // then switched away with all registers zero.
    auto* top = reinterpret_cast<void**>(stack + bytes) - 1;
    *--top = reinterpret_cast<void*>(entry);
    for (int i = 0; i < 6; ++i) *--top = nullptr;
    context.stack_pointer = top;
}

void switch_context(Context& from, Context& to) {
    cuda_emulation_switch(&from.stack_pointer, to.stack_pointer);
}
#else
using Context = ucontext_t;

void prepare(Context& context, char* stack, size_t bytes, void (*entry)()) {
    getcontext(&context);
    context.uc_stack.ss_sp = stack;
    context.uc_stack.ss_size = bytes;
    context.uc_link = nullptr;
    makecontext(&context, entry, 0);
}

void switch_context(Context& from, Context& to) {
    swapcontext(&from, &to);
}
#endif

enum class Waits : uint8_t { nothing, block, warp, ended };

struct Fiber {
    Context context{};
    char* stack = nullptr;
    ThreadPlace place{};
    LateCopies copies;
    void* fake_stack = nullptr;
    void* tsan_fiber = nullptr;
};

// What lanes come to that is no work.
void shuffle(void* const* /*arguments*/) {}
void barrier(void* const* /*arguments*/) {}

// A block in execution. Its fibers are used again.
class Block {
public:
    ~Block() {
        for (auto& fiber : fibers_) {
            munmap(fiber->stack, kStackBytes);
#if defined(__SANITIZE_THREAD__)
            __tsan_destroy_fiber(fiber->tsan_fiber);
#endif
        }
    }

    void run(uint3 index, dim3 grid, dim3 threads, const std::function<void()>& body) {
        const int n = static_cast<int>(threads.x * threads.y * threads.z);
        while (static_cast<int>(fibers_.size()) < n) add_fiber();
        n_threads_ = n;
        body_ = &body;
        block_ = {};
        warps_ = {};
        waits_.fill(Waits::nothing);
        turn_.fill(0);
        int i = 0;
        for (unsigned z = 0; z < threads.z; ++z) {
            for (unsigned y = 0; y < threads.y; ++y) {
                for (unsigned x = 0; x < threads.x; ++x, ++i) {
                    Fiber& fiber = *fibers_[static_cast<size_t>(i)];
                    fiber.place = {{x, y, z}, index, threads, grid};
                    fiber.copies = {};
                    start(fiber);
                }
            }
        }
        // Two orders, and each warp as far as it can go, so that a missing barrier shows.
        const bool descending = (index.x + index.y + index.z) % 2 == 1;
        const int warps = (n + kWarp - 1) / kWarp;
        ended_ = 0;
        while (ended_ < n) {
            bool progressed = false;
            for (int k = 0; k < warps; ++k) {
                const int first = (descending ? warps - 1 - k : k) * kWarp;
                const int end = std::min(first + kWarp, n);
                while (run_warp(first, end, descending)) progressed = true;
            }
            if (!progressed) fail("a barrier that some threads of a block never reach");
        }
    }

    const ThreadPlace& place() const {
        return current().place;
    }

    void synchronize() {
        if (block_.ended > 0) fail("__syncthreads after a thread of the block has ended");
        wait_as(Waits::block);
        if (++block_.waiting == n_threads_) {
            block_.waiting = 0;
            release(0, n_threads_);
        }
        yield();
    }

    // The value that `lane` of this thread's warp gave. A thread can be one exchange ahead of
    // another, whose value it must not write over yet; so values lie in two places in turn.
    uint64_t exchange(uint64_t value, int lane) {
        const int first = current_ / kWarp * kWarp;
        auto& values = values_[turn_[static_cast<size_t>(current_)] ^= 1];
        values[static_cast<size_t>(current_)] = value;
        synchronize_warp(shuffle, nullptr);
        if (first + lane >= n_threads_) fail("a shuffle with a lane that does not exist");
        return values[static_cast<size_t>(first + lane)];
    }

    // The last lane that comes does the work for all of them.
    void synchronize_warp(WarpWork work, void* argument) {
        const int first = current_ / kWarp * kWarp;
        const int end = std::min(first + kWarp, n_threads_);
        Count& warp = warps_[static_cast<size_t>(first / kWarp)];
        if (warp.ended > 0) fail("an exchange of a warp of which a lane has ended");
        wait_as(Waits::warp);
        works_[static_cast<size_t>(current_)] = work;
        arguments_[static_cast<size_t>(current_)] = argument;
        if (++warp.waiting < end - first) return yield();
        warp.waiting = 0;
        if (std::any_of(&works_[static_cast<size_t>(first)],
                        &works_[static_cast<size_t>(end - 1)] + 1,
                        [&](WarpWork other) { return other != work; })) {
            fail("lanes of a warp that meet in different instructions");
        }
        if (argument) {
            if (end - first < kWarp) fail("an instruction of 32 lanes in a warp that has fewer");
            work(&arguments_[static_cast<size_t>(first)]);
        }
        release(first, end);
    }

    LateCopies& copies() {
        return current().copies;
    }

    int lane() const {
        return current_ % kWarp;
    }

private:
    // Each of the threads until it waits. False where all of them wait already.
    bool run_warp(int first, int end, bool descending) {
        bool progressed = false;
        for (int k = 0; k < end - first; ++k) {
            const int at = descending ? end - 1 - k : first + k;
            const Waits& waits = waits_[static_cast<size_t>(at)];
            if (waits != Waits::nothing) continue;
            resume(at);
            progressed = true;
            if (waits == Waits::ended) ++ended_;
        }
        return progressed;
    }

    const Fiber& current() const {
        return *fibers_[static_cast<size_t>(current_)];
    }
    Fiber& current() {
        return *fibers_[static_cast<size_t>(current_)];
    }

    // How many of some threads wait for the others, and how many have ended.
    struct Count {
        int waiting = 0, ended = 0;
    };

    void wait_as(Waits waits) {
        waits_[static_cast<size_t>(current_)] = waits;
    }

    void release(int begin, int end) {
        std::fill(waits_.begin() + begin, waits_.begin() + end, Waits::nothing);
    }

    void add_fiber() {
        auto fiber = std::make_unique<Fiber>();
        void* stack = mmap(nullptr, kStackBytes, PROT_READ | PROT_WRITE,
                           MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (stack == MAP_FAILED) fail("no memory for a thread's stack");
        fiber->stack = static_cast<char*>(stack);
#if defined(__SANITIZE_THREAD__)
        fiber->tsan_fiber = __tsan_create_fiber(0);
#endif
        fibers_.push_back(std::move(fiber));
    }

    void start(Fiber& fiber) {
        prepare(fiber.context, fiber.stack, kStackBytes, &Block::enter);
    }

    static void enter();

    void resume(int at) {
        current_ = at;
        Fiber& fiber = current();
#if defined(__SANITIZE_ADDRESS__)
        __sanitizer_start_switch_fiber(&scheduler_fake_stack_, fiber.stack, kStackBytes);
#endif
#if defined(__SANITIZE_THREAD__)
        scheduler_tsan_ = __tsan_get_current_fiber();
        __tsan_switch_to_fiber(fiber.tsan_fiber, 0);
#endif
        switch_context(scheduler_, fiber.context);
#if defined(__SANITIZE_ADDRESS__)
        __sanitizer_finish_switch_fiber(scheduler_fake_stack_, nullptr, nullptr);
#endif
    }

    void yield() {
        leave(false);
    }

    void leave([[maybe_unused]] bool for_good) {
        Fiber& fiber = current();
#if defined(__SANITIZE_ADDRESS__)
        __sanitizer_start_switch_fiber(for_good ? nullptr : &fiber.fake_stack, scheduler_stack_,
                                       scheduler_stack_bytes_);
#endif
#if defined(__SANITIZE_THREAD__)
        __tsan_switch_to_fiber(scheduler_tsan_, 0);
#endif
        switch_context(fiber.context, scheduler_);
        arrived();
    }

    void arrived() {
#if defined(__SANITIZE_ADDRESS__)
        __sanitizer_finish_switch_fiber(current().fake_stack, &scheduler_stack_,
                                        &scheduler_stack_bytes_);
#endif
    }

    std::vector<std::unique_ptr<Fiber>> fibers_;
    Count block_;
    std::array<Count, kMostThreads / kWarp> warps_{};
    // Of each thread.
    std::array<Waits, kMostThreads> waits_{};
    std::array<std::array<uint64_t, kMostThreads>, 2> values_{};  // given to the warp
    std::array<uint8_t, kMostThreads> turn_{};
    std::array<WarpWork, kMostThreads> works_{};   // that it has come to
    std::array<void*, kMostThreads> arguments_{};  // and those for it
    Context scheduler_{};
    const void* scheduler_stack_ = nullptr;
    size_t scheduler_stack_bytes_ = 0;
    void* scheduler_fake_stack_ = nullptr;
    void* scheduler_tsan_ = nullptr;
    int n_threads_ = 0;
    int ended_ = 0;
    int current_ = 0;
    const std::function<void()>* body_ = nullptr;
};

// Blocks that run no grid at the moment. A stream's thread has one only while it runs a grid: a
// thousand fibers for each of a mesh's many streams are more mappings than a process may have.
class IdleBlocks {
public:
    std::unique_ptr<Block> take() {
        const std::lock_guard lock(mutex_);
        if (blocks_.empty()) return std::make_unique<Block>();
        auto block = std::move(blocks_.back());
        blocks_.pop_back();
        return block;
    }
    void give_back(std::unique_ptr<Block> block) {
        const std::lock_guard lock(mutex_);
        blocks_.push_back(std::move(block));
    }

private:
    std::mutex mutex_;
    std::vector<std::unique_ptr<Block>> blocks_;
};

IdleBlocks& idle_blocks() {
    static IdleBlocks blocks;
    return blocks;
}

thread_local Block* block_of_thread = nullptr;  // while it runs a grid

Block& block() {
    return *block_of_thread;
}

void Block::enter() {
    Block& here = block();
    here.arrived();
    (*here.body_)();
    if (!here.copies().empty()) fail("a thread ended before its copies were there");
    here.wait_as(Waits::ended);
    ++here.block_.ended;
    ++here.warps_[static_cast<size_t>(here.current_ / kWarp)].ended;
    here.leave(true);
}

thread_local std::vector<char> dynamic_shared;

}  // namespace

const ThreadPlace& place() {
    return block().place();
}

void synchronize_block() {
    block().synchronize();
}

uint64_t exchange_in_warp(uint64_t value, int mask) {
    return block().exchange(value, block().lane() ^ mask);
}

uint64_t take_from_lane(uint64_t value, int lane) {
    return block().exchange(value, lane);
}

void synchronize_warp() {
    block().synchronize_warp(barrier, nullptr);
}

void do_together(WarpWork work, void* argument) {
    block().synchronize_warp(work, argument);
}

LateCopies& copies_of_thread() {
    return block().copies();
}

void* dynamic_shared_memory() {
    return reinterpret_cast<void*>((reinterpret_cast<uintptr_t>(dynamic_shared.data()) + 127) /
                                   128 * 128);
}

void run_grid(dim3 blocks, dim3 threads, size_t shared_bytes, const std::function<void()>& thread) {
    if (threads.x * threads.y * threads.z > kMostThreads) fail("more than 1024 threads in a block");
    dynamic_shared.resize(shared_bytes + 128);
    auto block = idle_blocks().take();
    block_of_thread = block.get();
    for (unsigned z = 0; z < blocks.z; ++z) {
        for (unsigned y = 0; y < blocks.y; ++y) {
            for (unsigned x = 0; x < blocks.x; ++x) {
                block->run({x, y, z}, blocks, threads, thread);
            }
        }
    }
    block_of_thread = nullptr;
    idle_blocks().give_back(std::move(block));
}

}  // namespace cuda_emulation

#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

#include "parallel/operation.h"

namespace trireme {

// Operations from the one thread that issues them to the one thread that carries them out. No
// lock: the issuing thread must learn nothing about completed work here, only by waiting on an
// event; otherwise ThreadSanitizer could not see a wait that was forgotten. Blocks are recycled,
// so nothing is allocated once the queue has been at its longest.
class OperationQueue {
public:
    OperationQueue() = default;
    OperationQueue(const OperationQueue&) = delete;
    OperationQueue& operator=(const OperationQueue&) = delete;

    // Issuing thread.
    void push(const Operation& operation) {
        if (blocks_.empty() || write_at_ == kBlockSize) next_write_block();
        write_block_->slots[write_at_++] = operation;
        issued_.store(issued_.load(std::memory_order_relaxed) + 1, std::memory_order_release);
    }

    // Carrying thread. Null when empty; valid until pop.
    const Operation* front() {
        if (issued_.load(std::memory_order_acquire) == taken_) return nullptr;
        if (!read_block_) {
            read_block_ = first_;
        } else if (read_at_ == kBlockSize) {
            read_block_ = read_block_->next;
            read_at_ = 0;
            // The issuing thread only asks whether whole blocks are free. Only now is the last one:
            // before, a block put in behind it would have changed what comes next here.
            freed_.store(taken_, std::memory_order_release);
        }
        return &read_block_->slots[read_at_];
    }
    void pop() {
        ++read_at_;
        ++taken_;
    }

private:
    static constexpr size_t kBlockSize = 64;
    struct Block {
        std::array<Operation, kBlockSize> slots;
        uint64_t end = 0;  // count of operations issued up to and including this block
        Block* next = nullptr;
    };

    void next_write_block() {
        // The second from the start, so that it does not depend on the carrying thread's pace
        // whether and when it is needed.
        if (blocks_.empty()) insert_block(insert_block(nullptr));
        Block* block = write_block_ ? write_block_->next : first_;
        if (block->end > freed_.load(std::memory_order_acquire)) block = insert_block(write_block_);
        block->end = issued_.load(std::memory_order_relaxed) + kBlockSize;
        write_block_ = block;
        write_at_ = 0;
    }

    Block* insert_block(Block* before) {
        blocks_.push_back(std::make_unique<Block>());
        Block* block = blocks_.back().get();
        block->next = before ? before->next : block;
        if (before)
            before->next = block;
        else
            first_ = block;
        return block;
    }

    // Issuing thread.
    std::vector<std::unique_ptr<Block>> blocks_;  // a ring through `next`
    Block* first_ = nullptr;
    Block* write_block_ = nullptr;
    size_t write_at_ = 0;
    // Carrying thread.
    Block* read_block_ = nullptr;
    size_t read_at_ = 0;
    uint64_t taken_ = 0;
    // Both.
    alignas(64) std::atomic<uint64_t> issued_{0};
    alignas(64) std::atomic<uint64_t> freed_{0};
};

}  // namespace trireme

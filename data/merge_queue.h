#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <queue>
#include <vector>

namespace trireme {

// A priority queue of the merges to try in a long piece; the least key goes first. Keys are a merge
// above a place. Long pieces are mostly runs of few characters, where the keys of one merge come
// with rising places: these stay in a row, and only what comes out of order goes to a heap.
class MergeQueue {
public:
    // A key has the merge in the bits from `place_bits` on, and is not UINT64_MAX.
    explicit MergeQueue(int place_bits) : place_bits_(place_bits) { heads_.fill(UINT64_MAX); }

    void push(uint64_t key) {
        const size_t row = key >> place_bits_ & (kRows - 1);
        std::vector<uint64_t>& keys = rows_[row].keys;
        if (keys.empty()) {
            heads_[row] = key;
        } else if (key < keys.back()) {
            return heap_.push(key);
        }
        keys.push_back(key);
    }

    // Takes out the least key; UINT64_MAX when there is none.
    uint64_t pop() {
        const uint64_t head = *std::min_element(heads_.begin(), heads_.end());
        if (!heap_.empty() && heap_.top() < head) {
            const uint64_t key = heap_.top();
            heap_.pop();
            return key;
        }
        if (head != UINT64_MAX) advance(head >> place_bits_ & (kRows - 1));
        return head;
    }

private:
    static constexpr size_t kRows = 16;
    struct Row {
        std::vector<uint64_t> keys;  // rising
        size_t first = 0;
    };

    void advance(size_t row) {
        Row& of = rows_[row];
        if (++of.first < of.keys.size()) {
            heads_[row] = of.keys[of.first];
            return;
        }
        of.keys.clear();
        of.first = 0;
        heads_[row] = UINT64_MAX;
    }

    int place_bits_;
    std::array<Row, kRows> rows_;
    std::array<uint64_t, kRows> heads_{};
    std::priority_queue<uint64_t, std::vector<uint64_t>, std::greater<>> heap_;
};

}  // namespace trireme

// The instructions of core/cuda/tensor_core.h, as PTX describes them. Each lane works out its own
// part of what the whole warp does.

#include <algorithm>
#include <bit>
#include <cstring>

#include <cuda_runtime.h>

#include "tests/cuda_emulation/block.h"

namespace cuda_emulation {

namespace {

float lower_bf16(uint32_t two) {
    return std::bit_cast<float>(two << 16);
}
float upper_bf16(uint32_t two) {
    return std::bit_cast<float>(two & 0xffff0000u);
}

uint64_t two_words(uint32_t lower, uint32_t upper) {
    return lower | static_cast<uint64_t>(upper) << 32;
}
uint32_t word(uint64_t two, int index) {
    return static_cast<uint32_t>(two >> 32 * index);
}

void check_address(const void* address) {
    if (reinterpret_cast<uintptr_t>(address) % 16 != 0) {
        fail("rows of a matrix and late copies at an address that is no multiple of 16");
    }
}

}  // namespace

// mma.m16n8k16. Words 0 and 1 of a lane: its registers of the left matrix, 2: of the right one.
void multiply_add_in_warp(float (&sums)[4], const uint32_t (&left)[4], const uint32_t (&right)[2]) {
    const WarpWords* lanes = share_in_warp(
        WarpInstruction::multiply_add,
        {two_words(left[0], left[1]), two_words(left[2], left[3]), two_words(right[0], right[1])});
    const int lane = lane_of_warp();
    float rows[2][16], columns[2][16];
    for (int pair = 0; pair < 8; ++pair) {  // of neighbours along the 16
        const int half = pair / 4;          // elements 0 to 7 or 8 to 15
        const uint64_t of_rows = lanes[lane / 4 * 4 + pair % 4][static_cast<size_t>(half)];
        for (int i = 0; i < 2; ++i) {
            rows[i][2 * pair] = lower_bf16(word(of_rows, i));
            rows[i][2 * pair + 1] = upper_bf16(word(of_rows, i));
            const int column = lane % 4 * 2 + i;
            const uint32_t of_column = word(lanes[column * 4 + pair % 4][2], half);
            columns[i][2 * pair] = lower_bf16(of_column);
            columns[i][2 * pair + 1] = upper_bf16(of_column);
        }
    }
    for (int k = 0; k < 16; ++k) {
        for (int i = 0; i < 4; ++i) sums[i] += rows[i / 2][k] * columns[i % 2][k];
    }
}

void load_matrices_in_warp(uint32_t (&to)[4], const void* row, bool transposed) {
    check_address(row);
    const WarpWords* lanes =
        share_in_warp(WarpInstruction::load_matrices, {reinterpret_cast<uintptr_t>(row)});
    const int lane = lane_of_warp();
    const auto element = [&](int matrix, int r, int c) {
        uint16_t bits;
        std::memcpy(&bits, reinterpret_cast<const char*>(lanes[8 * matrix + r][0]) + 2 * c, 2);
        return uint32_t{bits};
    };
    for (int matrix = 0; matrix < 4; ++matrix) {
        const int one = lane / 4, two = lane % 4 * 2;
        to[matrix] = transposed ? element(matrix, two, one) | element(matrix, two + 1, one) << 16
                                : element(matrix, one, two) | element(matrix, one, two + 1) << 16;
    }
}

void LateCopies::ask(void* to, const void* from, bool zeros) {
    check_address(to);
    if (!zeros) check_address(from);
    std::memset(to, 0xff, 16);  // as bf16 no numbers
    open_.push_back({to, from, zeros});
}

void LateCopies::mark() {
    groups_.push_back(std::move(open_));
    open_.clear();
}

void LateCopies::wait(int but) {
    while (groups_.size() > static_cast<size_t>(but)) {
        for (const Copy& copy : groups_.front()) {
            if (copy.zeros) {
                std::memset(copy.to, 0, 16);
            } else {
                std::memcpy(copy.to, copy.from, 16);
            }
        }
        groups_.pop_front();
    }
}

bool LateCopies::empty() const {
    return open_.empty() && std::all_of(groups_.begin(), groups_.end(),
                                        [](const auto& group) { return group.empty(); });
}

void copy_later(void* to, const void* from, bool zeros) {
    copies_of_thread().ask(to, from, zeros);
}
void mark_copies() {
    copies_of_thread().mark();
}
void wait_for_copies(int but) {
    copies_of_thread().wait(but);
}

}  // namespace cuda_emulation

// The instructions of core/cuda/tensor_core.h, as PTX describes them.

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

// Registers of a lane.
struct Product {
    float* sums;
    const uint32_t* left;
    const uint32_t* right;
};
struct Load {
    uint32_t* to;
    const void* row;
};

// mma.m16n8k16
void multiply_add(void* const* lanes) {
    float left[16][16], right[16][8], sums[16][8];
    const auto at = [&](int lane) { return *static_cast<const Product*>(lanes[lane]); };
    for (int lane = 0; lane < 32; ++lane) {
        const int one = lane / 4, two = lane % 4 * 2;
        for (int i = 0; i < 4; ++i) {
            const int row = one + i % 2 * 8, column = two + i / 2 * 8;
            left[row][column] = lower_bf16(at(lane).left[i]);
            left[row][column + 1] = upper_bf16(at(lane).left[i]);
            sums[one + i / 2 * 8][two + i % 2] = at(lane).sums[i];
        }
        for (int i = 0; i < 2; ++i) {
            right[two + 8 * i][one] = lower_bf16(at(lane).right[i]);
            right[two + 8 * i + 1][one] = upper_bf16(at(lane).right[i]);
        }
    }
    for (int row = 0; row < 16; ++row) {
        for (int k = 0; k < 16; ++k) {
            for (int column = 0; column < 8; ++column) {
                sums[row][column] += left[row][k] * right[k][column];
            }
        }
    }
    for (int lane = 0; lane < 32; ++lane) {
        for (int i = 0; i < 4; ++i) {
            at(lane).sums[i] = sums[lane / 4 + i / 2 * 8][lane % 4 * 2 + i % 2];
        }
    }
}

// ldmatrix
template <bool transposed>
void load_matrices(void* const* lanes) {
    const auto at = [&](int lane) { return *static_cast<const Load*>(lanes[lane]); };
    for (int matrix = 0; matrix < 4; ++matrix) {
        uint16_t elements[8][8];
        for (int row = 0; row < 8; ++row) {
            std::memcpy(elements[row], at(8 * matrix + row).row, sizeof elements[row]);
        }
        for (int lane = 0; lane < 32; ++lane) {
            const int one = lane / 4, two = lane % 4 * 2;
            const uint32_t first = transposed ? elements[two][one] : elements[one][two];
            const uint32_t second = transposed ? elements[two + 1][one] : elements[one][two + 1];
            at(lane).to[matrix] = first | second << 16;
        }
    }
}

void check_address(const void* address) {
    if (reinterpret_cast<uintptr_t>(address) % 16 != 0) {
        fail("rows of a matrix and late copies at an address that is no multiple of 16");
    }
}

}  // namespace

void multiply_add_in_warp(float (&sums)[4], const uint32_t (&left)[4], const uint32_t (&right)[2]) {
    Product product{sums, left, right};
    do_together(multiply_add, &product);
}

void load_matrices_in_warp(uint32_t (&to)[4], const void* row, bool transposed) {
    check_address(row);
    Load load{to, row};
    do_together(transposed ? load_matrices<true> : load_matrices<false>, &load);
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

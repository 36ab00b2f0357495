#pragma once

#include <algorithm>
#include <cstdint>

#include "core/cpu/parallel_for.h"
#include "core/dtype.h"
#include "core/error.h"

namespace trireme {

// Least number of elements worth a thread of their own in cheap element work.
inline constexpr int64_t kElementGrain = 16384;

// The same in rows of `cols` elements.
inline int64_t row_grain(int64_t cols) {
    return std::max<int64_t>(1, kElementGrain / std::max<int64_t>(cols, 1));
}

// Activations are read into f32 and rounded once when stored. bf16 is stored through its bits
// because assigning the struct keeps g++ 12 from vectorising the loop.
template <typename T>
float load(const T* from, int64_t i) {
    return static_cast<float>(from[i]);
}

inline void store(float* to, int64_t i, float value) {
    to[i] = value;
}
inline void store(bf16* to, int64_t i, float value) {
    to[i].bits = bf16(value).bits;
}

// Calls body.template operator()<T>() with the element type of an activation tensor.
template <typename Body>
void with_activation_type(DType type, const Body& body) {
    TRIREME_CHECK(type == DType::f32 || type == DType::bf16, "an activation tensor, f32 or bf16");
    if (type == DType::f32) {
        body.template operator()<float>();
    } else {
        body.template operator()<bf16>();
    }
}

}  // namespace trireme

#pragma once

#include <cstdint>
#include <vector>

#include "parallel/parameter.h"

namespace trireme {

// The part that both boxes cover; of size zero when there is none.
Box intersect(const Box& a, const Box& b);

// True when every element of `inner` lies in `outer`.
bool contains(const Box& outer, const Box& inner);

struct FlatBox {
    Box box;             // of the logical tensor
    int64_t offset = 0;  // of its first element in the flat range; the box lies there row-major,
                         // without gaps
};

// What elements [begin, begin + count) of a parameter's row-major storage are: at most three boxes
// of the logical tensor (the rest of a row, whole rows, the start of a row), in storage order.
// `whole` is the stored box; elements of the padding rows behind it belong to none.
std::vector<FlatBox> boxes_of_flat_range(const Box& whole, int64_t padding_rows, int64_t begin,
                                         int64_t count);

}  // namespace trireme

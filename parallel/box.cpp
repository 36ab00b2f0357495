#include "parallel/box.h"

#include <algorithm>

#include "core/error.h"

namespace trireme {

Box intersect(const Box& a, const Box& b) {
    Box common;
    for (size_t d = 0; d < 2; ++d) {
        common.begin[d] = std::max(a.begin[d], b.begin[d]);
        const int64_t end = std::min(a.begin[d] + a.size[d], b.begin[d] + b.size[d]);
        common.size[d] = end - common.begin[d];
        if (common.size[d] <= 0) return Box{};
    }
    return common;
}

bool contains(const Box& outer, const Box& inner) {
    for (size_t d = 0; d < 2; ++d) {
        if (inner.begin[d] < outer.begin[d]) return false;
        if (inner.begin[d] + inner.size[d] > outer.begin[d] + outer.size[d]) return false;
    }
    return true;
}

std::vector<FlatBox> boxes_of_flat_range(const Box& whole, int64_t padding_rows, int64_t begin,
                                         int64_t count) {
    const int64_t cols = whole.size[1];
    TRIREME_CHECK(begin >= 0 && count >= 0 && padding_rows >= 0 &&
                      begin + count <= (whole.size[0] + padding_rows) * cols,
                  "a flat range inside the parameter's storage");
    const int64_t end = std::min(begin + count, whole.elements());
    std::vector<FlatBox> boxes;
    for (int64_t at = begin; at < end;) {
        const int64_t row = at / cols;
        const int64_t col = at % cols;
        const int64_t left = end - at;
        Box box;
        box.begin = {whole.begin[0] + row, whole.begin[1] + col};
        box.size = col == 0 && left >= cols ? std::array<int64_t, 2>{left / cols, cols}
                                            : std::array<int64_t, 2>{1, std::min(left, cols - col)};
        boxes.push_back({box, at - begin});
        at += box.elements();
    }
    return boxes;
}

}  // namespace trireme

#include "core/tensor.h"

namespace trireme {

std::string_view name_of(DType type) {
    switch (type) {
        case DType::f32:
            return "F32";
        case DType::bf16:
            return "BF16";
        case DType::f64:
            return "F64";
        case DType::i32:
            return "I32";
        case DType::i64:
            return "I64";
        case DType::u8:
            return "U8";
        case DType::f16:
            return "F16";
        case DType::boolean:
            return "BOOL";
    }
    return "?";
}

Shape::Shape(std::initializer_list<int64_t> dims) {
    TRIREME_CHECK(dims.size() <= 4, "at most four dimensions");
    for (int64_t d : dims) {
        TRIREME_CHECK(d >= 0, "no negative dimension");
        dims_[static_cast<size_t>(rank_++)] = d;
    }
}

int64_t Shape::elements() const {
    int64_t n = 1;
    for (int i = 0; i < rank_; ++i) n *= dims_[static_cast<size_t>(i)];
    return rank_ == 0 ? 0 : n;
}

std::string Shape::to_string() const {
    std::string text = "[";
    for (int i = 0; i < rank_; ++i) {
        text += (i ? ", " : "") + std::to_string(dims_[static_cast<size_t>(i)]);
    }
    return text + "]";
}

Tensor Tensor::reshaped(Shape new_shape) const {
    TRIREME_CHECK(new_shape.elements() == elements(), "reshape to keep the number of elements");
    return {data, dtype, new_shape};
}

Tensor Tensor::row_range(int64_t begin, int64_t count) const {
    TRIREME_CHECK(begin >= 0 && count >= 0 && begin + count <= rows(), "row range inside tensor");
    const size_t offset = static_cast<size_t>(begin * cols()) * size_of(dtype);
    return {data ? static_cast<char*>(data) + offset : nullptr, dtype, Shape{count, cols()}};
}

Tensor Tensor::flat_range(int64_t begin, int64_t count) const {
    TRIREME_CHECK(begin >= 0 && count >= 0 && begin + count <= elements(), "range inside tensor");
    const size_t offset = static_cast<size_t>(begin) * size_of(dtype);
    return {data ? static_cast<char*>(data) + offset : nullptr, dtype, Shape{count}};
}

}  // namespace trireme

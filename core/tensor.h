#pragma once

#include <array>
#include <cstdint>
#include <initializer_list>
#include <string>

#include "core/dtype.h"
#include "core/error.h"

namespace trireme {

// Sizes of a tensor, outermost first, at most four.
class Shape {
public:
    Shape() = default;
    Shape(std::initializer_list<int64_t> dims);

    int rank() const { return rank_; }
    int64_t operator[](int i) const { return dims_[static_cast<size_t>(i)]; }
    int64_t elements() const;
    std::string to_string() const;  // "[2, 3]"
    bool operator==(const Shape&) const = default;

private:
    std::array<int64_t, 4> dims_{};
    int rank_ = 0;
};

// A typed, shaped, row-major, contiguous view. It never owns memory: arenas do. An empty tensor
// (no shape) stands for "absent". A tensor with a shape and null data comes from a measuring arena.
struct Tensor {
    void* data = nullptr;
    DType dtype = DType::f32;
    Shape shape;

    Tensor() = default;
    Tensor(void* data_, DType dtype_, Shape shape_) : data(data_), dtype(dtype_), shape(shape_) {}

    explicit operator bool() const { return shape.rank() > 0; }
    int64_t elements() const { return shape.elements(); }
    size_t bytes() const { return static_cast<size_t>(elements()) * size_of(dtype); }

    // As a matrix: all leading dimensions times the last one.
    int64_t cols() const { return shape.rank() == 0 ? 0 : shape[shape.rank() - 1]; }
    int64_t rows() const { return cols() == 0 ? 0 : elements() / cols(); }

    template <typename T>
    T* as() const {
        TRIREME_CHECK(dtype == DTypeOf<T>::value, "tensor element type to match the access");
        return static_cast<T*>(data);
    }

    Tensor reshaped(Shape shape) const;                     // same number of elements
    Tensor row_range(int64_t begin, int64_t count) const;   // [count, cols]
    Tensor flat_range(int64_t begin, int64_t count) const;  // [count]
};

}  // namespace trireme

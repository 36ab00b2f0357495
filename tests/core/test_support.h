#pragma once

#include <catch2/catch.hpp>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "core/cpu/cpu_device.h"
#include "core/random.h"
#include "core/tensor.h"

namespace trireme::test {

using Doubles = std::vector<double>;

// A tensor that owns its memory. What is written is rounded to the element type.
class OwnedTensor {
public:
    OwnedTensor(DType dtype, Shape shape)
        : memory_(static_cast<size_t>(shape.elements()) * size_of(dtype) + 64),
          tensor_(memory_.data(), dtype, shape) {}
    OwnedTensor(DType dtype, Shape shape, const Doubles& values) : OwnedTensor(dtype, shape) {
        for (size_t i = 0; i < values.size(); ++i) set(static_cast<int64_t>(i), values[i]);
    }
    OwnedTensor(OwnedTensor&&) = default;  // moving a vector keeps its memory in place
    OwnedTensor(const OwnedTensor& other)
        : memory_(other.memory_),
          tensor_(memory_.data(), other.tensor_.dtype, other.tensor_.shape) {}

    operator const Tensor&() const { return tensor_; }
    const Tensor& get() const { return tensor_; }
    int64_t size() const { return tensor_.elements(); }
    const std::vector<char>& bytes() const { return memory_; }

    double at(int64_t i) const {
        switch (tensor_.dtype) {
            case DType::f32: return static_cast<double>(tensor_.as<float>()[i]);
            case DType::bf16: return static_cast<double>(float{tensor_.as<bf16>()[i]});
            case DType::f64: return tensor_.as<double>()[i];
            case DType::i32: return tensor_.as<int32_t>()[i];
            default: FAIL("no such element type in tests"); return 0.0;
        }
    }
    void set(int64_t i, double value) {
        switch (tensor_.dtype) {
            case DType::f32: tensor_.as<float>()[i] = static_cast<float>(value); return;
            case DType::bf16: tensor_.as<bf16>()[i] = bf16(static_cast<float>(value)); return;
            case DType::f64: tensor_.as<double>()[i] = value; return;
            case DType::i32: tensor_.as<int32_t>()[i] = static_cast<int32_t>(value); return;
            default: FAIL("no such element type in tests");
        }
    }
    Doubles values() const {
        Doubles all;
        for (int64_t i = 0; i < size(); ++i) all.push_back(at(i));
        return all;
    }

private:
    std::vector<char> memory_;
    Tensor tensor_;
};

// Uniform in [low, high), the same for the same seed.
inline OwnedTensor random_tensor(DType dtype, Shape shape, uint64_t seed, double low = -1.0,
                                 double high = 1.0) {
    OwnedTensor tensor(dtype, shape);
    const PhiloxKey key = make_key(seed, "test");
    for (int64_t i = 0; i < tensor.size(); ++i) {
        const double u = uniform_from_bits(philox_word(key, 0, static_cast<uint64_t>(i)));
        tensor.set(i, low + (high - low) * u);
    }
    return tensor;
}

// Bounds of |got - want|: relative * |want| + absolute.
struct Tolerance {
    double relative;
    double absolute;
};

// One rounding to the type after arithmetic in f32 on values around 1.
inline Tolerance one_rounding(DType dtype) {
    return dtype == DType::bf16 ? Tolerance{1.0 / 256, 4e-6} : Tolerance{2e-6, 4e-6};
}

inline void check_close(const Doubles& got, const Doubles& want, Tolerance tolerance,
                        const std::string& what) {
    REQUIRE(got.size() == want.size());
    size_t worst = 0;
    double worst_excess = -1.0;
    for (size_t i = 0; i < got.size(); ++i) {
        const double error = std::abs(got[i] - want[i]);
        const double excess =
            error / (tolerance.relative * std::abs(want[i]) + tolerance.absolute);
        if (!(excess <= worst_excess)) {
            worst = i;
            worst_excess = excess;
        }
        if (std::isnan(excess)) break;
    }
    if (got.empty()) return;
    INFO(what << ": element " << worst << " is " << got[worst] << ", expected " << want[worst]
              << ", " << worst_excess << " times the bound");
    CHECK(worst_excess <= 1.0);
}

// Checks a gradient against central differences of a loss computed in double.
inline void check_gradient(const std::function<double(const Doubles&)>& loss, const Doubles& at,
                           const Doubles& gradient, Tolerance tolerance,
                           const std::string& what) {
    REQUIRE(at.size() == gradient.size());
    const size_t stride = std::max<size_t>(1, at.size() / 97);  // at most about a hundred elements
    Doubles got;
    Doubles want;
    Doubles moved = at;
    for (size_t i = 0; i < at.size(); i += stride) {
        const double step = 1e-5 * std::max(1.0, std::abs(at[i]));
        moved[i] = at[i] + step;
        const double above = loss(moved);
        moved[i] = at[i] - step;
        const double below = loss(moved);
        moved[i] = at[i];
        want.push_back((above - below) / (2.0 * step));
        got.push_back(gradient[i]);
    }
    check_close(got, want, tolerance, what + " against finite differences");
}

inline double dot(const Doubles& a, const Doubles& b) {
    double sum = 0.0;
    for (size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
    return sum;
}

inline Doubles plus(Doubles a, const Doubles& b) {
    for (size_t i = 0; i < a.size(); ++i) a[i] += b[i];
    return a;
}

inline Doubles minus(Doubles a, const Doubles& b) {
    for (size_t i = 0; i < a.size(); ++i) a[i] -= b[i];
    return a;
}

}  // namespace trireme::test

#include "core/cpu/matmul.h"

#include <catch2/catch.hpp>
#include <cmath>
#include <initializer_list>
#include <random>
#include <thread>
#include <vector>

#include "core/cpu/cpu_device.h"

using namespace trireme;

namespace {

// A tensor with memory of its own.
struct Buffer {
    Buffer(DType dtype, Shape shape) : bytes(static_cast<size_t>(shape.elements()) * 4 + 64) {
        tensor = Tensor(bytes.data(), dtype, shape);
    }
    double at(int64_t i) const {
        return tensor.dtype == DType::f32 ? static_cast<double>(tensor.as<float>()[i])
                                          : static_cast<double>(float(tensor.as<bf16>()[i]));
    }
    void set(int64_t i, float value) {
        if (tensor.dtype == DType::f32) {
            tensor.as<float>()[i] = value;
        } else {
            tensor.as<bf16>()[i] = bf16(value);
        }
    }
    Buffer& fill(uint32_t seed) {
        std::mt19937 random(seed);
        std::uniform_real_distribution<float> uniform(-1.0f, 1.0f);
        for (int64_t i = 0; i < tensor.elements(); ++i) set(i, uniform(random));
        return *this;
    }
    std::vector<char> bytes;
    Tensor tensor;
};

// The values in double, transposed from [rows, cols] if asked.
std::vector<double> doubles_of(const Buffer& x, int64_t rows, int64_t cols, bool transpose) {
    std::vector<double> values(static_cast<size_t>(rows * cols));
    for (int64_t i = 0; i < rows; ++i) {
        for (int64_t j = 0; j < cols; ++j) {
            const int64_t to = transpose ? j * rows + i : i * cols + j;
            values[static_cast<size_t>(to)] = x.at(i * cols + j);
        }
    }
    return values;
}

// Largest error of c against the double product, in units of what the type and the order of the
// sum may cost: eps_f32 * sum of |products| (and bf16's half unit in the last place of c).
double worst_error(const MatmulCall& call, const Buffer& a, const Buffer& b, const Buffer* bias,
                   const Buffer& before, const Buffer& c) {
    const bool at = call.a_transposed, bt = call.b_transposed;
    const auto left = doubles_of(a, at ? call.k : call.m, at ? call.m : call.k, at);
    const auto right = doubles_of(b, bt ? call.n : call.k, bt ? call.k : call.n, !bt);
    double worst = 0;
    for (int64_t i = 0; i < call.m; ++i) {
        for (int64_t j = 0; j < call.n; ++j) {
            double sum = bias ? bias->at(j) : 0.0;
            if (call.accumulate) sum += before.at(i * call.n + j);
            double size = std::abs(sum);
            const double* row = left.data() + i * call.k;
            const double* column = right.data() + j * call.k;
#pragma omp simd reduction(+ : sum, size)
            for (int64_t l = 0; l < call.k; ++l) {
                sum += row[l] * column[l];
                size += std::abs(row[l] * column[l]);
            }
            double bound = 6e-8 * (4 + std::sqrt(static_cast<double>(call.k))) * size;
            if (call.c.dtype == DType::bf16) bound += std::abs(sum) / 256;
            const double error = std::abs(c.at(i * call.n + j) - sum) / bound;
            if (!(error <= worst)) worst = error;  // NaN counts
        }
    }
    return worst;
}

struct Case {
    int64_t m, n, k;
};

void check_all_mixes(CpuMatmul& matmul, const Case& size) {
    for (int pattern = 0; pattern < 3; ++pattern) {
        for (int types = 0; types < 8; ++types) {
            for (int with_bias = 0; with_bias < (pattern == 0 ? 3 : 1); ++with_bias) {
                MatmulCall call;
                call.m = size.m, call.n = size.n, call.k = size.k;
                call.b_transposed = pattern == 0;
                call.a_transposed = call.accumulate = pattern == 2;
                const DType c_type = types & 4 ? DType::bf16 : DType::f32;
                if (call.accumulate && c_type == DType::bf16) continue;
                Buffer a(types & 1 ? DType::bf16 : DType::f32, Shape{size.m, size.k});
                Buffer b(types & 2 ? DType::bf16 : DType::f32, Shape{size.n, size.k});
                Buffer c(c_type, Shape{size.m, size.n});
                Buffer before(c_type, Shape{size.m, size.n});
                Buffer bias(with_bias == 2 ? DType::bf16 : DType::f32, Shape{size.n});
                a.fill(1), b.fill(2), c.fill(3), before.fill(3), bias.fill(4);
                call.a = a.tensor, call.b = b.tensor, call.c = c.tensor;
                if (with_bias) call.bias = bias.tensor;
                matmul.multiply(call);
                INFO("m " << size.m << " n " << size.n << " k " << size.k << " pattern " << pattern
                          << " types " << types << " bias " << with_bias);
                CHECK(worst_error(call, a, b, with_bias ? &bias : nullptr, before, c) < 1.0);
            }
        }
    }
}

void check_sizes(Bf16Matmul way, std::initializer_list<Case> sizes) {
    // Our AMX kernel runs only where the plan is to use it; oneDNN's bf16 needs AVX-512.
    if (way == Bf16Matmul::amx && this_processor().bf16_matmul != Bf16Matmul::amx) return;
    if (way == Bf16Matmul::onednn && this_processor().bf16_matmul == Bf16Matmul::convert) return;
    CpuMatmul matmul(2, way);
    for (const Case& size : sizes) check_all_mixes(matmul, size);
}

}  // namespace

TEST_CASE("products of odd sizes and all types are within their bound", "[core][matmul]") {
    const auto way = GENERATE(Bf16Matmul::convert, Bf16Matmul::amx, Bf16Matmul::onednn);
    check_sizes(way, {{17, 1, 63}, {33, 31, 257}});
}

TEST_CASE("products of more odd sizes and all types are within their bound",
          "[core][matmul][long]") {
    const auto way = GENERATE(Bf16Matmul::convert, Bf16Matmul::amx, Bf16Matmul::onednn);
    check_sizes(way, {{1, 1, 1}, {1, 17, 3}, {63, 65, 17}, {65, 257, 63}, {257, 3, 65}});
}

TEST_CASE("large products keep their bound", "[core][matmul][long]") {
    const auto way = GENERATE(Bf16Matmul::convert, Bf16Matmul::amx);
    if (way == Bf16Matmul::amx && this_processor().bf16_matmul != Bf16Matmul::amx) return;
    CpuMatmul matmul(3, way);
    check_all_mixes(matmul, {70, 330, 1090});
}

TEST_CASE("ranks that are threads multiply at the same time", "[core][matmul]") {
    const DType type = GENERATE(DType::f32, DType::bf16);
    Buffer x(type, Shape{65, 130}), w(type, Shape{70, 130});
    x.fill(1), w.fill(2);
    std::vector<Buffer> results(4, Buffer(DType::f32, Shape{65, 70}));
    std::vector<std::thread> ranks;
    for (Buffer& result : results) {
        result.tensor.data = result.bytes.data();
        ranks.emplace_back([&] {
            CpuDevice device(1);
            for (int i = 0; i < 20; ++i) {
                device.ops().linear_forward(device.compute(), x.tensor, w.tensor, {},
                                            result.tensor);
            }
        });
    }
    for (std::thread& rank : ranks) rank.join();
    MatmulCall call;
    call.m = 65, call.n = 70, call.k = 130, call.b_transposed = true;
    call.c = results[0].tensor;
    CHECK(worst_error(call, x, w, nullptr, results[0], results[0]) < 1.0);
    for (const Buffer& result : results) CHECK(result.bytes == results[0].bytes);
}

TEST_CASE("a shape makes its primitive once", "[core][matmul]") {
    CpuMatmul matmul(1, Bf16Matmul::convert);
    Buffer a(DType::f32, Shape{5, 7}), b(DType::f32, Shape{3, 7}), c(DType::f32, Shape{5, 3});
    Buffer a2(DType::f32, Shape{5, 7}), c2(DType::f32, Shape{5, 3});
    MatmulCall call;
    call.m = 5, call.n = 3, call.k = 7, call.b_transposed = true;
    call.a = a.fill(1).tensor, call.b = b.fill(2).tensor, call.c = c.tensor;
    matmul.multiply(call);
    CHECK(matmul.primitives_made() == 1);
    call.a = a2.fill(5).tensor, call.c = c2.tensor;
    matmul.multiply(call);
    CHECK(matmul.primitives_made() == 1);
    CHECK(worst_error(call, a2, b, nullptr, c2, c2) < 1.0);
    call.b_transposed = false;
    matmul.multiply(call);
    CHECK(matmul.primitives_made() == 2);
}

TEST_CASE("empty products leave the output alone and wrong sizes are refused", "[core][matmul]") {
    CpuDevice device(1);
    Buffer x(DType::f32, Shape{4, 3}), w(DType::f32, Shape{2, 3}), y(DType::f32, Shape{4, 2});
    Stream& stream = device.compute();
    const Tensor none(x.tensor.data, DType::f32, Shape{0, 3});
    const Tensor no_rows(y.tensor.data, DType::f32, Shape{0, 2});
    CHECK_NOTHROW(device.ops().linear_forward(stream, none, w.tensor, {}, no_rows));
    CHECK_THROWS_AS(device.ops().linear_forward(stream, x.tensor, y.tensor, {}, y.tensor),
                    InternalError);
    CHECK_THROWS_AS(device.ops().linear_backward_input(stream, x.tensor, w.tensor, x.tensor),
                    InternalError);
    CHECK_THROWS_AS(device.ops().linear_backward_weight(stream, y.tensor, x.tensor, y.tensor),
                    InternalError);
}

TEST_CASE("linear forward and backward multiply the way their shapes say", "[core][matmul]") {
    const DType type = GENERATE(DType::f32, DType::bf16);
    const int64_t rows = 5, k = 3, m = 2;
    CpuDevice device(2);
    Buffer x(type, Shape{rows, k}), w(type, Shape{m, k}), bias(type, Shape{m});
    Buffer y(DType::f32, Shape{rows, m}), dx(DType::f32, Shape{rows, k});
    Buffer dw(DType::f32, Shape{m, k});
    Buffer dy(type, Shape{rows, m}), db(DType::f32, Shape{m});
    x.fill(1), w.fill(2), bias.fill(3), dy.fill(4), dw.fill(5), db.fill(6);
    Buffer dw0(DType::f32, Shape{m, k}), db0(DType::f32, Shape{m});
    dw0.fill(5), db0.fill(6);
    Stream& stream = device.compute();
    device.ops().linear_forward(stream, x.tensor, w.tensor, bias.tensor, y.tensor);
    device.ops().linear_backward_input(stream, dy.tensor, w.tensor, dx.tensor);
    device.ops().linear_backward_weight(stream, dy.tensor, x.tensor, dw.tensor);
    device.ops().bias_backward(stream, dy.tensor, db.tensor);
    for (int64_t r = 0; r < rows; ++r) {
        for (int64_t j = 0; j < m; ++j) {
            double sum = bias.at(j);
            for (int64_t l = 0; l < k; ++l) sum += x.at(r * k + l) * w.at(j * k + l);
            CHECK(y.at(r * m + j) == Approx(sum).margin(1e-6));
        }
        for (int64_t l = 0; l < k; ++l) {
            double sum = 0;
            for (int64_t j = 0; j < m; ++j) sum += dy.at(r * m + j) * w.at(j * k + l);
            CHECK(dx.at(r * k + l) == Approx(sum).margin(1e-6));
        }
    }
    for (int64_t j = 0; j < m; ++j) {
        double column = db0.at(j);
        for (int64_t r = 0; r < rows; ++r) column += dy.at(r * m + j);
        CHECK(db.at(j) == Approx(column).margin(1e-6));
        for (int64_t l = 0; l < k; ++l) {
            double sum = dw0.at(j * k + l);
            for (int64_t r = 0; r < rows; ++r) sum += dy.at(r * m + j) * x.at(r * k + l);
            CHECK(dw.at(j * k + l) == Approx(sum).margin(1e-6));
        }
    }
}

TEST_CASE("column sums are exact to rounding and do not depend on threads",
          "[core][matmul][bias]") {
    const DType type = GENERATE(DType::f32, DType::bf16);
    for (const Case& size :
         {Case{1, 1, 0}, Case{257, 63, 0}, Case{65, 257, 0}, Case{1000, 515, 0}}) {
        Buffer dy(type, Shape{size.m, size.n});
        dy.fill(9);
        Buffer one(DType::f32, Shape{size.n}), four(DType::f32, Shape{size.n});
        Buffer before(DType::f32, Shape{size.n});
        one.fill(3), four.fill(3), before.fill(3);
        CpuDevice device1(1), device4(4);
        device1.ops().bias_backward(device1.compute(), dy.tensor, one.tensor);
        device4.ops().bias_backward(device4.compute(), dy.tensor, four.tensor);
        CHECK(one.bytes == four.bytes);
        double worst = 0;
        for (int64_t j = 0; j < size.n; ++j) {
            double sum = before.at(j), magnitude = std::abs(sum);
            for (int64_t i = 0; i < size.m; ++i) {
                sum += dy.at(i * size.n + j);
                magnitude += std::abs(dy.at(i * size.n + j));
            }
            worst = std::max(worst, std::abs(one.at(j) - sum) / magnitude);
        }
        CHECK(worst < 5e-7);
    }
}

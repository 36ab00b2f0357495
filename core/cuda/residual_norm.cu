#include "core/cuda/cuda_ops.h"
#include "core/cuda/cuda_stream.h"
#include "core/cuda/norm_row.h"
#include "core/cuda/residual_row.h"
#include "core/residual_norm_checks.h"

namespace trireme {

namespace {

template <typename T>
struct AddedRows {
    const T* residual;
    const T* y;
    const T* bias;  // may be null
    Mask mask;
    T* out;  // may be residual or y: a thread reads only the elements that it writes
};

// The row of a block, as a source of BlockRow.
template <typename T, int n, bool drops>
struct AddedRow {
    struct Loaded {
        RawPack<T, n> residual, y;
    };
    const AddedRows<T>& rows;
    int64_t start;

    __device__ Loaded load(int64_t pack) const {
        Loaded loaded;
        loaded.residual.load(rows.residual + start + pack * n);
        loaded.y.load(rows.y + start + pack * n);
        return loaded;
    }
    __device__ Floats<n> make(const Loaded& loaded, int64_t pack) const {
        Floats<n> bias{};
        if (rows.bias) bias = load_floats<n>(rows.bias + pack * n);
        return residual_sum<drops, n>(loaded.residual.floats(), loaded.y.floats(), bias, rows.mask,
                                      start + pack * n);
    }
};

// One block a row, which sums it, keeps the sum as it is stored and goes on as the norm alone.
template <typename T, int n, int kept, bool drops, typename Output>
__global__ void __launch_bounds__(kMostThreads)
    residual_norm_kernel(AddedRows<T> added, Output output, int64_t cols) {
    const int64_t start = blockIdx.x * cols;
    const BlockRow<T, n, kept> row(added.out + start, cols / n,
                                   AddedRow<T, n, drops>{added, start});
    output.write(row, cols);
}

// weight, bias, y: of the norm, null where it has none. make_output.template operator()<T>(): what
// the norm writes.
template <typename MakeOutput>
void add_and_normalise(Stream& stream, const ResidualAdd& add, const void* weight, const void* bias,
                       const void* y, const MakeOutput& make_output) {
    const Mask mask = make_mask(add.dropout);
    const int64_t cols = add.out.cols();
    // An absent bias has a null address, which is aligned.
    with_block_rows(
        add.out.dtype, add.out.rows(), cols,
        {add.residual.data, add.y.data, add.bias.data, add.out.data, weight, bias, y},
        [&]<typename T, int n, int kept>(const Grid& grid) {
            const auto output = make_output.template operator()<T>();
            using Output = std::remove_const_t<decltype(output)>;
            const AddedRows<T> added{add.residual.as<T>(), add.y.as<T>(),
                                     add.bias ? add.bias.as<T>() : nullptr, mask, add.out.as<T>()};
            launch(add.dropout.probability > 0.0f ? residual_norm_kernel<T, n, kept, true, Output>
                                                  : residual_norm_kernel<T, n, kept, false, Output>,
                   grid, handle_of(stream), added, output, cols);
        });
}

}  // namespace

void CudaOps::residual_add_layer_norm_forward(Stream& stream, const ResidualAdd& add,
                                              const Tensor& weight, const Tensor& bias, float eps,
                                              const Tensor& y, const Tensor& mean,
                                              const Tensor& rstd) {
    check_residual_add(add);
    check_layer_norm(add.out, weight, bias, y, mean, rstd);
    add_and_normalise(stream, add, weight.data, bias.data, y.data, [&]<typename T>() {
        return LayerNormOutput<T>{weight.as<T>(), bias.as<T>(),     eps,
                                  y.as<T>(),      mean.as<float>(), rstd.as<float>()};
    });
}

void CudaOps::residual_add_rms_norm_forward(Stream& stream, const ResidualAdd& add,
                                            const Tensor& weight, float eps, const Tensor& y,
                                            const Tensor& rstd) {
    check_residual_add(add);
    check_rms_norm(add.out, weight, y, rstd);
    add_and_normalise(stream, add, weight.data, nullptr, y.data, [&]<typename T>() {
        return RmsNormOutput<T>{weight.as<T>(), eps, y.as<T>(), rstd.as<float>()};
    });
}

}  // namespace trireme

#include "core/rounded_values.h"

#include "core/cpu/kernel_support.h"

namespace trireme {

std::span<const std::byte> bytes_in(DType type, std::span<const float> values,
                                    std::vector<bf16>& room, int threads) {
    TRIREME_CHECK(type == DType::f32 || type == DType::bf16, "values as f32 or bf16");
    if (type == DType::f32) return std::as_bytes(values);
    room.resize(values.size());
    parallel_ranges(threads, static_cast<int64_t>(values.size()), kElementGrain,
                    [&](int64_t begin, int64_t end) {
                        for (int64_t i = begin; i < end; ++i) store(room.data(), i, values[i]);
                    });
    return std::as_bytes(std::span(room));
}

}  // namespace trireme

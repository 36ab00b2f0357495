#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

namespace trireme {

// A box of a logical tensor with one or two dimensions (a vector is [1, n]).
struct Box {
    std::array<int64_t, 2> begin{0, 0};
    std::array<int64_t, 2> size{0, 0};

    int64_t elements() const { return size[0] * size[1]; }
    bool operator==(const Box&) const = default;
};

// What a rank's copy of a parameter is, in terms of the whole model.
struct ParameterSpec {
    std::string name;                     // global: "layers.3.attention.query.weight"
    std::array<int64_t, 2> global{1, 0};  // logical shape, without padding; a vector is [1, n]
    bool is_vector = false;               // written to files with one dimension
    Box box;                              // the part of the logical tensor that this rank holds
    int64_t padding_rows = 0;             // rows stored after the box that belong to no logical
                                          // tensor (padded vocabulary); always zero
    bool adjoins_previous = false;        // stored right behind the previous parameter, so that
                                          // one matmul serves both (query | key | value)
    bool own_bucket = false;              // reduced alone, once released (tied embedding)
    bool keep_whole = false;              // too small to be worth sharding (norms)
    bool is_outsize = false;              // far larger than the others (vocabulary matrices): its
                                          // bucket gets staging buffers of its own size
    bool decay = false;                   // weight decay applies (matrices)

    // Who else holds the same values, and how their gradients combine before the data axis.
    enum class Sharing {
        none,            // only this tensor rank
        tensor,          // all tensor ranks hold it and compute the same gradient
        tensor_partial,  // all tensor ranks hold it, each computes a part: sum over tensor
        tensor_kv,       // ranks of one key/value group hold it: sum over tensor_kv
    };
    Sharing sharing = Sharing::none;
    bool owner = true;  // this rank counts it in norms and writes it to checkpoints (exactly one
                        // rank of the tensor x pipeline plane does for every element)

    // Initial values: normal(0, init_std) by global element index, or this constant if std is 0.
    float init_std = 0.0f;
    float init_value = 0.0f;

    int64_t stored_elements() const { return (box.size[0] + padding_rows) * box.size[1]; }
};

}  // namespace trireme

#pragma once

#include <cstdint>

#include "core/dtype.h"

namespace trireme {

enum class Family { gpt2, llama };

// How rotary frequencies are stretched for sequences longer than those of the pretraining.
enum class RopeScalingKind { none, linear, llama3 };

struct RopeScaling {
    RopeScalingKind kind = RopeScalingKind::none;
    double factor = 1.0;
    // llama3 only: wavelengths above original / low_freq_factor are stretched by `factor`, those
    // below original / high_freq_factor not at all, and those between partly.
    double low_freq_factor = 1.0;
    double high_freq_factor = 4.0;
    int original_max_position = 8192;

    bool operator==(const RopeScaling&) const = default;
};

struct ModelOptions {
    Family family = Family::llama;
    int layers = 0;
    int hidden = 0;
    int heads = 0;
    int kv_heads = 0;    // 0: heads
    int head_dim = 0;    // 0: hidden / heads
    int ffn_hidden = 0;  // 0: 4 * hidden for gpt2; 8/3 * hidden rounded up to 16 for llama
    int vocab_size = 0;
    int max_sequence_length = 0;
    bool tie_embeddings = false;  // default by family: gpt2 true, llama false
    bool qkv_bias = false;        // llama only: biases on query, key and value; gpt2 has all biases
    bool qk_norm = false;         // llama only: RMS norm of every query and key head before RoPE
    float rope_theta = 10000.0f;
    RopeScaling rope_scaling = {};
    float norm_eps = 1.0e-5f;
    float dropout = 0.0f;
    float init_std = 0.02f;

    int64_t query_size() const { return int64_t{heads} * head_dim; }
    int64_t kv_size() const { return int64_t{kv_heads} * head_dim; }
};

struct TensorParallelOptions {
    bool sequence_parallel = false;
    int pieces = 0;       // in which tokens travel between tensor ranks; 0: automatic_pieces()
    bool overlap = true;  // while others are computed
};

struct PrecisionOptions {
    DType compute = DType::f32;  // f32 or bf16
};

}  // namespace trireme

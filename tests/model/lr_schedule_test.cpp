#include <catch2/catch.hpp>

#include "model/flops.h"
#include "model/lr_schedule.h"

namespace trireme {

TEST_CASE("every learning-rate schedule warms up, peaks and ends where it should", "[model][lr]") {
    LrScheduleOptions options{.warmup_steps = 10, .min_lr = 0.1};
    for (const LrShape shape :
         {LrShape::constant, LrShape::linear, LrShape::cosine, LrShape::wsd}) {
        options.shape = shape;
        CHECK(learning_rate(options, 1.0, 1, 110) == Approx(0.1));
        CHECK(learning_rate(options, 1.0, 5, 110) == Approx(0.5));
        CHECK(learning_rate(options, 1.0, 10, 110) == Approx(1.0));
        CHECK(learning_rate(options, 1.0, 110, 110) ==
              Approx(shape == LrShape::constant ? 1.0 : 0.1));
    }
}

TEST_CASE("half way linear and cosine are at the middle and WSD still at the peak", "[model][lr]") {
    LrScheduleOptions options{.shape = LrShape::linear, .warmup_steps = 10, .min_lr = 0.0};
    CHECK(learning_rate(options, 1.0, 60, 110) == Approx(0.5));
    options.shape = LrShape::cosine;
    CHECK(learning_rate(options, 1.0, 60, 110) == Approx(0.5));
    CHECK(learning_rate(options, 1.0, 35, 110) == Approx(0.5 + 0.5 * 0.70710678));
    options.shape = LrShape::wsd;
    options.decay_steps = 20;
    CHECK(learning_rate(options, 1.0, 90, 110) == Approx(1.0));
    CHECK(learning_rate(options, 1.0, 100, 110) == Approx(0.5));
}

TEST_CASE("without warm-up the first step has the peak rate", "[model][lr]") {
    const LrScheduleOptions options{.shape = LrShape::constant};
    CHECK(learning_rate(options, 3e-4, 1, 10) == Approx(3e-4));
}

TEST_CASE("GPT-2 124M has its known number of parameters and FLOPs", "[model][flops]") {
    ModelOptions model;
    model.family = Family::gpt2;
    model.layers = 12;
    model.hidden = 768;
    model.heads = model.kv_heads = 12;
    model.head_dim = 64;
    model.ffn_hidden = 3072;
    model.vocab_size = 50257;
    model.max_sequence_length = 1024;
    model.tie_embeddings = true;
    CHECK(count_parameters(model).total == 124439808);
    // 12 layers of 12 C^2 weights and the head, and causal attention counted half.
    const double matmul = 12.0 * 12 * 768 * 768 + 50257.0 * 768;
    CHECK(flops_per_token(model, 1024) == Approx(6 * matmul + 6.0 * 12 * 768 * 1024));
}

TEST_CASE("Llama-3 8B has its known number of parameters", "[model][flops]") {
    ModelOptions model;
    model.layers = 32;
    model.hidden = 4096;
    model.heads = 32;
    model.kv_heads = 8;
    model.head_dim = 128;
    model.ffn_hidden = 14336;
    model.vocab_size = 128256;
    CHECK(count_parameters(model).total == 8030261248);
}

}  // namespace trireme

#include <catch2/catch.hpp>

#include "tests/model/tensor_overlap_case.h"

// As tests/parallel/overlap_test.cpp, on the tensor axis: products that sleep.

namespace trireme::testing {

TEST_CASE("tokens travel behind the products that need or make them", "[model][overlap][long]") {
    ModelOptions model;
    model.family = Family::gpt2;
    model.layers = 4;
    model.hidden = 64;
    model.heads = model.kv_heads = 4;
    model.head_dim = 16;
    model.ffn_hidden = 256;
    model.vocab_size = 64;
    model.max_sequence_length = 64;
    model.tie_embeddings = true;
    // 100 ms a step. One sequence: attention waits for all of it.
    const int64_t batch = GENERATE(4, 1);
    model.max_sequence_length = static_cast<int>(256 / batch);
    const OverlapCase one =
        tensor_case("small", {.model = model, .batch = batch, .flops_per_second = 1.7e9});
    // A step without any overlap takes compute and communication one after the other. Sleeps on a
    // busy machine last longer than they should, now and then.
    double most = 0.0, together = 0.0;
    for (int attempt = 0; attempt < 3; ++attempt) {
        const OverlapTimes times = measure(one, 1);
        most = 0.8 * (times.compute + times.communication);
        together = times.together;
        if (together < most) break;
    }
    CHECK(together < most);
}

}  // namespace trireme::testing

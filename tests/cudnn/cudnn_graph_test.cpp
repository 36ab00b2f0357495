#include "core/cuda/cudnn_graph.h"

#include <catch2/catch.hpp>

#include <cmath>
#include <fstream>
#include <sstream>

namespace trireme::test {

namespace {

// No GPU is asked: cuDNN reads here what it would ask an H200.
CudnnTarget h200() {
    std::ifstream file(TRIREME_SOURCE_DIR "/tests/cudnn/h200.json");
    std::ostringstream text;
    text << file.rdbuf();
    REQUIRE(!text.str().empty());
    return {nullptr, text.str(), 90};
}

AttentionShape shape_of(int64_t batch, int64_t sequence, int heads, int kv_heads, int head_dim) {
    AttentionShape s;
    s.batch = batch, s.sequence = sequence;
    s.heads = heads, s.kv_heads = kv_heads, s.head_dim = head_dim;
    s.scale = 1.0f / std::sqrt(static_cast<float>(head_dim));
    return s;
}

}  // namespace

TEST_CASE("cuDNN has kernels for the attention of every preset on an H200", "[cudnn]") {
    const AttentionPass pass = GENERATE(AttentionPass::forward, AttentionPass::backward);
    const CudnnTarget target = h200();
    for (const AttentionShape& s :
         {shape_of(4, 1024, 12, 12, 64),     // GPT-2
          shape_of(4, 1024, 25, 25, 64),     // GPT-2 of 1.5 billion parameters
          shape_of(1, 4096, 24, 8, 128),     // Llama 3.2 of 3 billion
          shape_of(1, 4096, 32, 8, 128),     // Llama 3 of 8 billion
          shape_of(2, 4096, 4, 1, 128),      // the same on one of eight tensor ranks
          shape_of(2, 1000, 12, 12, 64)}) {  // a sequence that is no multiple of a tile
        const CudnnGraph graph(pass, s, target);
        INFO("heads " << s.heads << "/" << s.kv_heads << " of " << s.head_dim << ", sequence "
                      << s.sequence << ": " << graph.refusal());
        CHECK(graph.supported());
    }
}

TEST_CASE("cuDNN takes or refuses the small shapes of the GPU tests without failing", "[cudnn]") {
    const AttentionPass pass = GENERATE(AttentionPass::forward, AttentionPass::backward);
    const CudnnTarget target = h200();
    for (const AttentionShape& s :
         {shape_of(2, 33, 4, 2, 16), shape_of(1, 66, 2, 1, 64), shape_of(1, 70, 6, 2, 16)}) {
        const CudnnGraph graph(pass, s, target);
        UNSCOPED_INFO(graph.refusal());
        CHECK(graph.supported() == graph.refusal().empty());
    }
}

TEST_CASE("shapes that cuDNN refuses are reported with its reason", "[cudnn]") {
    const AttentionPass pass = GENERATE(AttentionPass::forward, AttentionPass::backward);
    const CudnnGraph graph(pass, shape_of(2, 128, 4, 4, 12), h200());
    CHECK_FALSE(graph.supported());
    INFO(graph.refusal());
    CHECK(graph.refusal().find("multiple of 8") != std::string::npos);
}

}  // namespace trireme::test

#include <vector>

#include "tests/gpu/gpu_training.h"

namespace trireme::test {

namespace {

// Logits of a prompt's next token, and of the tokens that follow one by one: with the keys and
// values of those before kept, or each by a whole pass.
std::vector<float> generate(Device& device, const Scenario& scenario, bool kv_cache) {
    std::vector<float> logits;
    run_thread_ranks(1, [&](World& world) {
        Mesh mesh(world, {}, kv_groups(scenario.model, 1));
        EngineOptions options = engine_options_of(scenario);
        options.micro_batches = 1;
        options.forward_only = true;
        options.kv_cache = kv_cache;
        Engine engine(context_of(scenario, device, mesh), options);
        std::vector<int32_t> tokens;
        for (int32_t t = 0; t < scenario.sequence; ++t) tokens.push_back(t * t * 31 % 257);
        for (int64_t token = 60; token < scenario.sequence; ++token) {
            const int64_t known = token == 60 || !kv_cache ? 0 : token;
            const std::vector<float> row = engine.next_token_logits(tokens, token, known);
            logits.insert(logits.end(), row.begin(), row.end());
        }
    });
    return logits;
}

void compare_generation(const ModelOptions& model, DType compute, double bound) {
    Scenario scenario;
    scenario.model = model;
    scenario.sequence = scenario.model.max_sequence_length = 70;  // more than a tile
    scenario.recompute.policy = Recompute::full;
    const auto cpu = make_device({.backend = Backend::cpu, .threads = 1}, 0, 1);
    const std::vector<float> expected = generate(*cpu, scenario, false);
    scenario.compute = compute;
    CudaDevice gpu(gpu_of(0), CudaOpsOptions{});
    const std::vector<float> got = generate(gpu, scenario, true);
    CHECK(difference_of_largest(got, expected) < bound);
}

}  // namespace

TEST_CASE("tokens generated one by one have the CPU's logits", "[gpu][generation]") {
    compare_generation(odd_model(Family::gpt2), DType::f32, 1e-5);
    compare_generation(with_additions(odd_model(Family::llama)), DType::f32, 1e-5);
    compare_generation(odd_model(Family::llama), DType::bf16, 0.03);
}

}  // namespace trireme::test

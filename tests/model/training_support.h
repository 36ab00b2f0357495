#pragma once

#include <string>
#include <vector>

#include "model/engine.h"
#include "parallel/communicator.h"

namespace trireme::test {

// A small training run with made-up tokens, described completely, so that any two can be compared.
struct Scenario {
    ModelOptions model;
    MeshShape mesh;
    std::string schedule = "1f1b";
    int virtual_stages = 1;
    int zero = 1;
    bool sequence_parallel = false;
    int pieces = 1;  // with tensor ranks
    DType compute = DType::f32;
    int64_t global_batch = 8;  // sequences
    int64_t micro_batch = 1;
    int64_t sequence = 16;
    int steps = 20;
    bool overlap = true;
    int data_shards = 0;
    int prefetch = 2;
    DType gradient_wire = DType::f32;
    RecomputeOptions recompute = {};
    bool documents_apart = false;  // sequences hold several documents, which are kept apart
    OptimizerOptions optimizer{.lr = 1.0e-3};

    std::string name() const;
};

struct Curve {
    std::vector<double> losses;
    std::vector<double> grad_norms;
};

ModelContext context_of(const Scenario& scenario, Device& device, Mesh& mesh);
EngineOptions engine_options_of(const Scenario& scenario);

// Whether a document begins at token t of a sample: at one in four, and not always at the first.
bool document_begins(int64_t sample, int64_t t);

// The micro-batches of a step for this data rank. Tokens follow a pattern that can be learnt.
class TokenSource {
public:
    TokenSource(const Scenario& scenario, int data_rank, int data_ranks);
    const std::vector<HostMicroBatch>& step(int64_t step);

private:
    const Scenario& scenario_;
    int data_rank_, data_ranks_;
    std::vector<std::vector<int32_t>> tokens_, labels_, document_begin_;
    std::vector<HostMicroBatch> micro_batches_;
};

// Steps first..last of the scenario on an engine of it; collective.
Curve run_steps(Engine& engine, const Scenario& scenario, int first, int last);

// Trains with ranks as threads of this process and returns what rank 0 saw.
Curve train(const Scenario& scenario);

// The same training on one rank, with nothing that meshes are for.
Scenario on_one_rank(Scenario scenario);

// Sizes that divide nothing nicely: vocabulary 257, five layers, 6 heads with 2 key/value heads.
ModelOptions odd_model(Family family);
// For up to eight tensor or pipeline ranks: 8 heads that share 2 key/value heads, eight layers.
ModelOptions wide_model(Family family);

// The llama model with what Qwen and later Llamas add: biases on query, key and value, norms of the
// heads, stretched RoPE, and heads that are not hidden / heads wide.
ModelOptions with_additions(ModelOptions model);

// The largest |a - b| over the largest |b|.
double difference_of_largest(const std::vector<float>& a, const std::vector<float>& b);

// Largest |a - b| / |b|.
double largest_difference(const std::vector<double>& a, const std::vector<double>& b);

}  // namespace trireme::test

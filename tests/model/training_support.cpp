#include "tests/model/training_support.h"

#include <algorithm>
#include <cmath>

#include "core/random.h"

namespace trireme::test {

std::string Scenario::name() const {
    return std::string(model.family == Family::gpt2 ? "gpt2" : "llama") +
           (model.qk_norm ? " with additions" : "") + ", " + mesh.to_string() + ", " + schedule +
           ", zero " + std::to_string(zero) +
           (data_shards > 0 ? " among " + std::to_string(data_shards) : "") +
           (sequence_parallel ? ", sequence parallel" : "") +
           (pieces > 1 ? ", " + std::to_string(pieces) + " pieces" : "") +
           (documents_apart ? ", documents apart" : "") +
           (micro_batch > 1 ? ", micro-batches of " + std::to_string(micro_batch) : "");
}

ModelContext context_of(const Scenario& scenario, Device& device, Mesh& mesh) {
    return {.device = device,
            .mesh = mesh,
            .model = scenario.model,
            .compute = scenario.compute,
            .sequence_parallel = scenario.sequence_parallel,
            .batch = scenario.micro_batch,
            .sequence = scenario.sequence,
            .seed = 1234,
            .recompute = scenario.recompute,
            .pieces = scenario.mesh.tensor > 1 ? scenario.pieces : 1,
            .overlap_tensor = scenario.overlap};
}

EngineOptions engine_options_of(const Scenario& scenario) {
    EngineOptions options;
    options.pipeline.schedule = scenario.schedule;
    options.pipeline.virtual_stages = scenario.virtual_stages;
    options.data_parallel = {.zero = scenario.zero,
                             .shards = scenario.data_shards,
                             .overlap = scenario.overlap,
                             .prefetch = scenario.prefetch,
                             .bucket_mib = 0.02,
                             .gradient_wire = scenario.gradient_wire};
    options.optimizer = scenario.optimizer;
    options.keep_documents_apart = scenario.documents_apart;
    options.micro_batches =
        static_cast<int>(scenario.global_batch / scenario.micro_batch / scenario.mesh.data);
    return options;
}

bool document_begins(int64_t sample, int64_t t) {
    return philox_word(make_key(5, "documents"), 0, static_cast<uint64_t>(sample * 1000 + t)) % 4 ==
           0;
}

TokenSource::TokenSource(const Scenario& scenario, int data_rank, int data_ranks)
    : scenario_(scenario), data_rank_(data_rank), data_ranks_(data_ranks) {
    const int64_t n = scenario.global_batch / scenario.micro_batch / data_ranks;
    const size_t size = static_cast<size_t>(scenario.micro_batch * scenario.sequence);
    tokens_.assign(static_cast<size_t>(n), std::vector<int32_t>(size));
    labels_ = document_begin_ = tokens_;
    micro_batches_.resize(static_cast<size_t>(n));
}

const std::vector<HostMicroBatch>& TokenSource::step(int64_t step) {
    const int64_t first = (step - 1) * scenario_.global_batch;
    int64_t counted = scenario_.global_batch * scenario_.sequence;
    for (int64_t i = 0; i < scenario_.global_batch * scenario_.sequence; ++i) {
        counted -= document_begins(first + i / scenario_.sequence, i % scenario_.sequence + 1);
    }
    for (size_t j = 0; j < micro_batches_.size(); ++j) {
        const int64_t first_sample = first +
                                     static_cast<int64_t>(j) * scenario_.micro_batch * data_ranks_ +
                                     data_rank_ * scenario_.micro_batch;
        for (int64_t b = 0; b < scenario_.micro_batch; ++b) {
            // A walk around the vocabulary with a stride that depends on the sample.
            const int64_t sample = first_sample + b;
            const auto token = [&](int64_t t) {
                return static_cast<int32_t>((sample * 31 + t * (1 + sample % 5) + t * t % 3) %
                                            scenario_.model.vocab_size);
            };
            for (int64_t t = 0; t < scenario_.sequence; ++t) {
                const size_t at = static_cast<size_t>(b * scenario_.sequence + t);
                tokens_[j][at] = token(t);
                labels_[j][at] = token(t + 1);
                if (!scenario_.documents_apart) continue;
                const bool begins = t > 0 && document_begins(sample, t);
                document_begin_[j][at] = begins  ? static_cast<int32_t>(t)
                                         : t > 0 ? document_begin_[j][at - 1]
                                                 : 0;
                if (document_begins(sample, t + 1)) labels_[j][at] = -1;
            }
        }
        micro_batches_[j] = {tokens_[j], labels_[j], first_sample};
        if (scenario_.documents_apart) {
            micro_batches_[j].document_begin = document_begin_[j];
            micro_batches_[j].counted_tokens = counted;
        }
    }
    return micro_batches_;
}

Curve run_steps(Engine& engine, const Scenario& scenario, int first, int last) {
    TokenSource source(scenario, engine.model().context().mesh.at().data, scenario.mesh.data);
    Curve curve;
    for (int step = first; step <= last; ++step) {
        const StepResult result = engine.step(
            step, scenario.optimizer.lr,
            [batches = &source.step(step)](int i) { return (*batches)[static_cast<size_t>(i)]; });
        curve.losses.push_back(result.loss);
        curve.grad_norms.push_back(result.grad_norm);
    }
    return curve;
}

Curve train(const Scenario& scenario) {
    Curve curve;
    run_thread_ranks(scenario.mesh.ranks(), [&](World& world) {
        const auto device = make_device({.backend = Backend::cpu, .threads = 1}, 0, 1);
        Mesh mesh(world, scenario.mesh, kv_groups(scenario.model, scenario.mesh.tensor),
                  scenario.data_shards);
        Engine engine(context_of(scenario, *device, mesh), engine_options_of(scenario));
        Curve own = run_steps(engine, scenario, 1, scenario.steps);
        if (world.rank() == 0) curve = std::move(own);
    });
    return curve;
}

Scenario on_one_rank(Scenario scenario) {
    scenario.mesh = {};
    scenario.schedule = "1f1b";
    scenario.virtual_stages = 1;
    scenario.zero = 0;
    scenario.data_shards = 0;
    scenario.sequence_parallel = false;
    scenario.pieces = 1;
    scenario.recompute = {};
    return scenario;
}

ModelOptions odd_model(Family family) {
    ModelOptions model;
    model.family = family;
    model.layers = 5;
    model.hidden = 48;
    model.heads = 6;
    model.kv_heads = 2;
    model.head_dim = 8;
    model.ffn_hidden = 82;
    model.vocab_size = 257;
    model.max_sequence_length = 16;
    model.tie_embeddings = family == Family::gpt2;
    model.dropout = 0.1f;
    return model;
}

ModelOptions wide_model(Family family) {
    ModelOptions model = odd_model(family);
    model.layers = 9;
    model.hidden = 40;
    model.heads = 8;
    model.head_dim = 6;
    model.ffn_hidden = 72;
    model.tie_embeddings = true;
    return model;
}

ModelOptions with_additions(ModelOptions model) {
    model.head_dim += 2;
    model.qkv_bias = true;
    model.qk_norm = true;
    model.rope_scaling = {.kind = RopeScalingKind::llama3,
                          .factor = 4.0,
                          .low_freq_factor = 1.0,
                          .high_freq_factor = 4.0,
                          .original_max_position = 64};
    return model;
}

double difference_of_largest(const std::vector<float>& a, const std::vector<float>& b) {
    if (a.size() != b.size()) return INFINITY;
    double worst = 0, largest = 0;
    for (size_t i = 0; i < a.size(); ++i) {
        const double expected = static_cast<double>(b[i]);
        if (!std::isfinite(a[i]) || !std::isfinite(b[i])) return INFINITY;
        worst = std::max(worst, std::abs(static_cast<double>(a[i]) - expected));
        largest = std::max(largest, std::abs(expected));
    }
    return worst / largest;
}

double largest_difference(const std::vector<double>& a, const std::vector<double>& b) {
    if (a.size() != b.size() || a.empty()) return INFINITY;
    double largest = 0;
    for (size_t i = 0; i < a.size(); ++i) {
        largest = std::max(largest, std::abs(a[i] - b[i]) / std::abs(b[i]));
        if (!std::isfinite(a[i]) || !std::isfinite(b[i])) return INFINITY;
    }
    return largest;
}

}  // namespace trireme::test

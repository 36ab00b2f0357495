#include <catch2/catch.hpp>

#include <cmath>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "core/safetensors.h"
#include "tests/model/training_support.h"

// Against what PyTorch and Hugging Face make of the same parameters: see reference/README.md.

namespace trireme::test {

namespace {

constexpr double kBound = 1.0e-5;

// One of the stored references.
class Reference {
public:
    explicit Reference(const std::string& name)
        : path_(std::string(TRIREME_SOURCE_DIR "/tests/model/reference/") + name + ".safetensors"),
          header_(read_safetensors_header(path_)) {
        const nlohmann::json about = nlohmann::json::parse(header_.metadata.at("about"));
        const nlohmann::json& sizes = about.at("model");
        model.family = sizes.at("family") == "gpt2" ? Family::gpt2 : Family::llama;
        model.layers = sizes.at("layers");
        model.hidden = sizes.at("hidden");
        model.heads = sizes.at("heads");
        model.kv_heads = sizes.at("kv_heads");
        model.head_dim = sizes.at("head_dim");
        model.ffn_hidden = sizes.at("ffn_hidden");
        model.vocab_size = sizes.at("vocab_size");
        model.max_sequence_length = sizes.at("max_sequence_length");
        model.tie_embeddings = sizes.at("tie_embeddings");
        model.rope_theta = sizes.at("rope_theta");
        model.norm_eps = sizes.at("norm_eps");
        model.dropout = 0.0f;
        model.qkv_bias = sizes.value("qkv_bias", false);
        model.qk_norm = sizes.value("qk_norm", false);
        if (const auto rope = sizes.find("rope_scaling"); rope != sizes.end()) {
            model.rope_scaling = {
                .kind = RopeScalingKind::llama3,
                .factor = rope->at("factor"),
                .low_freq_factor = rope->at("low_freq_factor"),
                .high_freq_factor = rope->at("high_freq_factor"),
                .original_max_position = rope->at("original_max_position_embeddings")};
        }
        const nlohmann::json& adam = about.at("optimizer");
        steps = adam.at("steps");
        optimizer = {.lr = adam.at("lr"),
                     .beta1 = adam.at("betas").at(0),
                     .beta2 = adam.at("betas").at(1),
                     .eps = adam.at("eps"),
                     .weight_decay = adam.at("weight_decay"),
                     .clip_norm = adam.at("clip_norm")};
        tokens = read<int32_t>("tokens");
        labels = read<int32_t>("labels");
        sequences = header_.find("tokens")->shape.at(0);
        sequence = header_.find("tokens")->shape.at(1);
    }

    template <typename T>
    std::vector<T> read(const std::string& name) const {
        const SafetensorsEntry* entry = header_.find(name);
        if (!entry || entry->dtype != DTypeOf<T>::value) {
            throw Error(ExitCode::bad_data, path_ + ": no " + name + " of the expected type");
        }
        std::vector<T> values(entry->bytes() / sizeof(T));
        read_safetensors_bytes(path_, header_, *entry, 0, entry->bytes(), values.data());
        return values;
    }

    // The part of a tensor that a rank holds, row-major.
    std::vector<float> part(const std::string& kind, const ParameterSpec& spec) const {
        const std::vector<float> whole = read<float>(kind + "/" + spec.name);
        std::vector<float> values;
        for (int64_t row = 0; row < spec.box.size[0]; ++row) {
            const auto begin =
                whole.begin() + (spec.box.begin[0] + row) * spec.global[1] + spec.box.begin[1];
            values.insert(values.end(), begin, begin + spec.box.size[1]);
        }
        return values;
    }

    Scenario scenario() const {
        Scenario scenario;
        scenario.model = model;
        scenario.optimizer = optimizer;
        scenario.steps = steps;
        scenario.zero = 0;
        scenario.global_batch = sequences;
        scenario.micro_batch = sequences;
        scenario.sequence = sequence;
        return scenario;
    }

    // Sequences [first, first + count).
    HostMicroBatch micro_batch(int64_t first, int64_t count) const {
        const size_t begin = static_cast<size_t>(first * sequence);
        const size_t size = static_cast<size_t>(count * sequence);
        return {std::span(tokens).subspan(begin, size), std::span(labels).subspan(begin, size),
                first};
    }

    ModelOptions model;
    OptimizerOptions optimizer;
    int steps = 0;
    int64_t sequences = 0, sequence = 0;
    std::vector<int32_t> tokens, labels;

private:
    std::string path_;
    SafetensorsHeader header_;
};

// |found - expected| / |expected|.
template <typename Found, typename Expected>
double relative_difference(const Found& found, const Expected& expected) {
    if (found.size() != expected.size()) return INFINITY;
    double difference = 0, size = 0;
    for (size_t i = 0; i < expected.size(); ++i) {
        const double a = static_cast<double>(found[i]), b = static_cast<double>(expected[i]);
        difference += (a - b) * (a - b);
        size += b * b;
    }
    return std::sqrt(difference / size);
}

double norm(std::span<const float> values) {
    double sum = 0;
    for (const float value : values) sum += static_cast<double>(value) * value;
    return std::sqrt(sum);
}

void set_parameters(Engine& engine, const Reference& reference) {
    for (auto& chunk : engine.model().chunks()) {
        const ParameterStore& store = chunk->store();
        for (size_t i = 0; i < store.specs().size(); ++i) {
            const std::vector<float> values = reference.part("parameter", store.specs()[i]);
            engine.device().copy_to_device(store.value(static_cast<int>(i)).data, values.data(),
                                           values.size() * sizeof(float));
        }
    }
    engine.device().compute().synchronize();
}

// How far a rank's part of a tensor is from the reference.
struct Difference {
    std::string tensor;
    double value = 0;
};

// A bias of the keys shifts all scores of a query alike, which softmax does not see, unless a norm
// or RoPE comes between.
bool has_no_gradient(const Reference& reference, const std::string& name) {
    return reference.model.family == Family::gpt2 && name.ends_with("attention.key.bias");
}

std::span<const float> held(const Tensor& tensor, const ParameterSpec& spec) {
    return {tensor.as<float>(), static_cast<size_t>(spec.box.elements())};
}

std::vector<Difference> gradient_differences(Engine& engine, const Reference& reference,
                                             double global_norm) {
    std::vector<Difference> all;
    for (auto& chunk : engine.model().chunks()) {
        const ParameterStore& store = chunk->store();
        for (size_t i = 0; i < store.specs().size(); ++i) {
            const ParameterSpec& spec = store.specs()[i];
            const auto found = held(store.gradient(static_cast<int>(i)), spec);
            // The true gradient is zero, so what is found can only be measured against the rest.
            const double value = has_no_gradient(reference, spec.name)
                                     ? norm(found) / global_norm
                                     : relative_difference(found, reference.part("gradient", spec));
            all.push_back({"gradient/" + spec.name, value});
        }
    }
    return all;
}

std::vector<Difference> parameter_differences(Engine& engine, const Reference& reference) {
    std::vector<Difference> all;
    for (auto& chunk : engine.model().chunks()) {
        const ParameterStore& store = chunk->store();
        for (size_t i = 0; i < store.specs().size(); ++i) {
            const ParameterSpec& spec = store.specs()[i];
            // AdamW scales that rounding up to whole steps.
            if (has_no_gradient(reference, spec.name)) continue;
            all.push_back({"after10/" + spec.name,
                           relative_difference(held(store.value(static_cast<int>(i)), spec),
                                               reference.part("after10", spec))});
        }
    }
    return all;
}

struct Outcome {
    Curve curve;
    double loss_after = 0;
    std::vector<std::vector<Difference>> differences;  // of each rank
};

Outcome train_as_reference(const Reference& reference, const Scenario& scenario) {
    const std::vector<double> norms = reference.read<double>("grad_norms");
    Outcome outcome;
    outcome.differences.resize(static_cast<size_t>(scenario.mesh.ranks()));
    run_thread_ranks(scenario.mesh.ranks(), [&](World& world) {
        const auto device = make_device({.backend = Backend::cpu, .threads = 1}, 0, 1);
        Mesh mesh(world, scenario.mesh, kv_groups(scenario.model, scenario.mesh.tensor));
        Engine engine(context_of(scenario, *device, mesh), engine_options_of(scenario));
        set_parameters(engine, reference);
        auto& differences = outcome.differences[static_cast<size_t>(world.rank())];
        const MicroBatchSource source = [&](int i) {
            return reference.micro_batch(
                (i * scenario.mesh.data + mesh.at().data) * scenario.micro_batch,
                scenario.micro_batch);
        };
        for (int step = 1; step <= scenario.steps; ++step) {
            const StepResult result = engine.step(step, scenario.optimizer.lr, source);
            if (step == 1) differences = gradient_differences(engine, reference, norms.front());
            if (world.rank() != 0) continue;
            outcome.curve.losses.push_back(result.loss);
            outcome.curve.grad_norms.push_back(result.grad_norm);
        }
        for (auto& optimizer : engine.optimizers()) optimizer->wait_parameters();
        const auto after = parameter_differences(engine, reference);
        differences.insert(differences.end(), after.begin(), after.end());
        const EvaluationResult evaluated = engine.evaluate(
            static_cast<int>(scenario.global_batch / scenario.micro_batch / scenario.mesh.data),
            source);
        if (world.rank() != 0) return;
        outcome.loss_after = evaluated.loss_sum / static_cast<double>(evaluated.tokens);
    });
    return outcome;
}

void require_reference(const Reference& reference, const Scenario& scenario) {
    INFO(scenario.name());
    const Outcome outcome = train_as_reference(reference, scenario);
    const auto losses = reference.read<double>("losses");
    CHECK(largest_difference({outcome.curve.losses.front()}, reference.read<double>("loss")) <
          kBound);
    CHECK(largest_difference(outcome.curve.losses, losses) < kBound);
    CHECK(largest_difference(outcome.curve.grad_norms, reference.read<double>("grad_norms")) <
          kBound);
    CHECK(largest_difference({outcome.loss_after}, reference.read<double>("loss_after10")) <
          kBound);
    for (const auto& rank : outcome.differences) {
        REQUIRE(!rank.empty());
        for (const Difference& difference : rank) {
            INFO(difference.tensor);
            CHECK(difference.value < kBound);
        }
    }
}

}  // namespace

TEST_CASE("the logits of every position are those of the reference", "[model][reference]") {
    for (const char* name : {"gpt2", "llama", "qwen"}) {
        const Reference reference(name);
        Scenario scenario = reference.scenario();
        scenario.micro_batch = 1;
        std::vector<float> logits;
        run_thread_ranks(1, [&](World& world) {
            const auto device = make_device({.backend = Backend::cpu, .threads = 1}, 0, 1);
            Mesh mesh(world, {}, kv_groups(reference.model, 1));
            EngineOptions options = engine_options_of(scenario);
            options.micro_batches = 1;
            options.forward_only = true;
            Engine engine(context_of(scenario, *device, mesh), options);
            set_parameters(engine, reference);
            for (int64_t b = 0; b < reference.sequences; ++b) {
                for (int64_t t = 0; t < reference.sequence; ++t) {
                    const auto row =
                        engine.next_token_logits(reference.micro_batch(b, 1).tokens, t);
                    logits.insert(logits.end(), row.begin(), row.end());
                }
            }
        });
        const auto expected = reference.read<double>("logits");
        REQUIRE(logits.size() == expected.size());
        CHECK(relative_difference(logits, expected) < kBound);
        // No single position hides behind the others.
        const size_t vocabulary = static_cast<size_t>(reference.model.vocab_size);
        for (size_t begin = 0; begin < expected.size(); begin += vocabulary) {
            CHECK(relative_difference(std::span(logits).subspan(begin, vocabulary),
                                      std::span(expected).subspan(begin, vocabulary)) < kBound);
        }
    }
}

TEST_CASE("loss, gradients and ten AdamW steps of one rank are those of the reference",
          "[model][reference]") {
    for (const char* name : {"gpt2", "llama", "qwen"}) {
        const Reference reference(name);
        require_reference(reference, reference.scenario());
    }
}

TEST_CASE("loss, gradients and ten AdamW steps of a mesh are those of the reference",
          "[model][reference][mesh]") {
    for (const char* name : {"gpt2", "llama", "qwen"}) {
        const Reference reference(name);
        Scenario scenario = reference.scenario();
        scenario.micro_batch = 1;
        scenario.sequence_parallel = true;
        for (const int data : {1, 2}) {
            scenario.mesh = {.tensor = 2, .context = 1, .data = data, .pipeline = 2};
            require_reference(reference, scenario);
        }
    }
}

}  // namespace trireme::test

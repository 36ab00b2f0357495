#include <catch2/catch.hpp>

#include <algorithm>
#include <cmath>
#include <vector>

#include "tests/model/training_support.h"

// Documents that share a sequence but are kept apart: as if each had been trained by itself.

namespace trireme::test {

namespace {

constexpr int64_t kSequence = 16;
const std::vector<int64_t> kLengths{5, 1, 7, 3, 2, 14};  // of two sequences

// A batch of sequences of which some tokens count.
struct Batch {
    std::vector<int32_t> tokens, labels, document_begin;
    int64_t sequences = 0;
    int64_t counted = 0;

    HostMicroBatch micro_batch(int i, bool apart) const {
        const auto part = [&](const std::vector<int32_t>& values) {
            return std::span(values).subspan(static_cast<size_t>(i * kSequence), kSequence);
        };
        HostMicroBatch batch{part(tokens), part(labels), i};
        if (apart) batch.document_begin = part(document_begin);
        batch.counted_tokens = counted;
        return batch;
    }
};

int32_t token_of(size_t document, int64_t t) {
    return static_cast<int32_t>((31 * (document + 1) + static_cast<size_t>(t * t + 3 * t)) % 257);
}

// All documents side by side in as few sequences as they fill, or each at the beginning of a
// sequence of its own. The last token of a document has no label that counts.
Batch batch_of(bool packed) {
    Batch batch;
    const auto pad = [&] {
        while (batch.tokens.size() % kSequence != 0) {
            batch.tokens.push_back(0);
            batch.labels.push_back(-1);
            batch.document_begin.push_back(0);
        }
    };
    for (size_t d = 0; d < kLengths.size(); ++d) {
        if (!packed) pad();
        const auto begin = static_cast<int32_t>(batch.tokens.size() % kSequence);
        for (int64_t t = 0; t < kLengths[d]; ++t) {
            const bool counts = t + 1 < kLengths[d];
            batch.tokens.push_back(token_of(d, t));
            batch.labels.push_back(counts ? token_of(d, t + 1) : -1);
            batch.document_begin.push_back(begin);
            batch.counted += counts;
        }
    }
    pad();
    batch.sequences = static_cast<int64_t>(batch.tokens.size()) / kSequence;
    return batch;
}

struct Outcome {
    double loss = 0;
    EvaluationResult evaluation;
    std::vector<double> gradients;
};

// One step's loss and gradients, and the evaluation of the same batch with the same parameters.
Outcome outcome_of(const Batch& batch, Family family, bool apart) {
    Scenario scenario;
    scenario.model = odd_model(family);
    scenario.model.dropout = 0.0f;  // its masks depend on where a token stands
    scenario.sequence = kSequence;
    scenario.global_batch = batch.sequences;
    scenario.zero = 0;
    scenario.documents_apart = apart;
    Outcome outcome;
    run_thread_ranks(1, [&](World& world) {
        const auto device = make_device({.backend = Backend::cpu, .threads = 1}, 0, 1);
        Mesh mesh(world, {}, 1);
        Engine engine(context_of(scenario, *device, mesh), engine_options_of(scenario));
        const auto source = [&](int i) { return batch.micro_batch(i, apart); };
        outcome.evaluation = engine.evaluate(static_cast<int>(batch.sequences), source);
        outcome.loss = engine.step(1, 0.0, source).loss;
        const Tensor gradients = engine.model().chunks().front()->store().gradients();
        const auto* first = gradients.as<float>();
        outcome.gradients.assign(first, first + gradients.elements());
    });
    return outcome;
}

// Largest |a - b| over the largest |b|.
double distance(const std::vector<double>& a, const std::vector<double>& b) {
    double most = 0, size = 0;
    for (size_t i = 0; i < b.size(); ++i) {
        most = std::max(most, std::abs(a.at(i) - b[i]));
        size = std::max(size, std::abs(b[i]));
    }
    return size > 0 ? most / size : INFINITY;
}

}  // namespace

TEST_CASE("documents packed into sequences train as each would alone", "[model][documents]") {
    const Family family = GENERATE(Family::gpt2, Family::llama);
    const Batch packed = batch_of(true), alone = batch_of(false);
    REQUIRE(packed.sequences == 2);
    REQUIRE(alone.sequences == 6);
    REQUIRE(packed.counted == alone.counted);
    const Outcome got = outcome_of(packed, family, true);
    const Outcome want = outcome_of(alone, family, false);
    CHECK(got.loss == Approx(want.loss).epsilon(1e-6));
    CHECK(distance(got.gradients, want.gradients) < 2e-6);
    CHECK(got.evaluation.tokens == packed.counted);
    CHECK(got.evaluation.loss_sum == Approx(want.evaluation.loss_sum).epsilon(1e-6));
    CHECK(got.loss * static_cast<double>(packed.counted) ==
          Approx(got.evaluation.loss_sum).epsilon(1e-6));
    // The same with attention and positions over all of a sequence is something else.
    const Outcome together = outcome_of(packed, family, false);
    CHECK(distance(together.gradients, want.gradients) > 1e-2);
}

TEST_CASE("meshes give the curve of one rank with documents apart", "[model][documents][mesh]") {
    struct Case {
        Family family;
        MeshShape mesh;
        const char* schedule;
        int zero;
        bool sequence_parallel;
        int64_t micro_batch = 1;
        int pieces = 1;
        Recompute recompute = Recompute::none;
    };
    const MeshShape cube{.tensor = 2, .data = 2, .pipeline = 2};
    // Pieces that are whole sequences, parts of one and neither; weights apart; middle stages.
    const Case test =
        GENERATE_COPY(Case{Family::llama, {}, "1f1b", 0, false, 4},
                      Case{Family::gpt2, cube, "1f1b", 1, true, 2, 2},
                      Case{Family::llama, cube, "zb-h1", 2, false, 1, 4, Recompute::selective},
                      Case{Family::gpt2, cube, "zb-h1", 3, true, 1, 4, Recompute::full},
                      Case{Family::gpt2, {.tensor = 2}, "gpipe", 1, false, 2, 2, Recompute::full},
                      Case{Family::llama, {.pipeline = 4}, "1f1b", 0, false, 2});
    Scenario alone;
    alone.model = odd_model(test.family);
    alone.documents_apart = true;
    alone.zero = 0;
    alone.steps = 8;
    const Curve want = train(alone);
    Scenario scenario = alone;
    scenario.mesh = test.mesh;
    scenario.schedule = test.schedule;
    scenario.zero = test.zero;
    scenario.sequence_parallel = test.sequence_parallel;
    scenario.micro_batch = test.micro_batch;
    scenario.pieces = test.pieces;
    scenario.recompute = {test.recompute, 0};
    INFO(scenario.name());
    const Curve got = train(scenario);
    CHECK(largest_difference(got.losses, want.losses) < 1e-5);
    CHECK(largest_difference(got.grad_norms, want.grad_norms) < 1e-4);
    alone.documents_apart = false;
    CHECK(largest_difference(train(alone).losses, want.losses) > 1e-3);
}

TEST_CASE("a batch of which no token counts has the loss 0 and no gradient", "[model][documents]") {
    Batch batch = batch_of(true);
    std::fill(batch.labels.begin(), batch.labels.end(), -1);
    batch.counted = 0;
    const Outcome outcome = outcome_of(batch, Family::gpt2, true);
    CHECK(outcome.loss == 0.0);
    CHECK(std::all_of(outcome.gradients.begin(), outcome.gradients.end(),
                      [](double g) { return g == 0.0; }));
}

TEST_CASE("generation knows one document", "[model][documents]") {
    std::vector<float> logits[2];
    for (const bool apart : {false, true}) {
        run_thread_ranks(1, [&](World& world) {
            Scenario scenario;
            scenario.model = odd_model(Family::gpt2);
            scenario.documents_apart = apart;
            const auto device = make_device({.backend = Backend::cpu, .threads = 1}, 0, 1);
            Mesh mesh(world, {}, 1);
            EngineOptions options = engine_options_of(scenario);
            options.forward_only = true;
            Engine engine(context_of(scenario, *device, mesh), options);
            const Batch batch = batch_of(true);
            if (apart) engine.evaluate(1, [&](int i) { return batch.micro_batch(i, true); });
            logits[apart] = engine.next_token_logits(
                std::span(batch.tokens).first(static_cast<size_t>(kSequence)), 9);
        });
    }
    CHECK(logits[0] == logits[1]);
}

}  // namespace trireme::test

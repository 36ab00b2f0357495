#include "app/eval_choices.h"

#include <catch2/catch.hpp>
#include <cmath>

#include "core/error.h"
#include "tests/model/training_support.h"

// Scores of choices against the logits of one token after the other.

namespace trireme::test {

namespace {

constexpr int64_t kWindow = 24;

std::vector<ChoiceQuestion> made_up_questions() {
    std::vector<ChoiceQuestion> questions;
    for (int i = 0; i < 7; ++i) {
        ChoiceQuestion question;
        // Some are longer than the window, and one is empty.
        question.context = std::string(static_cast<size_t>(i * 5), static_cast<char>('a' + i));
        for (int c = 0; c < 2 + i % 3; ++c) {
            question.choices.push_back("c" + std::to_string(i * c) +
                                       std::string(static_cast<size_t>(c * 3), 'x'));
        }
        question.answer = static_cast<size_t>(i) % question.choices.size();
        question.line = i + 1;
        questions.push_back(std::move(question));
    }
    return questions;
}

Scenario scenario_on(const MeshShape& mesh, int zero) {
    Scenario scenario;
    scenario.model = odd_model(Family::llama);
    scenario.model.init_std = 0.4f;  // so that likelihoods differ
    scenario.mesh = mesh;
    scenario.zero = zero;
    scenario.micro_batch = 3;
    scenario.sequence = kWindow;
    return scenario;
}

void on_ranks(const Scenario& scenario, const std::function<void(World&, Mesh&, Engine&)>& body) {
    run_thread_ranks(scenario.mesh.ranks(), [&](World& world) {
        const auto device = make_device({.backend = Backend::cpu, .threads = 1}, 0, 1);
        Mesh mesh(world, scenario.mesh, kv_groups(scenario.model, scenario.mesh.tensor), 0);
        EngineOptions options = engine_options_of(scenario);
        options.micro_batches = 1;
        options.forward_only = true;
        Engine engine(context_of(scenario, *device, mesh), options);
        body(world, mesh, engine);
    });
}

ChoiceRows rows_of(const std::vector<ChoiceQuestion>& questions) {
    return ChoiceRows(questions, "q.jsonl", ByteTokenizer(), 257, kWindow);
}

// One token at a time, over the whole vocabulary.
std::vector<double> slow_scores(const std::vector<ChoiceQuestion>& questions) {
    std::vector<double> scores;
    Scenario scenario = scenario_on({}, 0);
    scenario.micro_batch = 1;
    on_ranks(scenario, [&](World&, Mesh&, Engine& engine) {
        for (const ChoiceQuestion& question : questions) {
            for (const std::string& choice : question.choices) {
                std::vector<int32_t> text;
                if (question.context.empty()) text.push_back(256);
                for (const char c : question.context + " " + choice) text.push_back(c);
                const size_t n_choice = choice.size() + 1;
                const size_t cut = text.size() > kWindow + 1 ? text.size() - (kWindow + 1) : 0;
                text.erase(text.begin(), text.begin() + static_cast<std::ptrdiff_t>(cut));
                double score = 0;
                for (size_t at = text.size() - n_choice; at < text.size(); ++at) {
                    std::vector<int32_t> input(kWindow, 0);
                    std::copy_n(text.begin(), at, input.begin());
                    const auto logits =
                        engine.next_token_logits(input, static_cast<int64_t>(at) - 1);
                    double sum = 0;
                    for (const float logit : logits) sum += std::exp(static_cast<double>(logit));
                    score +=
                        static_cast<double>(logits[static_cast<size_t>(text[at])]) - std::log(sum);
                }
                scores.push_back(score);
            }
        }
    });
    return scores;
}

}  // namespace

TEST_CASE("scores of choices are sums of their tokens' log-likelihoods, on any mesh",
          "[app][choices]") {
    const auto questions = made_up_questions();
    const std::vector<double> expected = slow_scores(questions);
    const ChoiceRows rows = rows_of(questions);
    REQUIRE(rows.size() == static_cast<int64_t>(expected.size()));
    REQUIRE(rows.longest() == kWindow);
    const std::pair<MeshShape, int> meshes[] = {
        {{}, 0},
        {{.tensor = 2, .context = 1, .data = 1, .pipeline = 2}, 1},
        {{.tensor = 1, .context = 1, .data = 3, .pipeline = 1}, 3},
        {{.tensor = 2, .context = 1, .data = 2, .pipeline = 1}, 1}};
    for (const auto& [mesh, zero] : meshes) {
        INFO(mesh.to_string());
        std::vector<std::vector<double>> found(static_cast<size_t>(mesh.ranks()));
        on_ranks(scenario_on(mesh, zero),
                 [&, shape = mesh](World& world, Mesh& on, Engine& engine) {
                     Log log(world.rank(), world.size());
                     found[static_cast<size_t>(world.rank())] =
                         score_rows(engine, rows, on.at().data, shape.data, 3, kWindow, log);
                 });
        for (const auto& scores : found) {
            REQUIRE(scores.size() == expected.size());
            for (size_t i = 0; i < scores.size(); ++i) {
                CHECK(scores[i] == Approx(expected[i]).epsilon(1e-4));
            }
        }
    }
}

TEST_CASE("the likeliest choice counts, by itself, for each character and for each byte",
          "[app][choices]") {
    std::vector<ChoiceQuestion> questions(5);
    questions[0] = {.context = "q", .choices = {"aaaa", "b"}, .answer = 0, .line = 1};
    questions[1] = {.context = "q", .choices = {"aaaa", "b"}, .answer = 1, .line = 2};
    questions[2] = {.context = "q", .choices = {"é", "xyz"}, .answer = 1, .line = 3};
    questions[3] = {.context = "q", .choices = {"ab", "€"}, .answer = 1, .line = 4};
    questions[4] = {.context = "q", .choices = {"éé", "xyz"}, .answer = 1, .line = 5};
    const ChoiceRows rows = rows_of(questions);
    // By character: -1, -2; -1, -2; -6, -3; -3.5, -8; -4, -3.
    // By byte: -1, -2; -1, -2; -3, -3, where the first of equals counts; -3.5, -2.7; -2, -3.
    const std::vector<double> scores{-4.0, -2.0, -4.0, -2.0, -6.0, -9.0, -7.0, -8.0, -8.0, -9.0};
    const ChoiceAccuracy result = rows.accuracy(scores);
    CHECK(result.questions == 5);
    CHECK(result.correct == 1);
    CHECK(result.correct_by_character == 3);
    CHECK(result.correct_by_byte == 2);
    CHECK(result.accuracy() == Approx(1.0 / 5));
    CHECK(result.error_of(0.5) == Approx(0.25));
}

TEST_CASE("a choice that does not fit the model's window is named", "[app][choices]") {
    std::vector<ChoiceQuestion> questions{
        {.context = "q", .choices = {"a", std::string(kWindow - 1, 'x')}, .answer = 0, .line = 5}};
    CHECK(rows_of(questions).longest() == kWindow);
    questions[0].choices[1] += "x";
    try {
        rows_of(questions);
        FAIL("expected an error");
    } catch (const Error& error) {
        CHECK(error.code() == ExitCode::bad_data);
        CHECK(std::string(error.what()).find("q.jsonl:5: a choice of 25 tokens") == 0);
    }
}

}  // namespace trireme::test

#include <catch2/catch.hpp>

#include <cmath>
#include <fstream>
#include <limits>
#include <string>
#include <vector>

#include "app/metrics.h"
#include "app/sampling.h"
#include "tests/core/error_of.h"
#include "tests/core/temporary_folder.h"
#include "tests/core/whole_file.h"

namespace trireme::test {

using Catch::Contains;

namespace {

std::vector<std::string> lines_of(const std::string& path) {
    std::ifstream in(path);
    std::vector<std::string> lines;
    for (std::string line; std::getline(in, line);) lines.push_back(line);
    return lines;
}

StepMetrics at_step(int64_t step) {
    StepMetrics metrics;
    metrics.step = step;
    metrics.loss = 1.0 / 3.0;
    return metrics;
}

}  // namespace

TEST_CASE("a resumed run drops the records of steps that it does again", "[app][metrics]") {
    const TemporaryFolder folder;
    const std::string path = folder.path() + "/metrics.jsonl";
    {
        MetricsFile file(path, 0);
        for (int64_t step = 1; step <= 4; ++step) file.write(at_step(step));
        file.write(ValidationMetrics{.step = 4, .loss = 2.5, .sets = {{"valid", 2.5}}});
    }
    {
        MetricsFile file(path, 3);
        file.write(at_step(4));
    }
    const auto lines = lines_of(path);
    REQUIRE(lines.size() == 4);
    CHECK(lines[2].find("\"step\":3") != std::string::npos);
    CHECK(lines[3].find("\"step\":4") != std::string::npos);
    CHECK(lines[3].find("valid_loss") == std::string::npos);
}

TEST_CASE("a record says when its step updated nothing", "[app][metrics]") {
    const TemporaryFolder folder;
    const std::string path = folder.path() + "/metrics.jsonl";
    {
        MetricsFile file(path, 0);
        file.write(at_step(1));
        StepMetrics skipped = at_step(2);
        skipped.loss = std::nan("");
        skipped.skipped = true;
        file.write(skipped);
    }
    const auto lines = lines_of(path);
    REQUIRE(lines.size() == 2);
    CHECK(lines[0].find("skipped") == std::string::npos);
    CHECK(lines[1].find("\"loss\":null") != std::string::npos);
    CHECK(lines[1].find("\"skipped\":true") != std::string::npos);
}

TEST_CASE("a validation tells the loss of each set", "[app][metrics]") {
    const TemporaryFolder folder;
    const std::string path = folder.path() + "/metrics.jsonl";
    const ValidationMetrics one{.step = 4, .loss = 2.5, .sets = {{"web", 2.5}}};
    const ValidationMetrics two{.step = 8, .loss = 2.0, .sets = {{"web", 2.25}, {"code", 1.0}}};
    {
        MetricsFile file(path, 0);
        file.write(one);
        file.write(two);
    }
    const auto lines = lines_of(path);
    CHECK(lines.at(0) == R"({"step":4,"valid_loss":2.5,"valid_losses":{"web":2.5}})");
    CHECK(lines.at(1) == R"({"step":8,"valid_loss":2.0,"valid_losses":{"web":2.25,"code":1.0}})");
    CHECK(console_line(one, 9) == "step 4/9 | valid loss 2.500000 | perplexity 12.182494");
    CHECK(console_line(two, 9) ==
          "step 8/9 | valid loss 2.000000 | perplexity 7.389056 | web 2.250000 | code 1.000000");
}

TEST_CASE("a validation in which no token counts has no loss", "[app][metrics]") {
    const TemporaryFolder folder;
    const std::string path = folder.path() + "/metrics.jsonl";
    const ValidationMetrics none{.step = 4, .loss = std::nullopt, .sets = {}};
    CHECK_FALSE(has_validation(path, 4));
    MetricsFile(path, 0).write(none);
    CHECK(lines_of(path).at(0) == R"({"step":4,"valid_losses":{}})");
    CHECK(has_validation(path, 4));
    CHECK_FALSE(has_validation(path, 3));
    CHECK(console_line(none, 9) == "step 4/9 | no valid loss: no token counts");
}

TEST_CASE("records whose step is no number are no records", "[app][metrics]") {
    const TemporaryFolder folder;
    const std::string path = folder.path() + "/metrics.jsonl";
    const std::string good = R"({"step":2,"loss":3.5})";
    write_text(path, "{\"step\":null,\"valid_losses\":{}}\n{\"step\":\"2\"}\n7\n" + good + "\n");
    CHECK_FALSE(has_validation(path, 2));
    const MetricsFile file(path, 4);
    CHECK(lines_of(path) == std::vector<std::string>{good});
}

TEST_CASE("a loss comes back from the record bit for bit", "[app][metrics]") {
    const TemporaryFolder folder;
    const std::string path = folder.path() + "/metrics.jsonl";
    MetricsFile(path, 0).write(at_step(1));
    const std::string line = lines_of(path).at(0);
    const size_t at = line.find("\"loss\":");
    REQUIRE(at != std::string::npos);
    CHECK(std::stod(line.substr(at + 7)) == 1.0 / 3.0);
}

TEST_CASE("the console line has the documented form", "[app][metrics]") {
    StepMetrics m;
    m.step = 120;
    m.loss = 2.4817;
    m.grad_norm = 0.913;
    m.lr = 5.1e-4;
    m.step_seconds = 1.32;
    m.tokens_per_second = 24810;
    m.tflops_per_rank = 41.2;
    m.mfu = 0.417;
    m.memory_peak_bytes = 3328599654;
    CHECK(console_line(m, 200, 106) ==
          "step 120/200 | loss 2.4817 | grad 0.913 | lr 5.1e-04 | 1.32 s | 24,810 tok/s | 41.2 "
          "TFLOP/s/rank (MFU 41.7%) | mem 3.1 GiB | eta 0:01:46");
}

TEST_CASE("sampling follows the distribution, temperature and top-k", "[app][sampling]") {
    const std::vector<float> logits = {0.0f, 2.0f, 1.0f, 2.0f};
    SamplingOptions options{.temperature = 0.0};
    CHECK(sample_token(logits, options, 0) == 1);  // a tie goes to the lower id

    options = {.temperature = 1.0, .top_k = 2};
    int counts[4] = {};
    for (int64_t position = 0; position < 2000; ++position) {
        ++counts[sample_token(logits, options, position)];
    }
    CHECK(counts[0] + counts[2] == 0);
    CHECK(std::abs(counts[1] - 1000) < 120);

    options.top_k = 0;
    int first = 0;
    for (int64_t position = 0; position < 4000; ++position) {
        first += sample_token(logits, options, position) == 0 ? 1 : 0;
    }
    const double expected = 4000.0 / (1.0 + 2.0 * std::exp(2.0) + std::exp(1.0));
    CHECK(std::abs(first - expected) < 5.0 * std::sqrt(expected));
}

TEST_CASE("nothing is drawn from outputs that are not numbers", "[app][sampling]") {
    std::vector<float> logits(300, 0.5f);
    CHECK(sample_token(logits, {.temperature = 0.0}, 3) == 0);
    logits[299] = std::numeric_limits<float>::quiet_NaN();
    const Error error = error_of([&] { sample_token(logits, {}, 3); });
    CHECK(error.code() == ExitCode::numerics);
    CHECK_THAT(error.what(), Contains("at token 3 is not a number"));
}

}  // namespace trireme::test

#include <catch2/catch.hpp>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <vector>

#include "app/logits_file.h"
#include "core/error.h"
#include "core/safetensors.h"
#include "tests/app/process_support.h"
#include "tests/core/temporary_folder.h"

// What `eval --logits` writes, against the loss, another mesh and transformers
// (tests/oracles/huggingface_models.py).

namespace trireme::test {

namespace {

using nlohmann::json;

const std::string kGolden = TRIREME_SOURCE_DIR "/tests/app/huggingface";
constexpr size_t kWindow = 32, kVocabulary = 257;

template <typename T>
std::vector<T> read(const std::string& path, const std::string& name) {
    const SafetensorsHeader header = read_safetensors_header(path);
    const SafetensorsEntry* entry = header.find(name);
    REQUIRE(entry != nullptr);
    std::vector<T> values(entry->bytes() / sizeof(T));
    read_safetensors_bytes(path, header, *entry, 0, entry->bytes(), values.data());
    return values;
}

// The largest difference, in units of the largest value.
double difference(const std::vector<float>& got, const std::vector<float>& want) {
    REQUIRE(got.size() == want.size());
    double largest = 0.0, scale = 0.0;
    for (size_t i = 0; i < got.size(); ++i) {
        largest = std::max(largest, std::abs(static_cast<double>(got[i]) - want[i]));
        scale = std::max(scale, std::abs(static_cast<double>(want[i])));
    }
    return largest / scale;
}

double mean_cross_entropy(const std::vector<float>& logits, const std::vector<int64_t>& targets) {
    REQUIRE(logits.size() == targets.size() * kVocabulary);
    double sum = 0.0, counted = 0.0;
    for (size_t row = 0; row < targets.size(); ++row) {
        if (targets[row] == kIgnoredTarget) continue;
        const float* of_row = logits.data() + row * kVocabulary;
        double exponentials = 0.0;
        for (size_t i = 0; i < kVocabulary; ++i) {
            exponentials += std::exp(static_cast<double>(of_row[i]));
        }
        sum += std::log(exponentials) - static_cast<double>(of_row[targets[row]]);
        counted += 1.0;
    }
    return sum / counted;
}

json succeed(const std::string& folder, const Arguments& arguments, int processes = 1) {
    const Outcome outcome = trireme_in(folder, arguments, processes);
    INFO(outcome.error);
    REQUIRE(outcome.code == 0);
    return arguments[0] == "eval" ? json::parse(outcome.out) : json();
}

Arguments eval_to(const std::string& run, const std::string& file, int windows) {
    return {"eval",
            "--checkpoint",
            run,
            "--data",
            "text",
            "--logits",
            file,
            "--logits-windows",
            std::to_string(windows),
            "--json",
            "--set",
            "data.sequence_length=32",
            "precision.compute=fp32",
            "device.threads=1"};
}

}  // namespace

TEST_CASE("logits in a file are those of the loss, of transformers and of another mesh",
          "[app][process][huggingface][logits]") {
    const TemporaryFolder folder;
    const std::string at = folder.path();
    write_text(at + "/text.txt", read_text(kGolden + "/text.txt") + "and more");
    succeed(at, {"prepare", "--input", "text.txt", "--output", "text"});
    for (const std::string family : {"gpt2", "llama2", "llama31", "qwen2", "qwen3"}) {
        INFO(family);
        succeed(at, {"import", "--input", kGolden + "/" + family, "--output", family});
        const std::string all = at + "/" + family + ".safetensors";
        const json report = succeed(at, eval_to(family, all, 1000));
        const auto windows = report.at("logits").at("windows").get<size_t>();
        // The last window is not full, so that some targets do not count.
        const auto tokens = report.at("tokens").get<size_t>();
        CHECK(windows == (tokens + kWindow - 1) / kWindow);
        CHECK(tokens % kWindow != 0);
        const SafetensorsHeader header = read_safetensors_header(all);
        CHECK(header.find("logits")->shape ==
              std::vector<int64_t>{static_cast<int64_t>(windows), kWindow, kVocabulary});
        const auto logits = read<float>(all, "logits");
        const auto targets = read<int64_t>(all, "targets"),
                   read_tokens = read<int64_t>(all, "tokens");
        for (size_t i = 0; i + 1 < tokens; ++i) CHECK(targets[i] == read_tokens[i + 1]);
        CHECK(std::count(targets.begin(), targets.end(), kIgnoredTarget) ==
              static_cast<std::ptrdiff_t>(windows * kWindow - tokens));
        CHECK(mean_cross_entropy(logits, targets) ==
              Approx(report.at("loss").get<double>()).epsilon(1e-6));

        // Of some of the first window's tokens.
        std::vector<float> some;
        for (size_t token = 3; token < kWindow; token += 4) {
            const auto first = logits.begin() + static_cast<std::ptrdiff_t>(token * kVocabulary);
            some.insert(some.end(), first, first + kVocabulary);
        }
        CHECK(difference(some, read<float>(kGolden + "/logits.safetensors", family)) < 1e-5);

        if (family != "gpt2" && family != "llama31") continue;
        Arguments on_mesh = eval_to(family, family + "-8.safetensors", 11);
        for (const char* set : {"mesh.tensor=2", "mesh.pipeline=2", "mesh.data=2"}) {
            on_mesh.emplace_back(set);
        }
        succeed(at, on_mesh, 8);
        const std::string eight = at + "/" + family + "-8.safetensors";
        std::vector<float> first_ones = logits;
        first_ones.resize(11 * kWindow * kVocabulary);
        CHECK(difference(read<float>(eight, "logits"), first_ones) < 1e-5);
        CHECK(std::equal(read_tokens.begin(), read_tokens.begin() + 11 * kWindow,
                         read<int64_t>(eight, "tokens").begin()));
    }
    const Outcome again = trireme_in(at, eval_to("gpt2", "gpt2.safetensors", 1));
    CHECK(again.code == 73);
    CHECK(again.error.find("gpt2.safetensors: exists already") != std::string::npos);
    Arguments twice = eval_to("gpt2", "new.safetensors", 1);
    twice.insert(twice.begin() + 3, {"--data", "text"});
    CHECK(trireme_in(at, twice).code == 78);
    // Nothing is left beside the files that were asked for.
    for (const auto& file : std::filesystem::directory_iterator(at)) {
        CHECK(file.path().string().find(".tmp-") == std::string::npos);
    }
}

TEST_CASE("logits that fill a disk are refused with the number of windows that do not",
          "[app][logits]") {
    CHECK_NOTHROW(LogitsShape{83, 1024, 50257}.check());
    try {
        LogitsShape{100, 1024, 50257}.check();
        FAIL("expected an error");
    } catch (const Error& error) {
        CHECK(error.code() == ExitCode::config);
        CHECK(
            std::string(error.what()) ==
            "--logits-windows 100: the logits of as many windows of 1024 tokens for 50257 ids are "
            "19.2 GiB, expected at most 16.0 GiB; ask for 83 windows");
    }
    CHECK_THROWS_AS((LogitsShape{1, 1 << 20, 1 << 17}.check()), Error);
}

}  // namespace trireme::test

#include <catch2/catch.hpp>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <vector>

#include "app/logits_file.h"
#include "core/safetensors.h"
#include "tests/app/process_support.h"
#include "tests/core/temporary_folder.h"
#include "tests/core/whole_file.h"

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

Arguments eval_to(const std::string& run, const std::string& file, int windows,
                  const Arguments& sets = {}) {
    Arguments arguments{"eval",
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
    arguments.insert(arguments.end(), sets.begin(), sets.end());
    return arguments;
}

void prepare(const std::string& at) {
    write_text(at + "/text.txt", read_text(kGolden + "/text.txt") + "and more");
    succeed(at, {"prepare", "--input", "text.txt", "--output", "text"});
}

void import_model(const std::string& at, const std::string& family) {
    succeed(at, {"import", "--input", kGolden + "/" + family, "--output", family});
}

void check_nothing_left(const std::string& at) {
    for (const auto& file : std::filesystem::directory_iterator(at)) {
        CHECK(file.path().string().find(".tmp-") == std::string::npos);
    }
}

// Writes all windows to FAMILY.safetensors and holds them against the loss and transformers.
void check_all_windows(const std::string& at, const std::string& family) {
    INFO(family);
    const std::string all = at + "/" + family + ".safetensors";
    const json report = succeed(at, eval_to(family, all, 1000));
    const auto windows = report.at("logits").at("windows").get<size_t>();
    // The last window is not full, so that some targets do not count.
    const auto tokens = report.at("tokens").get<size_t>();
    CHECK(windows == (tokens + kWindow - 1) / kWindow);
    CHECK(tokens % kWindow != 0);
    const SafetensorsHeader header = read_safetensors_header(all);
    CHECK(header.entries.size() == 3);
    CHECK(header.find("logits")->shape ==
          std::vector<int64_t>{static_cast<int64_t>(windows), kWindow, kVocabulary});
    const auto logits = read<float>(all, "logits");
    const auto targets = read<int64_t>(all, "targets"), read_tokens = read<int64_t>(all, "tokens");
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
}

// The first 11 windows, more than a micro-batch, of another mesh against those of one rank.
void check_on_mesh(const std::string& at, const std::string& family, const Arguments& mesh,
                   int processes) {
    INFO(family);
    const std::string name = family + "-on-mesh.safetensors";
    succeed(at, eval_to(family, name, 11, mesh), processes);
    auto logits = read<float>(at + "/" + family + ".safetensors", "logits");
    auto tokens = read<int64_t>(at + "/" + family + ".safetensors", "tokens");
    logits.resize(11 * kWindow * kVocabulary);
    tokens.resize(11 * kWindow);
    CHECK(difference(read<float>(at + "/" + name, "logits"), logits) < 1e-5);
    CHECK(read<int64_t>(at + "/" + name, "tokens") == tokens);
}

}  // namespace

TEST_CASE("logits in a file are those of the loss, of transformers and of two tensor ranks",
          "[app][process][huggingface][logits]") {
    const TemporaryFolder folder;
    prepare(folder.path());
    import_model(folder.path(), "llama31");
    check_all_windows(folder.path(), "llama31");
    check_on_mesh(folder.path(), "llama31", {"mesh.tensor=2"}, 2);
    check_nothing_left(folder.path());
}

TEST_CASE("logits of every family are those of transformers, on a mesh of all axes too",
          "[app][process][huggingface][logits][long]") {
    const TemporaryFolder folder;
    prepare(folder.path());
    for (const std::string family : {"gpt2", "llama2", "llama31", "qwen2", "qwen3"}) {
        import_model(folder.path(), family);
        check_all_windows(folder.path(), family);
        if (family != "gpt2" && family != "llama31") continue;
        check_on_mesh(folder.path(), family, {"mesh.tensor=2", "mesh.pipeline=2", "mesh.data=2"},
                      8);
    }
    check_nothing_left(folder.path());
}

TEST_CASE("logits and targets in a file give the loss, whether documents are kept apart or not",
          "[app][process][logits]") {
    const TemporaryFolder folder;
    const std::string at = folder.path();
    std::string lines;
    int64_t tokens = 0;
    constexpr int64_t kDocuments = 9;
    for (size_t i = 0; i < kDocuments; ++i) {
        const std::string text = std::string("One of some short documents.").substr(0, 1 + i * 3);
        lines += json{{"text", text}}.dump() + "\n";
        tokens += static_cast<int64_t>(text.size()) + 1;
    }
    write_text(at + "/text.jsonl", lines);
    succeed(at, {"prepare", "--input", "text.jsonl", "--output", "text"});
    import_model(at, "gpt2");
    std::vector<double> losses;
    for (const bool apart : {false, true}) {
        INFO(apart);
        const std::string file = at + (apart ? "/apart" : "/together");
        const json report = succeed(
            at, eval_to("gpt2", file, 1000,
                        {std::string("data.keep_documents_apart=") + (apart ? "true" : "false")}));
        CHECK(report.at("tokens") == tokens - (apart ? kDocuments : 1));
        losses.push_back(report.at("loss").get<double>());
        const auto targets = read<int64_t>(file, "targets");
        CHECK(mean_cross_entropy(read<float>(file, "logits"), targets) ==
              Approx(losses.back()).epsilon(1e-6));
        if (!apart) {
            CHECK(read_safetensors_header(file).find("document_begin") == nullptr);
            continue;
        }
        const auto begins = read<int32_t>(file, "document_begin");
        REQUIRE(begins.size() == targets.size());
        for (size_t i = 0; i < begins.size(); ++i) {
            const size_t place = i % kWindow;
            CHECK(begins[i] <= static_cast<int32_t>(place));
            // A document ends where nothing is to be predicted.
            const bool begins_here = begins[i] == static_cast<int32_t>(place) && place > 0;
            if (begins_here) CHECK(targets[i - 1] == kIgnoredTarget);
        }
        CHECK(*std::max_element(begins.begin(), begins.end()) > 0);
    }
    CHECK(losses[0] != Approx(losses[1]).epsilon(1e-3));
}

TEST_CASE("a file of logits that cannot be is refused before the model is read",
          "[app][process][logits]") {
    const TemporaryFolder folder;
    const std::string at = folder.path();
    prepare(at);
    import_model(at, "gpt2");
    for (const auto& file : std::filesystem::recursive_directory_iterator(at + "/gpt2")) {
        if (file.path().extension() != ".safetensors") continue;
        std::string content = read_text(file.path().string());
        content.back() = static_cast<char>(content.back() ^ 1);
        write_text(file.path().string(), content);
    }
    CHECK(trireme_in(at, eval_to("gpt2", "new", 1)).code == 65);
    write_text(at + "/taken", "of somebody");
    const Outcome taken = trireme_in(at, eval_to("gpt2", "taken", 1));
    CHECK(taken.code == 73);
    CHECK(taken.error.find("taken: exists already") != std::string::npos);
    CHECK(read_text(at + "/taken") == "of somebody");
    CHECK(trireme_in(at, eval_to("gpt2", "taken/new", 1)).code == 73);
    CHECK(trireme_in(at, eval_to("gpt2", "/proc/new", 1)).code == 74);
    CHECK(trireme_in(at, eval_to("gpt2", "", 1)).code == 78);
    CHECK(trireme_in(at, eval_to("gpt2", "folder/", 1)).code == 78);
    Arguments twice = eval_to("gpt2", "new", 1);
    twice.insert(twice.begin() + 3, {"--data", "text"});
    CHECK(trireme_in(at, twice).code == 78);
    CHECK(!std::filesystem::exists(at + "/new"));
    check_nothing_left(at);
}

}  // namespace trireme::test

#include <catch2/catch.hpp>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>

#include "core/safetensors.h"
#include "tests/app/process_support.h"
#include "tests/core/temporary_folder.h"
#include "tests/core/whole_file.h"
#include "tests/data/tokenizer_test_support.h"

// Folders that transformers has written (tests/oracles/huggingface_models.py), in and out again.

namespace trireme::test {

namespace {

namespace fs = std::filesystem;
using nlohmann::json;

const std::string kGolden = TRIREME_SOURCE_DIR "/tests/app/huggingface";

Outcome succeed(const std::string& folder, const Arguments& arguments, int processes = 1) {
    const Outcome outcome = trireme_in(folder, arguments, processes);
    INFO(outcome.error);
    REQUIRE(outcome.code == 0);
    return outcome;
}

void prepare_text(const std::string& folder) {
    succeed(folder, {"prepare", "--input", kGolden + "/text.txt", "--output", "text"});
}

double evaluate(const std::string& folder, const std::string& run) {
    const Outcome outcome =
        succeed(folder, {"eval", "--checkpoint", run, "--data", "text", "--json", "--set",
                         "data.sequence_length=32", "precision.compute=fp32", "device.threads=1"});
    return json::parse(outcome.out).at("loss").get<double>();
}

// The bytes of all tensors of a Hugging Face folder, by name without GPT-2's prefix.
std::map<std::string, std::vector<char>> tensors_of(const std::string& folder) {
    std::map<std::string, std::vector<char>> tensors;
    for (const auto& file : fs::directory_iterator(folder)) {
        if (file.path().extension() != ".safetensors") continue;
        const SafetensorsHeader header = read_safetensors_header(file.path());
        for (const SafetensorsEntry& entry : header.entries) {
            std::vector<char> bytes(entry.bytes());
            read_safetensors_bytes(file.path(), header, entry, 0, bytes.size(), bytes.data());
            std::string name = entry.name;
            if (name.starts_with("transformer.")) name = name.substr(std::strlen("transformer."));
            if (name == "h.0.attn.bias") continue;  // a mask
            CHECK(tensors.emplace(name + std::string(name_of(entry.dtype)), bytes).second);
        }
    }
    return tensors;
}

double largest_difference_of(const std::string& a, const std::string& b) {
    const auto ours = tensors_of(a), theirs = tensors_of(b);
    REQUIRE(ours.size() == theirs.size());
    double largest = 0.0;
    for (const auto& [name, bytes] : ours) {
        const std::vector<char>& others = theirs.at(name);
        REQUIRE(bytes.size() == others.size());
        for (size_t i = 0; i < bytes.size(); i += sizeof(float)) {
            float x, y;
            std::memcpy(&x, bytes.data() + i, sizeof(float));
            std::memcpy(&y, others.data() + i, sizeof(float));
            largest = std::max(largest, static_cast<double>(std::abs(x - y)));
        }
    }
    return largest;
}

void change_config(const std::string& folder, const json& changes) {
    json config = json::parse(read_text(folder + "/config.json"));
    config.update(changes);
    write_text(folder + "/config.json", config.dump());
}

// A copy of a golden folder, to be spoiled.
std::string copy_of(const std::string& at, const std::string& family) {
    const std::string folder = at + "/" + family;
    fs::remove_all(folder);
    fs::copy(kGolden + "/" + family, folder);
    return folder;
}

}  // namespace

TEST_CASE("an imported model has the loss that transformers computes, and its tensors come back",
          "[app][process][huggingface]") {
    const TemporaryFolder folder;
    const std::string at = folder.path();
    prepare_text(at);
    const json expected = json::parse(read_text(kGolden + "/expected.json"));
    for (const auto& [family, loss] : expected.at("loss").items()) {
        INFO(family);
        const std::string input = kGolden + "/" + family;
        succeed(at, {"import", "--input", input, "--output", family});
        CHECK(evaluate(at, family) == Approx(loss.get<double>()).epsilon(1e-5));

        const std::string type = family == "qwen2" ? "bf16" : "fp32";
        succeed(at, {"export", "--checkpoint", family, "--output", family + "-out", "--dtype", type,
                     "--max-shard-size", "15KB"});
        const auto out = tensors_of(at + "/" + family + "-out");
        if (family != "llama2") CHECK(out == tensors_of(input));
        CHECK(fs::exists(at + "/" + family + "-out/model.safetensors.index.json"));
        // What was f16 comes back as f32, so it is looked at in the next round.
        succeed(at, {"import", "--input", family + "-out", "--output", family + "-again"});
        CHECK(evaluate(at, family + "-again") == Approx(loss.get<double>()).epsilon(1e-5));
        succeed(at, {"export", "--checkpoint", family + "-again", "--output", family + "-twice",
                     "--dtype", type});
        CHECK(out == tensors_of(at + "/" + family + "-twice"));
    }
}

TEST_CASE("masks beside GPT-2's weights are left out, whatever their type",
          "[app][process][huggingface]") {
    const TemporaryFolder folder;
    const std::string at = folder.path();
    prepare_text(at);
    const std::string path = copy_of(at, "gpt2") + "/model.safetensors";
    // As in the first published files: no prefix, no head, and in each layer a triangle of the
    // whole window and the value behind it.
    const SafetensorsHeader plain = read_safetensors_header(path);
    std::vector<SafetensorsEntry> entries;
    std::string data;
    for (const SafetensorsEntry& entry : plain.entries) {
        REQUIRE(!entry.name.starts_with("transformer."));
        if (entry.name == "h.0.attn.bias") continue;
        entries.push_back(entry);
        data.resize(data.size() + entry.bytes());
        read_safetensors_bytes(path, plain, entry, 0, entry.bytes(),
                               data.data() + data.size() - entry.bytes());
    }
    const DType types[] = {DType::boolean, DType::u8, DType::f32, DType::f16, DType::boolean};
    for (int layer = 0; layer < 5; ++layer) {
        const std::string name = "h." + std::to_string(layer) + ".attn.";
        SafetensorsEntry mask, masked;
        mask.name = name + "bias";
        mask.dtype = types[layer];
        mask.shape = {1, 1, 128, 128};
        masked.name = name + "masked_bias";
        entries.push_back(mask);
        entries.push_back(masked);
        data.append(128 * 128 * size_of(mask.dtype) + sizeof(float), '\1');
    }
    write_text(path, make_safetensors_header(entries, {{"format", "pt"}}) + data);
    succeed(at, {"import", "--input", "gpt2", "--output", "run"});
    const json expected = json::parse(read_text(kGolden + "/expected.json"));
    CHECK(evaluate(at, "run") ==
          Approx(expected.at("loss").at("gpt2").get<double>()).epsilon(1e-5));
    succeed(at, {"export", "--checkpoint", "run", "--output", "out"});
    CHECK(tensors_of(at + "/out") == tensors_of(kGolden + "/gpt2"));

    // Only masks: a parameter of such a type is none.
    entries.front().dtype = DType::boolean;
    entries.front().shape.back() *= 4;
    write_text(path, make_safetensors_header(entries, {}) + data);
    const Outcome bad = trireme_in(at, {"import", "--input", "gpt2", "--output", "bad"});
    CHECK(bad.code == 65);
    CHECK(bad.error.find("tensor '" + entries.front().name + "'") != std::string::npos);
}

TEST_CASE("an imported model trains on from any folder and on any mesh",
          "[app][process][huggingface][long]") {
    const TemporaryFolder folder;
    const std::string at = folder.path();
    prepare_text(at);
    succeed(at, {"import", "--input", kGolden + "/qwen3", "--output", "start"}, 2);
    const auto train = [&](const std::string& name, int processes, const Arguments& sets) {
        Arguments arguments = {"train",
                               "start/config.yaml",
                               "--set",
                               "run.steps=2",
                               "run.output=" + name,
                               "checkpoint.resume=start",
                               "data.train=[{path: text}]",
                               "data.sequence_length=8",
                               "schedule.warmup_steps=0",
                               "optimizer.lr=1e-3",
                               "device.threads=1"};
        arguments.insert(arguments.end(), sets.begin(), sets.end());
        succeed(at, arguments, processes);
        succeed(at, {"export", "--checkpoint", name, "--output", name + "-hf"});
    };
    train("one", 1, {});
    train("eight", 8, {"mesh.tensor=2", "mesh.pipeline=2", "data_parallel.zero=1"});
    CHECK(largest_difference_of(at + "/one-hf", at + "/eight-hf") < 2e-5);
    CHECK(largest_difference_of(at + "/one-hf", kGolden + "/qwen3") > 1e-4);
}

TEST_CASE("an imported run trains in its own folder, wherever it is started",
          "[app][process][huggingface]") {
    const TemporaryFolder folder;
    const std::string at = folder.path();
    prepare_text(at);
    succeed(at, {"import", "--input", kGolden + "/qwen3", "--output", "start/"});
    fs::create_directories(at + "/elsewhere");
    const Outcome trained =
        succeed(at + "/elsewhere",
                {"train", "../start/config.yaml", "--set", "run.steps=1", "batch.global=2",
                 "data.train=[{path: ../text}]", "data.sequence_length=8",
                 "schedule.warmup_steps=0", "device.threads=1"});
    CHECK(trained.error.find("start/checkpoints/step-00000000 (step 0") != std::string::npos);
    CHECK(fs::exists(at + "/start/checkpoints/step-00000001"));
    CHECK(fs::is_empty(at + "/elsewhere"));
}

TEST_CASE("what is wrong with a Hugging Face folder is said in a line, and nothing is left behind",
          "[app][process][huggingface]") {
    const TemporaryFolder folder;
    const std::string at = folder.path();
    struct Case {
        std::string family;
        std::function<void(const std::string& folder)> spoil;
        int code;
        std::string message;
    };
    const auto set = [](const json& changes) {
        return [changes](const std::string& path) { change_config(path, changes); };
    };
    const auto shard = [](const std::string& path) {
        return path + "/model-00001-of-00002.safetensors";
    };
    const std::vector<Case> cases = {
        {"qwen3", set({{"model_type", "mamba"}}), 78, "model_type: found \"mamba\""},
        {"qwen3", set({{"use_sliding_window", true}}), 78, "use_sliding_window"},
        {"qwen3", set({{"layer_types", {"sliding_attention"}}}), 78, "layer_types"},
        {"qwen3", set({{"attention_bias", true}}), 78, "attention_bias"},
        {"llama2", set({{"mlp_bias", true}}), 78, "mlp_bias"},
        {"llama2", set({{"quantization_config", {{"bits", 4}}}}), 78, "quantization_config"},
        {"llama2", set({{"num_local_experts", 8}}), 78, "num_local_experts"},
        {"llama31", set({{"rope_scaling", {{"rope_type", "yarn"}, {"factor", 4.0}}}}), 78,
         "rope_scaling.rope_type: found \"yarn\""},
        {"llama2",
         set({{"rope_scaling", {{"rope_type", "linear"}, {"factor", 4.0}}},
              {"rope_parameters", {{"rope_type", "linear"}, {"factor", 2.0}}}}),
         78, "rope_scaling: says something else than rope_parameters"},
        {"gpt2", set({{"scale_attn_by_inverse_layer_idx", true}}), 78,
         "scale_attn_by_inverse_layer_idx"},
        {"gpt2", set({{"activation_function", "relu"}}), 78, "activation_function"},
        {"gpt2", set({{"layer_norm_epsilon", 1e39}}), 78, "layer_norm_epsilon: found 1e+39"},
        {"qwen3", set({{"hidden_size", "wide"}}), 65, "hidden_size: found \"wide\""},
        {"qwen3", set({{"num_key_value_heads", 4}}), 78, "model.kv_heads"},
        {"qwen3", set({{"intermediate_size", 11}}), 65, "expected [11, 12]"},
        {"qwen3", set({{"num_hidden_layers", 6}}), 65, "'model.layers.5."},
        {"qwen3", set({{"num_hidden_layers", 4}}), 65, "'model.layers.4."},
        {"qwen3", set({{"num_hidden_layers", 10000000}}), 65, "too few for the 10000000 layers"},
        {"qwen3", set({{"tie_word_embeddings", true}}), 65, "'lm_head.weight': differs from"},
        {"llama31", set({{"tie_word_embeddings", false}}), 65, "'lm_head.weight' [257, 12]"},
        {"qwen2", [&](const std::string& path) { fs::resize_file(shard(path), 9000); }, 65,
         "truncated"},
        {"qwen2", [&](const std::string& path) { fs::remove(shard(path)); }, 65,
         "model-00001-of-00002.safetensors"},
        {"qwen3", [](const std::string& path) { fs::remove(path + "/model.safetensors"); }, 65,
         "neither model.safetensors nor model.safetensors.index.json"},
        {"qwen2",
         [](const std::string& path) {
             write_text(path + "/model.safetensors.index.json",
                        R"({"weight_map": {"a": "../secret.safetensors"}})");
         },
         65, "'../secret.safetensors'"},
        {"qwen3",
         [](const std::string& path) {
             write_text(path + "/tokenizer.json", ToyVocabulary().json());
         },
         65, "tokenizer.json: found 285 token ids, expected at most the vocab_size 257"},
        {"qwen3", [](const std::string& path) { write_text(path + "/tokenizer.json", "{"); }, 65,
         "tokenizer.json: not valid JSON"},
        {"qwen3", [](const std::string& path) { write_text(path + "/config.json", "{"); }, 65,
         "config.json: not valid JSON"},
    };
    for (const Case& c : cases) {
        INFO(c.family << ", " << c.message);
        const std::string input = copy_of(at, c.family);
        c.spoil(input);
        const Outcome outcome = trireme_in(at, {"import", "--input", input, "--output", "out"});
        CHECK(outcome.code == c.code);
        INFO(outcome.error);
        CHECK(outcome.error.find(c.message) != std::string::npos);
        CHECK(std::count(outcome.error.begin(), outcome.error.end(), '\n') == 1);
        for (const auto& left : fs::directory_iterator(at)) {
            CHECK(left.path().filename() == c.family);
        }
        fs::remove_all(input);
    }
}

TEST_CASE("tokenizer files pass through a run, also one that the program cannot use",
          "[app][process][huggingface]") {
    const TemporaryFolder folder;
    const std::string at = folder.path();
    const std::string input = copy_of(at, "llama31");
    const std::string tokenizer =
        ToyVocabulary().json([](auto& file) { file["model"]["type"] = "Unigram"; });
    write_text(input + "/tokenizer.json", tokenizer);
    write_text(input + "/tokenizer_config.json", R"({"eos_token": "</s>"})");
    const Outcome imported = succeed(at, {"import", "--input", input, "--output", "run"});
    CHECK(imported.error.find("warning: the tokenizer is carried along") != std::string::npos);
    succeed(at, {"export", "--checkpoint", "run", "--output", "hf"});
    CHECK(read_text(at + "/hf/tokenizer.json") == tokenizer);
    CHECK(read_text(at + "/hf/tokenizer_config.json") == R"({"eos_token": "</s>"})");
    const json ids = json::parse(read_text(at + "/hf/generation_config.json"));
    CHECK(ids.at("eos_token_id") == 256);
    CHECK(json::parse(read_text(at + "/hf/config.json")).at("bos_token_id") == 256);
}

TEST_CASE("import and export do not overwrite, and export tells what no family has",
          "[app][process][huggingface]") {
    const TemporaryFolder folder;
    const std::string at = folder.path();
    succeed(at, {"import", "--input", kGolden + "/llama2", "--output", "run"});
    CHECK(read_text(at + "/run/config.yaml").find("  lr: 1e-05\n") != std::string::npos);
    const Outcome again =
        trireme_in(at, {"import", "--input", kGolden + "/llama2", "--output", "run"});
    CHECK(again.code == 73);
    CHECK(again.error.find("run: exists already") != std::string::npos);
    CHECK(trireme_in(at, {"export", "--checkpoint", "run", "--output", "run"}).code == 73);
    CHECK(trireme_in(at, {"export", "--checkpoint", "none", "--output", "hf"}).code == 65);
    CHECK(trireme_in(at,
                     {"export", "--checkpoint", "run", "--output", "hf", "--max-shard-size", "big"})
              .code == 78);
    CHECK(!fs::exists(at + "/hf"));
    const Outcome several = trireme_in(at, {"export", "--checkpoint", "run", "--output", "hf"}, 2);
    CHECK(several.code == 78);
    CHECK(several.error.find("found 2 processes, started by mpirun") != std::string::npos);
    CHECK(!fs::exists(at + "/hf"));
}

}  // namespace trireme::test

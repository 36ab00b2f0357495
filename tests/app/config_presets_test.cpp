#include "app/presets.h"

#include <catch2/catch.hpp>
#include <filesystem>
#include <fstream>
#include <regex>
#include <string>
#include <utility>

#include "app/config.h"
#include "model/flops.h"
#include "tests/app/config_support.h"

using namespace trireme;
using namespace trireme::test;

TEST_CASE("the configurations to start from are valid", "[app][config]") {
    const std::string folder = TRIREME_SOURCE_DIR "/configs/";
    CHECK(load_config(folder + "demo-llama.yaml", {}, 8).micro_batches() == 4);
    CHECK(load_config(folder + "laptop-gpt2.yaml", {}, 1).micro_batches() == 1);
    CHECK(load_config(folder + "gpt2-124m.yaml", {"batch.micro=4"}, 1).micro_batches() == 128);
}

TEST_CASE("the configurations of published models fit the GPUs they name", "[app][config]") {
    int found = 0;
    for (const auto& entry : std::filesystem::directory_iterator(TRIREME_SOURCE_DIR "/configs")) {
        std::ifstream file(entry.path());
        std::string title;
        std::getline(file, title);
        std::smatch gpus;
        if (!std::regex_search(title, gpus, std::regex(" on ([0-9]+) GPUs"))) continue;
        ++found;
        INFO(entry.path());
        const Config config = load_config(entry.path(), {}, std::stoi(gpus[1]));
        CHECK(config.mesh.ranks() == std::stoi(gpus[1]));
        CHECK(config.run.name == entry.path().stem());
        // "llama-8b": a preset of about so many parameters.
        std::smatch size;
        REQUIRE(std::regex_search(config.run.name, size, std::regex("([0-9.]+)([mb])$")));
        const double named = std::stod(size[1]) * (size[2] == "b" ? 1e9 : 1e6);
        const auto parameters = static_cast<double>(count_parameters(config.model).total);
        CHECK(parameters > 0.9 * named);
        CHECK(parameters < 1.3 * named);
    }
    CHECK(found >= 10);
}

TEST_CASE("a preset stands for the rest and keys beside it override it", "[app][config]") {
    const std::string rest = "run: {steps: 1}\ndata: {train: [x]}\nbatch: {global: 1}\n";
    for (const std::string& name : preset_names()) {
        if (name == "none") continue;
        const Sets sets = {
            "model.preset=" + name,
            std::string("data.tokenizer=") + (name == "demo" ? "byte" : "tokenizer.json")};
        INFO(name);
        CHECK(refusal(rest, sets) == "");
    }
    const Config config =
        parse_config(rest + "model: {heads: 6, preset: gpt2-124m, tie_embeddings: false}", "c");
    CHECK(config.model.layers == 12);
    CHECK(config.model.heads == 6);
    CHECK(config.model.kv_heads == 6);
    CHECK(config.model.head_dim == 128);
    CHECK_FALSE(config.model.tie_embeddings);
    CHECK(parse_config(rest, "c", {"model.preset=gpt2-124m", "model.preset=demo"}).model.layers ==
          4);
}

TEST_CASE("presets have as many parameters as the published models", "[app][config]") {
    const std::pair<const char*, int64_t> published[] = {
        {"gpt2-124m", 124439808},     {"llama-3.2-3b", 3212749824}, {"llama-3.1-8b", 8030261248},
        {"qwen2.5-7b", 7615616512},   {"qwen3-0.6b", 596049920},    {"qwen3-8b", 8190735360},
        {"qwen2.5-14b", 14770033664}, {"qwen3-14b", 14768307200}};
    const std::string rest = "run: {steps: 1}\ndata: {train: [x]}\nbatch: {global: 1}\n";
    for (const auto& [name, parameters] : published) {
        INFO(name);
        const Config config = parse_config(
            rest, "c", {"model.preset=" + std::string(name), "data.tokenizer=tokenizer.json"});
        CHECK(count_parameters(config.model).total == parameters);
    }
}

#include "app/config.h"

#include <catch2/catch.hpp>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <regex>
#include <sstream>
#include <string>
#include <vector>

#include "app/config_problems.h"
#include "app/presets.h"
#include "app/schema.h"
#include "app/yaml_tree.h"
#include "core/cuda_backend.h"
#include "core/error.h"
#include "model/flops.h"

using namespace trireme;

namespace {

using Sets = std::vector<std::string>;

const char* const kSmall = R"(run: {name: small, steps: 20}
model:
  family: llama
  layers: 5
  hidden: 48
  heads: 6
  kv_heads: 2
  vocab_size: 257
  max_sequence_length: 33
data:
  train: [{path: data/train}]
batch: {global: 24, micro: 4}
)";

// The message that a text or its overrides are refused with; empty when they are accepted.
std::string refusal(const std::string& text, const Sets& sets = {},
                    std::optional<int> world = std::nullopt) {
    try {
        parse_config(text, "c.yaml", sets, world);
        return "";
    } catch (const Error& error) {
        CHECK(error.code() == ExitCode::config);
        return error.what();
    }
}

std::string refusal_of_set(const Sets& sets, std::optional<int> world = std::nullopt) {
    return refusal(kSmall, sets, world);
}

Config small(const Sets& sets = {}) {
    return parse_config(kSmall, "c.yaml", sets);
}

size_t count_of(const std::string& text, const std::string& part) {
    size_t count = 0;
    for (size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1))
        ++count;
    return count;
}

using Catch::Matchers::Contains;

}  // namespace

TEST_CASE("defaults follow from the other values", "[app][config]") {
    const Config config = small();
    CHECK(config.run.output == "runs/small");
    CHECK(config.model.kv_heads == 2);
    CHECK(config.model.head_dim == 8);
    CHECK(config.model.ffn_hidden == 128);
    CHECK_FALSE(config.model.tie_embeddings);
    CHECK(config.data.sequence_length == 33);
    CHECK(config.mesh.data == 0);
    CHECK(config.data.train.at(0).weight == 1.0);

    const Config gpt2 = small({"model.family=gpt2", "model.kv_heads=6"});
    CHECK(gpt2.model.tie_embeddings);
    CHECK(gpt2.model.ffn_hidden == 192);
    CHECK_FALSE(small({"model.family=gpt2", "model.tie_embeddings=false"}).model.tie_embeddings);
}

TEST_CASE("the llama feed-forward default rounds up to a multiple of 16", "[app][config]") {
    Config config = small();
    config.model.hidden = 256;
    config.model.ffn_hidden = 0;
    resolve(config);
    CHECK(config.model.ffn_hidden == 688);
}

TEST_CASE("a resolved configuration parses back to the same one", "[app][config]") {
    const Sets odd = {"run.name=\"a: b #c\\\\ \\\"d\\\"\"",
                      "run.seed=9223372036854775807",
                      "optimizer.lr=0.00037219",
                      "optimizer.betas=[0.8999, 0.999]",
                      "data.train=[{path: \"x, y\", weight: 0.1}, {path: z}, -w, {path: 's*.bin', "
                      "format: llmc, name: web}]",
                      "data.phases=[{after_step: 0, weights: [1, 0.25, 0, 3]}]",
                      "data_parallel.bucket_mb=0.3",
                      "schedule.name=wsd",
                      "schedule.decay_steps=3",
                      "schedule.min_lr=1e-9",
                      "precision.compute=bf16",
                      "checkpoint.resume=null-folder",
                      "model.dropout=0.1",
                      "testing.links=[{axis: tensor, latency_ms: 0.1}, {axis: data, "
                      "bandwidth_mb_per_s: 12.5}]"};
    for (const Sets& sets : {Sets{}, odd}) {
        const Config config = small(sets);
        const std::string text = dump_config(config);
        const Config again = parse_config(text, "dump");
        CHECK(dump_config(again) == text);
        CHECK(again.run.name == config.run.name);
        CHECK(again.run.seed == config.run.seed);
        CHECK(again.optimizer.lr == config.optimizer.lr);
        CHECK(again.optimizer.beta1 == config.optimizer.beta1);
        CHECK(again.schedule.shape == config.schedule.shape);
        CHECK(again.data.train.size() == config.data.train.size());
        CHECK(again.data.train.front().weight == config.data.train.front().weight);
        for (const SchemaRow& row : config_schema()) {
            INFO(row.key);
            CHECK(again.is_given(row.key));
        }
    }
    const std::vector<LinkOptions> links = small(odd).testing.links;
    REQUIRE(links.size() == 2);
    CHECK(links[0].axis == MeshAxis::tensor);
    CHECK(links[0].latency_ms == 0.1);
    CHECK(links[0].bandwidth_mb_per_s == 0.0);
    CHECK(links[1].bandwidth_mb_per_s == 12.5);
    CHECK(small(odd).run.name == "a: b #c\\ \"d\"");
}

TEST_CASE("every key can be written, read back and found in the reference", "[app][config]") {
    const Config config = small();
    const std::string page = configuration_reference();
    for (const SchemaRow& row : config_schema()) {
        INFO(row.key);
        CHECK_THAT(page, Contains("`" + row.key + "`"));
        CHECK(row.description.back() == '.');
        CHECK(refusal_of_set({row.key + "=" + row.write(config)}) == "");
    }
}

TEST_CASE("docs/configuration.md is what the schema says", "[app][config]") {
    std::ifstream file(TRIREME_SOURCE_DIR "/docs/configuration.md");
    std::stringstream page;
    page << file.rdbuf();
    INFO("make it again with: trireme config --reference > docs/configuration.md");
    CHECK((page.str() == configuration_reference()));
}

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
        CHECK(config.mesh.tensor * config.mesh.pipeline * config.mesh.data == std::stoi(gpus[1]));
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

TEST_CASE("head norms, biases and stretched RoPE are for llama, and their numbers must fit",
          "[app][config]") {
    const auto has = [](const Sets& sets, const std::string& text) {
        const std::string found = refusal_of_set(sets);
        INFO(found);
        CHECK(found.find(text) != std::string::npos);
    };
    has({"model.family=gpt2", "model.qk_norm=true"}, "model.qk_norm: found true, expected false");
    has({"model.family=gpt2", "model.qkv_bias=true"}, "model.qkv_bias: found true, expected false");
    has({"model.family=gpt2", "model.rope_scaling=linear"}, "model.rope_scaling: found another");
    has({"model.rope_scaling_factor=8"}, "expected 1 because model.rope_scaling is none");
    has({"model.rope_scaling=llama3", "model.rope_scaling_low_freq_factor=4"},
        "expected more than model.rope_scaling_low_freq_factor 4");
    has({"model.qk_norm=true", "model.head_dim=4098"}, "expected at most 4096 with model.qk_norm");
}

TEST_CASE("the last --set of a key counts and values are YAML", "[app][config]") {
    const Config config =
        small({"run.steps=7", "run.steps=8", "mesh.data=auto",
               "data.train=[{path: a, weight: 2.5}, b]", "batch.micro=+3", "run.output=\"a=b\""});
    CHECK(config.run.steps == 8);
    CHECK(config.batch.micro == 3);
    CHECK(config.data.train.at(0).weight == 2.5);
    CHECK(config.data.train.at(1).path == "b");
    CHECK(config.run.output == "a=b");
}

TEST_CASE("an unknown key names its line and the nearest known key", "[app][config]") {
    struct Case {
        std::string text, line, key, suggestion;
    };
    const std::vector<Case> cases = {
        {"run: {nmae: x}", "1", "run.nmae", "run.name"},
        {"\nmodel:\n  layer: 3", "3", "model.layer", "model.layers"},
        {"\nmodle: {}", "2", "modle", "model"},
        {"lr: 1", "1", "lr", "optimizer.lr"},
        {"model: {lr: 1}", "1", "model.lr", "optimizer.lr"},
        {"recomptue: none", "1", "recomptue", "recompute"},
        {"optimizer: {learning_rate_of_doom: 1}", "1", "optimizer.learning_rate_of_doom", ""},
    };
    for (const Case& c : cases) {
        const std::string message = refusal(c.text);
        INFO(message);
        CHECK_THAT(message, Contains("c.yaml:" + c.line + ": " + c.key + ": found an unknown key"));
        if (!c.suggestion.empty()) {
            CHECK_THAT(message, Contains("did you mean '" + c.suggestion + "'?"));
        }
    }
    CHECK_THAT(refusal_of_set({"optimzer.lr=1"}),
               Contains("--set optimzer.lr=1: optimzer.lr: found an unknown key") &&
                   Contains("did you mean 'optimizer.lr'?"));
    CHECK_THAT(refusal_of_set({"mesh.tensr=1"}), Contains("did you mean 'mesh.tensor'?"));
    CHECK_THAT(refusal_of_set({"model=1"}), Contains("found a section"));
    CHECK_THAT(refusal_of_set({"run.steps"}), Contains("found no key=value"));
}

TEST_CASE("duplicate keys are found on every level", "[app][config]") {
    CHECK_THAT(refusal("run: {steps: 1}\nmodel: {}\nrun: {steps: 2}"),
               Contains("c.yaml:3: run: found a second time, expected once (first on line 1)"));
    CHECK_THAT(refusal("model:\n  layers: 1\n  hidden: 3\n  layers: 2"),
               Contains("c.yaml:4: model.layers: found a second time") && Contains("line 2"));
    CHECK_THAT(refusal("data: {train: [{path: a, path: b}]}"), Contains("data.train.path"));
}

TEST_CASE("wrong types and values out of range are refused with what was found", "[app][config]") {
    struct Case {
        std::string set, found, expected;
    };
    std::vector<Case> cases = {
        {"model.layers=four", "found four", "expected a whole number"},
        {"model.layers=4.0", "found 4.0", "expected a whole number"},
        {"model.layers=1e3", "found 1e3", "expected a whole number"},
        {"model.layers=\"4\"", "found the text \"4\"", "expected a whole number"},
        {"model.layers=0x10", "found 0x10", "expected a whole number"},
        {"model.layers=-3", "found -3", "1 to"},
        {"model.layers=0", "found 0", "1 to"},
        {"model.layers=99999999999999999999", "found 99999999999999999999", "1 to"},
        {"model.layers=[4]", "found a list", "expected a whole number"},
        {"model.layers={a: 4}", "found a section", "expected a whole number"},
        {"model.layers=", "found nothing", "expected a whole number"},
        {"model.layers=~", "found nothing", "expected a whole number"},
        {"run.seed=-1", "found -1", "0 or more"},
        {"optimizer.lr=fast", "found fast, which is no number", "above 0"},
        {"optimizer.lr=0", "found 0", "above 0"},
        {"optimizer.lr=-1e-3", "found -1e-3", "above 0"},
        {"optimizer.lr=nan", "found nan", "above 0"},
        {"optimizer.lr=.nan", "found .nan", "expected a number"},
        {"optimizer.lr=inf", "found inf", "above 0"},
        {"optimizer.lr=1e400", "found 1e400", "above 0"},
        {"optimizer.lr=1e999", "found 1e999, expected", "above 0"},
        {"optimizer.lr=1e-400", "found 1e-400", "above 0"},
        {"optimizer.lr=\"0.1\"", "found the text", "expected a number"},
        {"optimizer.betas=0.9", "found 0.9", "list of two numbers"},
        {"optimizer.betas=[0.9]", "found a list of 1", "list of two numbers"},
        {"optimizer.betas=[0.9, 1.0]", "found 1.0", "below 1"},
        {"optimizer.name=adam", "found adam", "did you mean 'adamw'?"},
        {"model.dropout=1", "found 1", "below 1"},
        {"model.dropout=-0.1", "found -0.1", "at least 0"},
        {"model.family=lama", "found lama, expected gpt2 or llama", "did you mean 'llama'?"},
        {"model.tie_embeddings=yes", "found yes", "expected true or false"},
        {"model.tie_embeddings=1", "found 1", "expected true or false"},
        {"run.name=[a]", "found a list", "expected a text"},
        {"run.name=\"\"", "found an empty text", "at least one character"},
        {"run.name=\"a\\0b\"", "found the text \"a\\x00b\"", "without control characters"},
        {"run.name=a/b", "found a/b", "without '/'"},
        {"data.train=[]", "found an empty list", "at least one dataset"},
        {"data.train=a", "found a", "expected a list like [{path: PREFIX, weight: 1}]"},
        {"data.train=[{weight: 1}]", "item 1", "found no path"},
        {"data.train=[{path: a, format: nanogtp}]", "format: found nanogtp", "mean 'nanogpt'"},
        {"data.phases=[{weights: [1]}]", "item 1", "found no after_step"},
        {"data.valid=[{path: a, name: x}, {path: b, name: x}]", "two sets called x",
         "a name of its own"},
        {"data.phases=[{after_step: 1, weights: [0]}]", "weights", "one above 0"},
        {"data.phases=[{after_step: 1, weights: [-1]}]", "weights", "found -1"},
        {"data.phases=[{after_step: 1, weights: [1, 2]}]", "2 weights",
         "one for each of data.train"},
        {"data.phases=[{after_step: 1, weights: [1]}, {after_step: 1, weights: [2]}]", "item 2",
         "found 1, expected more than 1"},
        {"data.phases=[{after_step: 1000000, weights: [1]}]", "after step 1000000", "run.steps"},
        {"data.train=[a, {path: b, weight: 0}]", "item 2", "weight: found 0"},
        {"testing.links=data", "found data", "expected a list like [{axis: data"},
        {"testing.links=[{latency_ms: 1}]", "item 1", "found no axis"},
        {"testing.links=[{axis: dta}]", "axis: found dta", "did you mean 'data'?"},
        {"testing.links=[{axis: data, latency: 1}]", "unknown key 'latency'", "latency_ms"},
        {"testing.links=[{axis: data, latency_ms: -1}]", "latency_ms: found -1", "at least 0"},
        {"testing.links=[{axis: data}, {axis: data}]", "item 2", "axis data for the second time"},
        {"data.train=[{paht: b}]", "unknown key 'paht'", "did you mean 'path'?"},
        {"mesh.data=all", "found all", "or auto"},
        {"mesh.tensor=0", "found 0", "1 to"},
        {"checkpoint.keep=0", "found 0", "1 to"},
        {"logging.interval=0", "found 0", "1 to"},
        {"run.steps=0", "found 0", "1 to"},
        {"batch.micro=0", "found 0", "1 to"},
    };
    if (!cuda_is_built_in()) {
        cases.push_back(
            {"device.backend=cuda", "found cuda, which is not built in", "expected auto or cpu"});
    }
    for (const Case& c : cases) {
        const std::string message = refusal_of_set({c.set});
        INFO(c.set << " -> " << message);
        const std::string key = c.set.substr(0, c.set.find('='));
        CHECK_THAT(message, Contains("--set " + shown(c.set) + ": " + key + ": "));
        CHECK_THAT(message, Contains(c.found) && Contains(c.expected));
        CHECK_THAT(message, !Contains("problems"));
    }
}

TEST_CASE("impossible combinations are refused with the numbers that clash", "[app][config]") {
    struct Case {
        Sets sets;
        std::string key, text;
    };
    const std::vector<Case> cases = {
        {{"model.heads=5", "model.kv_heads=5"},
         "model.heads",
         "found 5, expected a divisor of model.hidden 48"},
        {{"model.kv_heads=4"}, "model.kv_heads", "found 4, expected a divisor of model.heads 6"},
        {{"model.head_dim=7"}, "model.head_dim", "found 7, expected an even width"},
        {{"mesh.tensor=4", "model.kv_heads=6", "model.ffn_hidden=128"},
         "model.heads",
         "found 6, expected a multiple of mesh.tensor 4"},
        {{"model.heads=12", "model.kv_heads=4", "mesh.tensor=6", "model.ffn_hidden=132"},
         "model.kv_heads",
         "found 4, expected a multiple or a divisor of mesh.tensor 6"},
        {{"mesh.tensor=2", "model.ffn_hidden=129"},
         "model.ffn_hidden",
         "found 129, expected a multiple of mesh.tensor 2; the nearest are 128 or 130"},
        {{"mesh.pipeline=6"}, "mesh.pipeline", "found 6, expected at most model.layers 5"},
        {{"mesh.context=2"}, "mesh.context", "found 2, which is not built in yet, expected 1"},
        {{"data.sequence_length=34"},
         "data.sequence_length",
         "found 34, expected at most model.max_sequence_length 33"},
        {{"model.vocab_size=256"}, "model.vocab_size", "found 256, expected at least 257"},
        {{"evaluation.interval=5"}, "data.valid", "found no dataset"},
        {{"mesh.pipeline=2", "pipeline.schedule=interleaved", "pipeline.virtual_stages=3"},
         "mesh.pipeline",
         "found 2 * pipeline.virtual_stages 3, expected at most model.layers 5"},
        {{"pipeline.schedule=zb-h3"}, "pipeline.schedule", "found zb-h3, expected gpipe, 1f1b"},
        {{"data_parallel.zero=4"}, "data_parallel.zero", "found 4, expected"},
        {{"data_parallel.shards=2", "mesh.data=3", "batch.global=12"},
         "data_parallel.shards",
         "found 2, expected a divisor of mesh.data 3, or 0"},
        {{"precision.compute=fp8"}, "precision.compute", "found fp8, which is not built in yet"},
        {{"recompute=some"}, "recompute", "found some, expected none, selective or full"},
        {{"schedule.min_lr=1"}, "schedule.min_lr", "found 1, expected at most optimizer.lr"},
        {{"schedule.warmup_steps=21"},
         "schedule.warmup_steps",
         "found 21, expected at most run.steps 20"},
        {{"schedule.name=wsd", "schedule.warmup_steps=10", "schedule.decay_steps=11"},
         "schedule.decay_steps",
         "found 11, expected at most run.steps 20"},
        {{"tensor_parallel.sequence_parallel=true", "mesh.tensor=2", "batch.micro=1"},
         "tensor_parallel.sequence_parallel",
         "found true, expected batch.micro 1 * data.sequence_length 33 = 33 tokens"},
        {{"tensor_parallel.pieces=17"}, "tensor_parallel.pieces", "found 17, expected"},
        {{"tensor_parallel.pieces=5", "mesh.tensor=2", "batch.micro=4"},
         "tensor_parallel.pieces",
         "found 5, expected a divisor of the 132 tokens of a micro-batch"},
        {{"tensor_parallel.pieces=4", "tensor_parallel.sequence_parallel=true", "mesh.tensor=2",
          "batch.micro=4"},
         "tensor_parallel.pieces",
         "found 4, expected a divisor of the 66 tokens of a micro-batch that a process holds"},
        {{"mesh.data=5"},
         "batch.global",
         "found 24, expected a multiple of batch.micro 4 * mesh.data 5 = 20; the nearest are 20 "
         "or 40"},
    };
    for (const Case& c : cases) {
        const std::string message = refusal_of_set(c.sets);
        INFO(c.sets.front() << " -> " << message);
        CHECK_THAT(message, Contains(c.key + ": " + c.text));
        CHECK_THAT(message, !Contains("problems"));
    }
    CHECK(refusal_of_set({"model.heads=5", "model.kv_heads=5", "model.head_dim=8"}) == "");
    CHECK(refusal_of_set({"model.head_dim=7", "model.family=gpt2"}) == "");
    CHECK(refusal_of_set({"mesh.tensor=6", "model.ffn_hidden=132"}) == "");
}

TEST_CASE("the mesh must multiply to the number of processes", "[app][config]") {
    CHECK_THAT(refusal_of_set({"mesh.tensor=2", "mesh.pipeline=2", "mesh.data=1"}, 6),
               Contains("mesh: found tensor 2 * pipeline 2 * context 1 * data 1 = 4 and 6 "
                        "processes, expected the same number; start it with mpirun -n 4"));
    CHECK_THAT(refusal_of_set({"mesh.tensor=2", "mesh.pipeline=2"}, 6),
               Contains("mesh: found tensor 2 * pipeline 2 * context 1 = 4 and 6 processes, "
                        "expected a number of processes that is a multiple of 4"));
    CHECK_THAT(refusal_of_set({}, 5),
               Contains("batch.global: found 24") && Contains("batch.micro 4 * mesh.data 5 = 20"));

    Config config = small({"mesh.tensor=2", "mesh.pipeline=2"});
    check_world(config, 12);
    CHECK(config.mesh == MeshShape{.tensor = 2, .context = 1, .data = 3, .pipeline = 2});
    CHECK(config.micro_batches() == 2);
    CHECK_THROWS_AS(check_world(config, 8), Error);
}

TEST_CASE("missing required keys are all named", "[app][config]") {
    const std::string message = refusal("");
    for (const char* key :
         {"run.steps", "model.layers", "model.hidden", "model.heads", "model.vocab_size",
          "model.max_sequence_length", "batch.global", "data.train"}) {
        CHECK_THAT(message, Contains(std::string("c.yaml: ") + key + ": found nothing"));
    }
    CHECK_THAT(message, Contains("8 problems in the configuration"));
}

TEST_CASE("all problems are reported at once in the order of the file", "[app][config]") {
    const std::string text = R"(run: {steps: 0, sped: 1}
model:
  family: lama
  layers: 2
  layers: 3
  hidden: 48
  heads: 7
  vocab_size: 257
  max_sequence_length: 8
data: {train: [x]}
batch: {global: 5, micro: 2}
)";
    const std::string message = refusal(text, {"mesh.tensor=three", "run.nmae=x"}, 1);
    INFO(message);
    const std::vector<std::string> parts = {
        "c.yaml:1: run.sped",     "c.yaml:1: run.steps",   "c.yaml:3: model.family",
        "c.yaml:5: model.layers", "c.yaml:7: model.heads", "c.yaml:11: batch.global",
        "--set run.nmae=x",
    };
    size_t last = 0;
    for (const std::string& part : parts) {
        INFO(part);
        CHECK(count_of(message, part) == 1);
        CHECK(message.find(part) > last);
        last = message.find(part);
    }
    CHECK_THAT(message, Contains("8 problems") && Contains("--set mesh.tensor=three"));
}

TEST_CASE("YAML that is more than data is refused", "[app][config]") {
    CHECK_THAT(
        refusal("run: &a {steps: 1}\nmodel: *a"),
        Contains("c.yaml:1: run: found an anchor") && Contains("c.yaml:2: model: found an alias"));
    CHECK_THAT(refusal("run: {steps: !!int 1}"), Contains("c.yaml:1: run.steps: found the tag"));
    CHECK_THAT(refusal("run: !x {steps: 1}"), Contains("run: found the tag !x"));
    CHECK_THAT(refusal("run:\n  <<: {steps: 1}"), Contains("c.yaml:2: run.<<: found a merge key"));
    CHECK_THAT(refusal("run: {[a]: 1}"), Contains("found a key that is not a word"));
    CHECK_THAT(refusal("run: {steps: 1}\n---\nrun: {}"), Contains("found a second document"));
    CHECK_THAT(refusal("run: {steps: 1\nmodel: ["), Contains("found a syntax error"));
    CHECK_THAT(refusal("[1, 2]"), Contains("found no sections"));
    CHECK_THAT(refusal("run: 5"), Contains("c.yaml:1: run: found a single value"));
    CHECK_THAT(refusal("run: {name: \xff}"), Contains("offset 12, expected UTF-8"));
    CHECK_THAT(refusal(std::string("run:\n\0", 6)), Contains("c.yaml:2: found a byte"));
}

TEST_CASE("huge, deep and repetitive YAML is refused quickly", "[app][config]") {
    const auto begin = std::chrono::steady_clock::now();
    CHECK_THAT(refusal(std::string((1u << 20) + 1, '#')), Contains("at most 1048576"));
    CHECK(refusal(std::string(1u << 20, '\n')).find("run.steps") != std::string::npos);
    CHECK_THAT(refusal(std::string(500000, '[')), Contains("levels of nesting"));
    std::string nested;
    for (int i = 0; i < 200; ++i) nested += std::string(static_cast<size_t>(i), ' ') + "a:\n";
    CHECK_THAT(refusal(nested), Contains("levels of nesting"));
    std::string many = "[";
    for (int i = 0; i < 150000; ++i) many += "1,";
    CHECK_THAT(refusal(many + "]"), Contains("more than 100000 values"));
    std::string keys;
    for (int i = 0; i < 40000; ++i) keys += "model_" + std::to_string(i) + ":\n";
    CHECK_THAT(refusal(keys), Contains("and 39908 more"));
    CHECK(refusal("run: {" + std::string(300000, 'n') + ": 1}").size() < 2000);
    CHECK(std::chrono::steady_clock::now() - begin < std::chrono::seconds(20));
}

TEST_CASE("a text survives as a YAML scalar", "[app][config]") {
    for (const std::string text : {"plain/path-1.2", "null", "", "- a", "a: b", "# c", "tab\there",
                                   "\"quoted\"", "back\\slash", "line\nbreak", "ümläut", "~", "-x",
                                   "{a}", "true", " lead", "trail ", "\x01"}) {
        std::vector<YamlProblem> problems;
        const YamlNode node = parse_yaml("k: [" + yaml_text(text) + "]", problems);
        INFO(yaml_text(text));
        CHECK(problems.empty());
        REQUIRE(node.items.size() == 1);
        REQUIRE(node.items[0].items.size() == 1);
        CHECK(node.items[0].items[0].kind == YamlNode::Kind::scalar);
        CHECK(node.items[0].items[0].text == text);
    }
}

TEST_CASE("the nearest word is found within a few letters", "[app][config]") {
    CHECK(edit_distance("abc", "acb", 3) == 1);
    CHECK(edit_distance("kitten", "sitting", 5) == 3);
    CHECK(edit_distance("", "ab", 3) == 2);
    CHECK(edit_distance("a", "abcdef", 2) > 2);
    CHECK(nearest_word("hiden", {"heads", "hidden"}) == "hidden");
    CHECK(nearest_word("xyz", {"heads", "hidden"}).empty());
}

TEST_CASE("a missing configuration file is a configuration error", "[app][config]") {
    try {
        load_config("no/such/file.yaml");
        FAIL("expected an error");
    } catch (const Error& error) {
        CHECK(error.code() == ExitCode::config);
        CHECK_THAT(error.what(), Contains("no/such/file.yaml"));
    }
}

#include <cstring>
#include <filesystem>
#include <fstream>
#include <iostream>

#include "app/config.h"
#include "core/safetensors.h"
#include "data/indexed_dataset_writer.h"
#include "parallel/checkpoint_manifest.h"
#include "parallel/schedule_file.h"

// Writes a few good inputs for every target to FOLDER/TARGET.

namespace trireme {
namespace {

void write(const std::string& folder, const std::string& name, const std::string& content) {
    std::filesystem::create_directories(folder);
    std::ofstream(folder + "/" + name, std::ios::binary) << content;
}

std::string content_of(const std::string& path) {
    std::ifstream in(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
}

std::string safetensors() {
    std::vector<SafetensorsEntry> entries(3);
    entries[0] = {.name = "a", .dtype = DType::f32, .shape = {2, 3}};
    entries[1] = {.name = "b", .dtype = DType::bf16, .shape = {5}};
    entries[2] = {.name = "c", .dtype = DType::i64, .shape = {}};
    std::string file = make_safetensors_header(entries, {{"format", "pt"}});
    file.resize(file.size() + entries.back().end, '\1');
    return file;
}

std::string manifest() {
    Manifest manifest;
    manifest.id = "0123456789abcdef";
    manifest.state.config = "run: {steps: 1}\n";
    manifest.files = {{"shard-00000-of-00001.safetensors", 400, 7}};
    ManifestTensor tensor{
        .name = "parameter/x", .dtype = DType::f32, .global = {5, 6}, .pieces = {}};
    tensor.pieces = {{0, "parameter/x#0", {{0, 0}, {2, 6}}, 1},
                     {0, "parameter/x#1", {{2, 0}, {3, 6}}, 2}};
    manifest.tensors["parameter/x"] = tensor;
    return manifest_text(manifest);
}

std::string dataset(const std::string& folder) {
    const std::string prefix = folder + "/data";
    std::filesystem::create_directories(folder);
    IndexedDatasetWriter writer(prefix, 257);
    const std::vector<int32_t> tokens{1, 2, 3, 256};
    writer.add_document(tokens);
    writer.add_sequence(tokens);
    writer.add_sequence(tokens);
    writer.finish();
    const std::string index = content_of(prefix + ".idx"), bin = content_of(prefix + ".bin");
    std::filesystem::remove(prefix + ".idx");
    std::filesystem::remove(prefix + ".bin");
    std::string length(2, '\0');
    const uint16_t index_bytes = static_cast<uint16_t>(index.size());
    std::memcpy(length.data(), &index_bytes, 2);
    return length + index + bin;
}

// A byte-level vocabulary is too large for a seed: some bytes and a merge.
constexpr const char* kTokenizer =
    R"({"version": "1.0", "added_tokens": [{"id": 4, "content": "<|e|>",
"single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true}],
"normalizer": null, "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false,
"trim_offsets": true, "use_regex": true}, "post_processor": null, "decoder": {"type": "ByteLevel"},
"model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": "",
"end_of_word_suffix": "", "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
"vocab": {"a": 0, "b": 1, "\u0120": 2, "ab": 3}, "merges": ["a b"]}})";

// All bytes in order, then a merge, in base64.
std::string ranks() {
    constexpr const char* kDigits =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    std::string text(1, '\1');
    for (unsigned byte = 0; byte < 256; ++byte) {
        text += {kDigits[byte >> 2], kDigits[(byte & 3) << 4], '=', '='};
        text += " " + std::to_string(byte) + "\n";
    }
    return text + "YWI= 256\n";
}

// llm.c's header, behind the byte that chooses the format.
std::string shards() {
    const int32_t header[3] = {20240520, 1, 4};
    std::string file(1 + 1024 + 8, '\1');
    std::memcpy(file.data() + 1, header, sizeof header);
    return file;
}

constexpr const char* kQuestions =
    R"({"activity_label":"a","ctx_a":"b [c]","ctx_b":"d","endings":["e","f [title] g"],"label":"1"}
{"ctx":"a","endings":["e","f"],"label":0}
{"question":"a","choices":{"text":["b","c"],"label":["A","B"]},"answerKey":"B"}
)";

constexpr const char* kConfig = R"(run: {name: a, steps: 3}
model: {family: llama, layers: 4, hidden: 32, heads: 4, kv_heads: 2, vocab_size: 257,
        max_sequence_length: 8}
data: {train: [{path: x, weight: 0.5}, {path: y, format: llmc}],
       phases: [{after_step: 1, weights: [1, 0]}]}
batch: {global: 8, micro: 1}
mesh: {tensor: 2, pipeline: 2, data: auto}
pipeline: {schedule: interleaved, virtual_stages: 2}
testing: {links: [{axis: data, latency_ms: 0.1}]}
)";

}  // namespace
}  // namespace trireme

int main(int argc, char** argv) {
    using namespace trireme;
    if (argc != 2) return 2;
    const std::string to = argv[1];
    write(to + "/safetensors", "plain", safetensors());
    write(to + "/manifest", "plain", manifest());
    write(to + "/json", "manifest", manifest());
    write(to + "/json", "numbers", "{\"a\": [1, -2.5e3, true, null, \"\\u00e9\"], \"b\": {}}");
    write(to + "/dataset", "plain", dataset(to + "/dataset"));
    write(to + "/shards", "plain", shards());
    write(to + "/choices", "plain", kQuestions);
    write(to + "/config", "written", kConfig);
    write(to + "/config", "resolved", dump_config(parse_config(kConfig, "seed", {}, 8)));
    write(to + "/tokenizer_json", "bpe", kTokenizer);
    write(to + "/tiktoken", "ranks", ranks());
    PipelineOptions options;
    for (const char* schedule : {"1f1b", "zb-h1"}) {
        options.schedule = schedule;
        write(to + "/schedule", schedule, write_schedule(make_schedule(options, 2, 2)));
    }
    return 0;
}

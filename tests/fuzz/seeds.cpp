#include <cstring>
#include <filesystem>
#include <fstream>
#include <iostream>

#include "app/config.h"
#include "core/crc32c.h"
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

constexpr const char* kCluster = R"(nodes: 2
devices_per_node: 4
device:
  backend: cpu
  memory_gib: 2
  memory_gb_per_s: 10
  operation_us: 5
  matmul_tflops: {fp32: 0.1, bf16: 0.2}
  attention_tflops: {fp32: 0.05}
  peak_tflops: {fp32: 0.2}
node_link: {gb_per_s: 5, latency_us: 10}
network: {gb_per_s: 1}
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

// The first byte chooses the file; three forms of config.json, an index and a generation_config.
constexpr const char* kHuggingFace[] = {
    R"(0{"architectures":["GPT2LMHeadModel"],"model_type":"gpt2","vocab_size":257,"n_positions":64,
"n_ctx":64,"n_embd":12,"n_layer":2,"n_head":6,"n_inner":null,"activation_function":"gelu_new",
"resid_pdrop":0.1,"embd_pdrop":0.1,"attn_pdrop":0.1,"layer_norm_epsilon":1e-05,
"initializer_range":0.02,"tie_word_embeddings":true,"bos_token_id":256,"torch_dtype":"float32"})",
    R"(0{"model_type":"llama","vocab_size":257,"hidden_size":12,"intermediate_size":10,
"num_hidden_layers":5,"num_attention_heads":6,"num_key_value_heads":2,"head_dim":4,
"hidden_act":"silu","max_position_embeddings":128,"rms_norm_eps":1e-06,"rope_theta":10000.0,
"rope_scaling":{"rope_type":"llama3","factor":8.0,"low_freq_factor":1.0,"high_freq_factor":4.0,
"original_max_position_embeddings":64},"attention_bias":false,"eos_token_id":[1,2]})",
    R"(0{"model_type":"qwen3","vocab_size":257,"hidden_size":12,"intermediate_size":10,
"num_hidden_layers":2,"num_attention_heads":6,"num_key_value_heads":2,"head_dim":4,
"max_position_embeddings":128,"rope_parameters":{"rope_type":"linear","factor":2.0,
"rope_theta":1000000.0},"use_sliding_window":false,"layer_types":["full_attention"],
"dtype":"bfloat16"})",
    R"(1{"metadata":{"total_size":9},"weight_map":{"a":"m-1.safetensors","b":"b.safetensors"}})",
    R"(2{"_from_model_config":true,"bos_token_id":1,"eos_token_id":[2,3],"pad_token_id":null})"};

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
    write(to + "/cluster", "written", kCluster);
    write(to + "/config", "written", kConfig);
    write(to + "/config", "resolved", dump_config(parse_config(kConfig, "seed", {}, 8)));
    write(to + "/tokenizer_json", "bpe", kTokenizer);
    for (const char* file : kHuggingFace) {
        write(to + "/hf_folder", std::to_string(crc32c(file, std::strlen(file))), file);
    }
    write(to + "/tiktoken", "ranks", ranks());
    PipelineOptions options;
    for (const char* schedule : {"1f1b", "zb-h1"}) {
        options.schedule = schedule;
        write(to + "/schedule", schedule, write_schedule(make_schedule(options, 2, 2)));
    }
    return 0;
}

#include "app/schema.h"

#include <algorithm>
#include <utility>

#include "app/config_problems.h"
#include "app/presets.h"
#include "app/schema_rows.h"
#include "app/schema_sections.h"
#include "app/time_limit.h"
#include "core/error.h"

namespace trireme {

namespace {

// A time, or a word that stands for 0.
template <typename At>
SchemaRow duration(std::string key, const std::string& word, std::string description, At at) {
    const std::string type = "seconds, HH:MM:SS, D-HH:MM:SS or " + word;
    SchemaRow row{.key = std::move(key),
                  .type = type,
                  .allowed = word + ", above 0",
                  .description = std::move(description)};
    row.read = [=](const YamlNode& node, Config& config) -> std::string {
        const bool is_text = node.kind == YamlNode::Kind::scalar;
        if (is_text && node.text == word) {
            at(config) = 0.0;
            return "";
        }
        const std::optional<double> seconds =
            is_text ? parse_duration(node.text) : std::optional<double>();
        if (!seconds || *seconds <= 0.0) return found(node) + ", expected " + type;
        at(config) = *seconds;
        return "";
    };
    row.write = [=](const Config& config) {
        return at(config) > 0.0 ? number_text(at(config)) : word;
    };
    return row;
}

Rows run_rows() {
    return {
        text(
            "run.name", "a file name", "What the run is called.",
            [](auto& c) -> auto& { return c.run.name; }),
        defaults_to("runs/NAME", text(
                                     "run.output", "", "Folder that everything is written into.",
                                     [](auto& c) -> auto& { return c.run.output; })),
        whole(
            "run.seed", {}, "Seed of initial weights, dropout and sample order.",
            [](auto& c) -> auto& { return c.run.seed; }),
        required(whole(
            "run.steps", {1, kMostSteps},
            "Optimizer steps of the whole run, those before a resume included.",
            [](auto& c) -> auto& { return c.run.steps; })),
        duration(
            "run.time_limit", "none",
            "Time after its start at which a run must have ended: it saves and stops with code 75 "
            "while that still fits. Slurm's end of the job counts as well. See docs/faults.md.",
            [](auto& c) -> auto& { return c.run.time_limit_seconds; }),
        duration(
            "run.hang_limit", "auto",
            "How long a rank may make no progress before the run ends with code 86. auto: ten "
            "times the longest step, evaluation or save so far, at least a minute; ten minutes "
            "for saves and what was not seen yet. See docs/faults.md.",
            [](auto& c) -> auto& { return c.run.hang_limit_seconds; }),
        number(
            "run.start_limit", {.least = 0.0, .most = 1e9, .above_least = true},
            "Seconds that start-up may take without any progress, before the run ends with code "
            "86.",
            [](auto& c) -> auto& { return c.run.start_limit_seconds; }),
        whole(
            "run.max_restarts", {0, 1000000},
            "After so many starts in a row that ended without a new checkpoint the next one ends "
            "with code 93; 0: never.",
            [](auto& c) -> auto& { return c.run.max_restarts; }),
    };
}

Rows device_rows() {
    return {
        word(
            "device.backend", {.words = {"auto", "cpu", "cuda"}},
            std::vector{Backend::automatic, Backend::cpu, Backend::cuda},
            "Which processor computes; auto takes the GPU where there is one, else the CPU.",
            [](auto& c) -> auto& { return c.device.backend; }),
        whole(
            "device.threads", {0, 4096},
            "CPU compute threads of each process; 0 shares evenly the cores that the processes may "
            "use.",
            [](auto& c) -> auto& { return c.device.threads; }),
        boolean(
            "device.share",
            "Lets several processes of a machine use one GPU: slow, for testing a mesh; see "
            "docs/gpu.md.",
            [](auto& c) -> auto& { return c.device.share; }),
        boolean(
            "device.deterministic",
            "GPU: only operations that give the same bits in every run; attention's backward is "
            "slower then.",
            [](auto& c) -> auto& { return c.device.deterministic; }),
        boolean(
            "device.tune",
            "GPU: measures some matrix product algorithms at the first use of each shape and keeps "
            "the fastest; two runs may then differ in the last bits.",
            [](auto& c) -> auto& { return c.device.tune; }),
        word(
            "device.graphs", {.words = {"never", "auto", "always"}},
            std::vector{GraphUse::never, GraphUse::where_faster, GraphUse::always},
            "GPU: launches forward and backward passes as CUDA graphs; auto: where steps are "
            "measured to be shorter then. See docs/gpu.md.",
            [](auto& c) -> auto& { return c.device.graphs; }),
    };
}

Rows model_rows() {
    std::vector<std::string> names = preset_names();
    return {
        word(
            "model.preset", {.words = std::move(names)},
            "A known shape that stands for the keys below; keys given beside it override it.",
            [](auto& c) -> auto& { return c.preset; }),
        word(
            "model.family", {.words = {"gpt2", "llama"}}, std::vector{Family::gpt2, Family::llama},
            "gpt2: LayerNorm, learned positions, GELU, biases; llama: RMSNorm, RoPE, SwiGLU.",
            [](auto& c) -> auto& { return c.model.family; }),
        required(whole(
            "model.layers", {1, kMostSize}, "Transformer blocks.",
            [](auto& c) -> auto& { return c.model.layers; })),
        required(whole(
            "model.hidden", {1, kMostSize}, "Width of the residual stream.",
            [](auto& c) -> auto& { return c.model.hidden; })),
        required(whole(
            "model.heads", {1, kMostSize},
            "Attention heads; a multiple of mesh.tensor * mesh.context.",
            [](auto& c) -> auto& { return c.model.heads; })),
        defaults_to(
            "heads",
            whole(
                "model.kv_heads", {1, kMostSize},
                "Key and value heads; divides heads, and divides mesh.tensor or is its multiple.",
                [](auto& c) -> auto& { return c.model.kv_heads; })),
        defaults_to("hidden / heads",
                    whole(
                        "model.head_dim", {1, kMostSize}, "Width of one head; even for llama.",
                        [](auto& c) -> auto& { return c.model.head_dim; })),
        defaults_to("gpt2: 4 * hidden; llama: 8/3 * hidden, up to a multiple of 16",
                    whole(
                        "model.ffn_hidden", {1, kMostSize},
                        "Inner width of the feed-forward layer; a multiple of mesh.tensor.",
                        [](auto& c) -> auto& { return c.model.ffn_hidden; })),
        required(whole(
            "model.vocab_size", {1, kMostSize}, "Token ids; at least 257 with data.tokenizer byte.",
            [](auto& c) -> auto& { return c.model.vocab_size; })),
        required(whole(
            "model.max_sequence_length", {1, kMostSize},
            "Longest sequence in tokens; gpt2 has as many learned positions.",
            [](auto& c) -> auto& { return c.model.max_sequence_length; })),
        defaults_to("gpt2: true; llama: false",
                    boolean(
                        "model.tie_embeddings", "Whether the output layer is the token embedding.",
                        [](auto& c) -> auto& { return c.model.tie_embeddings; })),
        boolean(
            "model.qkv_bias",
            "Biases on query, key and value alone, as Qwen2 has them; llama only.",
            [](auto& c) -> auto& { return c.model.qkv_bias; }),
        boolean(
            "model.qk_norm",
            "RMSNorm of every query and key head before RoPE, as Qwen3 has it; llama only.",
            [](auto& c) -> auto& { return c.model.qk_norm; }),
        number(
            "model.rope_theta", {.least = 0.0, .above_least = true},
            "Base of the rotary position frequencies; llama only.",
            [](auto& c) -> auto& { return c.model.rope_theta; }),
        word(
            "model.rope_scaling", {.words = {"none", "linear", "llama3"}},
            std::vector{RopeScalingKind::none, RopeScalingKind::linear, RopeScalingKind::llama3},
            "How rotary frequencies are stretched for longer sequences. linear: all of them by the "
            "factor; llama3: slow ones by the factor, fast ones not, as Llama 3.1 does.",
            [](auto& c) -> auto& { return c.model.rope_scaling.kind; }),
        number(
            "model.rope_scaling_factor", {.least = 1.0},
            "How far frequencies are stretched; for rope_scaling linear and llama3.",
            [](auto& c) -> auto& { return c.model.rope_scaling.factor; }),
        number(
            "model.rope_scaling_low_freq_factor", {.least = 0.0, .above_least = true},
            "llama3: frequencies that turn less often than this within the original length are "
            "stretched by the whole factor.",
            [](auto& c) -> auto& { return c.model.rope_scaling.low_freq_factor; }),
        number(
            "model.rope_scaling_high_freq_factor", {.least = 0.0, .above_least = true},
            "llama3: those that turn more often than this are left as they are.",
            [](auto& c) -> auto& { return c.model.rope_scaling.high_freq_factor; }),
        whole(
            "model.rope_scaling_original_max_position", {1, kMostSize},
            "llama3: the original length, in tokens.",
            [](auto& c) -> auto& { return c.model.rope_scaling.original_max_position; }),
        number(
            "model.norm_eps", {.least = 0.0, .above_least = true},
            "Added to the variance in norms.", [](auto& c) -> auto& { return c.model.norm_eps; }),
        number(
            "model.dropout", {.least = 0.0, .most = 1.0, .below_most = true},
            "Share of activations set to zero in training.",
            [](auto& c) -> auto& { return c.model.dropout; }),
        number(
            "model.init_std", {.least = 0.0, .above_least = true},
            "Standard deviation of initial weights; output projections get less with depth.",
            [](auto& c) -> auto& { return c.model.init_std; }),
    };
}

SchemaRow phases_row() {
    SchemaRow row{.key = "data.phases",
                  .type = "list of {after_step, weights}",
                  .allowed = "rising steps; a weight of 0 or more for each of data.train",
                  .description =
                      "Other weights of data.train from the step after that one on. Each "
                      "dataset goes on where it was."};
    row.read = [](const YamlNode& node, Config& config) {
        return read_phases(node, config.data.phases);
    };
    row.write = [](const Config& config) { return phases_text(config.data.phases); };
    return row;
}

SchemaRow split_row() {
    SchemaRow row{.key = "data.split",
                  .type = "text",
                  .allowed = "none or one to three weights as in 969,30,1",
                  .description =
                      "Megatron's split of each dataset of data.train, by its sequences: the first "
                      "part is for training, the second for validation instead of data.valid, the "
                      "third for eval --part test."};
    row.read = [](const YamlNode& node, Config& config) {
        std::string text;
        std::string problem = read_text(node, text);
        if (!problem.empty()) return problem + " such as none or 969,30,1";
        config.data.split.reset();
        if (text == "none") return problem;
        try {
            DatasetSplit split = parse_split(text);
            // All for training is no split.
            if (split.train != DatasetShare{}) config.data.split = std::move(split);
        } catch (const Error& error) {
            problem = found(node) + ", " + error.what() + ", or none";
        }
        return problem;
    };
    row.write = [](const Config& config) {
        return config.data.split ? yaml_text(config.data.split->text) : "none";
    };
    return row;
}

Rows data_rows() {
    return {
        required(sources(
            "data.train",
            "Datasets to train on, mixed by weight; path is the prefix of PREFIX.bin and "
            "PREFIX.idx, or token files of nanoGPT or llm.c, see docs/data.md.",
            [](auto& c) -> auto& { return c.data.train; })),
        phases_row(),
        sources(
            "data.valid",
            "Datasets to validate on, the first evaluation.batches global batches of each; a set "
            "that has fewer samples is read again. valid_loss is their mean by weight, "
            "valid_losses holds each set's by name.",
            [](auto& c) -> auto& { return c.data.valid; }),
        split_row(),
        defaults_to("model.max_sequence_length",
                    whole(
                        "data.sequence_length", {1, kMostSize}, "Tokens in a training sequence.",
                        [](auto& c) -> auto& { return c.data.sequence_length; })),
        text(
            "data.index_cache", "none or a folder",
            "Where the processes of a machine share large orders of samples (64 MiB and more), "
            "instead of holding one each; best on a local disk. See docs/data.md.",
            [](auto& c) -> auto& { return c.data.index_cache; }),
        boolean(
            "data.keep_documents_apart",
            "Where a sequence holds several documents, tokens attend to their own only, learned "
            "positions count from its beginning, and the step from one to the next is not learned.",
            [](auto& c) -> auto& { return c.data.keep_documents_apart; }),
        boolean(
            "data.allow_changed",
            "Lets a run go on from a checkpoint whose training data or sequence length was "
            "another.",
            [](auto& c) -> auto& { return c.data.allow_changed; }),
        text(
            "data.tokenizer", "byte, none or the path of a tokenizer.json or a tiktoken file",
            "What turns text into tokens when the model generates; as prepare's --tokenizer. none: "
            "there is nothing of the kind, for tokens that another program has made.",
            [](auto& c) -> auto& { return c.data.tokenizer; }),
    };
}

Rows batch_rows() {
    return {
        required(whole(
            "batch.global", {1, kMostSize},
            "Sequences in a step over all processes; a multiple of micro * mesh.data.",
            [](auto& c) -> auto& { return c.batch.global; })),
        whole(
            "batch.micro", {1, kMostSize}, "Sequences that pass through the model together.",
            [](auto& c) -> auto& { return c.batch.micro; }),
    };
}

std::vector<SchemaRow> make_schema() {
    std::vector<SchemaRow> schema;
    for (Rows rows :
         {run_rows(), device_rows(), model_rows(), data_rows(), batch_rows(), mesh_rows(),
          parallel_rows(), training_rows(), record_rows(), numerics_rows(), testing_rows()}) {
        for (SchemaRow& row : rows) schema.push_back(std::move(row));
    }
    const Config defaults;
    for (SchemaRow& row : schema) {
        if (row.default_text.empty()) row.default_text = row.write(defaults);
        row.on_resume = resume_class_of(row.key);
    }
    return schema;
}

}  // namespace

std::string SchemaRow::section() const {
    const size_t dot = key.find('.');
    return dot == std::string::npos ? "" : key.substr(0, dot);
}

std::string SchemaRow::name() const {
    const size_t dot = key.find('.');
    return dot == std::string::npos ? key : key.substr(dot + 1);
}

const std::vector<SchemaRow>& config_schema() {
    static const std::vector<SchemaRow> schema = make_schema();
    return schema;
}

std::vector<std::string> sections_of(const std::vector<SchemaRow>& schema) {
    std::vector<std::string> sections;
    for (const SchemaRow& row : schema) {
        const std::string section = row.section();
        if (section.empty()) continue;
        if (sections.empty() || sections.back() != section) sections.push_back(section);
    }
    return sections;
}

const SchemaRow* find_row(const std::vector<SchemaRow>& schema, const std::string& key) {
    for (const SchemaRow& row : schema) {
        if (row.key == key) return &row;
    }
    return nullptr;
}

std::string suggest_key(const std::vector<SchemaRow>& schema, const std::string& section,
                        const std::string& name) {
    std::vector<std::string> near, all, elsewhere;
    for (const SchemaRow& row : schema) {
        all.push_back(row.key);
        if (row.section() == section) near.push_back(row.name());
        if (row.name() == name) elsewhere.push_back(row.key);
    }
    if (section.empty()) {
        for (std::string& top : sections_of(schema)) near.push_back(std::move(top));
    }
    const std::string prefix = section.empty() ? "" : section + ".";
    std::string nearest = nearest_word(name, near);
    if (!nearest.empty()) {
        nearest = prefix + nearest;
    } else if (!elsewhere.empty()) {
        nearest = elsewhere.front();
    } else {
        nearest = nearest_word(prefix + name, all);
    }
    return did_you_mean(nearest);
}

}  // namespace trireme

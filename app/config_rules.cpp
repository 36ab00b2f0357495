#include "app/config_rules.h"

#include <algorithm>
#include <cmath>
#include <initializer_list>
#include <limits>

#include "app/build_info.h"
#include "app/schema_values.h"
#include "core/error.h"
#include "core/ops.h"
#include "parallel/schedule.h"

namespace trireme {

namespace {

constexpr int kByteTokens = 257;  // 256 bytes and the end of text

std::string text_of(int64_t value) {
    return std::to_string(value);
}

// Whether `part` goes into `whole` without a rest. Nonsense from a hand-built configuration
// counts as a misfit, never as a division by zero.
bool divides(int64_t part, int64_t whole) {
    return part > 0 && whole % part == 0;
}

// The multiples of `unit` around `value`: "24 or 32".
std::string nearest_multiples(int64_t value, int64_t unit) {
    const int64_t below = value / unit * unit;
    return (below > 0 ? text_of(below) + " or " : "") + text_of(below + unit);
}

class Rules {
public:
    Rules(const Config& config, ConfigProblems& problems) : c(config), problems_(problems) {}

    void check_run() {
        const std::string& name = c.run.name;
        check({"run.name"}, name != "." && name != ".." && name.find('/') == std::string::npos,
              "found " + shown(name) + ", expected a file name without '/'");
        const std::vector<std::string> built = built_backends();
        check({"device.backend"},
              c.device.backend != Backend::cuda ||
                  std::find(built.begin(), built.end(), "cuda") != built.end(),
              "found cuda, which is not built in, expected auto or cpu");
    }

    void check_model() {
        const ModelOptions& m = c.model;
        check({"model.heads", "model.hidden", "model.head_dim"}, m.head_dim > 0,
              "found " + text_of(m.heads) + ", expected a divisor of model.hidden " +
                  text_of(m.hidden) + " (or give model.head_dim)");
        check({"model.kv_heads", "model.heads"}, divides(m.kv_heads, m.heads),
              "found " + text_of(m.kv_heads) + ", expected a divisor of model.heads " +
                  text_of(m.heads));
        check(
            {"model.head_dim", "model.family", "model.hidden", "model.heads"},
            m.family != Family::llama || m.head_dim % 2 == 0,
            "found " + text_of(m.head_dim) + ", expected an even width, because RoPE turns pairs");
        check({"model.qkv_bias", "model.family"}, m.family == Family::llama || !m.qkv_bias,
              "found true, expected false for model.family gpt2, which has all biases");
        check({"model.qk_norm", "model.family"}, m.family == Family::llama || !m.qk_norm,
              "found true, expected false for model.family gpt2");
        check({"model.head_dim", "model.qk_norm", "model.hidden", "model.heads"},
              !m.qk_norm || m.head_dim <= kMostNormedHead,
              "found " + text_of(m.head_dim) + ", expected at most " + text_of(kMostNormedHead) +
                  " with model.qk_norm");
        check_rope_scaling();
        check({"model.dropout"}, m.dropout >= 0.0f && m.dropout < 1.0f,
              "found " + number_text(m.dropout) + ", expected at least 0 and below 1");
    }

    void check_rope_scaling() {
        const RopeScaling& scaling = c.model.rope_scaling;
        const bool is_scaled = scaling.kind != RopeScalingKind::none;
        check({"model.rope_scaling", "model.family"}, c.model.family == Family::llama || !is_scaled,
              "found another than none, expected none for model.family gpt2, which has no RoPE");
        check({"model.rope_scaling_factor", "model.rope_scaling"},
              is_scaled || scaling.factor == 1.0,
              "found " + number_text(scaling.factor) +
                  ", expected 1 because model.rope_scaling is none");
        check({"model.rope_scaling_high_freq_factor", "model.rope_scaling_low_freq_factor"},
              scaling.kind != RopeScalingKind::llama3 ||
                  scaling.high_freq_factor > scaling.low_freq_factor,
              "found " + number_text(scaling.high_freq_factor) +
                  ", expected more than model.rope_scaling_low_freq_factor " +
                  number_text(scaling.low_freq_factor));
    }

    void check_data() {
        check({"data.sequence_length", "model.max_sequence_length"},
              c.data.sequence_length <= c.model.max_sequence_length,
              "found " + text_of(c.data.sequence_length) +
                  ", expected at most model.max_sequence_length " +
                  text_of(c.model.max_sequence_length));
        check({"model.vocab_size", "data.tokenizer"},
              c.data.tokenizer != "byte" || c.model.vocab_size >= kByteTokens,
              "found " + text_of(c.model.vocab_size) +
                  ", expected at least 257 for data.tokenizer byte (256 bytes and end of text); "
                  "set data.tokenizer none for tokens of another program");
        check({"data.train"}, !c.data.train.empty(),
              "found an empty list, expected at least one dataset");
        check_weights("data.train", c.data.train);
        check_weights("data.valid", c.data.valid);
        for (const DataPhaseOptions& phase : c.data.phases) {
            check({"data.phases", "data.train"}, phase.weights.size() == c.data.train.size(),
                  "found " + text_of(std::ssize(phase.weights)) + " weights after step " +
                      text_of(phase.after_step) + ", expected " +
                      text_of(std::ssize(c.data.train)) + ", one for each of data.train");
            check({"data.phases", "run.steps"}, phase.after_step < c.run.steps,
                  "found a phase after step " + text_of(phase.after_step) +
                      ", expected one below run.steps " + text_of(c.run.steps));
        }
        const bool is_valid_split = c.data.split && c.data.split->valid;
        check({"data.split"}, !c.data.split || c.data.split->train,
              "found no part for training, expected a first weight above 0");
        check({"data.split", "data.valid"}, !is_valid_split || c.data.valid.empty(),
              "found a second weight, which is for validation, beside data.valid, expected one of "
              "the two");
        std::vector<std::string> names = names_of(c.data.validation_sets());
        std::sort(names.begin(), names.end());
        const auto twice = std::adjacent_find(names.begin(), names.end());
        check({is_valid_split ? "data.train" : "data.valid"}, twice == names.end(),
              "found two sets called " + (twice == names.end() ? "" : shown(*twice)) +
                  ", expected a name of its own for each");
        check({"data.valid", "data.split", "evaluation.interval"},
              c.evaluation.interval == 0 || !c.data.validation_sets().empty(),
              "found no dataset, expected at least one, or a second weight in data.split, because "
              "evaluation.interval is " +
                  text_of(c.evaluation.interval));
    }

    void check_mesh() {
        const ModelOptions& m = c.model;
        const int tensor = c.mesh.tensor;
        const std::string over = " mesh.tensor " + text_of(tensor);
        check({"model.heads", "mesh.tensor"}, divides(tensor, m.heads),
              "found " + text_of(m.heads) + ", expected a multiple of" + over);
        check({"model.kv_heads", "mesh.tensor", "model.heads"},
              divides(tensor, m.kv_heads) || divides(m.kv_heads, tensor),
              "found " + text_of(m.kv_heads) + ", expected a multiple or a divisor of" + over);
        check({"model.ffn_hidden", "mesh.tensor", "model.hidden"}, divides(tensor, m.ffn_hidden),
              "found " + text_of(m.ffn_hidden) + ", expected a multiple of" + over +
                  near(m.ffn_hidden, tensor));
        const int64_t chunks = int64_t{c.mesh.pipeline} * c.pipeline.virtual_stages;
        check({"mesh.pipeline", "pipeline.virtual_stages", "model.layers"}, chunks <= m.layers,
              "found " + text_of(c.mesh.pipeline) +
                  (chunks > c.mesh.pipeline
                       ? " * pipeline.virtual_stages " + text_of(c.pipeline.virtual_stages)
                       : "") +
                  ", expected at most model.layers " + text_of(m.layers) +
                  ", one block a stage and chunk");
        check_ranks();
        check_context();
        const int64_t all_tokens = int64_t{c.batch.micro} * c.data.sequence_length;
        if (!divides(c.mesh.context, all_tokens)) return;
        const int64_t tokens = all_tokens / c.mesh.context;
        check({"tensor_parallel.sequence_parallel", "batch.micro", "data.sequence_length",
               "model.max_sequence_length", "mesh.tensor", "mesh.context"},
              !c.tensor_parallel.sequence_parallel || divides(tensor, tokens),
              "found true, expected " + micro_batch_text() +
                  (c.mesh.context > 1 ? " / mesh.context " + text_of(c.mesh.context) : "") +
                  " = " + text_of(tokens) + " tokens to be a multiple of" + over);
        check_pieces(tokens);
    }

    // More would be nonsense, and their number would not stay far from overflow.
    void check_ranks() {
        constexpr int64_t kMostOfRun = 1 << 20;
        const MeshShape& mesh = c.mesh;
        const double ranks = 1.0 * mesh.tensor * mesh.context * mesh.pipeline *
                             std::max(mesh.data, 1);
        check({"mesh.tensor", "mesh.pipeline", "mesh.context", "mesh.data"}, ranks <= kMostOfRun,
              "found tensor " + text_of(mesh.tensor) + " * pipeline " + text_of(mesh.pipeline) +
                  " * context " + text_of(mesh.context) +
                  (mesh.data > 0 ? " * data " + text_of(mesh.data) : "") +
                  " processes, expected at most " + text_of(kMostOfRun) + " in all");
    }

    // Context ranks share out a micro-batch's tokens, and for attention the heads of a tensor rank.
    void check_context() {
        const ModelOptions& m = c.model;
        const int context = c.mesh.context;
        const int64_t tokens = int64_t{c.batch.micro} * c.data.sequence_length;
        check({"mesh.context", "batch.micro", "data.sequence_length", "model.max_sequence_length"},
              divides(context, tokens),
              "found " + text_of(context) + ", expected a divisor of " + micro_batch_text() +
                  " = " + text_of(tokens) + " tokens");
        const std::string over = " mesh.tensor " + text_of(c.mesh.tensor);
        if (!divides(c.mesh.tensor, m.heads)) return;
        const int heads = m.heads / c.mesh.tensor;
        check({"mesh.context", "model.heads", "mesh.tensor"}, divides(context, heads),
              "found " + text_of(context) + ", expected a divisor of model.heads " +
                  text_of(m.heads) + " /" + over + " = " + text_of(heads));
        const int kv_heads = std::max(m.kv_heads / c.mesh.tensor, 1);
        check({"mesh.context", "model.kv_heads", "mesh.tensor", "model.heads"},
              divides(context, kv_heads) || divides(kv_heads, context),
              "found " + text_of(context) + ", expected a multiple or a divisor of the " +
                  text_of(kv_heads) + " key/value heads of a tensor rank (model.kv_heads " +
                  text_of(m.kv_heads) + "," + over + ")");
    }

    void check_pieces(int64_t tokens) {
        const int pieces = c.tensor_parallel.pieces;
        const bool shards = c.tensor_parallel.sequence_parallel;
        if (pieces == 0 || c.mesh.tensor == 1 || (shards && !divides(c.mesh.tensor, tokens))) {
            return;
        }
        const int64_t divided = shards ? tokens / c.mesh.tensor : tokens;
        check({"tensor_parallel.pieces", "batch.micro", "data.sequence_length",
               "model.max_sequence_length", "mesh.tensor"},
              divides(pieces, divided),
              "found " + text_of(pieces) + ", expected a divisor of the " + text_of(divided) +
                  " tokens of a micro-batch that a process holds");
    }

    void check_training() {
        check({"schedule.min_lr", "optimizer.lr"}, c.schedule.min_lr <= c.optimizer.lr,
              "found " + number_text(c.schedule.min_lr) + ", expected at most optimizer.lr " +
                  number_text(c.optimizer.lr));
        check({"schedule.warmup_steps", "run.steps"}, c.schedule.warmup_steps <= c.run.steps,
              "found " + text_of(c.schedule.warmup_steps) + ", expected at most run.steps " +
                  text_of(c.run.steps));
        const int64_t shaped = c.schedule.warmup_steps + c.schedule.decay_steps;
        check({"schedule.decay_steps", "schedule.warmup_steps", "run.steps", "schedule.name"},
              c.schedule.shape != LrShape::wsd || c.schedule.warmup_steps > c.run.steps ||
                  shaped <= c.run.steps,
              "found " + text_of(c.schedule.decay_steps) + ", expected at most run.steps " +
                  text_of(c.run.steps) + " - schedule.warmup_steps " +
                  text_of(c.schedule.warmup_steps));
    }

    void check_batch() {
        if (c.mesh.data < 1) {  // not known before the number of processes is
            check({"batch.global", "batch.micro"}, divides(c.batch.micro, c.batch.global),
                  "found " + text_of(c.batch.global) + ", expected a multiple of batch.micro " +
                      text_of(c.batch.micro) + near(c.batch.global, c.batch.micro));
            return;
        }
        check({"data_parallel.shards", "mesh.data", "mesh.context"},
              c.data_parallel.shards == 0 ||
                  divides(c.data_parallel.shards, c.mesh.data_ranks()),
              "found " + text_of(c.data_parallel.shards) + ", expected a divisor of mesh.data " +
                  text_of(c.mesh.data) +
                  (c.mesh.context > 1 ? " * mesh.context " + text_of(c.mesh.context) : "") +
                  ", or 0");
        const int64_t unit = int64_t{c.batch.micro} * c.mesh.data;
        check({"batch.global", "batch.micro", "mesh.data"}, divides(unit, c.batch.global),
              "found " + text_of(c.batch.global) + ", expected a multiple of batch.micro " +
                  text_of(c.batch.micro) + " * mesh.data " + text_of(c.mesh.data) + " = " +
                  text_of(unit) + near(c.batch.global, unit));
        const int64_t most = std::numeric_limits<int>::max() / std::max(c.micro_batches(), 1);
        check({"evaluation.batches", "batch.micro"}, c.evaluation.batches <= most,
              "found " + text_of(c.evaluation.batches) + ", expected at most " + text_of(most) +
                  ", since each has " + text_of(c.micro_batches()) + " micro-batches");
    }

    // What a schedule needs of stages, chunks and micro-batches, and whether a user's program runs.
    void check_schedule() {
        if (c.mesh.data < 1 || c.micro_batches() < 1 ||
            !divides(int64_t{c.batch.micro} * c.mesh.data, c.batch.global)) {
            return;
        }
        std::string problem;
        try {
            const ScheduleProgram program =
                make_schedule(c.pipeline, c.mesh.pipeline, c.micro_batches());
            problem = find_schedule_error(program);
        } catch (const Error& error) {
            problem = error.what();
        }
        check({"pipeline.schedule", "pipeline.virtual_stages", "pipeline.micro_batch_group",
               "pipeline.memory_cap", "mesh.pipeline", "batch.global", "batch.micro"},
              problem.empty(), problem);
    }

    // Adds a problem to the first of the keys unless it holds or one of the keys is bad already.
    void check(std::initializer_list<const char*> keys, bool holds, const std::string& text) {
        if (holds) return;
        for (const char* key : keys) {
            if (problems_.has(key)) return;
        }
        // The default of a key that was not given follows from the others; the first one given
        // is where a user will look.
        ConfigPlace place{c.source, 0};
        for (const char* key : keys) {
            if (!c.is_given(key)) continue;
            place = c.places.at(key);
            break;
        }
        problems_.add(place, *keys.begin(), text);
    }

private:
    void check_weights(const char* key, const std::vector<DataSourceOptions>& sets) {
        double sum = 0;
        for (const DataSourceOptions& set : sets) sum += set.weight;
        check({key}, std::isfinite(sum),
              "found weights whose sum is too large for a number, expected smaller ones: only "
              "their ratios count");
    }

    std::string micro_batch_text() const {
        return "batch.micro " + text_of(c.batch.micro) + " * data.sequence_length " +
               text_of(c.data.sequence_length);
    }

    static std::string near(int64_t value, int64_t unit) {
        return unit > 0 && value > 0 ? "; the nearest are " + nearest_multiples(value, unit) : "";
    }

    const Config& c;  // short, because every rule reads it
    ConfigProblems& problems_;
};

}  // namespace

void fill_defaults(Config& config) {
    ModelOptions& model = config.model;
    if (config.run.output.empty()) config.run.output = "runs/" + config.run.name;
    if (model.kv_heads == 0) model.kv_heads = model.heads;
    if (model.head_dim == 0 && divides(model.heads, model.hidden)) {
        model.head_dim = model.hidden / model.heads;
    }
    if (model.ffn_hidden == 0) {
        const int llama_width = static_cast<int>((int64_t{8} * model.hidden + 47) / 48 * 16);
        model.ffn_hidden = model.family == Family::gpt2 ? 4 * model.hidden : llama_width;
    }
    // A V has two by itself: one number serves all schedules that are compared.
    if (config.pipeline.schedule == "zb-v" && config.pipeline.virtual_stages == 1) {
        config.pipeline.virtual_stages = 2;
    }
    if (config.data.sequence_length == 0) {
        config.data.sequence_length = model.max_sequence_length;
    }
}

void check_rules(const Config& config, ConfigProblems& problems) {
    Rules rules(config, problems);
    rules.check_run();
    rules.check_model();
    rules.check_data();
    rules.check_mesh();
    rules.check_batch();
    rules.check_training();
}

void check_world_rules(Config& config, int world, ConfigProblems& problems) {
    MeshShape& mesh = config.mesh;
    const int64_t fixed = int64_t{mesh.tensor} * mesh.context * mesh.pipeline;
    const std::string sizes = "tensor " + std::to_string(mesh.tensor) + " * pipeline " +
                              std::to_string(mesh.pipeline) + " * context " +
                              std::to_string(mesh.context);
    Rules rules(config, problems);
    const std::string run = std::to_string(world) + (world == 1 ? " process" : " processes");
    if (mesh.data == 0) {
        rules.check({"mesh", "mesh.tensor", "mesh.pipeline", "mesh.context", "mesh.data"},
                    divides(fixed, world),
                    "found " + sizes + " = " + std::to_string(fixed) + " and " + run +
                        ", expected a number of processes that is a multiple of " +
                        std::to_string(fixed) + "; start it with mpirun -n " +
                        std::to_string(fixed) + " or change the mesh");
        if (!divides(fixed, world)) return;
        mesh.data = static_cast<int>(world / fixed);
        rules.check_batch();
        rules.check_schedule();
        return;
    }
    const int64_t product = fixed * mesh.data;
    rules.check({"mesh", "mesh.tensor", "mesh.pipeline", "mesh.context", "mesh.data"},
                product == world,
                "found " + sizes + " * data " + std::to_string(mesh.data) + " = " +
                    std::to_string(product) + " and " + run + ", expected the same number; " +
                    "start it with mpirun -n " + std::to_string(product) + " or change the mesh");
    rules.check_batch();
    rules.check_schedule();
}

}  // namespace trireme

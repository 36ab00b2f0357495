#include <algorithm>
#include <utility>

#include "app/config_problems.h"
#include "app/schema_rows.h"
#include "app/schema_sections.h"

namespace trireme {

namespace {

SchemaRow betas() {
    const NumberRange range{.least = 0.0, .most = 1.0, .below_most = true, .is_single = true};
    SchemaRow row{.key = "optimizer.betas",
                  .type = "list of two numbers",
                  .allowed = range.to_string(),
                  .description = "Decay of AdamW's running mean and of its running square."};
    row.read = [=](const YamlNode& node, Config& config) -> std::string {
        if (node.kind != YamlNode::Kind::list || node.items.size() != 2) {
            const bool is_list = node.kind == YamlNode::Kind::list;
            return (is_list ? "found a list of " + std::to_string(node.items.size())
                            : found(node)) +
                   ", expected a list of two numbers like [0.9, 0.95]";
        }
        double beta1 = 0.0, beta2 = 0.0;
        std::string problem = read_number(node.items[0], range, beta1);
        if (problem.empty()) problem = read_number(node.items[1], range, beta2);
        if (!problem.empty()) return problem;
        config.optimizer.beta1 = beta1;
        config.optimizer.beta2 = beta2;
        return "";
    };
    row.write = [](const Config& config) {
        return "[" + number_text(config.optimizer.beta1) + ", " +
               number_text(config.optimizer.beta2) + "]";
    };
    return row;
}

// Only one optimizer exists, so nothing remembers the choice.
SchemaRow optimizer_name() {
    const WordList list{.words = {"adamw"}};
    SchemaRow row{.key = "optimizer.name",
                  .type = "one word",
                  .allowed = list.to_string(),
                  .description = "Adam with decoupled weight decay (Loshchilov and Hutter 2019)."};
    row.read = [=](const YamlNode& node, Config&) {
        size_t index = 0;
        return read_word(node, list, index);
    };
    row.write = [](const Config&) { return "adamw"; };
    return row;
}

}  // namespace

Rows training_rows() {
    return {
        word(
            "precision.compute", {.words = {"fp32", "bf16"}, .unbuilt = {"fp8"}},
            std::vector{DType::f32, DType::bf16},
            "Number format of matrix products and activations; master weights stay fp32.",
            [](auto& c) -> auto& { return c.precision.compute; }),
        word(
            "recompute", {.words = {"none", "selective", "full"}},
            std::vector{Recompute::none, Recompute::selective, Recompute::full},
            "Which activations are computed again in the backward pass instead of kept: none; "
            "selective: norms, attention's interior, the activation function; full: all of a layer "
            "but its input.",
            [](auto& c) -> auto& { return c.recompute.policy; }),
        whole(
            "recompute_layers", {0, 100000},
            "On how many layers of each model chunk, counted from its first; 0: on all.",
            [](auto& c) -> auto& { return c.recompute.layers; }),
        optimizer_name(),
        number(
            "optimizer.lr", {.least = 0.0, .above_least = true, .is_single = true},
            "Learning rate after the warm-up.", [](auto& c) -> auto& { return c.optimizer.lr; }),
        betas(),
        number(
            "optimizer.eps", {.least = 0.0, .above_least = true, .is_single = true},
            "Added to the root of the running square.",
            [](auto& c) -> auto& { return c.optimizer.eps; }),
        number(
            "optimizer.weight_decay", {.is_single = true},
            "Decay of matrices; vectors (norms, biases) are never decayed.",
            [](auto& c) -> auto& { return c.optimizer.weight_decay; }),
        number(
            "optimizer.clip_norm", {}, "Largest global gradient norm; 0 does not clip.",
            [](auto& c) -> auto& { return c.optimizer.clip_norm; }),
        word(
            "schedule.name", {.words = {"constant", "linear", "cosine", "wsd"}},
            std::vector{LrShape::constant, LrShape::linear, LrShape::cosine, LrShape::wsd},
            "Course of the learning rate after the warm-up.",
            [](auto& c) -> auto& { return c.schedule.shape; }),
        whole(
            "schedule.warmup_steps", {0, kMostSteps},
            "Steps over which the learning rate rises from zero.",
            [](auto& c) -> auto& { return c.schedule.warmup_steps; }),
        number(
            "schedule.min_lr", {.is_single = true},
            "Learning rate at the last step; not used by constant.",
            [](auto& c) -> auto& { return c.schedule.min_lr; }),
        whole(
            "schedule.decay_steps", {0, kMostSteps},
            "Length of the final decay of wsd; 0 takes a tenth of all steps.",
            [](auto& c) -> auto& { return c.schedule.decay_steps; }),
    };
}

Rows record_rows() {
    return {
        whole(
            "checkpoint.interval", {0, kMostSteps},
            "Steps between checkpoints; 0 saves only at the end.",
            [](auto& c) -> auto& { return c.checkpoint.interval; }),
        whole(
            "checkpoint.keep", {1, 1000000},
            "How many of the newest checkpoints stay; two sound ones always do.",
            [](auto& c) -> auto& { return c.checkpoint.keep; }),
        whole(
            "checkpoint.keep_every", {0, kMostSteps},
            "Checkpoints of steps that this divides stay for ever; 0: none does.",
            [](auto& c) -> auto& { return c.checkpoint.keep_every; }),
        boolean(
            "checkpoint.async",
            "Writes checkpoints while training goes on; takes host memory for a copy of each "
            "process's part.",
            [](auto& c) -> auto& { return c.checkpoint.async; }),
        word(
            "checkpoint.on_error", {.words = {"stop", "warn"}},
            std::vector{OnSaveError::stop, OnSaveError::warn},
            "When a checkpoint cannot be saved: stop ends the run with code 74, warn goes on and "
            "tries again at the next interval. The last one of a run must succeed.",
            [](auto& c) -> auto& { return c.checkpoint.on_error; }),
        text(
            "checkpoint.resume", "auto, never or a folder",
            "auto goes on from the newest sound checkpoint in run.output, a folder from the one "
            "there.",
            [](auto& c) -> auto& { return c.checkpoint.resume; }),
        whole(
            "evaluation.interval", {0, kMostSteps}, "Steps between validations; 0 never validates.",
            [](auto& c) -> auto& { return c.evaluation.interval; }),
        whole(
            "evaluation.batches", {1, kMostSize}, "Global batches of each set in a validation.",
            [](auto& c) -> auto& { return c.evaluation.batches; }),
        whole(
            "logging.interval", {1, kMostSteps},
            "Steps between lines on the console and in metrics.jsonl.",
            [](auto& c) -> auto& { return c.logging.interval; }),
        boolean(
            "logging.tensorboard",
            "Writes event files for TensorBoard, into the folder tensorboard of run.output.",
            [](auto& c) -> auto& { return c.logging.tensorboard; }),
        boolean(
            "logging.trace", "Writes a trace of every rank for Chrome or Perfetto.",
            [](auto& c) -> auto& { return c.logging.trace; }),
    };
}

Rows numerics_rows() {
    return {
        word(
            "numerics.on_nonfinite", {.words = {"stop", "skip"}},
            std::vector{NonfinitePolicy::stop, NonfinitePolicy::skip},
            "When the loss or a gradient is NaN or infinite: end the run with code 76, or go on "
            "without this step's update. The rank and the tensor are named either way.",
            [](auto& c) -> auto& { return c.numerics.on_nonfinite; }),
        word(
            "numerics.on_spike", {.words = {"ignore", "log", "skip"}},
            std::vector{SpikePolicy::ignore, SpikePolicy::log, SpikePolicy::skip},
            "When the loss or the gradient norm jumps: say so, or go on without this step's update "
            "as well.",
            [](auto& c) -> auto& { return c.numerics.on_spike; }),
        whole(
            "numerics.spike_window", {2, 1000000},
            "Steps that a loss is compared with; nothing is a jump until it is half full.",
            [](auto& c) -> auto& { return c.numerics.spike_window; }),
        number(
            "numerics.spike_sigma", {.least = 0.0, .above_least = true},
            "How many standard deviations above the window's mean are a jump.",
            [](auto& c) -> auto& { return c.numerics.spike_sigma; }),
        whole(
            "numerics.max_skips", {0, kMostSteps},
            "Steps in a row that may be skipped; one more ends the run with code 76.",
            [](auto& c) -> auto& { return c.numerics.max_skips; }),
        boolean(
            "numerics.find_origin",
            "Remembers what each process adds to the sums of gradients, so that a NaN can be put "
            "down to the process that made it.",
            [](auto& c) -> auto& { return c.numerics.find_origin; }),
        whole(
            "numerics.check_replicas", {0, kMostSteps},
            "Steps between checks that processes which hold the same parameters and optimizer "
            "state "
            "hold the same bits; it is also checked before every save, and 0 does that alone. A "
            "difference ends the run with code 76 and names the process in the minority.",
            [](auto& c) -> auto& { return c.numerics.check_replicas; }),
    };
}

Rows testing_rows() {
    SchemaRow row{.key = "testing.links",
                  .type = "list of {axis, latency_ms, bandwidth_mb_per_s}",
                  .allowed = "axis tensor, context, data or pipeline, each once",
                  .description =
                      "For experiments and tests only, on the CPU: makes communication along mesh "
                      "axes as slow as such links, to see what of it a step hides behind compute. "
                      "Bandwidth in 10^6 bytes a second of each process, 0 without limit."};
    row.read = [](const YamlNode& node, Config& config) {
        return read_links(node, config.testing.links);
    };
    row.write = [](const Config& config) { return links_text(config.testing.links); };
    SchemaRow faults{.key = "testing.faults",
                     .type = "list of {rank, step, action, tensor}",
                     .allowed = "action nan-gradient or flip-bit",
                     .description =
                         "For tests only: lets something go wrong on one process as a step begins. "
                         "nan-gradient: in its own gradient of a tensor (data_parallel.zero 0 or "
                         "1); flip-bit: in its copy of a parameter."};
    faults.read = [](const YamlNode& node, Config& config) {
        return read_faults(node, config.testing.faults);
    };
    faults.write = [](const Config& config) { return faults_text(config.testing.faults); };
    return {row, faults};
}

}  // namespace trireme

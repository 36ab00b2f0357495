#include "app/resume_class.h"

#include <algorithm>
#include <array>
#include <iterator>

namespace trireme {

namespace {

// What the tensors are, what they compute, and which samples their position in the data means.
constexpr std::string_view kStructural[] = {
    "model.family",
    "model.layers",
    "model.hidden",
    "model.heads",
    "model.kv_heads",
    "model.head_dim",
    "model.ffn_hidden",
    "model.vocab_size",
    "model.max_sequence_length",
    "model.tie_embeddings",
    "model.rope_theta",
    "model.norm_eps",
    "model.qkv_bias",
    "model.qk_norm",
    "model.rope_scaling",
    "model.rope_scaling_factor",
    "model.rope_scaling_low_freq_factor",
    "model.rope_scaling_high_freq_factor",
    "model.rope_scaling_original_max_position",
    "data.sequence_length",
    "data.split",
    "optimizer.name",
};

constexpr std::string_view kTrajectory[] = {
    "run.seed",
    "run.steps",  // the schedule's length, and the order of samples
    "model.dropout",
    "data.train",
    "data.keep_documents_apart",
    "data.phases",
    "batch.global",
    "data_parallel.gradient_wire",
    "precision.compute",
    "optimizer.lr",
    "optimizer.betas",
    "optimizer.eps",
    "optimizer.weight_decay",
    "optimizer.clip_norm",
    "schedule.name",
    "schedule.warmup_steps",
    "schedule.min_lr",
    "schedule.decay_steps",
    "numerics.on_nonfinite",
    "numerics.on_spike",
    "numerics.spike_window",
    "numerics.spike_sigma",
    "numerics.max_skips",
};

constexpr std::string_view kOperational[] = {
    "run.name",
    "run.output",
    "run.time_limit",
    "run.hang_limit",
    "run.start_limit",
    "run.max_restarts",
    "device.backend",
    "device.threads",
    "device.share",
    "device.deterministic",
    "device.tune",
    "device.graphs",
    "model.preset",    // the keys that it stands for count
    "model.init_std",  // only the first step uses it
    "data.valid",
    "data.tokenizer",
    "data.allow_changed",
    "data.index_cache",
    "batch.micro",
    "mesh.tensor",
    "mesh.pipeline",
    "mesh.data",
    "mesh.context",
    "tensor_parallel.sequence_parallel",
    "tensor_parallel.pieces",
    "tensor_parallel.overlap",
    "pipeline.schedule",
    "pipeline.virtual_stages",
    "pipeline.extra_warmup",
    "pipeline.micro_batch_group",
    "pipeline.memory_cap",
    "pipeline.cost.forward",
    "pipeline.cost.backward_input",
    "pipeline.cost.backward_weight",
    "pipeline.cost.transfer",
    "data_parallel.zero",
    "data_parallel.shards",
    "data_parallel.prefetch",
    "data_parallel.overlap",
    "data_parallel.bucket_mb",
    "recompute",
    "recompute_layers",
    "checkpoint.interval",
    "checkpoint.keep",
    "checkpoint.keep_every",
    "checkpoint.async",
    "checkpoint.on_error",
    "checkpoint.resume",
    "evaluation.interval",
    "evaluation.batches",
    "logging.interval",
    "logging.tensorboard",
    "logging.trace",
    "numerics.find_origin",
    "numerics.check_replicas",
    "testing.links",
    "testing.faults",
};

template <typename Table>
bool holds(const Table& table, const std::string& key) {
    return std::find(std::begin(table), std::end(table), key) != std::end(table);
}

}  // namespace

std::string_view name_of(ResumeClass resume_class) {
    switch (resume_class) {
        case ResumeClass::structural:
            return "structural";
        case ResumeClass::trajectory:
            return "trajectory";
        case ResumeClass::operational:
            return "operational";
    }
    return "?";
}

bool has_resume_class(const std::string& key) {
    return holds(kStructural, key) || holds(kTrajectory, key) || holds(kOperational, key);
}

ResumeClass resume_class_of(const std::string& key) {
    if (holds(kStructural, key)) return ResumeClass::structural;
    if (holds(kOperational, key)) return ResumeClass::operational;
    return ResumeClass::trajectory;
}

}  // namespace trireme

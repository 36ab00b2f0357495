#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "core/device.h"
#include "data/data_options.h"
#include "model/model_options.h"
#include "model/optimizer_options.h"
#include "model/recompute.h"
#include "parallel/mesh.h"
#include "parallel/parallel_options.h"

namespace trireme {

struct RunOptions {
    std::string name = "run";
    std::string output;  // empty: runs/<name>
    uint64_t seed = 1234;
    int64_t steps = 0;
    double time_limit_seconds = 0;  // 0: none
    double hang_limit_seconds = 0;  // 0: learned from the run
    double start_limit_seconds = 1800;
    int max_restarts = 3;  // in a row without a new checkpoint; 0: any number
};

struct BatchOptions {
    int global = 0;  // sequences a step, over the whole mesh
    int micro = 1;   // sequences a micro-batch
};

enum class OnSaveError { stop, warn };

struct CheckpointOptions {
    int64_t interval = 0;  // steps; 0: only at the end
    int keep = 3;
    int64_t keep_every = 0;  // steps; 0: none is kept for ever
    bool async = true;
    OnSaveError on_error = OnSaveError::stop;
    std::string resume = "auto";  // auto | never | a run folder or step folder
};

struct EvaluationOptions {
    int64_t interval = 0;  // steps; 0: never
    int batches = 10;      // global batches each time
};

struct LoggingOptions {
    int64_t interval = 10;  // steps
    bool tensorboard = true;
    bool trace = false;
};

enum class NonfinitePolicy { stop, skip };
enum class SpikePolicy { ignore, log, skip };

// What to do about losses and gradients that are not finite, that jump, or that differ where they
// should not.
struct NumericsOptions {
    NonfinitePolicy on_nonfinite = NonfinitePolicy::stop;
    SpikePolicy on_spike = SpikePolicy::log;
    int spike_window = 128;         // steps
    double spike_sigma = 6.0;       // standard deviations above the window's mean
    int max_skips = 5;              // steps in a row that may be skipped
    bool find_origin = true;        // look at gradients before they are summed
    int64_t check_replicas = 1000;  // steps between comparisons; 0: only before saving
};

enum class FaultAction { nan_gradient, flip_bit };

// Something that goes wrong on one rank as a step begins.
struct FaultOptions {
    int rank = 0;
    int64_t step = 0;
    FaultAction action = FaultAction::nan_gradient;
    std::string tensor;
};

// For experiments and tests.
struct TestingOptions {
    std::vector<LinkOptions> links;
    std::vector<FaultOptions> faults;
};

// Where a value was given: "FILE:LINE" or "--set key=value".
struct ConfigPlace {
    std::string text;
    int line = 0;  // 0: not from a file
};

// Everything that a run is told. The layers' own options, and those of the application.
struct Config {
    RunOptions run;
    DeviceOptions device;
    std::string preset = "none";
    ModelOptions model;
    DataOptions data;
    BatchOptions batch;
    MeshShape mesh{.tensor = 1, .context = 1, .data = 0, .pipeline = 1};
    TensorParallelOptions tensor_parallel;
    PipelineOptions pipeline;
    DataParallelOptions data_parallel;
    PrecisionOptions precision;
    RecomputeOptions recompute;
    OptimizerOptions optimizer;
    LrScheduleOptions schedule;
    CheckpointOptions checkpoint;
    EvaluationOptions evaluation;
    LoggingOptions logging;
    NumericsOptions numerics;
    TestingOptions testing;

    std::string source;                         // name of the file; empty when built by hand
    std::map<std::string, ConfigPlace> places;  // of the keys that were given

    bool is_given(const std::string& key) const { return places.count(key) != 0; }
    // Micro-batches that each data-parallel shard runs in a step; needs mesh.data filled in.
    int micro_batches() const {
        return static_cast<int>(batch.global / (int64_t{batch.micro} * mesh.data));
    }
    // Checkpoints are written while training goes on. Where nothing is trained meanwhile, a copy
    // would be made for nothing.
    bool saves_in_background() const {
        return checkpoint.async && checkpoint.interval > 0 && checkpoint.interval < run.steps;
    }
};

// Reads, resolves and checks a configuration file of at most 1 MiB; `sets` are `key=value` texts
// that override it, the last one of a key winning. With `world`, the number of processes, the mesh
// and the batch are checked against it as well and mesh.data is filled in.
// Nothing is written. Throws one Error (config) that lists all problems, each with its place, or
// Error (config) when the file cannot be read.
Config load_config(const std::string& path, const std::vector<std::string>& sets = {},
                   std::optional<int> world = std::nullopt);

// The same for a text, for example of a checkpoint. `source` names it in messages.
Config parse_config(const std::string& text, const std::string& source,
                    const std::vector<std::string>& sets = {},
                    std::optional<int> world = std::nullopt);

// Fills in defaults that depend on other values and checks what needs no process count.
// Throws one Error (config) that lists all problems. load_config has done it already.
void resolve(Config& config);

// Checks a resolved configuration against the number of processes and fills in mesh.data.
// Throws one Error (config) that lists all problems.
void check_world(Config& config, int world);

// YAML text with every key; parses back to the same configuration, floats bit for bit.
std::string dump_config(const Config& config);

// docs/configuration.md, made from the schema.
std::string configuration_reference();

}  // namespace trireme

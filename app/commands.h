#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "core/device.h"

// The commands, one function each. They return the exit code, or throw Error.

namespace trireme {

struct TrainArguments {
    std::string config;             // path of the YAML file
    std::vector<std::string> sets;  // key=value texts
};
int train_command(const TrainArguments& arguments);

struct ConfigArguments {
    std::string config;  // may be empty with `reference`
    std::vector<std::string> sets;
    std::optional<int> world;  // number of processes to check the mesh against
    bool reference = false;    // print docs/configuration.md instead
};
int config_command(const ConfigArguments& arguments);

struct PlanArguments {
    std::string config;
    std::vector<std::string> sets;
    std::optional<int> world;    // number of processes; default: all devices of the cluster, or one
                                 // data shard
    std::string cluster;         // file that describes the machines; empty: no times are planned
    bool layouts = false;        // with a cluster: look for the fastest layout
    bool schedule_only = false;  // draw the pipeline schedule instead of planning memory
    bool json = false;
    std::string svg, trace;  // files to draw the simulated timeline into; empty: none
};
int plan_command(const PlanArguments& arguments);

struct MeasureArguments {
    Backend backend = Backend::automatic;
    int threads = 0;  // CPU threads of a process; 0: cores / processes
};
int measure_command(const MeasureArguments& arguments);

struct EvalArguments {
    std::string checkpoint;            // run folder or step folder
    std::vector<std::string> data;     // datasets: prefixes, token files or patterns
    std::string format = "auto";       // of all of them, see DataFormat
    std::string part = "all";          // of each, by the checkpoint's data.split
    std::vector<std::string> choices;  // files of multiple-choice questions
    std::string logits;                // file for logits of the one dataset; empty: none
    int64_t logits_windows = 1;        // of so many of its windows, at most
    bool json = false;
    std::vector<std::string> sets;
};
int eval_command(const EvalArguments& arguments);

struct GenerateArguments {
    std::string checkpoint;
    std::string prompt;
    int tokens = 200;
    double temperature = 0.8;  // 0: always the likeliest token
    int top_k = 0;             // 0: all tokens
    uint64_t seed = 1234;
    std::vector<std::string> sets;
};
int generate_command(const GenerateArguments& arguments);

struct PrepareArguments {
    std::vector<std::string> inputs;
    std::string output;  // prefix of the datasets
    std::string tokenizer = "byte";
    std::string text_key = "text";
    std::string format = "auto";  // auto, text or jsonl
    double valid_fraction = 0.0;
    int workers = 0;                   // 0: one a core
    std::string on_bad_line = "fail";  // fail or skip
};
int prepare_command(const PrepareArguments& arguments);

struct ImportArguments {
    std::string input;   // Hugging Face folder
    std::string output;  // run folder to make
};
int import_command(const ImportArguments& arguments);

struct ExportArguments {
    std::string checkpoint;  // run folder or step folder
    std::string output;      // Hugging Face folder to make
    std::string dtype = "fp32";
    uint64_t max_shard_bytes = 5'000'000'000;
};
int export_command(const ExportArguments& arguments);

struct InspectArguments {
    std::string path;
    std::string format = "auto";  // of a dataset: auto, megatron, nanogpt or llmc
    bool verify = false;
    bool json = false;
};
int inspect_command(const InspectArguments& arguments);

}  // namespace trireme

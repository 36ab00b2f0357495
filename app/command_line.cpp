#include "app/command_line.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cctype>
#include <charconv>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <functional>
#include <limits>
#include <map>
#include <string>
#include <vector>

#include "app/build_info.h"
#include "app/commands.h"
#include "app/config_problems.h"
#include "core/error.h"
#include "data/token_source.h"

namespace trireme {

namespace {

using Command = std::function<int()>;

// `--set a=1 b=2 FILE`: what follows and looks like key=value belongs to --set, the rest does not.
// Returned in reverse, as the parser takes it.
std::vector<std::string> reversed_arguments(int argc, const char* const* argv) {
    std::vector<std::string> arguments;
    bool after_set = false;
    for (int i = 1; i < argc; ++i) {
        std::string argument = argv[i];
        const bool is_pair = argument.find('=') != std::string::npos && argument[0] != '-';
        if (argument == "--set" && i + 1 < argc) {
            argument = std::string("--set=") + argv[++i];
            after_set = true;
        } else if (after_set && is_pair) {
            argument = "--set=" + argument;
        } else {
            after_set = false;
        }
        arguments.push_back(std::move(argument));
    }
    return {arguments.rbegin(), arguments.rend()};
}

void add_sets(CLI::App* app, std::vector<std::string>& sets) {
    app->add_option("--set", sets, "Override keys of the configuration; the last one counts")
        ->type_name("key=value")
        ->allow_extra_args(false);
}

// A number from `least` to `most`. CLI11's own range check lets NaN through.
std::function<std::string(const std::string&)> within(double least, double most) {
    return [=](const std::string& text) -> std::string {
        double value = 0.0;
        const bool is_number = CLI::detail::lexical_cast(text, value) && std::isfinite(value);
        if (is_number && value >= least && value <= most) return "";
        char message[160];
        std::snprintf(message, sizeof(message), "found %.40s, expected a number from %g to %g",
                      text.c_str(), least, most);
        return message;
    };
}

// CLI11's own check shows its range as a double with all its digits.
std::string seed_problem(const std::string& text) {
    uint64_t value = 0;
    const char* end = text.data() + text.size();
    const auto [stop, error] = std::from_chars(text.data(), end, value);
    if (error == std::errc() && stop == end) return "";
    return "found " + shown(text) + ", expected a whole number from 0 to " +
           std::to_string(std::numeric_limits<uint64_t>::max());
}

void add_format(CLI::App* app, std::string& format) {
    std::vector<std::string> names;
    for (const DataFormat value : kDataFormats) names.emplace_back(name_of(value));
    app->add_option("--format", format,
                    "Of a dataset: megatron, nanogpt (uint16 tokens, nothing else) or llmc")
        ->check(CLI::IsMember(names).description(""))
        ->type_name("FORMAT")
        ->capture_default_str();
}

void add_train(CLI::App& app, TrainArguments& arguments, Command& chosen) {
    CLI::App* command =
        app.add_subcommand("train", "Train a model; several processes under mpirun -n N or srun");
    command->add_option("CONFIG", arguments.config, "Configuration file (YAML)")->required();
    add_sets(command, arguments.sets);
    command->callback([&] { chosen = [&] { return train_command(arguments); }; });
}

void add_config(CLI::App& app, ConfigArguments& arguments, Command& chosen) {
    CLI::App* command =
        app.add_subcommand("config", "Check a configuration and print it with every key");
    CLI::Option* file =
        command->add_option("CONFIG", arguments.config, "Configuration file (YAML)");
    add_sets(command, arguments.sets);
    command
        ->add_option("--world", arguments.world,
                     "Check the mesh and the batch against this number of processes")
        ->check(within(1, 1e6));
    command->add_flag("--reference", arguments.reference,
                      "Print the page that describes every key (docs/configuration.md)");
    command->callback([&, file] {
        if (file->count() == 0 && !arguments.reference) throw CLI::RequiredError("CONFIG");
        chosen = [&] { return config_command(arguments); };
    });
}

void add_plan(CLI::App& app, PlanArguments& arguments, Command& chosen) {
    CLI::App* command =
        app.add_subcommand("plan",
                           "Tell before a run what memory each process will hold, and simulate its "
                           "pipeline schedule");
    command->add_option("CONFIG", arguments.config, "Configuration file (YAML)")->required();
    add_sets(command, arguments.sets);
    command
        ->add_option("--world", arguments.world,
                     "Number of processes; default: one data shard, or all devices of --cluster")
        ->check(within(1, 1e6));
    CLI::Option* cluster =
        command
            ->add_option(
                "--cluster", arguments.cluster,
                "File that describes the machines (YAML): also estimate the time of a step")
            ->type_name("FILE");
    CLI::Option* layouts =
        command
            ->add_flag("--layouts", arguments.layouts,
                       "Also look for the mesh, micro-batch, ZeRO stage and recomputation that are "
                       "estimated to be fastest there")
            ->needs(cluster);
    command
        ->add_flag("--schedule-only", arguments.schedule_only,
                   "Only the schedule, and draw its timeline")
        ->excludes(layouts);
    command->add_flag("--json", arguments.json, "Print the result as JSON");
    command->add_option("--svg", arguments.svg, "Draw the timeline into this SVG file")
        ->type_name("FILE");
    command
        ->add_option("--trace", arguments.trace,
                     "Write the timeline as a trace for Perfetto or chrome://tracing")
        ->type_name("FILE");
    command->callback([&] { chosen = [&] { return plan_command(arguments); }; });
}

void add_measure(CLI::App& app, MeasureArguments& arguments, Command& chosen) {
    CLI::App* command = app.add_subcommand(
        "measure",
        "Measure what the devices and links of this machine, or job, reach, and print it as a file "
        "for plan --cluster");
    const std::map<std::string, Backend> backends{
        {"auto", Backend::automatic}, {"cpu", Backend::cpu}, {"cuda", Backend::cuda}};
    command->add_option("--backend", arguments.backend, "auto: the GPU where there is one [auto]")
        ->transform(CLI::CheckedTransformer(backends).description(""))
        ->type_name("auto|cpu|cuda");
    command
        ->add_option("--threads", arguments.threads,
                     "CPU threads of a process; default: its share of the cores")
        ->check(within(1, 4096));
    command->callback([&] { chosen = [&] { return measure_command(arguments); }; });
}

void add_eval(CLI::App& app, EvalArguments& arguments, Command& chosen) {
    CLI::App* command =
        app.add_subcommand("eval",
                           "Mean loss per token and perplexity of a checkpoint, or its answers to "
                           "multiple-choice questions");
    command->add_option("--checkpoint", arguments.checkpoint, "Run folder or step-* folder")
        ->required()
        ->type_name("DIR");
    CLI::Option* data = command
                            ->add_option("--data", arguments.data,
                                         "Datasets: PREFIX.bin and PREFIX.idx, or token files")
                            ->type_name("PREFIX");
    add_format(command, arguments.format);
    command
        ->add_option("--part", arguments.part,
                     "Which part of each dataset by the checkpoint's data.split: all, train, "
                     "valid or test [all]")
        ->needs(data)
        ->check(CLI::IsMember({"all", "train", "valid", "test"}).description(""))
        ->type_name("PART");
    command
        ->add_option("--choices", arguments.choices,
                     "Files of questions as JSON lines, in the form of HellaSwag or ARC")
        ->type_name("FILE");
    CLI::Option* logits =
        command
            ->add_option("--logits", arguments.logits,
                         "Write the logits of the dataset's first windows, with their tokens and "
                         "targets, to this new safetensors file")
            ->type_name("FILE");
    command
        ->add_option("--logits-windows", arguments.logits_windows,
                     "How many windows of data.sequence_length tokens --logits takes; default: 1")
        ->needs(logits)
        ->check(within(1, 1e9));
    command->add_flag("--json", arguments.json, "Print the result as JSON");
    add_sets(command, arguments.sets);
    command->callback([&, logits] {
        if (arguments.data.empty() && arguments.choices.empty()) {
            throw CLI::RequiredError("--data or --choices");
        }
        const std::string& file = arguments.logits;
        if (logits->count() > 0 && (file.empty() || file.back() == '/')) {
            throw CLI::ValidationError("--logits",
                                       "found \"" + file + "\", expected the name of a new file");
        }
        if (!arguments.logits.empty() && arguments.data.size() != 1) {
            throw CLI::ValidationError("--logits", "needs one dataset in --data, found " +
                                                       std::to_string(arguments.data.size()));
        }
        chosen = [&] { return eval_command(arguments); };
    });
}

void add_generate(CLI::App& app, GenerateArguments& arguments, Command& chosen) {
    CLI::App* command =
        app.add_subcommand("generate", "Let a checkpoint's model go on with a text");
    command->add_option("--checkpoint", arguments.checkpoint, "Run folder or step-* folder")
        ->required()
        ->type_name("DIR");
    command->add_option("--prompt", arguments.prompt, "Text to go on with")
        ->required()
        ->type_name("TEXT");
    command->add_option("--tokens", arguments.tokens, "Tokens to generate")
        ->check(within(1, 1e9))
        ->type_name("N")
        ->capture_default_str();
    command
        ->add_option("--temperature", arguments.temperature,
                     "0 takes the likeliest token, 1 samples as trained")
        ->check(within(0, 1000))
        ->type_name("T")
        ->capture_default_str();
    command->add_option("--top-k", arguments.top_k, "Sample from the K likeliest; 0: all")
        ->check(within(0, 1e9))
        ->type_name("K")
        ->capture_default_str();
    command->add_option("--seed", arguments.seed, "Seed of the sampling")
        ->check(seed_problem)
        ->type_name("S")
        ->capture_default_str();
    add_sets(command, arguments.sets);
    command->callback([&] { chosen = [&] { return generate_command(arguments); }; });
}

void add_prepare(CLI::App& app, PrepareArguments& arguments, Command& chosen) {
    CLI::App* command =
        app.add_subcommand("prepare", "Turn text files or JSONL into a dataset to train on");
    command
        ->add_option("--input", arguments.inputs,
                     "Text files, or *.jsonl with a document a line; also *.gz, *.dz and *.zst; "
                     "patterns in quotes; - for the standard input")
        ->required()
        ->type_name("FILE");
    command
        ->add_option(
            "--output", arguments.output,
            "Writes PREFIX.bin, .idx and .json, or PREFIX-train.* and -valid.*; a killed run "
            "leaves PREFIX*.partial and goes on from there")
        ->required()
        ->type_name("PREFIX");
    command
        ->add_option("--tokenizer", arguments.tokenizer,
                     "byte, or a tokenizer.json or tiktoken file; behind it :PATTERN (gpt2, r50k, "
                     "p50k, cl100k, o200k, llama3, qwen) and :end=TOKEN as needed")
        ->type_name("byte|FILE")
        ->capture_default_str();
    command->add_option("--text-key", arguments.text_key, "Key of the text in JSONL")
        ->type_name("KEY")
        ->capture_default_str();
    command
        ->add_option("--valid-fraction", arguments.valid_fraction,
                     "Share of the text, from its end, kept for validation")
        ->check(within(0, 1))
        ->type_name("F")
        ->capture_default_str();
    command
        ->add_option("--format", arguments.format,
                     "Of the input; auto: jsonl by the names .jsonl, .ndjson and .json")
        ->check(CLI::IsMember({"auto", "text", "jsonl"}).description(""))
        ->type_name("auto|text|jsonl")
        ->capture_default_str();
    command
        ->add_option("--on-bad-line", arguments.on_bad_line,
                     "What a line that cannot be read does; skip: it is reported and counted")
        ->check(CLI::IsMember({"fail", "skip"}).description(""))
        ->type_name("fail|skip")
        ->capture_default_str();
    command->add_option("--workers", arguments.workers, "Tokenizing threads; 0: one a core")
        ->check(within(0, 4096))
        ->type_name("N")
        ->capture_default_str();
    command->callback([&] { chosen = [&] { return prepare_command(arguments); }; });
}

void add_import(CLI::App& app, ImportArguments& arguments, Command& chosen) {
    CLI::App* command = app.add_subcommand(
        "import", "Make a run folder of a Hugging Face model (gpt2, llama, qwen2, qwen3)");
    command
        ->add_option("--input", arguments.input, "Folder with config.json and model*.safetensors")
        ->required()
        ->type_name("HF_DIR");
    command->add_option("--output", arguments.output, "Run folder to make; must not exist")
        ->required()
        ->type_name("DIR");
    command->callback([&] { chosen = [&] { return import_command(arguments); }; });
}

// "5GB", "500MB", "2GiB" or bytes, as Hugging Face's tools take them.
std::string read_size(const std::string& text, uint64_t& bytes) {
    static const std::map<std::string, double> kUnits = {
        {"", 1.0},  {"KB", 1e3},     {"MB", 1e6},     {"GB", 1e9},     {"TB", 1e12},
        {"B", 1.0}, {"KIB", 0x1p10}, {"MIB", 0x1p20}, {"GIB", 0x1p30}, {"TIB", 0x1p40}};
    const size_t end = std::min(text.find_first_not_of("0123456789."), text.size());
    std::string unit = text.substr(end);
    std::transform(unit.begin(), unit.end(), unit.begin(),
                   [](unsigned char c) { return static_cast<char>(std::toupper(c)); });
    double number = 0.0;
    const auto found = kUnits.find(unit);
    const bool is_number = CLI::detail::lexical_cast(text.substr(0, end), number);
    if (!is_number || found == kUnits.end() || !(number * found->second >= 1.0) ||
        number * found->second > 1e18) {
        return "found " + shown(text) + ", expected a size such as 5GB, 500MB or 2GiB";
    }
    bytes = static_cast<uint64_t>(number * found->second);
    return "";
}

void add_export(CLI::App& app, ExportArguments& arguments, Command& chosen) {
    CLI::App* command = app.add_subcommand("export", "Write a checkpoint as a Hugging Face folder");
    command->add_option("--checkpoint", arguments.checkpoint, "Run folder or step-* folder")
        ->required()
        ->type_name("DIR");
    command->add_option("--output", arguments.output, "Folder to make; must not exist")
        ->required()
        ->type_name("HF_DIR");
    command->add_option("--dtype", arguments.dtype, "Of the weights; checkpoints hold fp32")
        ->check(CLI::IsMember({"fp32", "bf16"}).description(""))
        ->type_name("fp32|bf16")
        ->capture_default_str();
    command
        ->add_option_function<std::string>(
            "--max-shard-size",
            [&](const std::string& text) {
                const std::string problem = read_size(text, arguments.max_shard_bytes);
                if (!problem.empty()) throw CLI::ValidationError("--max-shard-size", problem);
            },
            "Largest file of weights [5GB]")
        ->type_name("SIZE");
    command->callback([&] { chosen = [&] { return export_command(arguments); }; });
}

void add_inspect(CLI::App& app, InspectArguments& arguments, Command& chosen) {
    CLI::App* command =
        app.add_subcommand("inspect", "Tell what a checkpoint, dataset or safetensors file holds");
    command
        ->add_option("PATH", arguments.path, "Folder, dataset prefix, file, or a pattern in quotes")
        ->required();
    add_format(command, arguments.format);
    command->add_flag("--verify", arguments.verify, "Read everything and check it");
    command->add_flag("--json", arguments.json, "Print as JSON");
    command->callback([&] { chosen = [&] { return inspect_command(arguments); }; });
}

// Of the first argument that looks like an option of the command and is none; CLI11 would speak of
// what is missing instead. Empty: there is none.
std::string wrong_option(const CLI::App& command, int argc, const char* const* argv) {
    std::vector<std::string> names;
    for (const CLI::Option* option : command.get_options()) {
        for (const std::string& name : option->get_lnames()) names.push_back("--" + name);
    }
    for (int i = 2; i < argc; ++i) {
        const std::string argument = argv[i], before = argv[i - 1];
        const std::string name = argument.substr(0, argument.find('='));
        if (argument == "--") break;
        if (!name.starts_with("--") || std::find(names.begin(), names.end(), name) != names.end()) {
            continue;
        }
        // An option's value may begin like one.
        const bool is_value = std::find(names.begin(), names.end(), before) != names.end() &&
                              command.get_option(before)->get_items_expected_max() > 0;
        if (is_value) continue;
        return shown(name) + " is no option of " + command.get_name() +
               did_you_mean(nearest_word(name, names));
    }
    return "";
}

}  // namespace

int run_command_line(int argc, const char* const* argv) {
    CLI::App app(
        "Trains GPT models on a mesh of tensor x context x data x pipeline parallel processes",
        "trireme");
    app.set_version_flag("--version", version_line());
    app.require_subcommand(1);

    TrainArguments train;
    ConfigArguments config;
    PlanArguments plan;
    MeasureArguments measure;
    EvalArguments eval;
    GenerateArguments generate;
    PrepareArguments prepare;
    ImportArguments import_arguments;
    ExportArguments export_arguments;
    InspectArguments inspect;
    Command chosen;
    add_train(app, train, chosen);
    add_config(app, config, chosen);
    add_plan(app, plan, chosen);
    add_measure(app, measure, chosen);
    add_eval(app, eval, chosen);
    add_generate(app, generate, chosen);
    add_prepare(app, prepare, chosen);
    add_import(app, import_arguments, chosen);
    add_export(app, export_arguments, chosen);
    add_inspect(app, inspect, chosen);

    // CLI11 would only say that a subcommand is required.
    const std::string name = argc > 1 ? argv[1] : "";
    std::vector<std::string> names;
    for (const CLI::App* command : app.get_subcommands([](const CLI::App*) { return true; })) {
        names.push_back(command->get_name());
    }
    const bool is_command = std::find(names.begin(), names.end(), name) != names.end();
    if (!name.empty() && name[0] != '-' && !is_command) {
        std::fprintf(stderr, "%s is no command%s\nRun with --help for more information.\n",
                     shown(name).c_str(), did_you_mean(nearest_word(name, names)).c_str());
        return static_cast<int>(ExitCode::config);
    }
    if (is_command) {
        const std::string wrong = wrong_option(*app.get_subcommand(name), argc, argv);
        if (!wrong.empty()) {
            std::fprintf(stderr, "%s\nRun with --help for more information.\n", wrong.c_str());
            return static_cast<int>(ExitCode::config);
        }
    }
    try {
        std::vector<std::string> arguments = reversed_arguments(argc, argv);
        app.parse(arguments);
    } catch (const CLI::ParseError& error) {
        // Help and version come this way too and are no errors.
        return app.exit(error) == 0 ? 0 : static_cast<int>(ExitCode::config);
    }
    return chosen();
}

}  // namespace trireme

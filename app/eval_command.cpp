#include <algorithm>
#include <cmath>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <optional>

#include "app/checkpoint_config.h"
#include "app/commands.h"
#include "app/dataset_tokenizers.h"
#include "app/eval_choices.h"
#include "app/logits_file.h"
#include "app/micro_batch_feed.h"
#include "app/progress_log.h"
#include "app/rank_agreement.h"
#include "app/rank_errors.h"
#include "app/rank_setup.h"
#include "app/saved_model.h"
#include "app/standard_output.h"
#include "core/format_number.h"
#include "core/log.h"
#include "data/sequential_dataset.h"
#include "data/token_source.h"

namespace trireme {

namespace {

using Json = nlohmann::ordered_json;

constexpr int kMicroBatch = 8;  // sequences, unless batch.micro is set

// What was found, for people and for programs.
struct Report {
    std::string text;
    Json json;
};

void put_loss(Json& json, double loss_sum, int64_t tokens) {
    const double loss = loss_sum / static_cast<double>(tokens);
    json["tokens"] = tokens;
    json["loss"] = loss;
    json["perplexity"] = std::exp(loss);
}

EvaluationResult evaluate_set(RankSetup& setup, const SampleSource& data, LogitsFile* logits,
                              Log& log) {
    const MeshShape& mesh = setup.config().mesh;
    LoaderOptions options;
    options.micro_batch = setup.config().batch.micro;
    options.shard = setup.mesh().at().data;
    options.n_shards = mesh.data;
    options.sequence_length = static_cast<int>(data.sequence_length());
    options.wrap = false;
    options.keep_documents_apart = setup.config().data.keep_documents_apart;
    MicroBatchFeed feed(setup.needs_data() ? &data : nullptr, options, 0);
    const int64_t at_once = int64_t{options.micro_batch} * mesh.data;
    const int micro_batches = static_cast<int>((data.size() + at_once - 1) / at_once);
    ProgressLog progress(log, "evaluated", "batches");
    const auto next = [&](int i) {
        progress(i, micro_batches);
        return feed.next();
    };
    if (logits == nullptr) return setup.engine().evaluate(micro_batches, next);
    // What went wrong with the logits is not left to the end of a long dataset.
    const LogitRequest request = logits->request();
    const int64_t with_logits = (request.samples + at_once - 1) / at_once;
    const auto after_logits = [&](int i) {
        if (i == with_logits) logits->finish();
        return false;
    };
    return setup.engine().evaluate(micro_batches, next, after_logits, request);
}

// The part of each dataset that --part names.
DatasetShare share_of(const std::string& part, const std::optional<DatasetSplit>& split) {
    if (part == "all") return {};
    std::optional<DatasetShare> share;
    if (split && part == "train") share = split->train;
    if (split && part == "valid") share = split->valid;
    if (split && part == "test") share = split->test;
    if (share) return *share;
    throw Error(ExitCode::config,
                "--part: found \"" + part + "\", expected all" +
                    (split ? " or a part that the checkpoint's data.split " + split->text + " has"
                           : ", because the checkpoint's data.split is none"));
}

class Evaluation {
public:
    Evaluation(World& world, const EvalArguments& arguments)
        : world_(world),
          arguments_(arguments),
          log_(world.rank(), world.size()),
          model_(world, arguments.checkpoint, log_),
          config_(config_of_checkpoint(model_.state(), model_.folder(), arguments.sets,
                                       world.size(), kMicroBatch)) {}

    Report run() {
        // What is wrong with the inputs is said before the model is made.
        if (!arguments_.choices.empty()) {
            check_no_context_axis(config_, "eval --choices");
            check_has_tokenizer(config_, "eval --choices");
        }
        const DatasetShare share = share_of(arguments_.part, config_.data.split);
        const DataFormat format = data_format_of(arguments_.format);
        std::vector<DataSourceOptions> sources;
        for (const std::string& path : arguments_.data) {
            sources.push_back({.path = path, .format = format});
        }
        check_same_data(world_, sources);
        if (world_.rank() == 0) warn_of_tokenizers(sources);
        std::vector<std::unique_ptr<SampleSource>> sets;
        for (const DataSourceOptions& source : sources) {
            sets.push_back(make_sequential_dataset(source, config_.data.sequence_length,
                                                   config_.model.vocab_size, share));
        }
        if (!arguments_.logits.empty()) {
            logits_ = {std::min(arguments_.logits_windows, sets[0]->size()),
                       config_.data.sequence_length, config_.model.vocab_size};
            logits_.check();
        }
        std::vector<ChoiceRows> questions;
        if (!arguments_.choices.empty()) {
            const auto tokenizer = make_tokenizer(config_.data.tokenizer);
            for (const std::string& path : arguments_.choices) {
                questions.emplace_back(read_choices(path), path, *tokenizer,
                                       config_.model.vocab_size, config_.model.max_sequence_length);
                check_same_tokens(world_, "questions of " + path, questions.back().tokens());
            }
        }
        Report report;
        report.json = {{"checkpoint", ""}, {"step", 0}};  // they come first in the record
        if (!sets.empty()) run_sets(sets, report);
        for (size_t i = 0; i < questions.size(); ++i) {
            run_questions(questions[i], arguments_.choices[i], report);
        }
        report.json["checkpoint"] = model_.folder();
        report.json["step"] = model_.state().step;
        return report;
    }

private:
    // Questions are asked in the ids that the model was trained with.
    void warn_of_tokenizers(std::vector<DataSourceOptions> sources) {
        if (!arguments_.choices.empty()) {
            sources.insert(sources.end(), config_.data.train.begin(), config_.data.train.end());
        }
        const std::string warning = tokenizer_warning(sources, config_);
        if (!warning.empty()) log_.warn(warning);
    }

    void run_sets(const std::vector<std::unique_ptr<SampleSource>>& sets, Report& report) {
        // The file first: that there is no place for it is known before the model is made.
        std::optional<ControlGroup> control;
        std::optional<LogitsFile> logits;
        if (!arguments_.logits.empty()) {
            control.emplace(world_, "logits");
            logits.emplace(*control, arguments_.logits, *sets[0], logits_,
                           config_.data.keep_documents_apart);
        }
        RankSetup setup(world_, config_, EngineUse::evaluate, config_.batch.micro,
                        config_.data.sequence_length);
        model_.load(setup);
        double loss_sum = 0;
        int64_t tokens = 0;
        Json records = Json::array();
        for (size_t i = 0; i < sets.size(); ++i) {
            const EvaluationResult result =
                evaluate_set(setup, *sets[i], logits ? &*logits : nullptr, log_);
            if (result.tokens == 0) {
                throw Error(ExitCode::bad_data,
                            arguments_.data[i] +
                                ": no token counts in a loss: each document has one token only, "
                                "and with data.keep_documents_apart, which the checkpoint sets, "
                                "the first of a document does not count. Give longer documents, "
                                "or --set data.keep_documents_apart=false");
            }
            Json& record = records.emplace_back();
            record["data"] = arguments_.data[i];
            put_loss(record, result.loss_sum, result.tokens);
            loss_sum += result.loss_sum;
            tokens += result.tokens;
            report.text += "loss " + format_of_loss(record) + " | " +
                           std::to_string(result.tokens) + " tokens | step " +
                           std::to_string(model_.state().step) +
                           (sets.size() > 1 ? " | " + arguments_.data[i] : "") + "\n";
        }
        report.json["data"] = sets.size() == 1 ? Json(arguments_.data[0]) : Json(arguments_.data);
        put_loss(report.json, loss_sum, tokens);
        report.json["sets"] = std::move(records);
        if (!logits) return;
        logits->publish();
        report.json["logits"] = {{"file", arguments_.logits},
                                 {"windows", logits_.windows},
                                 {"sequence_length", logits_.sequence},
                                 {"vocab_size", logits_.vocab_size}};
        report.text += "logits of " + std::to_string(logits_.windows) + " windows in " +
                       arguments_.logits + "\n";
    }

    static std::string format_of_loss(const Json& record) {
        return format_number("%.6f nats per token", record["loss"]) +
               format_number(" | perplexity %.4f", record["perplexity"]);
    }

    void run_questions(const ChoiceRows& rows, const std::string& path, Report& report) {
        RankSetup setup(world_, config_, EngineUse::evaluate, config_.batch.micro, rows.longest());
        model_.load(setup);
        const std::vector<double> scores =
            score_rows(setup.engine(), rows, setup.mesh().at().data, config_.mesh.data,
                       config_.batch.micro, rows.longest(), log_);
        const ChoiceAccuracy result = rows.accuracy(scores);
        const double accuracy = result.accuracy(), by_byte = result.accuracy_by_byte();
        const double by_character = result.accuracy_by_character();
        report.json["choices"].push_back({{"file", path},
                                          {"questions", result.questions},
                                          {"acc", accuracy},
                                          {"acc_stderr", result.error_of(accuracy)},
                                          {"acc_norm", by_character},
                                          {"acc_norm_stderr", result.error_of(by_character)},
                                          {"acc_bytes", by_byte},
                                          {"acc_bytes_stderr", result.error_of(by_byte)}});
        report.text += format_number("acc %.4f", accuracy) +
                       format_number(" (+- %.4f)", result.error_of(accuracy)) +
                       format_number(" | acc_norm %.4f", by_character) +
                       format_number(" (+- %.4f)", result.error_of(by_character)) + " | " +
                       std::to_string(result.questions) + " questions | step " +
                       std::to_string(model_.state().step) + " | " + path + "\n";
    }

    World& world_;
    const EvalArguments& arguments_;
    Log log_;
    SavedModel model_;
    const Config config_;
    LogitsShape logits_;
};

void evaluate(World& world, const EvalArguments& arguments) {
    const Report report = [&] {
        const LibraryOutput to_standard_error;
        return Evaluation(world, arguments).run();
    }();
    if (world.rank() != 0) return;
    const std::string json =
        report.json.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
    std::fputs((arguments.json ? json : report.text).c_str(), stdout);
}

}  // namespace

int eval_command(const EvalArguments& arguments) {
    return run_as_rank(
        [&](World& world) { end_ranks_on_failure(world, [&] { evaluate(world, arguments); }); });
}

}  // namespace trireme

// The trainer's validations, and those that a stopped run owes.

#include "app/checkpoint_keys.h"
#include "app/progress_log.h"
#include "app/trainer.h"
#include "core/trace.h"

namespace trireme {

// The note stays in the checkpoint; that a start since then has done it says its record.
bool Trainer::finds_owed_validation() const {
    if (valid_data_.empty() || resumed_.former_extra.count(checkpoint_keys::kOwedValidation) == 0)
        return false;
    const bool is_done =
        world_.rank() == 0 && has_validation(RunRecord::metrics_path(config_), resumed_.step);
    return setup_->control().largest(is_done ? 1 : 0) == 0;
}

bool Trainer::validate(int64_t step) {
    guard_.enter(Phase::evaluation, step);
    const TraceSpan span(trace_.get(), "evaluation", "step", step);
    const std::optional<std::vector<EvaluationResult>> results = evaluate();
    if (results) report_validation(step, *results);
    return results.has_value();
}

std::optional<std::vector<EvaluationResult>> Trainer::evaluate() {
    const int micro_batches = config_.evaluation.batches * config_.micro_batches();
    std::vector<EvaluationResult> results;
    const std::vector<std::string> names = names_of(config_.data.validation_sets());
    for (const auto& set : valid_data_) {
        ProgressLog progress(log_, "validated", "micro-batches of " + names[results.size()]);
        // The same samples each time.
        MicroBatchFeed feed(setup_->needs_data() ? set.get() : nullptr, loader_options(), 0);
        const EvaluationResult result = setup_->engine().evaluate(
            micro_batches, [&](int) { return feed.next(); },
            [&](int i) {
                progress(i, micro_batches);
                return guard_.is_stop_agreed_now_and_then(setup_->control());
            });
        if (!result.is_complete) return std::nullopt;
        results.push_back(result);
    }
    return results;
}

void Trainer::report_validation(int64_t step, const std::vector<EvaluationResult>& results) {
    ValidationMetrics metrics;
    metrics.step = step;
    double weights = 0;
    const std::vector<DataSourceOptions>& sets = config_.data.validation_sets();
    const std::vector<std::string> names = names_of(sets);
    for (size_t i = 0; i < results.size(); ++i) {
        if (results[i].tokens > 0) {
            weights += sets[i].weight;
        } else {
            warn_nothing_counts(step, "the validation set " + names[i]);
        }
    }
    for (size_t i = 0; i < results.size(); ++i) {
        if (results[i].tokens == 0) continue;
        const double loss = results[i].loss_sum / static_cast<double>(results[i].tokens);
        metrics.sets.emplace_back(names[i], loss);
        metrics.loss = metrics.loss.value_or(0) + loss * (sets[i].weight / weights);
    }
    record_.write_validation(metrics);
}

void Trainer::warn_nothing_counts(int64_t step, const std::string& what) {
    if (world_.rank() != 0 || !without_counted_.insert(what).second) return;
    log_.warn("step " + std::to_string(step) + ": no token of " + what +
              " counts in a loss: each document in it has one token only, and with "
              "data.keep_documents_apart the first of a document does not count. Give longer "
              "documents, or set it to false. Said once");
}

}  // namespace trireme

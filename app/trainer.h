#pragma once

#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "app/data_progress.h"
#include "app/micro_batch_feed.h"
#include "app/numerics_guard.h"
#include "app/rank_setup.h"
#include "app/resume.h"
#include "app/run_guard.h"
#include "app/run_record.h"
#include "core/log.h"
#include "core/trace.h"
#include "data/gpt_dataset.h"
#include "data/sample_source.h"
#include "parallel/checkpoint_saver.h"

namespace trireme {

// The training loop of one rank: data in, steps, and what the user sees of them.
class Trainer {
public:
    // Opens the data, makes the setup, resumes or starts afresh, and only then touches the output
    // folder. Collective.
    // `guard` outlives this.
    Trainer(World& world, const Config& config, RunGuard& guard);

    // To the last step (ok) or to a request to stop, which leaves a checkpoint (stopped).
    ExitCode run();

private:
    void open_output();
    LoaderOptions loader_options() const;
    ExitCode train();
    // Evaluates and reports; false: a request to stop has ended it, so that it is owed.
    bool validate(int64_t step);
    bool finds_owed_validation() const;
    // Puts what the order depends on into coming checkpoints; warns where it was another, unless
    // no sample is read any more.
    void note_sample_order();
    // Of each validation set. Nothing when a request to stop has ended it.
    std::optional<std::vector<EvaluationResult>> evaluate();
    void report_validation(int64_t step, const std::vector<EvaluationResult>& results);
    // Once for all of the training data, and for each validation set.
    void warn_nothing_counts(int64_t step, const std::string& what);
    // Ends the run as asked, with a checkpoint of this step; is_saved: it is being written already.
    ExitCode stop(int64_t step, bool is_saved);
    void make_saver();
    void write_trace() const;
    // Whether all steps were done by earlier starts; a validation may be left.
    bool is_trained() const { return resumed_.step >= config_.run.steps; }
    bool has_nothing_to_do() const { return is_trained() && !owes_validation_; }
    // Whether what the run begins from lies in its own folder.
    bool is_own_checkpoint(const ResumePoint& point) const {
        return point.step > 0 && config_.checkpoint.resume == "auto";
    }
    void save(int64_t step);
    void check_replicas(int64_t step);
    void report_save(const std::optional<SaveReport>& report, bool must_succeed);
    void record_step(int64_t step, const StepResult& result, double lr);
    GptDatasetOptions data_options() const;
    std::unique_ptr<SampleSource> make_train_data() const;
    bool is_due(int64_t interval, int64_t step) const {
        return interval > 0 && step % interval == 0;
    }

    World& world_;
    Config config_;
    RunGuard& guard_;
    Log log_;
    std::unique_ptr<SampleSource> train_data_;
    std::vector<std::unique_ptr<SampleSource>> valid_data_;  // one a set; none: no validation
    std::unique_ptr<Trace> trace_;                           // null unless asked for
    std::unique_ptr<RankSetup> setup_;
    std::optional<NumericsGuard> numerics_;
    std::optional<MicroBatchFeed> feed_;
    RunRecord record_;                       // its files are rank 0's
    ResumePoint resumed_;                    // what an earlier run has done
    DataProgress progress_;                  // of all steps, earlier runs' included
    std::set<std::string> without_counted_;  // what has been warned of
    bool owes_validation_ = false;           // of the last step done, cut short or left out
    std::string run_id_;                     // of this process's life of the run
    std::unique_ptr<CheckpointSaver> saver_;
};

}  // namespace trireme

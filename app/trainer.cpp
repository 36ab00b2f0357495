#include "app/trainer.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <new>

#include "app/checkpoint_keys.h"
#include "app/fault_injection.h"
#include "app/model_checkpoint.h"
#include "app/peak_rate.h"
#include "app/rank_agreement.h"
#include "app/readable.h"
#include "app/replica_check.h"
#include "app/run_folder.h"
#include "core/clock.h"
#include "core/file_io.h"
#include "core/processors.h"
#include "core/random_id.h"
#include "data/gpt_dataset.h"
#include "model/flops.h"
#include "model/lr_schedule.h"
#include "parallel/checkpoint_folders.h"

namespace trireme {

namespace {

constexpr std::chrono::seconds kSaveGrace{30};
constexpr size_t kTraceSpans = 1 << 18;  // the newest are kept

// All ranks' traces begin at the same time.
std::unique_ptr<Trace> make_trace(World& world) {
    ControlGroup control(world, "trace");
    const int64_t origin = std::stoll(control.broadcast(std::to_string(Trace::unix_ns())));
    return std::make_unique<Trace>(world.rank(), kTraceSpans, origin);
}

// "0.012 s copied, 1.34 s written, 118.0 MiB, 92.1 MB/s"
std::string save_text(const SaveReport& report) {
    char text[128];
    std::snprintf(text, sizeof text, "%.3f s copied, %.2f s written, %s, %.1f MB/s",
                  report.snapshot_seconds, report.write_seconds,
                  readable_bytes(report.bytes).c_str(),
                  static_cast<double>(report.bytes) / 1e6 / std::max(report.write_seconds, 1e-6));
    return text;
}

}  // namespace

Trainer::Trainer(World& world, const Config& config, RunGuard& guard)
    : world_(world),
      config_(config),
      guard_(guard),
      log_(world.rank(), world.size()),
      record_(config_, world.size(), log_),
      progress_(config.batch.global, config.data.sequence_length) {
    check_world(config_, world.size());
    const std::vector<DataSourceOptions>& valid = config_.data.validation_sets();
    const bool evaluates = config_.evaluation.interval > 0 && !valid.empty();
    std::vector<DataSourceOptions> sources = config_.data.train;
    if (evaluates) {
        sources.insert(sources.end(), config_.data.valid.begin(), config_.data.valid.end());
    }
    check_same_data(world, sources);
    // Bad data is reported by rank 0 before anything is made or written.
    train_data_ = make_train_data();
    if (evaluates) {
        GptDatasetOptions data = data_options();
        data.n_samples = int64_t{config_.evaluation.batches} * config_.batch.global;
        data.share = config_.data.validation_share();
        for (const DataSourceOptions& set : valid) {
            valid_data_.push_back(make_dataset({&set, 1}, data));
        }
    }
    if (config_.logging.trace) trace_ = make_trace(world);
    setup_ = std::make_unique<RankSetup>(world, config_, EngineUse::train, config_.batch.micro,
                                         config_.data.sequence_length, trace_.get());
    numerics_.emplace(config_.numerics, setup_->control(), log_);
    if (world.rank() == 0) check_run_folder(config_.run.output);
    guard_.lock_folder();
    resumed_ = resume_training(*setup_, config_, log_);
    numerics_->restore_state(resumed_.former_extra);
    progress_.go_on_from({resumed_.step, resumed_.samples, resumed_.tokens}, resumed_.former_extra);
    // With another batch than before, the run takes another number of samples than was thought.
    if (!progress_.is_even()) {
        train_data_.reset();  // its order may be large
        train_data_ = make_train_data();
    }
    owes_validation_ = finds_owed_validation();
    if (has_nothing_to_do()) return;
    note_sample_order();
    open_output();
    make_saver();
    guard_.begin_run(setup_->control(), resumed_.step);
    setup_->control().barrier();
    record_.set_peak(
        peak_matmul_rate(setup_->device(), config_.precision.compute,
                         cpu_share_of_rank(config_.device.threads, world.local_size())));
    if (!setup_->needs_data()) train_data_.reset();  // its index may be large
    if (is_trained()) return;
    LoaderOptions options = loader_options();
    options.counts_tokens = true;
    feed_.emplace(train_data_.get(), options, resumed_.samples);
}

void Trainer::note_sample_order() {
    const auto before = resumed_.former_extra.find(checkpoint_keys::kSampleOrder);
    const bool is_known = before != resumed_.former_extra.end();
    const std::string now = is_trained() && is_known ? before->second : train_data_->order_text();
    resumed_.extra[checkpoint_keys::kSampleOrder] = now;
    if (world_.rank() != 0 || resumed_.samples == 0 || !is_known || before->second == now) return;
    log_.warn("the order of samples changes: found " + now + ", expected " + before->second +
              "; of those that were read already some come again and others are left out");
}

GptDatasetOptions Trainer::data_options() const {
    GptDatasetOptions data;
    data.sequence_length = config_.data.sequence_length;
    data.seed = config_.run.seed;
    data.vocab_size = config_.model.vocab_size;
    if (config_.data.index_cache != "none") data.index_cache = config_.data.index_cache;
    return data;
}

std::unique_ptr<SampleSource> Trainer::make_train_data() const {
    GptDatasetOptions data = data_options();
    data.n_samples = progress_.samples_after(config_.run.steps);
    data.share = config_.data.train_share();
    std::vector<BlendPhase> phases;
    for (const DataPhaseOptions& phase : config_.data.phases) {
        phases.push_back({progress_.samples_after(phase.after_step), phase.weights});
    }
    try {
        return make_dataset(config_.data.train, data, phases);
    } catch (const std::bad_alloc&) {
        throw Error(ExitCode::out_of_memory,
                    "no memory for the order of " + std::to_string(data.n_samples) +
                        " samples (run.steps times batch.global), which takes 12 to 14 bytes for "
                        "each in every process.",
                    " Less is needed with fewer run.steps, a smaller batch.global or "
                    "data.index_cache: FOLDER, which keeps it in files");
    }
}

LoaderOptions Trainer::loader_options() const {
    LoaderOptions options;
    options.micro_batch = config_.batch.micro;
    options.micro_batches = config_.micro_batches();
    options.shard = setup_->mesh().at().data;
    options.n_shards = config_.mesh.data;
    options.sequence_length = config_.data.sequence_length;
    options.keep_documents_apart = config_.data.keep_documents_apart;
    return options;
}

void Trainer::open_output() {
    if (world_.rank() != 0) return;
    create_folders(config_.run.output);
    guard_.lock_folder();
    record_.open_files(resumed_.step);
    prepare_run_folder(config_, resumed_, log_);
}

ExitCode Trainer::run() {
    try {
        return train();
    } catch (const std::exception& error) {
        // What ends the run need not cost the checkpoint of a step before.
        if (saver_ && saver_->is_writing()) {
            log_.warn("the run ends, after up to " + std::to_string(kSaveGrace.count()) +
                      " s for the checkpoint that is being saved: " + error.what());
            guard_.enter(Phase::finish, config_.run.steps);
            saver_->let_finish(kSaveGrace);
        }
        throw;
    }
}

ExitCode Trainer::train() {
    Engine& engine = setup_->engine();
    const int64_t tokens_per_step = int64_t{config_.batch.global} * config_.data.sequence_length;
    log_.info("training " + std::to_string(count_parameters(config_.model).total) +
              " parameters on " + config_.mesh.to_string() + " (" + setup_->device().description() +
              "), " + std::to_string(tokens_per_step) +
              " tokens a step; TFLOP/s count attention as causal, that is half");
    if (has_nothing_to_do()) {
        log_.info("nothing to do: step " + std::to_string(resumed_.step) + " of " +
                  std::to_string(config_.run.steps) + " is done");
        guard_.finished();
        return ExitCode::ok;
    }
    if (guard_.is_stop_agreed(setup_->control()))
        return stop(resumed_.step, is_own_checkpoint(resumed_));
    owes_validation_ = owes_validation_ && !validate(resumed_.step);
    if (owes_validation_) return stop(resumed_.step, is_own_checkpoint(resumed_));
    for (int64_t step = resumed_.step + 1; step <= config_.run.steps; ++step) {
        guard_.enter(Phase::step, step);
        const auto begin = std::chrono::steady_clock::now();
        const double lr =
            learning_rate(config_.schedule, config_.optimizer.lr, step, config_.run.steps);
        const TraceSpan span(trace_.get(), "step", "step", step);
        const auto source = [&](int i) {
            if (i == 0) inject_faults(config_.testing.faults, world_.rank(), step, engine);
            const HostMicroBatch batch = feed_->next();
            if (batch.counted_tokens == 0) warn_nothing_counts(step, "the batch");
            return batch;
        };
        const StepHooks hooks{
            .vote = [this] { return guard_.vote(); },
            .may_update = [this](const StepResult& r) { return numerics_->may_update(r); }};
        const StepResult result = engine.step(step, lr, source, hooks);
        if (const std::string notice = engine.take_notice(); !notice.empty()) log_.info(notice);
        const std::string warning = setup_->device().take_notice();
        if (!warning.empty()) log_.warn(warning);
        numerics_->after_step(step, result, engine);
        record_.add_step(seconds_since(begin), result.axis_wait_seconds);

        const bool is_last = step == config_.run.steps;
        if (is_due(config_.logging.interval, step) || is_last || step == 1) {
            record_step(step, result, lr);
            report_save(saver_->poll(setup_->control()), false);
        }
        const bool saves = is_due(config_.checkpoint.interval, step) || is_last;
        if (saves || is_due(config_.numerics.check_replicas, step)) check_replicas(step);
        bool stops = result.votes > 0 && !is_last;
        const bool evaluates =
            !valid_data_.empty() && (is_due(config_.evaluation.interval, step) || is_last);
        owes_validation_ = evaluates && (stops || !validate(step));
        stops = stops || owes_validation_;
        if (saves) save(step);
        if (!stops && !is_last && (evaluates || saves)) {
            stops = guard_.is_stop_agreed(setup_->control());
        }
        if (stops) return stop(step, saves);
    }
    guard_.enter(Phase::finish, config_.run.steps);
    report_save(saver_->wait(), true);
    write_trace();
    // None leaves the watchdog's eyes before all are done.
    setup_->control().barrier();
    guard_.finished();
    return ExitCode::ok;
}

ExitCode Trainer::stop(int64_t step, bool is_saved) {
    if (owes_validation_) {
        log_.info("the validation of step " + std::to_string(step) +
                  " is not done; the next start begins with it, unless it has "
                  "evaluation.interval=0");
    }
    if (!is_saved) {
        check_replicas(step);
        save(step);
    }
    guard_.enter(Phase::finish, step);
    report_save(saver_->wait(), true);
    write_trace();
    guard_.stopped(setup_->control(), step);
    return ExitCode::stopped;
}

void Trainer::write_trace() const {
    if (!trace_) return;
    trace_->write_json(config_.run.output + "/trace/rank-" + std::to_string(world_.rank()) +
                       ".json");
}

// Nothing wrong is saved: this comes before.
void Trainer::check_replicas(int64_t step) {
    if (world_.size() == 1) return;
    const std::vector<std::string> differences =
        find_drifted_replicas(setup_->engine(), setup_->control());
    if (differences.empty()) return;
    std::string text = "step " + std::to_string(step) +
                       ": processes that should hold the same values do not; memory or a processor "
                       "may be damaged. The last checkpoint is from before this was seen";
    for (const std::string& line : differences) text += "\n  " + line;
    throw Error(ExitCode::numerics, text);
}

void Trainer::record_step(int64_t step, const StepResult& result, double lr) {
    const double memory_peak_bytes =
        setup_->control().largest(static_cast<double>(setup_->device().peak_memory_bytes()));
    record_.write_step(step, result, lr, progress_.tokens_after(step),
                       static_cast<uint64_t>(memory_peak_bytes));
}

void Trainer::make_saver() {
    ControlGroup& control = setup_->control();
    run_id_ = control.broadcast(random_id());
    CheckpointSaver::Options options;
    options.folder = checkpoints_folder_of(config_.run.output);
    options.keep = config_.checkpoint.keep;
    options.keep_every = config_.checkpoint.keep_every;
    options.in_background = config_.saves_in_background();
    saver_ = std::make_unique<CheckpointSaver>(world_, setup_->device(), options);
    const std::vector<CheckpointPiece> pieces = checkpoint_pieces(setup_->engine());
    const uint64_t own_bytes = saver_->host_bytes(pieces);
    control.run("while taking host memory for checkpoints", [&] {
        try {
            saver_->reserve(pieces);
        } catch (const std::bad_alloc&) {
            const bool may_write_at_once = setup_->device().backend() == Backend::cpu;
            throw Error(ExitCode::out_of_memory,
                        "no host memory for the copy that checkpoints are written from: it takes " +
                            readable_bytes(own_bytes) + ".",
                        std::string(" Less is needed with more processes") +
                            (may_write_at_once ? ", none with checkpoint.async: false" : ""));
        }
    });
    const double bytes = control.largest(static_cast<double>(own_bytes));
    if (bytes > 0) {
        log_.info("saving checkpoints takes up to " + readable_bytes(static_cast<uint64_t>(bytes)) +
                  " of host memory a process");
    }
}

void Trainer::save(int64_t step) {
    guard_.enter(Phase::save, step);
    report_save(saver_->wait(), false);
    CheckpointState state;
    state.step = step;
    state.samples = progress_.samples_after(step);
    state.tokens = progress_.tokens_after(step);
    state.config = dump_config(config_);
    state.mesh = config_.mesh;
    state.run_id = run_id_;
    state.extra = resumed_.extra;
    state.extra[checkpoint_keys::kDataProgress] = progress_.text();
    if (owes_validation_) state.extra[checkpoint_keys::kOwedValidation] = std::to_string(step);
    numerics_->save_state(state.extra);
    saver_->begin(std::move(state), checkpoint_pieces(setup_->engine()));
}

void Trainer::report_save(const std::optional<SaveReport>& report, bool must_succeed) {
    if (!report) return;
    guard_.saved(report->snapshot_seconds + report->write_seconds);
    if (!report->error) {
        log_.info("saved " + checkpoints_folder_of(config_.run.output) + "/" +
                  step_folder_name(report->step) + " | " + save_text(*report));
        return;
    }
    if (must_succeed || config_.checkpoint.on_error == OnSaveError::stop) throw *report->error;
    if (world_.rank() != 0) return;
    log_.error(
        "checkpoint of step " + std::to_string(report->step) +
        " not saved, training goes on (checkpoint.on_error: warn): " + report->error->what());
}

}  // namespace trireme

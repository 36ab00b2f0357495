#include "app/resume.h"

#include <nlohmann/json.hpp>
#include <utility>

#include "app/checkpoint_keys.h"
#include "app/model_checkpoint.h"
#include "app/schema.h"
#include "core/error.h"
#include "data/fingerprint.h"
#include "parallel/checkpoint_folders.h"
#include "parallel/checkpoint_load.h"

namespace trireme {

namespace {

using Json = nlohmann::ordered_json;

std::string list_of(const std::vector<ConfigChange>& changes) {
    std::string text;
    for (const ConfigChange& change : changes) text += "; " + change.to_string();
    return text;
}

void check_structure(const CheckpointReader& reader, const Config& config,
                     const ConfigChanges& changes) {
    std::vector<ConfigChange> refused;
    bool is_model = false;
    for (const ConfigChange& change : changes.structural) {
        const bool is_data = change.key.starts_with("data.");
        // Before the first step there is no position in the data that could mean other samples.
        if (is_data && (config.data.allow_changed || reader.state().samples == 0)) continue;
        refused.push_back(change);
        is_model |= !is_data;
    }
    if (refused.empty()) return;
    throw CheckpointMismatch(
        reader.folder() + ": a checkpoint of another " + (is_model ? "model" : "dataset") +
        ": its configuration differs where it must not" + list_of(refused) +
        "; set them back, or start afresh with checkpoint.resume=never and another run.output");
}

// A checkpoint that says nothing about its data is taken.
void check_data(const CheckpointReader& reader, const Config& config, const std::string& now) {
    const auto found = reader.state().extra.find(checkpoint_keys::kTrainData);
    if (found == reader.state().extra.end() || found->second == now) return;
    if (config.data.allow_changed) return;
    throw CheckpointMismatch(reader.folder() +
                             ": the training data has changed since this checkpoint, so that its "
                             "position in the data means other samples: found " +
                             now + ", expected " + found->second +
                             "; give the former data in data.train, or set "
                             "data.allow_changed=true to go on with the new");
}

Json record_of(const CheckpointReader& reader, const Config& config,
               const std::vector<ConfigChange>& changes, bool data_changed) {
    Json changed = Json::object();
    for (const ConfigChange& change : changes) changed[change.key] = {change.before, change.now};
    return {{"step", reader.state().step},
            {"checkpoint", reader.folder()},
            {"mesh", config.mesh.to_string()},
            {"changed", changed},
            {"data_changed", data_changed}};
}

// Records of the resumes before this one; those of a hand-made checkpoint may be anything.
Json former_records(const CheckpointReader& reader) {
    const auto found = reader.state().extra.find(checkpoint_keys::kResumes);
    if (found == reader.state().extra.end()) return Json::array();
    Json records = Json::parse(found->second, nullptr, false);
    return records.is_array() ? records : Json::array();
}

std::vector<std::string> folders_to_try(const Config& config) {
    if (config.checkpoint.resume == "never") return {};
    if (config.checkpoint.resume == "auto") {
        return list_checkpoints(checkpoints_folder_of(config.run.output));
    }
    return checkpoints_at(config.checkpoint.resume);
}

// Takes up the checkpoints that it is shown, one after the other until one is sound on all ranks.
class Resumption {
public:
    // data: the fingerprints of this run's datasets.
    Resumption(RankSetup& setup, const Config& config, std::string data)
        : setup_(setup), config_(config), data_(std::move(data)) {}

    // Into the engine. Forgets what another one, which was not sound, has left.
    void read(CheckpointReader& reader) {
        point_ = {};
        warnings_.clear();
        const ConfigChanges changes = compare(reader);
        check_structure(reader, config_, changes);
        check_data(reader, config_, data_);
        read_model(setup_.engine(), reader);
        take_state(reader, changes);
    }

    // Where training goes on: at the beginning where no checkpoint has been read.
    ResumePoint point() const {
        ResumePoint point = point_;
        point.extra[checkpoint_keys::kTrainData] = data_;
        return point;
    }
    const std::vector<std::string>& warnings() const { return warnings_; }
    const std::string& message() const { return message_; }

private:
    ConfigChanges compare(const CheckpointReader& reader) {
        try {
            return changes_since(reader.state().config, config_);
        } catch (const Error& error) {
            warnings_.push_back("the configuration in " + reader.folder() +
                                " cannot be compared with this run's: " + error.what());
            return {};
        }
    }

    void take_state(const CheckpointReader& reader, const ConfigChanges& changes) {
        const CheckpointState& state = reader.state();
        point_.step = state.step;
        point_.samples = state.samples;
        point_.tokens = state.tokens;
        point_.former_extra = state.extra;
        const auto former_data = state.extra.find(checkpoint_keys::kTrainData);
        const bool data_changed = former_data != state.extra.end() && former_data->second != data_;
        std::vector<ConfigChange> changed = changes.trajectory;
        changed.insert(changed.end(), changes.structural.begin(), changes.structural.end());
        const Json record = record_of(reader, config_, changed, data_changed);
        Json records = former_records(reader);
        records.push_back(record);
        point_.record = record.dump();
        point_.extra[checkpoint_keys::kResumes] = records.dump();
        if (!changed.empty()) {
            warnings_.push_back("this run differs from the one that wrote the checkpoint" +
                                list_of(changed));
        }
        if (data_changed) warnings_.push_back("goes on with other training data than before");
        message_ = "resumed from " + reader.folder() + " (step " + std::to_string(state.step) +
                   ", written on " + state.mesh.to_string() + ")";
    }

    RankSetup& setup_;
    const Config& config_;
    const std::string data_;
    ResumePoint point_;
    std::vector<std::string> warnings_;
    std::string message_;
};

}  // namespace

ConfigChanges changes_since(const std::string& former_config, const Config& config) {
    const Config former = parse_config(former_config, "the checkpoint's configuration");
    ConfigChanges changes;
    for (const SchemaRow& row : config_schema()) {
        ConfigChange change{row.key, row.write(former), row.write(config)};
        if (change.before == change.now) continue;
        if (row.on_resume == ResumeClass::structural) {
            changes.structural.push_back(std::move(change));
        } else if (row.on_resume == ResumeClass::trajectory) {
            changes.trajectory.push_back(std::move(change));
        }
    }
    return changes;
}

ResumePoint resume_training(RankSetup& setup, const Config& config, Log& log) {
    ControlGroup& control = setup.control();
    std::vector<std::string> folders;
    std::string data;
    control.run("while looking for checkpoints", [&] {
        if (control.rank() != 0) return;
        data = Json(dataset_fingerprints(config.data.train)).dump();
        folders = folders_to_try(config);
    });
    Resumption resumption(setup, config, control.broadcast(data));
    const LoadChoice choice = load_first_sound(
        control, folders, [&](CheckpointReader& reader) { resumption.read(reader); });
    if (choice.folder.empty()) {
        setup.engine().draw_initial_values();
        log.info("begins with initial values drawn from run.seed " +
                 std::to_string(config.run.seed) + "; " +
                 (config.checkpoint.resume == "never"
                      ? "checkpoint.resume is never"
                      : "no checkpoint in " + checkpoints_folder_of(config.run.output)));
        return resumption.point();
    }
    publish_model(setup.engine());
    if (control.rank() == 0) {
        for (const std::string& reason : choice.skipped) {
            log.warn("skipped a checkpoint: " + reason);
        }
        for (const std::string& text : resumption.warnings()) log.warn(text);
        log.info(resumption.message());
    }
    return resumption.point();
}

}  // namespace trireme

#include "parallel/checkpoint_load.h"

#include <algorithm>
#include <filesystem>

#include "core/error.h"
#include "parallel/checkpoint_folders.h"

namespace trireme {

namespace {

// What one rank met.
struct Outcome {
    enum class Kind : char { loaded = 'l', damage = 'd', failure = 'f' };
    Kind kind = Kind::loaded;
    ExitCode code = ExitCode::ok;
    std::string message;

    std::string to_text() const {
        return std::string(1, static_cast<char>(kind)) + std::to_string(static_cast<int>(code)) +
               " " + message;
    }
    static Outcome from_text(const std::string& text) {
        const size_t space = text.find(' ');
        return {static_cast<Kind>(text.at(0)),
                static_cast<ExitCode>(std::stoi(text.substr(1, space - 1))),
                text.substr(space + 1)};
    }
};

Outcome attempt(const std::string& folder, const std::function<void(CheckpointReader&)>& load) {
    using Kind = Outcome::Kind;
    try {
        CheckpointReader reader(folder);
        load(reader);
        return {};
    } catch (const Error& error) {
        return {is_damage(error) ? Kind::damage : Kind::failure, error.code(), error.what()};
    } catch (...) {
        const Error error = as_error(std::current_exception(), "while loading " + folder);
        return {Kind::failure, error.code(), error.what()};
    }
}

// The different messages, so that damage in several files is told once each.
std::string joined_messages(const std::vector<Outcome>& outcomes) {
    std::vector<std::string> seen;
    std::string text;
    for (const Outcome& outcome : outcomes) {
        if (outcome.kind == Outcome::Kind::loaded) continue;
        if (std::find(seen.begin(), seen.end(), outcome.message) != seen.end()) continue;
        seen.push_back(outcome.message);
        text += (text.empty() ? "" : "; ") + outcome.message;
    }
    return text;
}

}  // namespace

LoadChoice load_first_sound(ControlGroup& group, const std::vector<std::string>& folders,
                            const std::function<void(CheckpointReader&)>& load,
                            const std::string& advice) {
    LoadChoice choice;
    for (size_t i = 0;; ++i) {
        const bool has_more = i < folders.size();
        const std::string folder =
            group.broadcast(group.rank() == 0 && has_more ? folders[i] : std::string());
        if (folder.empty()) break;
        const Outcome own = attempt(folder, load);
        const bool is_fine = own.kind == Outcome::Kind::loaded;
        if (group.largest(is_fine ? 0.0 : 1.0) == 0.0) {
            choice.folder = folder;
            return choice;
        }
        std::vector<Outcome> outcomes;
        for (const std::string& text : group.gather_everywhere(own.to_text())) {
            outcomes.push_back(Outcome::from_text(text));
        }
        for (const Outcome& outcome : outcomes) {
            if (outcome.kind != Outcome::Kind::failure) continue;
            group.barrier();
            throw Error(outcome.code, outcome.message);
        }
        choice.skipped.push_back(joined_messages(outcomes));
    }
    if (choice.skipped.empty()) return choice;
    std::string message = "no checkpoint can be loaded";
    for (const std::string& reason : choice.skipped) message += "; " + reason;
    group.barrier();
    throw Error(ExitCode::bad_data, message + "; " + advice);
}

std::vector<std::string> checkpoints_at(const std::string& path) {
    std::error_code ignored;
    if (std::filesystem::exists(path + "/" + kManifestName, ignored)) return {path};
    for (const std::string& folder : {checkpoints_folder_of(path), path}) {
        if (!std::filesystem::is_directory(folder, ignored)) continue;
        std::vector<std::string> found = list_checkpoints(folder);
        if (!found.empty()) return found;
    }
    return {resolve_checkpoint(path)};  // says what was looked for
}

std::vector<std::string> usable_checkpoints_at(const std::string& path,
                                               std::vector<std::string>& skipped) {
    const std::string first = resolve_checkpoint(path, &skipped);
    std::vector<std::string> folders = checkpoints_at(path);
    const auto at = std::find(folders.begin(), folders.end(), first);
    if (at == folders.end()) return {first};
    folders.erase(folders.begin(), at);
    return folders;
}

}  // namespace trireme

#include "app/numerics_guard.h"

#include <algorithm>
#include <cstdlib>
#include <iterator>
#include <nlohmann/json.hpp>
#include <set>

#include "app/checkpoint_keys.h"
#include "core/format_number.h"

namespace trireme {

namespace {

constexpr size_t kMostNamed = 4;  // ranks, and tensors of each, in a message

std::string short_text(double value) {
    return format_number("%.4g", value);
}

std::string describe(const StepResult& result) {
    return "loss " + short_text(result.loss) + ", gradient norm " + short_text(result.grad_norm);
}

std::string place_of(const Mesh& mesh, int rank) {
    const MeshCoordinates& at = mesh.at();
    const std::string context =
        mesh.shape().context > 1 ? ", context " + std::to_string(at.context) : "";
    return "rank " + std::to_string(rank) + " (tensor " + std::to_string(at.tensor) + context +
           ", data " + std::to_string(at.data) + ", pipeline " + std::to_string(at.pipeline) + ")";
}

std::string join(const std::vector<std::string>& names) {
    std::string text;
    for (size_t i = 0; i < std::min(names.size(), kMostNamed); ++i) {
        text += (i ? ", " : "") + names[i];
    }
    if (names.size() > kMostNamed) {
        text += " and " + std::to_string(names.size() - kMostNamed) + " more";
    }
    return text;
}

std::vector<std::string> without_repetition(std::vector<std::string> names) {
    std::sort(names.begin(), names.end());
    names.erase(std::unique(names.begin(), names.end()), names.end());
    return names;
}

}  // namespace

std::string explain_not_finite(const std::vector<NotFiniteReport>& reports) {
    std::set<std::string> bad;
    bool is_anybodys_own = false;
    for (const NotFiniteReport& report : reports) {
        bad.insert(report.found.summed.begin(), report.found.summed.end());
        is_anybodys_own = is_anybodys_own || !report.found.own.empty();
    }
    std::vector<std::string> ranks;
    for (const NotFiniteReport& report : reports) {
        std::vector<std::string> tensors;
        for (const std::string& name : is_anybodys_own ? report.found.own : report.found.summed) {
            if (bad.empty() || bad.count(name) != 0) tensors.push_back(name);
        }
        tensors = without_repetition(std::move(tensors));
        if (tensors.empty() && !report.found.loss) continue;
        std::string line = report.who + ": ";
        if (report.found.loss) line += "loss";
        if (!tensors.empty()) {
            line += (report.found.loss ? ", " : "") + std::string("gradient of ") + join(tensors);
        }
        ranks.push_back(line);
    }
    if (ranks.empty()) return "no rank holds anything that is not finite: the sums overflowed";
    std::string text;
    for (size_t i = 0; i < std::min(ranks.size(), kMostNamed); ++i) {
        text += (i ? "; " : "") + ranks[i];
    }
    if (ranks.size() > kMostNamed) {
        text += "; and " + std::to_string(ranks.size() - kMostNamed) + " more ranks";
    }
    return text;
}

NumericsGuard::NumericsGuard(const NumericsOptions& options, ControlGroup& control, Log& log)
    : options_(options),
      control_(control),
      log_(log),
      losses_(options.spike_window),
      norms_(options.spike_window) {}

bool NumericsGuard::may_update(const StepResult& result) {
    if (options_.on_spike != SpikePolicy::skip) return true;
    return std::max(losses_.score(result.loss), norms_.score(result.grad_norm)) <=
           options_.spike_sigma;
}

std::string NumericsGuard::find_origin(Engine& engine) const {
    const NotFinite own = engine.find_not_finite();
    const nlohmann::json message = {place_of(engine.model().context().mesh, control_.rank()),
                                    own.loss, own.own, own.summed};
    std::vector<NotFiniteReport> reports;
    for (const std::string& text : control_.gather(message.dump())) {
        const nlohmann::json from = nlohmann::json::parse(text);
        NotFiniteReport& report = reports.emplace_back();
        report.who = from[0];
        report.found.loss = from[1];
        report.found.own = from[2].get<std::vector<std::string>>();
        report.found.summed = from[3].get<std::vector<std::string>>();
    }
    return control_.broadcast(control_.rank() == 0 ? explain_not_finite(reports) : "");
}

void NumericsGuard::skip(int64_t step, const std::string& why) {
    ++skipped_in_a_row_;
    if (skipped_in_a_row_ > options_.max_skips) {
        throw Error(ExitCode::numerics,
                    "step " + std::to_string(step) + ": " + why + "; " +
                        std::to_string(options_.max_skips) +
                        " steps in a row were skipped already (numerics.max_skips). Lower "
                        "optimizer.lr or look at the data of these steps");
    }
    log_.info("step " + std::to_string(step) + ": " + why + "; skipped, nothing was updated");
}

void NumericsGuard::after_step(int64_t step, const StepResult& result, Engine& engine) {
    if (!result.is_finite()) {
        const std::string why = describe(result) + ": not finite. " + find_origin(engine);
        if (options_.on_nonfinite == NonfinitePolicy::skip) return skip(step, why);
        throw Error(
            ExitCode::numerics,
            "step " + std::to_string(step) + ": " + why +
                ". Nothing was updated. Lower optimizer.lr, lengthen "
                "schedule.warmup_steps, check the data, or set numerics.on_nonfinite: skip");
    }
    const double by_loss = losses_.score(result.loss), by_norm = norms_.score(result.grad_norm);
    const double score = std::max(by_loss, by_norm);
    const size_t steps = (by_loss < by_norm ? norms_ : losses_).count();
    // A skipped value joins the window too: a level that stays is the new normal.
    losses_.add(result.loss);
    norms_.add(result.grad_norm);
    if (score > options_.spike_sigma && options_.on_spike != SpikePolicy::ignore) {
        const std::string why = "spike: " + describe(result) + ", " + short_text(score) +
                                " standard deviations above the last " + std::to_string(steps) +
                                " steps";
        if (!result.updated) return skip(step, why);
        log_.info("step " + std::to_string(step) + ": " + why);
    }
    skipped_in_a_row_ = 0;
}

void NumericsGuard::save_state(std::map<std::string, std::string>& extra) const {
    extra[checkpoint_keys::kLossWindow] = losses_.text();
    extra[checkpoint_keys::kNormWindow] = norms_.text();
    extra[checkpoint_keys::kSkippedSteps] = std::to_string(skipped_in_a_row_);
}

void NumericsGuard::restore_state(const std::map<std::string, std::string>& extra) {
    const auto text_of = [&](const char* key) {
        const auto place = extra.find(key);
        return place == extra.end() ? std::string() : place->second;
    };
    losses_.restore(text_of(checkpoint_keys::kLossWindow));
    norms_.restore(text_of(checkpoint_keys::kNormWindow));
    skipped_in_a_row_ = std::atoi(text_of(checkpoint_keys::kSkippedSteps).c_str());
}

}  // namespace trireme

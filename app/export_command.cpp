#include <algorithm>
#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "app/commands.h"
#include "app/config.h"
#include "app/hf_config.h"
#include "app/hf_tokenizer.h"
#include "app/new_folder.h"
#include "app/progress_line.h"
#include "app/readable.h"
#include "core/error.h"
#include "core/file_io.h"
#include "core/log.h"
#include "core/rounded_values.h"
#include "core/safetensors.h"
#include "parallel/checkpoint_load.h"
#include "parallel/mpi/launcher.h"

namespace trireme {

namespace {

constexpr int64_t kElementsAtOnce = int64_t{1} << 20;

// Tensors that go to one file.
struct Shard {
    std::string name;
    std::vector<const HfTensor*> tensors;
    uint64_t bytes = 0;
};

std::vector<Shard> share_out(const std::vector<HfTensor>& tensors, DType dtype, uint64_t limit) {
    std::vector<Shard> shards;
    for (const HfTensor& tensor : tensors) {
        const uint64_t bytes = tensor.elements() * size_of(dtype);
        if (shards.empty() || (shards.back().bytes > 0 && shards.back().bytes + bytes > limit)) {
            shards.emplace_back();
        }
        shards.back().tensors.push_back(&tensor);
        shards.back().bytes += bytes;
    }
    for (size_t i = 0; i < shards.size(); ++i) {
        char name[64] = "model.safetensors";
        if (shards.size() > 1) {
            std::snprintf(name, sizeof name, "model-%05zu-of-%05zu.safetensors", i + 1,
                          shards.size());
        }
        shards[i].name = name;
    }
    return shards;
}

// What is wrong with the checkpoint itself: one before it may be sound.
class DamagedCheckpoint : public Error {
public:
    explicit DamagedCheckpoint(const Error& error) : Error(error.code(), error.what()) {}
};

// Tells a checkpoint's damage from other failures.
template <typename Read>
auto reading(const Read& read) {
    try {
        return read();
    } catch (const Error& error) {
        if (is_damage(error)) throw DamagedCheckpoint(error);
        throw;
    }
}

class Export {
public:
    Export(const ExportArguments& arguments, CheckpointReader& reader)
        : arguments_(arguments), reader_(reader) {
        const std::string manifest = reader_.folder() + "/manifest.json";
        config_ = parse_config(reader_.state().config, manifest);
        theirs_.model = config_.model;
        theirs_.family = hf_family_of(config_.model);
        theirs_.dtype = arguments.dtype == "bf16" ? DType::bf16 : DType::f32;
        tensors_ = hf_tensors(theirs_.family, config_.model);
        for (const HfTensor& tensor : tensors_) {
            total_elements_ += tensor.elements();
            for (const HfPart& part : tensor.parts) {
                reader_.expect_shape("parameter/" + part.parameter, part.global);
            }
        }
        std::string warning;
        ids_ = token_ids_of(config_.data.tokenizer, warning);
        if (!warning.empty()) log_.warn(warning);
        theirs_.begin_of_text = ids_.begin;
        theirs_.end_of_text = ids_.end;
        theirs_.padding = ids_.padding;
    }

    void run() {
        NewFolder target(arguments_.output);
        write(target.path());
        target.publish();
        std::printf("exported %s of step %lld, %s, from %s to %s\n", model_type_of(theirs_.family),
                    static_cast<long long>(reader_.state().step),
                    readable_bytes(total_elements_ * size_of(theirs_.dtype)).c_str(),
                    reader_.folder().c_str(), arguments_.output.c_str());
    }

private:
    void write(const std::string& folder) {
        const std::vector<Shard> shards =
            share_out(tensors_, theirs_.dtype, arguments_.max_shard_bytes);
        nlohmann::ordered_json weight_map = nlohmann::ordered_json::object();
        for (const Shard& shard : shards) {
            write_shard(folder, shard);
            for (const HfTensor* tensor : shard.tensors) weight_map[tensor->name] = shard.name;
        }
        if (shards.size() > 1) {
            const nlohmann::ordered_json index = {
                {"metadata", {{"total_size", total_elements_ * size_of(theirs_.dtype)}}},
                {"weight_map", weight_map}};
            replace_file(folder + "/model.safetensors.index.json", index.dump(2) + "\n");
        }
        replace_file(folder + "/config.json", hf_config_text(theirs_));
        export_tokenizer(config_.data.tokenizer, ids_, folder, config_.model.max_sequence_length);
    }

    void write_shard(const std::string& folder, const Shard& shard) {
        std::vector<SafetensorsEntry> entries;
        for (const HfTensor* tensor : shard.tensors) {
            entries.push_back({tensor->name, theirs_.dtype, tensor->shape, 0, 0});
        }
        const std::string header = make_safetensors_header(entries, {{"format", "pt"}});
        File file = File::create_new(folder + "/" + shard.name);
        file.write_all(header.data(), header.size());
        for (const HfTensor* tensor : shard.tensors) {
            if (tensor->is_transposed) {
                write_transposed(file, *tensor);
            } else {
                for (const HfPart& part : tensor->parts) write_part(file, part);
            }
        }
        file.sync();
        file.close();
    }

    // Into values_.
    void read(const HfPart& part, const Box& box) {
        values_.resize(static_cast<size_t>(box.elements()));
        reading(
            [&] { reader_.read("parameter/" + part.parameter, box, DType::f32, values_.data()); });
    }

    void write_part(File& file, const HfPart& part) {
        const int64_t cols = part.global[1];
        const int64_t rows_at_once = std::max<int64_t>(1, kElementsAtOnce / cols);
        for (int64_t row = 0; row < part.global[0]; row += rows_at_once) {
            const int64_t count = std::min(rows_at_once, part.global[0] - row);
            read(part, {{row, 0}, {count, cols}});
            write_values(file, values_);
        }
    }

    // Their rows run over all our parts, so the tensor is put together first.
    void write_transposed(File& file, const HfTensor& tensor) {
        const size_t rows = static_cast<size_t>(tensor.shape[0]);
        const size_t cols = static_cast<size_t>(tensor.shape[1]);
        std::vector<float> theirs(rows * cols);
        for (const HfPart& part : tensor.parts) {
            read(part, {{0, 0}, part.global});
            for (size_t r = 0; r < static_cast<size_t>(part.global[0]); ++r) {
                const size_t col = static_cast<size_t>(part.first_row) + r;
                for (size_t c = 0; c < rows; ++c) theirs[c * cols + col] = values_[r * rows + c];
            }
        }
        write_values(file, theirs);
    }

    void write_values(File& file, const std::vector<float>& values) {
        std::vector<bf16> rounded;
        const auto bytes = bytes_in(theirs_.dtype, values, rounded);
        file.write_all(bytes.data(), bytes.size());
        done_elements_ += values.size();
        progress_(done_elements_, total_elements_);
    }

    const ExportArguments& arguments_;
    Log log_{0, 1};
    CheckpointReader& reader_;
    Config config_;
    HfConfig theirs_;
    HfTokenIds ids_;
    std::vector<HfTensor> tensors_;
    std::vector<float> values_;
    ProgressLine progress_{"exporting"};
    uint64_t total_elements_ = 0, done_elements_ = 0;
};

// Each of several would write the whole folder, and all but the first find it there.
void check_one_process() {
    const Launcher launcher = find_launcher();
    if (launcher.processes <= 1 && launcher.rank <= 0) return;
    throw Error(
        ExitCode::config,
        "found " +
            (launcher.processes > 1 ? std::to_string(launcher.processes) : std::string("several")) +
            " processes, started by " + launcher.name +
            ", expected one: export shares nothing out; nothing was written: start it "
            "without the launcher, or with one process");
}

}  // namespace

int export_command(const ExportArguments& arguments) {
    check_one_process();
    Log log(0, 1);
    std::vector<std::string> skipped;
    const std::vector<std::string> folders = usable_checkpoints_at(arguments.checkpoint, skipped);
    for (const std::string& reason : skipped) log.warn("skipped a checkpoint: " + reason);
    for (size_t i = 0;; ++i) {
        try {
            const auto reader =
                reading([&] { return std::make_unique<CheckpointReader>(folders[i]); });
            Export(arguments, *reader).run();
            return static_cast<int>(ExitCode::ok);
        } catch (const DamagedCheckpoint& damage) {
            if (i + 1 == folders.size()) throw;
            log.warn(std::string("skipped a checkpoint: ") + damage.what());
        }
    }
}

}  // namespace trireme

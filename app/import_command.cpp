#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <memory>

#include "app/commands.h"
#include "app/config.h"
#include "app/hf_config.h"
#include "app/hf_folder.h"
#include "app/hf_tokenizer.h"
#include "app/new_folder.h"
#include "app/progress_line.h"
#include "app/rank_errors.h"
#include "core/file_io.h"
#include "core/log.h"
#include "data/tokenizer.h"
#include "model/flops.h"
#include "parallel/checkpoint_folders.h"
#include "parallel/checkpoint_manifest.h"
#include "parallel/checkpoint_save.h"

namespace trireme {

namespace {

constexpr uint64_t kMaxConfigBytes = uint64_t{1} << 20;
constexpr const char* kTokenizerFolder = "/tokenizer";

// A turned tensor has no rows in its file, so it is read whole; the parameters that lie in one
// tensor come one after the other.
class TurnedTensor {
public:
    explicit TurnedTensor(const HfFolder& folder) : folder_(folder) {}

    // Row `row` of the turned tensor, of tensor.shape[0] elements.
    const float* row(const HfTensor& tensor, int64_t row) {
        if (name_ != tensor.name) {
            values_.clear();
            values_.shrink_to_fit();
            values_ = folder_.read_transposed(tensor);
            name_ = tensor.name;
        }
        return values_.data() + row * tensor.shape[0];
    }

private:
    const HfFolder& folder_;
    std::string name_;
    std::vector<float> values_;
};

class Import {
public:
    Import(World& world, const ImportArguments& arguments)
        : world_(world), arguments_(arguments), log_(world.rank(), world.size()) {}

    void run() {
        ControlGroup control(world_, "import");
        control.run("while reading the model", [&] { read(); });
        NewFolder target(control, arguments_.output);
        control.run(
            "while importing a model",
            [&] {
                if (world_.rank() == 0) write_run(target.path());
            },
            [&] { target.give_up(); });
        save_checkpoint(control, checkpoints_folder_of(target.path()), state_, pieces());
        control.run(
            "while importing a model",
            [&] {
                if (world_.rank() == 0) target.publish();
            },
            [&] { target.give_up(); });
        report();
    }

private:
    // Everything that can be wrong is found before anything is written.
    void read() {
        const std::string path = arguments_.input + "/config.json";
        if (!std::filesystem::exists(path)) {
            throw Error(ExitCode::bad_data, arguments_.input +
                                                ": found no config.json, expected a "
                                                "Hugging Face folder with config.json and "
                                                "model*.safetensors");
        }
        theirs_ = parse_hf_config(read_file(path, kMaxConfigBytes), path);
        // Refuses what our own rules do not allow, in the words of our keys.
        config_ = make_config();
        folder_ = std::make_unique<HfFolder>(arguments_.input);
        folder_->check_layers(theirs_.model.layers);
        tensors_ = hf_tensors(theirs_.family, theirs_.model);
        folder_->check_tensors(theirs_.family, tensors_, theirs_.model.tie_embeddings);
        turned_ = std::make_unique<TurnedTensor>(*folder_);
    }

    // A run that goes on with the model; what follows the model section is a beginning to edit.
    Config make_config() const {
        namespace fs = std::filesystem;
        fs::path output = fs::weakly_canonical(fs::absolute(arguments_.output));
        if (!output.has_filename()) output = output.parent_path();
        Config config;
        config.run.name = output.filename();
        // Absolute, as the tokenizer's: whoever starts from another folder means this one.
        config.run.output = output.string();
        config.run.steps = 1000;
        config.model = theirs_.model;
        config.data.train = {{.path = "data/train", .weight = 1.0}};
        config.data.sequence_length = std::min(theirs_.model.max_sequence_length, 1024);
        if (fs::is_regular_file(arguments_.input + "/tokenizer.json")) {
            config.data.tokenizer = (output / "tokenizer" / "tokenizer.json").string();
        } else if (theirs_.model.vocab_size != ByteTokenizer().vocab_size()) {
            config.data.tokenizer = "none";
        }
        config.batch.global = 8;
        config.precision.compute = theirs_.dtype == DType::bf16 ? DType::bf16 : DType::f32;
        config.optimizer.lr = 1e-5;
        config.schedule.warmup_steps = 100;
        config.schedule.min_lr = 1e-6;
        config.checkpoint.interval = 100;
        config.source = arguments_.input + "/config.json";
        resolve(config);
        return config;
    }

    void write_run(const std::string& path) {
        std::string warning;
        carry_tokenizer(arguments_.input, path + kTokenizerFolder, theirs_.model.vocab_size,
                        {theirs_.begin_of_text, theirs_.end_of_text, theirs_.padding}, warning);
        if (!warning.empty()) log_.warn(warning);
        state_.config = dump_config(config_);
        replace_file(path + "/config.yaml", state_.config);
    }

    // Ranks take tensors in turn, by size.
    std::vector<CheckpointPiece> pieces() {
        std::vector<CheckpointPiece> pieces;
        std::vector<uint64_t> load(static_cast<size_t>(world_.size()), 0);
        for (const HfTensor& tensor : tensors_) {
            const auto least = std::min_element(load.begin(), load.end());
            *least += tensor.elements();
            if (least - load.begin() != world_.rank()) continue;
            own_elements_ += tensor.elements();
            for (const HfPart& part : tensor.parts) pieces.push_back(piece_of(tensor, part));
        }
        return pieces;
    }

    CheckpointPiece piece_of(const HfTensor& tensor, const HfPart& part) {
        CheckpointPiece piece;
        piece.tensor = "parameter/" + part.parameter;
        piece.global = part.global;
        piece.is_vector = part.is_vector;
        piece.box = {{0, 0}, part.global};
        piece.read = [this, &tensor, &part](int64_t first, int64_t count, void* to) {
            copy_rows(tensor, part, first, count, static_cast<float*>(to));
        };
        return piece;
    }

    void copy_rows(const HfTensor& tensor, const HfPart& part, int64_t first, int64_t count,
                   float* to) {
        const int64_t cols = part.global[1];
        if (part.is_vector) {
            folder_->read_rows(tensor, part.first_row, cols, to);
        } else if (tensor.is_transposed) {
            const float* from = turned_->row(tensor, part.first_row + first);
            std::copy(from, from + count * cols, to);
        } else {
            folder_->read_rows(tensor, part.first_row + first, count, to);
        }
        done_elements_ += static_cast<uint64_t>(count * cols);
        if (world_.rank() == 0) progress_(done_elements_, own_elements_);
    }

    void report() {
        if (world_.rank() != 0) return;
        const ParameterCount count = count_parameters(theirs_.model);
        std::printf("imported %s of %lld parameters from %s to %s\n", model_type_of(theirs_.family),
                    static_cast<long long>(count.total), arguments_.input.c_str(),
                    arguments_.output.c_str());
    }

    World& world_;
    const ImportArguments& arguments_;
    Log log_;
    HfConfig theirs_;
    Config config_;
    CheckpointState state_;
    std::vector<HfTensor> tensors_;
    std::unique_ptr<HfFolder> folder_;
    std::unique_ptr<TurnedTensor> turned_;
    ProgressLine progress_{"importing"};
    uint64_t own_elements_ = 0, done_elements_ = 0;
};

}  // namespace

int import_command(const ImportArguments& arguments) {
    return run_as_rank([&](World& world) {
        end_ranks_on_failure(world, [&] { Import(world, arguments).run(); });
    });
}

}  // namespace trireme

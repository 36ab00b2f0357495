#include <cmath>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "app/commands.h"
#include "app/model_checkpoint.h"
#include "app/rank_errors.h"
#include "app/rank_setup.h"
#include "core/log.h"
#include "data/batch_loader.h"
#include "data/sequential_dataset.h"

namespace trireme {

namespace {

constexpr int kBatch = 8;  // sequences in a micro-batch

void evaluate(World& world, const EvalArguments& arguments) {
    Log log(world.rank(), world.size());
    std::vector<std::string> skipped;
    CheckpointReader reader(resolve_checkpoint(arguments.checkpoint, &skipped));
    if (world.rank() == 0) {
        for (const std::string& reason : skipped) log.warn("skipped a checkpoint: " + reason);
    }
    const Config config =
        config_of_checkpoint(reader.state(), reader.folder(), arguments.sets, world.size());
    const auto data = make_sequential_dataset(arguments.data, config.data.sequence_length,
                                              config.model.vocab_size);
    RankSetup setup(world, config, RankSetup::Use::forward, kBatch, config.data.sequence_length);
    load_model(setup.engine(), reader);

    LoaderOptions options;
    options.micro_batch = kBatch;
    options.shard = setup.mesh().at().data;
    options.n_shards = config.mesh.data;
    options.sequence_length = config.data.sequence_length;
    options.wrap = false;
    options.keep_documents_apart = config.data.keep_documents_apart;
    BatchLoader loader(*data, options, 0);
    const int64_t at_once = int64_t{kBatch} * config.mesh.data;
    const int micro_batches = static_cast<int>((data->size() + at_once - 1) / at_once);
    const EvaluationResult result = setup.engine().evaluate(micro_batches, [&](int i) {
        if (i > 0 && i % 100 == 0) {
            log.info("evaluated " + std::to_string(i) + " of " + std::to_string(micro_batches) +
                     " batches");
        }
        const MicroBatch& batch = loader.next();
        return HostMicroBatch{batch.tokens, batch.labels, batch.first_sample, batch.document_begin};
    });

    if (world.rank() != 0) return;
    const double loss = result.loss_sum / static_cast<double>(result.tokens);
    if (arguments.json) {
        const nlohmann::ordered_json record = {{"checkpoint", reader.folder()},
                                               {"step", reader.state().step},
                                               {"data", arguments.data},
                                               {"tokens", result.tokens},
                                               {"loss", loss},
                                               {"perplexity", std::exp(loss)}};
        std::printf("%s\n", record.dump().c_str());
    } else {
        std::printf("loss %.6f nats per token | perplexity %.4f | %lld tokens | step %lld\n", loss,
                    std::exp(loss), static_cast<long long>(result.tokens),
                    static_cast<long long>(reader.state().step));
    }
}

}  // namespace

int eval_command(const EvalArguments& arguments) {
    return run_as_rank(
        [&](World& world) { end_ranks_on_failure(world, [&] { evaluate(world, arguments); }); });
}

}  // namespace trireme

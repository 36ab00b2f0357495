#include <algorithm>
#include <limits>
#include <vector>

#include "app/checkpoint_config.h"
#include "app/commands.h"
#include "app/rank_agreement.h"
#include "app/rank_errors.h"
#include "app/rank_setup.h"
#include "app/sampling.h"
#include "app/saved_model.h"
#include "app/standard_output.h"
#include "core/error.h"
#include "core/log.h"
#include "data/tokenizer.h"

namespace trireme {

namespace {

// Of a model that has more ids than the tokenizer has tokens: they are never drawn.
std::vector<int32_t> ids_without_text(const Tokenizer& tokenizer, int64_t vocab_size) {
    std::vector<int32_t> ids;
    for (int32_t id = 0; id < vocab_size; ++id) {
        if (!tokenizer.has_token(id)) ids.push_back(id);
    }
    return ids;
}

void generate(World& world, const GenerateArguments& arguments) {
    Log log(world.rank(), world.size());
    const bool prints = world.rank() == 0;
    SavedModel model(world, arguments.checkpoint, log);
    const Config config =
        config_of_checkpoint(model.state(), model.folder(), arguments.sets, world.size());
    check_no_context_axis(config, "generate");
    check_has_tokenizer(config, "generate");
    const auto tokenizer = make_tokenizer(config.data.tokenizer);
    std::vector<int32_t> tokens;
    tokenizer->encode(arguments.prompt, tokens);
    // An empty prompt begins a new document.
    if (tokens.empty()) tokens.push_back(tokenizer->end_of_text());

    for (const int32_t id : tokens) {
        if (id < config.model.vocab_size) continue;
        throw Error(ExitCode::config, "token id " + std::to_string(id) + " of the prompt, but " +
                                          "model.vocab_size is " +
                                          std::to_string(config.model.vocab_size) +
                                          "; is data.tokenizer '" + config.data.tokenizer +
                                          "' the one that the model was trained with?");
    }

    check_same_tokens(world, "prompt", tokens);

    const auto prompt_tokens = static_cast<int64_t>(tokens.size());
    if (prints && prompt_tokens > config.model.max_sequence_length) {
        const std::string seen = std::to_string(config.model.max_sequence_length);
        log.warn("the prompt has " + std::to_string(prompt_tokens) + " tokens and the model sees " +
                 seen + " (model.max_sequence_length): it goes on from the last " + seen);
    }
    const int64_t window =
        std::min<int64_t>(config.model.max_sequence_length, prompt_tokens + arguments.tokens);
    LibraryOutput output;
    RankSetup setup(world, config, EngineUse::generate, 1, window);
    model.load(setup);

    if (prints) output.print(arguments.prompt);
    const SamplingOptions sampling{
        .temperature = arguments.temperature, .top_k = arguments.top_k, .seed = arguments.seed};
    const std::vector<int32_t> textless = ids_without_text(*tokenizer, config.model.vocab_size);
    std::vector<int32_t> input(static_cast<size_t>(window));
    int64_t known = 0;  // tokens of the window whose keys and values the engine has
    for (int64_t i = 0; i < arguments.tokens; ++i) {
        // The newest tokens that fit; what stands behind them does not matter to a causal model.
        const int64_t visible = std::min(window, static_cast<int64_t>(tokens.size()));
        std::fill(input.begin(), input.end(), 0);
        std::copy(tokens.end() - visible, tokens.end(), input.begin());
        std::vector<float> logits = setup.engine().next_token_logits(input, visible - 1, known);
        // In a full window the next token moves all others to another position.
        known = visible < window ? visible : 0;
        for (const int32_t id : textless) {
            logits[static_cast<size_t>(id)] = -std::numeric_limits<float>::infinity();
        }
        const int32_t token = sample_token(logits, sampling, static_cast<int64_t>(tokens.size()));
        if (token == tokenizer->end_of_text()) break;
        tokens.push_back(token);
        if (prints) output.print(tokenizer->decode({&tokens.back(), 1}));
    }
    if (prints) output.print("\n");
}

}  // namespace

int generate_command(const GenerateArguments& arguments) {
    return run_as_rank(
        [&](World& world) { end_ranks_on_failure(world, [&] { generate(world, arguments); }); });
}

}  // namespace trireme

#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "core/log.h"
#include "data/choices.h"
#include "model/engine.h"

namespace trireme {

// How often a model finds the answer likeliest of all choices: by the sum of its tokens'
// log-likelihoods, by that sum for each character (code point) of the choice, and for each byte.
struct ChoiceAccuracy {
    int64_t questions = 0;
    int64_t correct = 0;
    int64_t correct_by_character = 0;
    int64_t correct_by_byte = 0;

    double accuracy() const { return share(correct); }
    double accuracy_by_character() const { return share(correct_by_character); }
    double accuracy_by_byte() const { return share(correct_by_byte); }
    // Standard error of such a share.
    double error_of(double share) const;

private:
    double share(int64_t count) const {
        return static_cast<double>(count) / static_cast<double>(questions);
    }
};

// The rows of all questions' choices, each a text for the model.
class ChoiceRows {
public:
    // Rows longer than `window` + 1 tokens lose their beginning. Error(bad_data), naming file and
    // line, for what tokenize_choice refuses and for a choice of more than `window` tokens.
    ChoiceRows(std::vector<ChoiceQuestion> questions, const std::string& path,
               const Tokenizer& tokenizer, int64_t vocab_size, int64_t window);

    int64_t size() const { return static_cast<int64_t>(rows_.size()); }
    int64_t longest() const { return longest_; }  // in tokens that the model reads

    // Of all rows one behind the other, each with its length and where its choice begins.
    std::vector<int32_t> tokens() const;

    // Row `index` as tokens and labels of a length of at least longest(); only the choice's labels
    // count. A row behind the last has none.
    void fill(int64_t index, std::span<int32_t> tokens, std::span<int32_t> labels) const;

    // Of each row's log-likelihood [size()].
    ChoiceAccuracy accuracy(std::span<const double> scores) const;

private:
    std::vector<ChoiceQuestion> questions_;
    std::vector<ChoiceTokens> rows_;
    int64_t longest_ = 0;
};

// The log-likelihood of each row's choice, in nats, `batch` rows of each data rank at a time. The
// engine has micro-batches of `batch` sequences of `sequence` tokens, at least rows.longest().
// Collective; the result is on every rank.
std::vector<double> score_rows(Engine& engine, const ChoiceRows& rows, int data_rank,
                               int data_ranks, int batch, int64_t sequence, Log& log);

}  // namespace trireme

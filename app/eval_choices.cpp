#include "app/eval_choices.h"

#include <algorithm>
#include <cmath>

#include "app/progress_log.h"
#include "core/error.h"
#include "data/sample_source.h"
#include "data/utf8.h"

namespace trireme {

double ChoiceAccuracy::error_of(double share) const {
    if (questions < 2) return 0.0;
    return std::sqrt(share * (1.0 - share) / static_cast<double>(questions - 1));
}

ChoiceRows::ChoiceRows(std::vector<ChoiceQuestion> questions, const std::string& path,
                       const Tokenizer& tokenizer, int64_t vocab_size, int64_t window)
    : questions_(std::move(questions)) {
    for (const ChoiceQuestion& question : questions_) {
        const std::string where = path + ":" + std::to_string(question.line);
        for (const std::string& choice : question.choices) {
            ChoiceTokens row =
                tokenize_choice(tokenizer, question.context, choice, vocab_size, where);
            // The last token is only predicted, never read.
            const int64_t surplus = std::ssize(row.tokens) - (window + 1);
            if (surplus >= static_cast<int64_t>(row.first)) {
                throw Error(ExitCode::bad_data,
                            where + ": a choice of " +
                                std::to_string(row.tokens.size() - row.first) +
                                " tokens, expected at most model.max_sequence_length " +
                                std::to_string(window));
            }
            if (surplus > 0) {
                row.tokens.erase(row.tokens.begin(), row.tokens.begin() + surplus);
                row.first -= static_cast<size_t>(surplus);
            }
            longest_ = std::max(longest_, std::ssize(row.tokens) - 1);
            rows_.push_back(std::move(row));
        }
    }
}

std::vector<int32_t> ChoiceRows::tokens() const {
    std::vector<int32_t> all;
    for (const ChoiceTokens& row : rows_) {
        all.push_back(static_cast<int32_t>(row.tokens.size()));
        all.push_back(static_cast<int32_t>(row.first));
        all.insert(all.end(), row.tokens.begin(), row.tokens.end());
    }
    return all;
}

void ChoiceRows::fill(int64_t index, std::span<int32_t> tokens, std::span<int32_t> labels) const {
    std::fill(tokens.begin(), tokens.end(), 0);
    std::fill(labels.begin(), labels.end(), kIgnoredLabel);
    if (index >= size()) return;
    const ChoiceTokens& row = rows_[static_cast<size_t>(index)];
    std::copy(row.tokens.begin(), row.tokens.end() - 1, tokens.begin());
    std::copy(row.tokens.begin() + static_cast<std::ptrdiff_t>(row.first), row.tokens.end(),
              labels.begin() + static_cast<std::ptrdiff_t>(row.first) - 1);
}

ChoiceAccuracy ChoiceRows::accuracy(std::span<const double> scores) const {
    ChoiceAccuracy result;
    size_t row = 0;
    for (const ChoiceQuestion& question : questions_) {
        // Of equal ones the first is taken.
        const auto is_right = [&](const auto& length_of) {
            size_t best = 0;
            double best_score = 0;
            for (size_t i = 0; i < question.choices.size(); ++i) {
                const double score =
                    scores[row + i] / static_cast<double>(length_of(question.choices[i]));
                if (i > 0 && !(score > best_score)) continue;
                best = i;
                best_score = score;
            }
            return best == question.answer ? 1 : 0;
        };
        ++result.questions;
        result.correct += is_right([](const std::string&) { return size_t{1}; });
        result.correct_by_character += is_right(count_code_points);
        result.correct_by_byte += is_right([](const std::string& text) { return text.size(); });
        row += question.choices.size();
    }
    return result;
}

std::vector<double> score_rows(Engine& engine, const ChoiceRows& rows, int data_rank,
                               int data_ranks, int batch, int64_t sequence, Log& log) {
    TRIREME_CHECK(sequence >= rows.longest(), "room for the longest choice");
    const auto length = static_cast<size_t>(sequence);
    std::vector<int32_t> tokens(static_cast<size_t>(batch) * length), labels(tokens.size());
    std::vector<double> scores(static_cast<size_t>(rows.size()), 0.0);
    const int64_t at_once = int64_t{batch} * data_ranks;
    ProgressLog progress(log, "scored", "choices");
    for (int64_t first = 0; first < rows.size(); first += at_once) {
        progress(first, rows.size());
        for (int row = 0; row < batch; ++row) {
            const size_t at = static_cast<size_t>(row) * length;
            rows.fill(first + int64_t{data_rank} * batch + row,
                      std::span(tokens).subspan(at, length), std::span(labels).subspan(at, length));
        }
        const std::vector<float> losses = engine.token_losses({tokens, labels, 0});
        for (int64_t row = 0; row < std::min(at_once, rows.size() - first); ++row) {
            double& score = scores[static_cast<size_t>(first + row)];
            for (size_t t = 0; t < length; ++t) {
                score -= static_cast<double>(losses[static_cast<size_t>(row) * length + t]);
            }
        }
    }
    return scores;
}

}  // namespace trireme

#include "data/choices.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/strict_json.h"
#include "data/text_file.h"

namespace trireme {
namespace {

using nlohmann::json;

constexpr size_t kMostLineBytes = size_t{1} << 20;
constexpr const char* kBlanks = " \t\n\r\v\f";

[[noreturn]] void fail(const std::string& where, const std::string& problem) {
    throw Error(ExitCode::bad_data, where + ": " + problem);
}

std::string stripped(const std::string& text) {
    const size_t begin = text.find_first_not_of(kBlanks);
    if (begin == std::string::npos) return "";
    return text.substr(begin, text.find_last_not_of(kBlanks) - begin + 1);
}

void replace_all(std::string& text, const std::string& from, const std::string& to) {
    for (size_t at = 0; (at = text.find(from, at)) != std::string::npos; at += to.size()) {
        text.replace(at, from.size(), to);
    }
}

// Removes "[...]" where both brackets stand in the same line.
void remove_brackets(std::string& text) {
    for (size_t open = 0; (open = text.find('[', open)) != std::string::npos;) {
        const size_t end = text.find_first_of("]\n", open);
        if (end == std::string::npos) return;
        if (text[end] == ']') {
            text.erase(open, end - open + 1);
        } else {
            open = end;
        }
    }
}

// HellaSwag's texts carry marks of the web pages they were made from.
std::string without_marks(const std::string& text) {
    std::string clean = stripped(text);
    replace_all(clean, " [title]", ". ");
    remove_brackets(clean);
    replace_all(clean, "  ", " ");
    return clean;
}

// As Python's str.capitalize for ASCII; other letters stay as they are.
std::string capitalized(std::string text) {
    for (size_t i = 0; i < text.size(); ++i) {
        const char c = text[i];
        if (i == 0 && c >= 'a' && c <= 'z') text[i] = static_cast<char>(c - 'a' + 'A');
        if (i > 0 && c >= 'A' && c <= 'Z') text[i] = static_cast<char>(c - 'A' + 'a');
    }
    return text;
}

std::vector<std::string> texts_of(const json& object, const char* key, const std::string& where) {
    const json& list = member(object, key, where);
    if (!list.is_array()) fail(where, "'" + std::string(key) + "' is no list, expected texts");
    std::vector<std::string> texts;
    for (const json& item : list) {
        if (!item.is_string()) {
            fail(where, "'" + std::string(key) + "' holds something else than texts");
        }
        texts.push_back(item.get<std::string>());
    }
    return texts;
}

ChoiceQuestion hellaswag(const json& row, const std::string& where) {
    ChoiceQuestion question;
    if (row.contains("activity_label") && row.contains("ctx_a") && row.contains("ctx_b")) {
        question.context = string_member(row, "activity_label", where) + ": " +
                           string_member(row, "ctx_a", where) + " " +
                           capitalized(string_member(row, "ctx_b", where));
    } else {
        question.context = string_member(row, "ctx", where);
    }
    question.context = without_marks(question.context);
    for (const std::string& ending : texts_of(row, "endings", where)) {
        question.choices.push_back(without_marks(ending));
    }
    // A number, or its text; empty in the test set.
    const json& label = member(row, "label", where);
    const std::string text = label.is_string() ? label.get<std::string>() : label.dump();
    const bool is_index = !text.empty() && text.size() < 5 &&
                          text.find_first_not_of("0123456789") == std::string::npos;
    if (!is_index || std::stoul(text) >= question.choices.size()) {
        fail(where, "'label' is " + label.dump() + ", expected the number of one of the " +
                        std::to_string(question.choices.size()) + " endings, counted from 0");
    }
    question.answer = std::stoul(text);
    return question;
}

ChoiceQuestion arc(const json& row, const std::string& where) {
    ChoiceQuestion question;
    question.context = "Question: " + string_member(row, "question", where) + "\nAnswer:";
    const json& choices = member(row, "choices", where);
    if (!choices.is_object()) fail(where, "'choices' is no object, expected {text, label}");
    question.choices = texts_of(choices, "text", where);
    const std::vector<std::string> labels = texts_of(choices, "label", where);
    if (labels.size() != question.choices.size()) {
        fail(where, std::to_string(question.choices.size()) + " texts and " +
                        std::to_string(labels.size()) + " labels in 'choices', expected as many");
    }
    const std::string& key = string_member(row, "answerKey", where);
    const auto found = std::find(labels.begin(), labels.end(), key);
    if (found == labels.end()) fail(where, "'answerKey' is none of the labels in 'choices'");
    question.answer = static_cast<size_t>(found - labels.begin());
    return question;
}

ChoiceQuestion question_of(const std::string& line, const std::string& where) {
    const json row = parse_strict_json(line, where, 8);
    if (!row.is_object()) fail(where, "no JSON object, expected a question");
    ChoiceQuestion question;
    if (row.contains("endings")) {
        question = hellaswag(row, where);
    } else if (row.contains("answerKey")) {
        question = arc(row, where);
    } else {
        fail(where,
             "found neither 'endings' (ctx, endings, label as in HellaSwag) nor 'answerKey' "
             "(question, choices, answerKey as in ARC)");
    }
    if (question.choices.size() < 2) fail(where, "expected at least two choices");
    for (const std::string& choice : question.choices) {
        if (choice.empty()) fail(where, "found an empty choice, expected a text");
    }
    return question;
}

// Hands each line of the file without its end to `take`.
template <typename Take>
void for_each_line(const std::string& path, const Take& take) {
    TextFile file(path);
    std::vector<char> chunk(size_t{1} << 16);
    std::string line;
    int64_t number = 1;
    const auto where = [&] { return path + ":" + std::to_string(number); };
    while (const size_t n = file.read(chunk.data(), chunk.size())) {
        for (size_t i = 0; i < n; ++i) {
            if (chunk[i] != '\n') {
                if (line.size() == kMostLineBytes) fail(where(), "a line of more than 1 MiB");
                line += chunk[i];
                continue;
            }
            take(line, number, where());
            line.clear();
            ++number;
        }
    }
    take(line, number, where());
}

}  // namespace

std::vector<ChoiceQuestion> read_choices(const std::string& path) {
    std::vector<ChoiceQuestion> questions;
    for_each_line(path, [&](const std::string& line, int64_t number, const std::string& where) {
        if (stripped(line).empty()) return;
        questions.push_back(question_of(line, where));
        questions.back().line = number;
    });
    if (questions.empty()) fail(path, "holds no question, expected one a line");
    return questions;
}

ChoiceTokens tokenize_choice(const Tokenizer& tokenizer, const std::string& context,
                             const std::string& choice, int64_t vocab_size,
                             const std::string& where) {
    // npos + 1 is 0: a context of blanks only.
    const std::string head = context.substr(0, context.find_last_not_of(kBlanks) + 1);
    ChoiceTokens row;
    if (head.empty()) {
        row.tokens.push_back(tokenizer.end_of_text());
        tokenizer.encode(context + " " + choice, row.tokens);
        row.first = 1;
    } else {
        std::vector<int32_t> context_tokens;
        tokenizer.encode(head, context_tokens);
        tokenizer.encode(context + " " + choice, row.tokens);
        row.first = context_tokens.size();
    }
    if (row.first >= row.tokens.size()) fail(where, "a choice comes to no token of its own");
    for (const int32_t id : row.tokens) {
        if (id < vocab_size) continue;
        fail(where, "token id " + std::to_string(id) + ", but model.vocab_size is " +
                        std::to_string(vocab_size) +
                        "; is data.tokenizer the one that the model was trained with?");
    }
    return row;
}

}  // namespace trireme

#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "data/tokenizer.h"

namespace trireme {

// A question whose answer is one of several texts that go on with it.
struct ChoiceQuestion {
    std::string context;
    std::vector<std::string> choices;  // without the space between
    size_t answer = 0;                 // index into choices
    int64_t line = 0;                  // of the file, from 1
};

// Reads JSON lines, plain or packed (see TextFile), with blank lines between. A line is in the form
// of HellaSwag ("ctx", or "activity_label", "ctx_a" and "ctx_b"; "endings"; "label") or of ARC
// ("question"; "choices" with "text" and "label"; "answerKey"), and becomes what
// lm-evaluation-harness makes of it. Error(bad_data) naming file and line for anything else, and
// for a file without a question.
std::vector<ChoiceQuestion> read_choices(const std::string& path);

// The tokens of a context and one choice behind it.
struct ChoiceTokens {
    std::vector<int32_t> tokens;
    size_t first = 0;  // of the choice's; at least 1
};

// Tokenized as one text, so that tokens over the border belong to the choice; blanks at the end of
// the context count as the choice's. An empty context is the end of text. Error(bad_data) when the
// choice comes to no token or an id is not below vocab_size; `where` names the question in it.
ChoiceTokens tokenize_choice(const Tokenizer& tokenizer, const std::string& context,
                             const std::string& choice, int64_t vocab_size,
                             const std::string& where);

}  // namespace trireme

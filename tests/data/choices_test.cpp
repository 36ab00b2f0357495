#include "data/choices.h"

#include <catch2/catch.hpp>

#include "data/data_options.h"
#include "tests/data/data_test_support.h"
#include "tests/data/tokenizer_test_support.h"

namespace trireme {
namespace {

using Catch::Matchers::Contains;

std::vector<ChoiceQuestion> read_from(const TemporaryFolder& folder, const std::string& text) {
    write_text(folder / "q.jsonl", text);
    return read_choices(folder / "q.jsonl");
}

const char* const kArc =
    R"({"question":"Q?","choices":{"text":["a","b","c"],"label":["A","B","C"]},"answerKey":"C"})";

}  // namespace

TEST_CASE("HellaSwag's questions lose the marks of their web pages", "[data][choices]") {
    const TemporaryFolder folder;
    const auto questions = read_from(
        folder,
        "{\"ctx\": \" A man sits. he\", \"endings\": [\"runs [substeps] off.\", \" sits\"], "
        "\"label\": 1, \"ind\": 3}\n\n"
        R"({"activity_label":"Roof","ctx_a":"A [x] man.","ctx_b":"he Is","ctx":"unused",)"
        R"("endings":["How [title] Do","b"],"label":"0"})");
    REQUIRE(questions.size() == 2);
    CHECK(questions[0].context == "A man sits. he");
    CHECK(questions[0].choices == std::vector<std::string>{"runs off.", "sits"});
    CHECK(questions[0].answer == 1);
    CHECK(questions[0].line == 1);
    CHECK(questions[1].context == "Roof: A man. He is");
    CHECK(questions[1].choices == std::vector<std::string>{"How. Do", "b"});
    CHECK(questions[1].answer == 0);
    CHECK(questions[1].line == 3);
}

TEST_CASE("ARC's answers are found by their labels", "[data][choices]") {
    const TemporaryFolder folder;
    const auto questions = read_from(
        folder, std::string(kArc) + "\n" +
                    R"({"id":"x","question":"2","choices":{"label":["1","2"],"text":["é","f"]},)"
                    R"("answerKey":"1"})");
    REQUIRE(questions.size() == 2);
    CHECK(questions[0].context == "Question: Q?\nAnswer:");
    CHECK(questions[0].choices == std::vector<std::string>{"a", "b", "c"});
    CHECK(questions[0].answer == 2);
    CHECK(questions[1].answer == 0);
}

TEST_CASE("bad questions are refused with file and line", "[data][choices]") {
    const TemporaryFolder folder;
    const std::pair<const char*, const char*> cases[] = {
        {"{", "q.jsonl:2"},
        {"[]", "no JSON object"},
        {"{\"text\": 1}", "found neither 'endings'"},
        {R"({"ctx":"a","endings":["b"],"label":0})", "at least two choices"},
        {R"({"ctx":"a","endings":["b",""],"label":0})", "an empty choice"},
        {R"({"ctx":"a","endings":["b","c"],"label":2})", "'label' is 2"},
        {R"({"ctx":"a","endings":["b","c"],"label":-1})", "'label' is -1"},
        {R"({"ctx":"a","endings":["b","c"],"label":""})", "'label' is \"\""},
        {R"({"ctx":"a","endings":["b","c"],"label":"99999999999999999999"})", "'label' is"},
        {R"({"ctx":"a","endings":["b",1],"label":0})", "something else than texts"},
        {R"({"ctx":"a","endings":"b","label":0})", "no list"},
        {R"({"endings":["b","c"],"label":0})", "ctx"},
        {R"({"question":"a","choices":{"text":["a","b"],"label":["A"]},"answerKey":"A"})",
         "2 texts and 1 labels"},
        {R"({"question":"a","choices":{"text":["a","b"],"label":["A","B"]},"answerKey":"C"})",
         "none of the labels"},
        {R"({"question":"a","choices":["a","b"],"answerKey":"C"})", "no object"},
        {R"({"question":"a","question":"b","answerKey":"C"})", "question"},
    };
    for (const auto& [line, expected] : cases) {
        INFO(line);
        const Error error = error_of(
            [&, text = line] { read_from(folder, std::string(kArc) + "\n" + text + "\n"); });
        CHECK(error.code() == ExitCode::bad_data);
        CHECK_THAT(error.what(), Contains("q.jsonl:2") && Contains(expected));
    }
    CHECK_THAT(error_of([&] { read_from(folder, "\n \n"); }).what(), Contains("no question"));
    CHECK_THAT(error_of([&] { read_from(folder, std::string(2 << 20, 'x')); }).what(),
               Contains("q.jsonl:1") && Contains("1 MiB"));
    CHECK(error_of([&] { read_choices(folder / "none"); }).code() == ExitCode::bad_data);
}

TEST_CASE("context and choice are tokenized as one text and parted behind the context",
          "[data][choices]") {
    const TemporaryFolder folder;
    const ToyVocabulary toy;
    write_text(folder / "t.json", toy.json());
    const auto bpe = make_tokenizer(folder / "t.json");
    const auto row = [&](const std::string& context, const std::string& choice) {
        return tokenize_choice(*bpe, context, choice, bpe->vocab_size(), "here");
    };
    using Ids = std::vector<int32_t>;
    const ChoiceTokens joined = row("in", "the");
    CHECK(joined.tokens == Ids{toy.id("in"), toy.id(" the")});
    CHECK(joined.first == 1);
    // A blank at the end of the context belongs to the choice.
    const ChoiceTokens blank = row("in ", "x");
    CHECK(blank.first == 1);
    Ids expected;
    bpe->encode("in  x", expected);
    CHECK(blank.tokens == expected);
    // No context: the end of text stands before.
    const ChoiceTokens bare = row("", "the");
    CHECK(bare.tokens == Ids{bpe->end_of_text(), toy.id(" the")});
    CHECK(bare.first == 1);

    const ByteTokenizer bytes;
    const ChoiceTokens plain = tokenize_choice(bytes, "a", "b", 257, "here");
    CHECK(plain.tokens == Ids{'a', ' ', 'b'});
    CHECK(plain.first == 1);
    const Error error = error_of([&] { tokenize_choice(bytes, "a", "z", 100, "q:7"); });
    CHECK(error.code() == ExitCode::bad_data);
    CHECK_THAT(error.what(), Contains("q:7") && Contains("token id 122"));
}

TEST_CASE("a dataset is called by its name, its file or its path", "[data]") {
    const std::vector<DataSourceOptions> sources{
        {.path = "x/a"}, {.path = "y/a"}, {.path = "y/b"}, {.path = "z/c", .name = "d"}};
    CHECK(names_of(sources) == std::vector<std::string>{"x/a", "y/a", "b", "d"});
}

}  // namespace trireme

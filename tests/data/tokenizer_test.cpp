#include "data/tokenizer.h"

#include <catch2/catch.hpp>
#include <random>
#include <thread>

#include "data/nfc.h"
#include "data/split_pattern.h"
#include "data/tiktoken_file.h"
#include "data/tokenizer_json.h"
#include "tests/data/data_test_support.h"
#include "tests/data/tokenizer_test_support.h"

namespace trireme {
namespace {

using Catch::Matchers::Contains;
using Ids = std::vector<int32_t>;
using File = nlohmann::ordered_json;

const ToyVocabulary kToy;

// The pieces that a pattern cuts a text into, read off a vocabulary of bytes: no merges cross them.
std::vector<std::string> pieces_of(std::string_view pattern, const std::string& text) {
    const SplitPattern split(pattern, "test");
    SplitPattern::Matcher matcher(split);
    std::vector<std::string> pieces;
    for (size_t at = 0; at < text.size();) {
        const auto range = matcher.find(text, at);
        REQUIRE(range.begin == at);
        pieces.push_back(text.substr(at, range.end - at));
        at = range.end;
    }
    return pieces;
}

using Pieces = std::vector<std::string>;

TEST_CASE("the known patterns cut text where they should", "[data][tokenizer]") {
    using namespace split_patterns;
    const std::string text = "I'll SAY it's 12345  tabs\r\n\n end's";
    CHECK(pieces_of(kGpt2, text) ==
          Pieces{"I", "'ll", " SAY", " it", "'s", " 12345", " ", " tabs", "\r\n\n", " end", "'s"});
    CHECK(pieces_of(kCl100k, text) == Pieces{"I", "'ll", " SAY", " it", "'s", " ", "123", "45", " ",
                                             " tabs", "\r\n\n", " end", "'s"});
    CHECK(pieces_of(kQwen, "a12'S!") == Pieces{"a", "1", "2", "'S", "!"});
    CHECK(pieces_of(kO200k, "It's MyWORDisOne 1234//\n/x") ==
          Pieces{"It's", " My", "WORDis", "One", " ", "123", "4", "//\n/", "x"});
    // U+180E is no white space to the references, though PCRE2 thinks so; U+3000 and U+0085 are.
    CHECK(pieces_of(kGpt2, "\xe1\xa0\x8e\xe1\xa0\x8e a") ==
          Pieces{"\xe1\xa0\x8e\xe1\xa0\x8e", " a"});
    CHECK(pieces_of(kGpt2, "\xe3\x80\x80\xc2\x85\xc2\xa0") ==
          Pieces{"\xe3\x80\x80\xc2\x85\xc2\xa0"});
}

TEST_CASE("a tokenizer.json gives the ids of its merges, in both forms", "[data][tokenizer]") {
    for (const bool pairs : {false, true}) {
        const auto tokenizer = tokenizer_from_json(kToy.json({}, pairs), "toy");
        CHECK(tokenizer->vocab_size() == static_cast<int64_t>(kToy.tokens.size()) + 1);
        CHECK(tokenizer->end_of_text() == static_cast<int32_t>(kToy.tokens.size()));
        // "'s" is a piece; GPT-2's pattern keeps the space with the word.
        CHECK(encode(*tokenizer, "hello the hing's") == Ids{kToy.id("hello"), kToy.id(" the"),
                                                            kToy.id(" "), kToy.id("h"),
                                                            kToy.id("ing"), kToy.id("'s")});
        CHECK(encode(*tokenizer, "").empty());
        CHECK(tokenizer->decode(Ids{kToy.id("hello"), tokenizer->end_of_text()}) == "hello");
    }
}

TEST_CASE("with ignore_merges a piece of the vocabulary is one token", "[data][tokenizer]") {
    const auto change = [](bool ignore) {
        return [ignore](File& file) {
            file["model"]["ignore_merges"] = ignore;
            // No merge leads here.
            file["model"]["vocab"]["\u0120hum"] = 500;
        };
    };
    const auto tokenizer = tokenizer_from_json(kToy.json(change(true)), "toy");
    CHECK(encode(*tokenizer, "a hum") == Ids{kToy.id("a"), 500});
    CHECK(encode(*tokenizer, "a hums").size() == 6);
    CHECK(encode(*tokenizer_from_json(kToy.json(change(false)), "toy"), "a hum").size() == 5);
    CHECK(tokenizer->vocab_size() == 501);
    CHECK(error_of([&] { tokenizer->decode(Ids{400}); }).code() == ExitCode::bad_data);
    CHECK_THAT(error_of([&] { tokenizer->decode(Ids{501}); }).what(), Contains("0 to 500"));
    CHECK(error_of([&] { tokenizer->decode(Ids{-1}); }).code() == ExitCode::bad_data);
}

TEST_CASE("decoding what was encoded gives the text back", "[data][tokenizer]") {
    std::vector<std::unique_ptr<Tokenizer>> tokenizers;
    tokenizers.push_back(tokenizer_from_json(kToy.json(), "gpt2"));
    for (const std::string_view pattern :
         {split_patterns::kCl100k, split_patterns::kQwen, split_patterns::kO200k}) {
        tokenizers.push_back(tokenizer_from_json(kToy.json([&](File& file) {
            file["pre_tokenizer"] = ToyVocabulary::split(std::string(pattern));
        }),
                                                 "split"));
    }
    tokenizers.push_back(tokenizer_from_tiktoken(kToy.tiktoken(), "ranks", {.pattern = "o200k"}));
    for (uint32_t seed = 0; seed < 300; ++seed) {
        const std::string text = mixed_text(seed, 1 + seed);
        for (const auto& tokenizer : tokenizers) {
            const Ids ids = encode(*tokenizer, text);
            REQUIRE(tokenizer->decode(ids) == text);
            for (const int32_t id : ids) REQUIRE(id != tokenizer->end_of_text());
        }
    }
}

TEST_CASE("broken UTF-8 is replaced part by part", "[data][tokenizer]") {
    struct Case {
        std::string text, fixed;
    };
    const std::string kBad = "\xef\xbf\xbd";
    const std::vector<Case> cases = {
        {"\xff", kBad},
        {"a\x80\x80z", "a" + kBad + kBad + "z"},
        {"\xe4\xb8", kBad},
        {"\xe4\xb8\xe4\xb8\xad", kBad + "\xe4\xb8\xad"},
        {"\xf0\x9f\x98", kBad},
        {"\xf0\x9f\x98z", kBad + "z"},
        {"\xc0\xaf", kBad + kBad},
        {"\xe0\x80\x80", kBad + kBad + kBad},
        {"\xed\xa0\x80", kBad + kBad + kBad},
        {"\xf4\x90\x80\x80", kBad + kBad + kBad + kBad},
        {"\xf8\x88\x80\x80\x80", kBad + kBad + kBad + kBad + kBad},
        {"12345678\xc3", "12345678" + kBad},
        {"\xf4\x8f\xbf\xbf\xc2\x80", "\xf4\x8f\xbf\xbf\xc2\x80"},
    };
    const auto tokenizer = tokenizer_from_json(kToy.json(), "toy");
    for (const Case& c : cases) {
        std::string storage;
        CHECK(std::string(valid_utf8(c.text, storage)) == c.fixed);
        CHECK(tokenizer->decode(encode(*tokenizer, c.text)) == c.fixed);
    }
    std::mt19937 random(9);
    for (int i = 0; i < 500; ++i) {
        std::string bytes(random() % 200, 'a');
        for (char& byte : bytes) byte = static_cast<char>(random());
        std::string once, twice;
        const std::string fixed(valid_utf8(bytes, once));
        CHECK(valid_utf8(fixed, twice) == fixed);
        CHECK(tokenizer->decode(encode(*tokenizer, bytes)) == fixed);
    }
}

TEST_CASE("text is normalized where the file says NFC", "[data][tokenizer]") {
    const auto nfc = tokenizer_from_json(kToy.json([](File& file) {
        file["normalizer"] = {{"type", "NFC"}};
    }),
                                         "toy");
    const auto plain = tokenizer_from_json(kToy.json(), "toy");
    CHECK(encode(*nfc, "e\xcc\x81") == Ids{kToy.id("\xc3\xa9")});
    CHECK(encode(*plain, "e\xcc\x81").size() == 3);
    struct Case {
        std::string text, normal;
    };
    for (const Case& c :
         std::vector<Case>{{"\xe2\x84\xab", "\xc3\x85"},                  // Angstrom sign
                           {"\xe1\x84\x80\xe1\x85\xa1", "\xea\xb0\x80"},  // Hangul
                           {"\xea\xb0\x80\xe1\x86\xa8", "\xea\xb0\x81"},
                           {"a\xcc\x80\xcc\xa7", "\xc3\xa0\xcc\xa7"},
                           {"\xef\xac\x81", "\xef\xac\x81"},
                           {std::string("a\0b\xcc\x88", 5), std::string("a\0b\xcc\x88", 5)},
                           {"\xd8\xa7\xd9\x93", "\xd8\xa2"}}) {
        std::string storage;
        CHECK(std::string(to_nfc(c.text, storage)) == c.normal);
    }
}

TEST_CASE("added tokens are cut out as their flags say", "[data][tokenizer]") {
    const std::string json = kToy.json([](File& file) {
        file["normalizer"] = {{"type", "NFC"}};
        ToyVocabulary::add_token(file, 300, "<word>", false)["single_word"] = true;
        ToyVocabulary::add_token(file, 301, "<left>", false)["lstrip"] = true;
        ToyVocabulary::add_token(file, 302, "<right>", true)["rstrip"] = true;
        ToyVocabulary::add_token(file, 303, "<ab", false);
        ToyVocabulary::add_token(file, 304, "<abcd>", false);
        ToyVocabulary::add_token(file, 305, "e\u0301!", false);
        ToyVocabulary::add_token(file, 306, "e\u0301?", false)["normalized"] = false;
    });
    const auto plain = tokenizer_from_json(json, "toy");
    const auto special = tokenizer_from_json(json, "toy", {.finds_special = true});
    const int32_t x = kToy.id("x"), space = kToy.id(" "), end = plain->end_of_text();
    CHECK(encode(*plain, "x<word>x").size() > 3);
    CHECK(encode(*plain, "x <word> x") == Ids{x, space, 300, space, x});
    CHECK(encode(*plain, "x \n <left> x") == Ids{x, 301, space, x});
    CHECK(encode(*plain, " <left><left> <left>") == Ids{301, 301, 301});
    CHECK(encode(*plain, "x<ab<abcd><abc") == Ids{x, 303, 304, 303, kToy.id("c")});
    CHECK(encode(*plain, "e\u0301!\u00e9!") == Ids{305, 305});
    CHECK(encode(*plain, "e\u0301?\u00e9?") == Ids{306, kToy.id("\xc3\xa9"), kToy.id("?")});
    CHECK(encode(*special, "x<|endoftext|><right> \u3000 x") == Ids{x, end, 302, x});
    CHECK(encode(*plain, "<|endoftext|>").size() == 13);
    CHECK(encode(*plain, "<right> ").size() == 8);
    CHECK(special->decode(Ids{x, end, 302, 301, 305}) == "x<left>e\u0301!");
}

TEST_CASE("a prefix space is added where the file says so", "[data][tokenizer]") {
    const auto tokenizer = tokenizer_from_json(kToy.json([](File& file) {
        file["pre_tokenizer"] = ToyVocabulary::byte_level(true, true);
    }),
                                               "toy");
    CHECK(encode(*tokenizer, "the") == Ids{kToy.id(" the")});
    CHECK(encode(*tokenizer, " the") == Ids{kToy.id(" the")});
}

TEST_CASE("features that are not supported are refused by name", "[data][tokenizer]") {
    struct Case {
        std::string name;
        std::function<void(File&)> change;
    };
    const auto sequence = [](const File& part) {
        return [part](File& file) {
            file["pre_tokenizer"] = {{"type", "Sequence"},
                                     {"pretokenizers", {part, ToyVocabulary::byte_level(false)}}};
        };
    };
    const auto split_by = [&](const std::string& pattern) {
        return [pattern](File& file) { file["pre_tokenizer"] = ToyVocabulary::split(pattern); };
    };
    const std::vector<Case> cases = {
        {"version", [](File& f) { f["version"] = "2.0"; }},
        {"truncation",
         [](File& f) {
             f["truncation"] = {{"max_length", 5}};
         }},
        {"padding",
         [](File& f) {
             f["padding"] = {{"length", 5}};
         }},
        {"'extra'", [](File& f) { f["extra"] = 1; }},
        {"NFKC",
         [](File& f) {
             f["normalizer"] = {{"type", "NFKC"}};
         }},
        {"Lowercase",
         [](File& f) {
             f["normalizer"] = {{"type", "Sequence"}, {"normalizers", {{{"type", "Lowercase"}}}}};
         }},
        {"Whitespace",
         [](File& f) {
             f["pre_tokenizer"] = {{"type", "Whitespace"}};
         }},
        {"null", [](File& f) { f["pre_tokenizer"] = nullptr; }},
        {"Digits", sequence({{"type", "Digits"}})},
        {"String", sequence({{"type", "Split"},
                             {"pattern", {{"String", "a"}}},
                             {"behavior", "Isolated"},
                             {"invert", false}})},
        {"MergedWithNext", sequence({{"type", "Split"},
                                     {"pattern", {{"Regex", "a"}}},
                                     {"behavior", "MergedWithNext"},
                                     {"invert", false}})},
        {"Metaspace",
         [](File& f) {
             f["decoder"] = {{"type", "Metaspace"}};
         }},
        {"decoder null", [](File& f) { f["decoder"] = nullptr; }},
        {"BertProcessing",
         [](File& f) {
             f["post_processor"] = {{"type", "BertProcessing"}};
         }},
        {"WordPiece", [](File& f) { f["model"]["type"] = "WordPiece"; }},
        {"dropout", [](File& f) { f["model"]["dropout"] = 0.1; }},
        {"byte_fallback", [](File& f) { f["model"]["byte_fallback"] = true; }},
        {"continuing_subword_prefix",
         [](File& f) { f["model"]["continuing_subword_prefix"] = "##"; }},
        {"end_of_word_suffix", [](File& f) { f["model"]["end_of_word_suffix"] = "</w>"; }},
        {"'novel'", [](File& f) { f["model"]["novel"] = true; }},
        {"byte 0", [](File& f) { f["model"]["vocab"].erase("\u0100"); }},
        {"end of text", [](File& f) { f["added_tokens"] = File::array(); }},
        {"'.'", split_by("a.")},
        {"'^'", split_by("^a")},
        {"'$'", split_by("a$")},
        {"'\\w'", split_by("\\w+")},
        {"'(?<='", split_by("(?<=a)b")},
        {"'&' inside a class", split_by("[a&&b]")},
        {"'[' inside a class", split_by("[[:alpha:]]")},
        {"'\\S' inside a class", split_by("[\\S]")},
        {"possessive counted", split_by("a{1,3}+")},
        {"count above", split_by("a{1,3000}")},
        {"property 'Han'", split_by("\\p{Han}")},
        {"quantifier after nothing", split_by("*a")},
        {"not closed", split_by("(a")},
        {"empty text", split_by("a*")},
        {"an empty pattern", split_by("")},
        {"range", split_by("[\\s-a]")},
    };
    for (const Case& c : cases) {
        const Error error =
            error_of([&] { tokenizer_from_json(kToy.json(c.change), "some.json"); });
        INFO(c.name << ": " << error.what());
        CHECK(error.code() == ExitCode::config);
        CHECK_THAT(error.what(), Contains(c.name) && Contains("some.json"));
    }
}

TEST_CASE("damaged tokenizer.json files are refused", "[data][tokenizer]") {
    struct Case {
        std::string name;
        std::function<void(File&)> change;
    };
    const std::vector<Case> cases = {
        {"stands twice", [](File& f) { f["model"]["vocab"]["zz"] = 3; }},
        {"at most", [](File& f) { f["model"]["vocab"]["zz"] = 1 << 22; }},
        {"whole number", [](File& f) { f["model"]["vocab"]["zz"] = -1; }},
        {"whole number", [](File& f) { f["model"]["vocab"]["zz"] = "7"; }},
        {"empty token", [](File& f) { f["model"]["vocab"][""] = 777; }},
        {"not in the vocabulary", [](File& f) { f["model"]["merges"].push_back("q q"); }},
        {"one space", [](File& f) { f["model"]["merges"].push_back("th"); }},
        {"one space", [](File& f) { f["model"]["merges"].push_back("t h e"); }},
        {"not a pair",
         [](File& f) {
             f["model"]["merges"].push_back({"t", "h", "e"});
         }},
        {"neither", [](File& f) { f["model"]["merges"].push_back(7); }},
        {"stands twice", [](File& f) { f["model"]["merges"].push_back("t h"); }},
        {"'merges' is missing", [](File& f) { f["model"].erase("merges"); }},
        {"not true or false", [](File& f) { f["model"]["ignore_merges"] = "no"; }},
        {"not a list", [](File& f) { f["added_tokens"] = 5; }},
        {"stands twice", [](File& f) { ToyVocabulary::add_token(f, 500, "<|endoftext|>", true); }},
        {"stands twice",
         [](File& f) { ToyVocabulary::add_token(f, f["added_tokens"][0]["id"], "<new>", true); }},
        {"says otherwise", [](File& f) { ToyVocabulary::add_token(f, 5, "<new>", true); }},
        {"says otherwise", [](File& f) { ToyVocabulary::add_token(f, 500, "the", true); }},
        {"is empty", [](File& f) { ToyVocabulary::add_token(f, 500, "", true); }},
        {"at most", [](File& f) { ToyVocabulary::add_token(f, 1 << 30, "<new>", true); }},
    };
    for (const Case& c : cases) {
        const Error error =
            error_of([&] { tokenizer_from_json(kToy.json(c.change), "some.json"); });
        INFO(c.name << ": " << error.what());
        CHECK(error.code() == ExitCode::bad_data);
        CHECK_THAT(error.what(), Contains(c.name) && Contains("some.json"));
    }
    const std::string good = kToy.json();
    for (size_t bytes = 0; bytes < good.size(); bytes += 1 + bytes / 8) {
        CHECK(error_of([&] { tokenizer_from_json(good.substr(0, bytes), "cut"); }).code() ==
              ExitCode::bad_data);
    }
    std::string twice = good;
    twice.insert(1, "\"version\": \"1.0\",");
    CHECK_THAT(error_of([&] { tokenizer_from_json(twice, "x"); }).what(), Contains("twice"));
    CHECK(error_of([&] { tokenizer_from_json(std::string(100000, '['), "x"); }).code() ==
          ExitCode::bad_data);
}

TEST_CASE("changed bytes in a tokenizer's file are refused or harmless", "[data][tokenizer]") {
    const std::string json = kToy.json();
    const std::string ranks = kToy.tiktoken();
    std::mt19937 random(3);
    for (int i = 0; i < 400; ++i) {
        const bool is_json = i % 2 == 0;
        std::string damaged = is_json ? json : ranks;
        for (auto n = 1 + random() % 3; n > 0; --n) {
            damaged[random() % damaged.size()] = static_cast<char>(random() % 128);
        }
        try {
            const auto tokenizer =
                is_json ? tokenizer_from_json(damaged, "x")
                        : tokenizer_from_tiktoken(damaged, "x", {.pattern = "cl100k"});
            for (const int32_t id : encode(*tokenizer, "the hello 123 \u4e2d <|endoftext|>")) {
                CHECK(id < tokenizer->vocab_size());
            }
        } catch (const Error& error) {
            CHECK((error.code() == ExitCode::bad_data || error.code() == ExitCode::config));
        }
    }
}

TEST_CASE("a tiktoken file gives the ids of its ranks", "[data][tokenizer]") {
    const auto tokenizer = tokenizer_from_tiktoken(kToy.tiktoken(), "toy", {.pattern = "gpt2"});
    const auto same = tokenizer_from_json(kToy.json(), "toy");
    CHECK(tokenizer->vocab_size() == same->vocab_size());
    CHECK(tokenizer->end_of_text() == same->end_of_text());
    for (uint32_t seed = 0; seed < 100; ++seed) {
        const std::string text = mixed_text(seed, 100);
        REQUIRE(encode(*tokenizer, text) == encode(*same, text));
    }
    CHECK(tokenizer->fingerprint() != same->fingerprint());
    CHECK(tokenizer->fingerprint() !=
          tokenizer_from_tiktoken(kToy.tiktoken(), "toy", {.pattern = "qwen"})->fingerprint());
}

TEST_CASE("damaged tiktoken files are refused", "[data][tokenizer]") {
    const std::string good = kToy.tiktoken();
    struct Case {
        std::string name, content;
    };
    const std::vector<Case> cases = {
        {":285: no space", good + "YWE=\n"},
        {"no base64", good + "Y*E= 400\n"},
        {"no base64", good + "YWE 400\n"},
        {"no base64", good + "Y=E= 400\n"},
        {"no base64", good + " 400\n"},
        {"longer than 256", good + std::string(344, 'A') + " 400\n"},
        {"whole number", good + "enp6 -1\n"},
        {"whole number", good + "enp6 4194304\n"},
        {"whole number", good + "enp6 12x\n"},
        {"whole number", good + "enp6 \n"},
        {"rank 7 stands twice", good + "enp6 7\n"},
        {"token stands twice", good + "YWE= 400\n"},
        {"no rank for byte", good.substr(good.find('\n') + 1)},
        {"no rank for byte", "YWE= 3\n"},
    };
    for (const Case& c : cases) {
        const Error error =
            error_of([&] { tokenizer_from_tiktoken(c.content, "ranks", {.pattern = "gpt2"}); });
        INFO(c.name << ": " << error.what());
        CHECK(error.code() == ExitCode::bad_data);
        CHECK_THAT(error.what(), Contains(c.name) && Contains("ranks"));
    }
    CHECK_THAT(error_of([&] { tokenizer_from_tiktoken(good, "x"); }).what(),
               Contains("284 ranks") && Contains("cl100k"));
    const Error unknown = error_of([&] { tokenizer_from_tiktoken(good, "x", {.pattern = "p"}); });
    CHECK(unknown.code() == ExitCode::config);
    CHECK_THAT(unknown.what(), Contains("unknown pattern 'p'") && Contains("o200k"));
}

TEST_CASE("a tokenizer's name may say pattern and end of text", "[data][tokenizer]") {
    const TemporaryFolder folder;
    write_text(folder / "a.json", kToy.json([](File& file) {
        ToyVocabulary::add_token(file, 300, "<|im_end|>", true);
    }));
    write_text(folder / "b:x.tiktoken", kToy.tiktoken());
    write_text(folder / "empty", "\n");
    CHECK(make_tokenizer(folder / "a.json")->end_of_text() == 284);
    CHECK(make_tokenizer(folder / "a.json:end=<|im_end|>")->end_of_text() == 300);
    CHECK(make_tokenizer(folder / "b:x.tiktoken:cl100k")->vocab_size() == 285);
    CHECK(make_tokenizer(folder / "b:x.tiktoken:cl100k:end=<|endoftext|>")->vocab_size() == 285);
    CHECK(error_of([&] { make_tokenizer(folder / "a.json:end=<none>"); }).code() ==
          ExitCode::config);
    CHECK(error_of([&] { make_tokenizer(folder / "b:x.tiktoken:none"); }).code() ==
          ExitCode::config);
    const Error useless = error_of([&] { make_tokenizer(folder / "a.json:cl100k"); });
    CHECK(useless.code() == ExitCode::config);
    CHECK_THAT(useless.what(), Contains("'cl100k'") && Contains("a.json"));
    CHECK(error_of([&] { make_tokenizer(folder / "c.json"); }).code() == ExitCode::config);
    CHECK(error_of([&] { make_tokenizer(folder / "."); }).code() == ExitCode::config);
    CHECK(error_of([&] { make_tokenizer(folder / "empty"); }).code() == ExitCode::bad_data);
}

TEST_CASE("several threads may encode at once", "[data][tokenizer]") {
    const auto tokenizer = tokenizer_from_json(kToy.json(), "toy");
    const std::string text = mixed_text(1, 2000);
    const Ids expected = encode(*tokenizer, text);
    std::vector<Ids> got(5);
    {
        std::vector<std::jthread> threads;
        for (Ids& ids : got) {
            threads.emplace_back([&] {
                for (int i = 0; i < 5; ++i) ids = encode(*tokenizer, text);
            });
        }
    }
    for (const Ids& ids : got) CHECK(ids == expected);
}

}  // namespace
}  // namespace trireme

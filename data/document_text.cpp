#include "data/document_text.h"

#include <nlohmann/json.hpp>
#include <string_view>
#include <utility>

#include "core/error.h"
#include "data/utf8.h"

namespace trireme {
namespace {

[[noreturn]] void fail(const RawDocument& line, const std::string& what) {
    throw Error(ExitCode::bad_data, line.path + ":" + std::to_string(line.line) + ": " + what);
}

constexpr size_t kShownKeys = 8;
constexpr size_t kMaxDepth = 512;

// Takes the one text out of a JSON object and builds nothing of the rest.
class TextHandler {
public:
    using Json = nlohmann::json;

    explicit TextHandler(const std::string& key) : key_(key) {}

    const char* top() const { return top_; }      // type of the whole; null: not known yet
    const char* found() const { return found_; }  // type under the key; null: no such key
    std::string& text() { return text_; }
    bool too_deep() const { return too_deep_; }
    size_t error_at() const { return error_at_; }
    std::string keys() const { return keys_.empty() ? "none" : keys_; }

    bool null() { return value("null"); }
    bool boolean(bool) { return value("boolean"); }
    bool number_integer(Json::number_integer_t) { return value("number"); }
    bool number_unsigned(Json::number_unsigned_t) { return value("number"); }
    bool number_float(Json::number_float_t, const Json::string_t&) { return value("number"); }
    bool binary(Json::binary_t&) { return value("binary"); }
    bool string(Json::string_t& text) {
        if (depth_ == 1 && at_key_) text_.swap(text);
        return value("string");
    }
    bool start_object(size_t) { return value("object") && deeper(); }
    bool end_object() { return --depth_, true; }
    bool start_array(size_t) { return value("array") && deeper(); }
    bool end_array() { return --depth_, true; }
    bool key(Json::string_t& key) {
        if (depth_ != 1) return true;
        at_key_ = key == key_;
        if (n_keys_ < kShownKeys) {
            keys_ += (keys_.empty() ? "" : ", ") + key;
        } else if (n_keys_ == kShownKeys) {
            keys_ += ", ...";
        }
        ++n_keys_;
        return true;
    }
    bool parse_error(size_t at, const std::string&, const Json::exception&) {
        error_at_ = at;
        return false;
    }

private:
    bool value(const char* type) {
        if (depth_ == 0) top_ = type;
        if (depth_ == 1 && at_key_) found_ = type;
        return true;
    }
    bool deeper() {
        too_deep_ = ++depth_ > kMaxDepth;
        return !too_deep_;
    }

    const std::string& key_;
    size_t depth_ = 0;
    bool at_key_ = false;
    bool too_deep_ = false;
    const char* top_ = nullptr;
    const char* found_ = nullptr;
    size_t n_keys_ = 0;
    size_t error_at_ = 0;
    std::string keys_, text_;
};

}  // namespace

std::string text_of_json_line(const RawDocument& line, const std::string& key) {
    if (!line.problem.empty()) fail(line, line.problem);
    // The parser takes a zero byte as the end and would lose what follows.
    if (const size_t zero = line.bytes.find('\0'); zero != std::string::npos) {
        fail(line, "not valid JSON near byte " + std::to_string(zero + 1) +
                       " of the line, a zero byte; expected one JSON object a line");
    }
    TextHandler handler(key);
    if (!nlohmann::json::sax_parse(line.bytes, &handler)) {
        if (handler.too_deep()) fail(line, "nested deeper than 512 levels");
        const size_t valid = valid_utf8_bytes(line.bytes);
        if (valid < line.bytes.size() && valid < handler.error_at()) {
            fail(line, "not UTF-8 at byte " + std::to_string(valid + 1) +
                           " of the line; expected one JSON object a line, in UTF-8");
        }
        fail(line, "not valid JSON near byte " + std::to_string(handler.error_at()) +
                       " of the line; expected one JSON object a line");
    }
    if (handler.top() != std::string_view("object")) {
        fail(line, std::string("found a JSON ") + handler.top() +
                       ", expected an object with the key '" + key + "'");
    }
    if (handler.found() == nullptr) {
        fail(line, "no key '" + key + "'; keys found: " + handler.keys() +
                       "; name the right one with --text-key");
    }
    if (handler.found() != std::string_view("string")) {
        fail(line, "key '" + key + "' holds a JSON " + handler.found() + ", expected a string");
    }
    return std::move(handler.text());
}

}  // namespace trireme

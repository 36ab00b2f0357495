#include "app/yaml_tree.h"

#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/exceptions.h>
#include <yaml-cpp/mark.h>
#include <yaml-cpp/parser.h>

#include <cstdint>
#include <cstdio>
#include <sstream>
#include <unordered_map>
#include <utility>

namespace trireme {

namespace {

constexpr size_t kMaxBytes = size_t{1} << 20;
constexpr size_t kMaxDepth = 32;
constexpr int kMaxNodes = 100000;

// Ends the parse; never leaves this file.
struct Refused {
    int line;
    std::string text;
};

// Builds the tree from the parser's events. The library's own nodes are not used: they lose
// duplicate keys, and what aliases expand to is counted here like any other value.
class TreeBuilder : public YAML::EventHandler {
public:
    explicit TreeBuilder(std::vector<YamlProblem>& problems) : problems_(problems) {}

    YamlNode take_root() { return std::move(root_); }

    void OnDocumentStart(const YAML::Mark&) override {}
    void OnDocumentEnd() override {}

    void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override {
        attach_marked(checked(make(mark, YamlNode::Kind::null), "?"), anchor);
    }
    void OnAlias(const YAML::Mark& mark, YAML::anchor_t anchor) override {
        const int line = mark.line + 1;
        const auto marked = marked_.find(anchor);
        if (marked == marked_.end()) {
            report(line, "found an alias of what it stands in, expected one of an earlier value");
            attach(make(mark, YamlNode::Kind::refused));
            return;
        }
        count(marked->second, line, stack_.size());
        attach(marked->second);
    }
    void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                  const std::string& value) override {
        YamlNode node = make(mark, YamlNode::Kind::scalar);
        node.text = value;
        node.quoted = tag == "!";
        attach_marked(checked(std::move(node), tag), anchor);
    }
    void OnSequenceStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                         YAML::EmitterStyle::value) override {
        open(checked(make(mark, YamlNode::Kind::list), tag), anchor);
    }
    void OnSequenceEnd() override { close(); }
    void OnMapStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                    YAML::EmitterStyle::value) override {
        open(checked(make(mark, YamlNode::Kind::map), tag), anchor);
    }
    void OnMapEnd() override { close(); }

private:
    struct Frame {
        YamlNode node;
        YAML::anchor_t anchor = YAML::NullAnchor;
        YamlNode::Key key;  // the map key that waits for its value
        bool has_key = false;
        bool drop_value = false;
        std::unordered_map<std::string, int> seen;  // key to its line
    };

    YamlNode make(const YAML::Mark& mark, YamlNode::Kind kind) {
        YamlNode node;
        node.kind = kind;
        node.line = mark.line + 1;
        count_node(node.line);
        return node;
    }

    void count_node(int line) {
        if (++nodes_ > kMaxNodes) {
            throw Refused{line, "found more than 100000 values, expected fewer"};
        }
    }

    // Of a copy that is kept for aliases, or stands for one.
    void count(const YamlNode& copy, int line, size_t depth) {
        count_node(line);
        copied_bytes_ += copy.text.size();
        for (const YamlNode::Key& key : copy.keys) copied_bytes_ += key.text.size();
        if (copied_bytes_ > kMaxBytes) {
            throw Refused{line, "found aliases of more than 1 MiB of text, expected less"};
        }
        if (!copy.items.empty()) check_depth(line, depth);
        for (const YamlNode& item : copy.items) count(item, line, depth + 1);
    }

    static void check_depth(int line, size_t depth) {
        if (depth >= kMaxDepth) {
            throw Refused{line, "found more than 32 levels of nesting, expected fewer"};
        }
    }

    // Plain parts carry "?", quoted scalars "!"; all else was written as a tag.
    YamlNode checked(YamlNode node, const std::string& tag) {
        const bool is_scalar = node.kind == YamlNode::Kind::scalar;
        const bool has_tag = !tag.empty() && tag != "?" && !(is_scalar && tag == "!");
        if (has_tag) report(node.line, "found the tag " + tag + ", expected the value without one");
        return node;
    }

    void open(YamlNode node, YAML::anchor_t anchor) {
        check_depth(node.line, stack_.size());
        stack_.push_back({});
        stack_.back().node = std::move(node);
        stack_.back().anchor = anchor;
    }

    void close() {
        YamlNode node = std::move(stack_.back().node);
        const YAML::anchor_t anchor = stack_.back().anchor;
        stack_.pop_back();
        attach_marked(std::move(node), anchor);
    }

    void attach_marked(YamlNode node, YAML::anchor_t anchor) {
        if (anchor != YAML::NullAnchor) {
            count(node, node.line, stack_.size());
            marked_[anchor] = node;
        }
        attach(std::move(node));
    }

    void attach(YamlNode node) {
        if (stack_.empty()) {
            root_ = std::move(node);
            return;
        }
        Frame& frame = stack_.back();
        if (frame.node.kind == YamlNode::Kind::list) {
            frame.node.items.push_back(std::move(node));
        } else if (!frame.has_key) {
            take_key(frame, std::move(node));
        } else {
            frame.has_key = false;
            if (frame.drop_value) return;
            // The place of an empty value is wherever the parser noticed it.
            if (node.kind == YamlNode::Kind::null) node.line = frame.key.line;
            frame.node.keys.push_back(frame.key);
            frame.node.items.push_back(std::move(node));
        }
    }

    void take_key(Frame& frame, YamlNode node) {
        frame.key = {node.text, node.line};
        frame.has_key = true;
        frame.drop_value = true;
        if (node.kind != YamlNode::Kind::scalar) {
            frame.key.text = "?";
            report(node.line, "found a key that is not a word, expected a word");
        } else if (node.text == "<<" && !node.quoted) {
            report(node.line, "found a merge key, expected the values themselves");
        } else if (const auto [first, is_new] = frame.seen.try_emplace(node.text, node.line);
                   !is_new) {
            report(node.line, "found a second time, expected once (first on line " +
                                  std::to_string(first->second) + ")");
        } else {
            frame.drop_value = false;
        }
    }

    void report(int line, const std::string& text) {
        std::string path;
        for (const Frame& frame : stack_) {
            if (!frame.has_key) continue;
            path += (path.empty() ? "" : ".") + frame.key.text;
        }
        problems_.push_back({line, text, path});
    }

    std::vector<YamlProblem>& problems_;
    std::vector<Frame> stack_;
    YamlNode root_;
    std::unordered_map<YAML::anchor_t, YamlNode> marked_;  // by anchors so far
    int nodes_ = 0;
    size_t copied_bytes_ = 0;
};

// The first byte that is no part of valid UTF-8 or is a control character; text.size() if none.
size_t find_bad_byte(const std::string& text) {
    for (size_t at = 0; at < text.size();) {
        const auto byte = static_cast<unsigned char>(text[at]);
        if (byte < 0x80) {
            const bool is_space = byte == '\t' || byte == '\n' || byte == '\r';
            if ((byte < 0x20 && !is_space) || byte == 0x7f) return at;
            ++at;
            continue;
        }
        const int extra = byte >= 0xf0 ? 3 : byte >= 0xe0 ? 2 : 1;
        if (byte < 0xc2 || byte > 0xf4) return at;
        uint32_t code = byte & (0x3fu >> extra);
        for (int i = 1; i <= extra; ++i) {
            const size_t next = at + static_cast<size_t>(i);
            if (next >= text.size() || (static_cast<unsigned char>(text[next]) & 0xc0) != 0x80) {
                return at;
            }
            code = (code << 6) | (static_cast<unsigned char>(text[next]) & 0x3fu);
        }
        const uint32_t least = extra == 1 ? 0x80 : extra == 2 ? 0x800 : 0x10000;
        if (code < least || code > 0x10ffff || (code >= 0xd800 && code < 0xe000)) return at;
        at += static_cast<size_t>(extra) + 1;
    }
    return text.size();
}

int line_of(const std::string& text, size_t offset) {
    int line = 1;
    for (size_t at = 0; at < offset; ++at) line += text[at] == '\n';
    return line;
}

YamlNode refuse(std::vector<YamlProblem>& problems, int line, const std::string& text) {
    problems.push_back({line, text, ""});
    YamlNode root;
    root.kind = YamlNode::Kind::refused;
    return root;
}

}  // namespace

YamlNode parse_yaml(const std::string& text, std::vector<YamlProblem>& problems) {
    if (text.size() > kMaxBytes) {
        return refuse(
            problems, 0,
            "found " + std::to_string(text.size()) + " bytes, expected at most 1048576 (1 MiB)");
    }
    if (const size_t at = find_bad_byte(text); at < text.size()) {
        return refuse(problems, line_of(text, at),
                      "found a byte that is not text at offset " + std::to_string(at) +
                          ", expected UTF-8 without control characters");
    }
    try {
        std::istringstream stream(text);
        YAML::Parser parser(stream);
        TreeBuilder builder(problems);
        if (!parser.HandleNextDocument(builder)) return {};
        YamlNode root = builder.take_root();
        if (TreeBuilder rest(problems); parser.HandleNextDocument(rest)) {
            return refuse(problems, rest.take_root().line,
                          "found a second document, expected one (no further `---` line)");
        }
        return root;
    } catch (const Refused& refused) {
        return refuse(problems, refused.line, refused.text);
    } catch (const YAML::Exception& error) {
        return refuse(problems, error.mark.is_null() ? 0 : error.mark.line + 1,
                      "found a syntax error (" + error.msg + "), expected YAML");
    }
}

std::string yaml_text(const std::string& text) {
    const auto is_plain = [](char c) {
        return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
               c == '_' || c == '.' || c == '/' || c == '-';
    };
    bool plain = !text.empty() && text[0] != '-' && text[0] != '.' && text != "null" &&
                 text != "Null" && text != "NULL";
    for (const char c : text) plain = plain && is_plain(c);
    if (plain) return text;
    std::string quoted = "\"";
    for (const char c : text) {
        if (c == '"' || c == '\\') {
            quoted += '\\';
            quoted += c;
        } else if (c == '\n') {
            quoted += "\\n";
        } else if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) {
            char code[8];
            std::snprintf(code, sizeof(code), "\\x%02x", static_cast<unsigned>(c) & 0xffu);
            quoted += code;
        } else {
            quoted += c;
        }
    }
    return quoted + "\"";
}

}  // namespace trireme

#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <string>
#include <vector>

namespace trireme {

// Takes known keys out of an object of config.json and refuses the rest. Errors name the file and
// the key: Error (bad_data) for a value of the wrong type or out of range, Error (config) for one
// that this program does not support or a key that is missing.
class HfKeyReader {
public:
    // prefix: of the object, in messages: "rope_scaling."
    HfKeyReader(const nlohmann::json& object, std::string path, std::string prefix = "");

    // Null counts as missing.
    bool has(const std::string& key) const;
    const nlohmann::json& value(const std::string& key);  // null when missing

    int whole(const std::string& key, std::optional<int> otherwise = {});
    double number(const std::string& key, std::optional<double> otherwise = {});
    bool boolean(const std::string& key, bool otherwise);
    std::string text(const std::string& key, const std::string& otherwise);

    // Only these values mean what this program computes; a missing key is fine.
    void expect(const std::string& key, const std::vector<nlohmann::json>& values);
    void ignore(const std::vector<std::string>& keys);
    // What was not asked for and says something (not null, false, 0 or empty).
    void refuse_others() const;

    [[noreturn]] void refuse(const std::string& key, const std::string& why) const;

private:
    [[noreturn]] void fail_type(const std::string& key, const char* expected) const;

    const nlohmann::json& object_;
    std::string path_, prefix_;
    std::set<std::string> known_;
};

}  // namespace trireme

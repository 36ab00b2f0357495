#include "core/cuda/driver_environment.h"

#include <catch2/catch.hpp>

#include <cstdlib>
#include <map>
#include <optional>
#include <string>

namespace trireme::test {

namespace {

using Variables = std::map<std::string, std::string>;

Variables missing_in(const Variables& environment) {
    Variables missing;
    const auto lookup = [&](const char* name) -> const char* {
        const auto found = environment.find(name);
        return found == environment.end() ? nullptr : found->second.c_str();
    };
    for (const DriverSetting& setting : missing_driver_settings(lookup)) {
        missing[setting.name] = setting.value;
    }
    return missing;
}

// A variable of this process, put back as it was.
class Variable {
public:
    explicit Variable(const char* name) : name_(name) {
        if (const char* value = std::getenv(name)) before_ = value;
    }
    ~Variable() {
        if (before_) {
            setenv(name_, before_->c_str(), 1);
        } else {
            unsetenv(name_);
        }
    }
    Variable(const Variable&) = delete;
    Variable& operator=(const Variable&) = delete;

    void set(const char* value) { setenv(name_, value, 1); }
    void unset() { unsetenv(name_); }
    std::string value() const {
        const char* found = std::getenv(name_);
        return found ? found : "(not set)";
    }

private:
    const char* name_;
    std::optional<std::string> before_;
};

}  // namespace

TEST_CASE("the driver's settings are made where the user has made none", "[gpu][environment]") {
    CHECK(missing_in({{"CUDA_VISIBLE_DEVICES", "0"}}) ==
          Variables{{"CUDA_DEVICE_MAX_CONNECTIONS", "32"}, {"CUDA_MODULE_LOADING", "EAGER"}});
    CHECK(missing_in({{"CUDA_DEVICE_MAX_CONNECTIONS", "1"}}) ==
          Variables{{"CUDA_MODULE_LOADING", "EAGER"}});
    // Set to nothing is set.
    CHECK(missing_in({{"CUDA_DEVICE_MAX_CONNECTIONS", "8"}, {"CUDA_MODULE_LOADING", ""}}).empty());
}

TEST_CASE("a user's setting of the driver stays", "[gpu][environment]") {
    Variable connections("CUDA_DEVICE_MAX_CONNECTIONS"), loading("CUDA_MODULE_LOADING");
    connections.set("8");
    loading.unset();
    make_driver_settings();
    CHECK(connections.value() == "8");
    CHECK(loading.value() == "EAGER");
    loading.set("LAZY");
    connections.unset();
    make_driver_settings();
    CHECK(connections.value() == "32");
    CHECK(loading.value() == "LAZY");
}

}  // namespace trireme::test

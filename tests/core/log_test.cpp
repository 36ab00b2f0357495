#include "core/log.h"

#include <catch2/catch.hpp>
#include <functional>
#include <string>

using namespace trireme;

namespace {

std::string output_of(int rank, int world_size, const std::function<void(Log&)>& body) {
    std::FILE* file = std::tmpfile();
    REQUIRE(file != nullptr);
    {
        Log log(rank, world_size, file);
        body(log);
    }
    std::string text(static_cast<size_t>(std::ftell(file)), '\0');
    std::rewind(file);
    REQUIRE(std::fread(text.data(), 1, text.size(), file) == text.size());
    std::fclose(file);
    return text;
}

void write_all(Log& log) {
    log.info("step 1/2");
    log.warn("slow disk");
    log.error("no disk");
}

}  // namespace

TEST_CASE("rank 0 logs plain lines", "[core][log]") {
    CHECK(output_of(0, 4, write_all) == "step 1/2\nwarning: slow disk\nerror: no disk\n");
}

TEST_CASE("other ranks log warnings and errors only, with their rank", "[core][log]") {
    CHECK(output_of(3, 4, write_all) == "[rank 3] warning: slow disk\n[rank 3] error: no disk\n");
}

TEST_CASE("a log message is taken literally", "[core][log]") {
    const std::string message = "{} {0} %v %d 100% {\"a\": [1]}";
    const auto body = [&message](Log& log) { log.info(message); };
    CHECK(output_of(0, 1, body) == message + "\n");
}

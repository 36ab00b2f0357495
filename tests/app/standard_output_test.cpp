#include <catch2/catch.hpp>

#include "tests/app/process_support.h"
#include "tests/app/tiny_run.h"
#include "tests/core/temporary_folder.h"

namespace trireme::test {

using Catch::Contains;

namespace {

const std::string kProgram = std::string(TRIREME_BINARY_DIR) + "/bin/trireme";

Outcome shell(const std::string& at, const std::string& line) {
    return run_program({"sh", "-c", line}, at);
}

}  // namespace

TEST_CASE("what cannot be printed is an error", "[app][process]") {
    const TemporaryFolder folder;
    const std::string at = folder.path();
    write_text(at + "/run.yaml", tiny_run(2));
    make_data(at, "text", 300);
    REQUIRE(trireme_in(at, {"train", "run.yaml"}).code == 0);
    for (const std::string command :
         {"eval --checkpoint out --data data/text --json", "plan run.yaml",
          "generate --checkpoint out --prompt line --tokens 2", "inspect out", "config run.yaml"}) {
        INFO(command);
        const Outcome outcome = shell(at, kProgram + " " + command + " >/dev/full");
        CHECK(outcome.code == 74);
        CHECK_THAT(outcome.error, Contains("the standard output takes no more"));
    }
}

TEST_CASE("with closed standard descriptors messages do not end up in files", "[app][process]") {
    const TemporaryFolder folder;
    const std::string at = folder.path();
    write_text(at + "/lines.jsonl", "{\"text\": \"one\"}\nno json\n{\"text\": \"two\"}\n");
    const std::string prepare =
        kProgram + " prepare --input lines.jsonl --on-bad-line skip --output data/";
    REQUIRE(shell(at, prepare + "open").code == 0);
    CHECK(shell(at, prepare + "closed >&- 2>&-").code == 0);
    for (const std::string ending : {".bin", ".idx"}) {
        CHECK(read_text(at + "/data/closed" + ending) == read_text(at + "/data/open" + ending));
    }
}

TEST_CASE("a run goes on when nobody reads its log any more", "[app][process]") {
    const TemporaryFolder folder;
    const std::string at = folder.path();
    write_text(at + "/run.yaml", tiny_run(40));
    make_data(at, "text", 300);
    shell(at, "{ " + kProgram + " train run.yaml 2>&1; echo $? >code; } | head -n 1");
    CHECK(read_text(at + "/code") == "0\n");
}

}  // namespace trireme::test

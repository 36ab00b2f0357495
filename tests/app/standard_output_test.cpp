#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>

#include "tests/app/process_support.h"
#include "tests/app/tiny_run.h"
#include "tests/core/temporary_folder.h"
#include "tests/core/whole_file.h"

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

TEST_CASE("what libraries print is not mixed with the results of an evaluation", "[app][process]") {
    const TemporaryFolder folder;
    const std::string at = folder.path();
    write_text(at + "/run.yaml", tiny_run(2));
    make_data(at, "text", 60);
    REQUIRE(trireme_in(at, {"train", "run.yaml"}).code == 0);
    const Arguments mpirun{"mpirun", "--allow-run-as-root", "--oversubscribe", "-n", "2"};
    for (const Arguments& launcher : {Arguments{}, mpirun}) {
        // MPI itself leaks at its end.
        Arguments command{"env", "ASAN_OPTIONS=detect_leaks=0", "ONEDNN_VERBOSE=1"};
        command.insert(command.end(), launcher.begin(), launcher.end());
        for (const std::string part : {kProgram.c_str(), "eval", "--checkpoint", "out", "--data",
                                       "data/text", "--json", "--set", "device.backend=cpu"}) {
            command.push_back(part);
        }
        if (!launcher.empty()) command.insert(command.end(), {"--set", "mesh.data=2"});
        const Outcome outcome = run_program(command, at);
        INFO(outcome.error);
        CHECK(outcome.code == 0);
        CHECK(nlohmann::json::parse(outcome.out, nullptr, false).is_object());
        CHECK_THAT(outcome.error, Contains("onednn_verbose,exec"));
    }
}

TEST_CASE("what libraries print is not mixed with the speeds of a machine",
          "[app][process][long]") {
    const TemporaryFolder folder;
    const std::string at = folder.path();
    const Outcome measured = shell(
        at, "ONEDNN_VERBOSE=1 " + kProgram + " measure --threads 1 --backend cpu >speed.yaml");
    REQUIRE(measured.code == 0);
    CHECK_THAT(measured.error, Contains("onednn_verbose,exec"));
    CHECK_THAT(read_text(at + "/speed.yaml"),
               Catch::StartsWith("# Each of 1 processes") && !Contains("onednn_verbose"));
}

TEST_CASE("what libraries print is not mixed with a text that the model writes", "[app][process]") {
    const TemporaryFolder folder;
    const std::string at = folder.path();
    write_text(at + "/run.yaml", tiny_run(2));
    make_data(at, "text", 60);
    REQUIRE(trireme_in(at, {"train", "run.yaml"}).code == 0);
    const std::string generate = kProgram +
                                 " generate --checkpoint out --prompt line --tokens 4"
                                 " --set device.backend=cpu";
    const Outcome quiet = shell(at, generate), verbose = shell(at, "ONEDNN_VERBOSE=1 " + generate);
    REQUIRE(quiet.code == 0);
    CHECK(verbose.code == 0);
    CHECK(verbose.out == quiet.out);
    CHECK_THAT(verbose.error, Contains("onednn_verbose,exec"));
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

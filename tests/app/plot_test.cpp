#include <catch2/catch.hpp>
#include <string>

#include "tests/app/process_support.h"
#include "tests/core/temporary_folder.h"
#include "tests/core/whole_file.h"

namespace trireme::test {

namespace {

std::string record(int step, const std::string& loss) {
    return "{\"step\":" + std::to_string(step) + ",\"loss\":" + loss +
           ",\"lr\":0.001,\"tokens\":" + std::to_string(64 * step) +
           ",\"tokens_per_second\":1000.0,\"memory_peak_bytes\":104857600}\n";
}

Outcome plot(const std::string& folder, Arguments arguments) {
    arguments.insert(arguments.begin(), {"python3", "-S", TRIREME_SOURCE_DIR "/scripts/plot"});
    return run_program(arguments, folder);
}

std::string picture(const std::string& folder, Arguments arguments) {
    arguments.insert(arguments.end(), {"--output", "p.svg"});
    const Outcome outcome = plot(folder, arguments);
    INFO(outcome.error);
    REQUIRE(outcome.code == 0);
    return read_text(folder + "/p.svg");
}

int count(const std::string& text, const std::string& part) {
    int found = 0;
    for (size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) {
        ++found;
    }
    return found;
}

}  // namespace

TEST_CASE("a picture shows each run's loss, learning rate, throughput and memory", "[app][plot]") {
    const TemporaryFolder folder;
    std::string records;
    for (int step = 1; step <= 9; ++step) records += record(step, std::to_string(5.0 / step));
    write_text(folder.path() + "/a & b/metrics.jsonl",
               records + "{\"step\":9,\"valid_loss\":0.7}\n");
    write_text(folder.path() + "/second/metrics.jsonl", records);
    const std::string svg = picture(folder.path(), {"a & b", "second"});
    const Outcome parsed =
        run_program({"python3", "-S", "-c",
                     "import sys, xml.dom.minidom as xml; xml.parse(sys.argv[1])", "p.svg"},
                    folder.path());
    CHECK(parsed.error == "");
    // Four lines a run, and the first one's single validation as a line and a point.
    CHECK(count(svg, "<polyline") == 9);
    CHECK(count(svg, ">a &amp; b</text>") == 1);
    CHECK(count(svg, "second: train</title>") == 1);
    CHECK(count(svg, "a &amp; b: valid</title>") == 1);
    CHECK(count(svg, "loss (nats per token), log scale") == 1);
    CHECK(count(svg, "peak memory of a process (MiB)") == 1);

    CHECK(picture(folder.path(), {"a & b/metrics.jsonl", "--x", "tokens"}).find(">tokens<") !=
          std::string::npos);
    const Outcome missing = plot(folder.path(), {"nothing", "--output", "q.svg"});
    CHECK(missing.code == 1);
    CHECK_THAT(missing.error, Catch::StartsWith("plot: ") && Catch::Contains("nothing"));
}

TEST_CASE("a picture that cannot be written is refused in words", "[app][plot]") {
    const TemporaryFolder folder;
    write_text(folder.path() + "/run/metrics.jsonl", record(1, "3.0") + record(2, "2.0"));
    const Outcome refused = plot(folder.path(), {"run", "--output", "nodir/p.svg"});
    CHECK(refused.code == 1);
    CHECK_THAT(refused.error,
               Catch::StartsWith("plot: --output nodir/p.svg cannot be written: No such file") &&
                   !Catch::Contains("Traceback"));
}

TEST_CASE("a picture of a resumed run shows each step once", "[app][plot]") {
    const TemporaryFolder folder;
    const auto svg_of = [&](const std::string& records) {
        write_text(folder.path() + "/run/metrics.jsonl", records);
        return picture(folder.path(), {"run"});
    };
    const std::string once = record(1, "3.0") + record(2, "2.0") + record(3, "1.0");
    const std::string expected = svg_of(once);
    CHECK(svg_of(record(1, "3.0") + record(2, "2.5") + record(3, "9.0") + record(2, "2.0") +
                 record(3, "1.0") + R"({"step":4,"loss":0.)") == expected);
    // The loss has a gap, so it is one line more.
    CHECK(count(svg_of(once + record(4, "null") + record(5, "1.0") + record(6, "1.1")),
                "<polyline") == count(expected, "<polyline") + 1);
}

}  // namespace trireme::test

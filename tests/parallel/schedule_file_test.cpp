#include "parallel/schedule_file.h"

#include <catch2/catch.hpp>

#include "core/error.h"
#include "tests/core/error_of.h"
#include "tests/core/temporary_folder.h"
#include "tests/core/whole_file.h"

using namespace trireme;
using Catch::Matchers::Contains;
using trireme::test::error_of;

TEST_CASE("a written schedule is read back the same", "[parallel][schedule]") {
    struct Case {
        const char* name;
        int stages, chunks, micro_batches, group;
    };
    for (const Case& c :
         {Case{"gpipe", 1, 1, 1, 0}, Case{"1f1b", 4, 1, 7, 0}, Case{"interleaved", 3, 4, 14, 5},
          Case{"zb-h2", 4, 1, 12, 0}, Case{"zb-v", 4, 2, 11, 0}, Case{"zb-auto", 3, 1, 9, 0}}) {
        CAPTURE(c.name);
        PipelineOptions options;
        options.schedule = c.name;
        options.virtual_stages = c.chunks;
        options.micro_batch_group = c.group;
        const ScheduleProgram program = make_schedule(options, c.stages, c.micro_batches);
        const std::string text = write_schedule(program);
        REQUIRE(parse_schedule(text, "order.csv", c.stages, c.micro_batches) == program);
    }
    REQUIRE(write_schedule(make_schedule("zb-v", 1, 2, 1)) ==
            "# placement=vee chunks=2 wrap_receives_ahead=1\nF0,F0.1,I0.1,W0.1,I0,W0\n");
}

TEST_CASE("a schedule file may have comments, gaps and spaces", "[parallel][schedule]") {
    const std::string text =
        "\xEF\xBB\xBF# drawn by hand, with F0 = first micro-batch\r\n"
        "#  chunks=1   placement=loop\r\n"
        "\r\n"
        "F0 , F1,,, B0, B1,\r\n"
        "  # the last rank\n"
        ",F0,B0 ,\t,F1,I1,W1";
    const ScheduleProgram program = parse_schedule(text, "order.csv", 2, 2);
    REQUIRE(write_schedule(program) ==
            "# placement=loop chunks=1 wrap_receives_ahead=1\nF0,F1,B0,B1\nF0,B0,F1,I1,W1\n");
}

TEST_CASE("make_schedule reads a schedule file", "[parallel][schedule]") {
    const TemporaryFolder folder;
    const std::string path = folder / "schedule";
    const ScheduleProgram program = make_schedule("zb-v", 3, 2, 8);
    test::write_text(path, write_schedule(program));
    REQUIRE(make_schedule("file:" + path, 3, 2, 8) == program);
    REQUIRE_THROWS_WITH(make_schedule("file:" + path, 3, 1, 8),
                        Contains("has 2 chunks a rank, found virtual_stages 1; set "
                                 "virtual_stages to 2"));
    REQUIRE_THROWS_WITH(make_schedule("file:" + path, 2, 2, 8), Contains("row 4 is one too many"));
}

TEST_CASE("each fault of a schedule file is named with its place", "[parallel][schedule]") {
    struct Case {
        const char* text;
        int stages, micro_batches;
        const char* message;
    };
    const Case cases[] = {
        {"", 2, 1, "found 0 rows of actions, expected 2, one a stage"},
        {"F0,B0\n", 2, 1, "found 1 rows of actions, expected 2"},
        {"F0,B0\nF0,B0\nF0,B0\n", 2, 1, "row 3 is one too many; expected 2 rows"},
        {"# a\nF0,,X0\n", 1, 1, "row 2, column 3: 'X0' is no action"},
        {"F\n", 1, 1, "row 1, column 1: 'F' is no action"},
        {"F0,b0\n", 1, 1, "row 1, column 2: 'b0' is no action"},
        {"F0 B0\n", 1, 1, "'F0 B0' is no action"},
        {"F-1,B0\n", 1, 1, "'F-1' is no action"},
        {"F+0,B0\n", 1, 1, "'F+0' is no action"},
        {"F0x,B0\n", 1, 1, "'F0x' is no action"},
        {"F99999999999,B0\n", 1, 1, "'F99999999999' is no action"},
        {"F0.,B0\n", 1, 1, "'F0.' is no action"},
        {"F.0,B0\n", 1, 1, "'F.0' is no action"},
        {"F0.0.0,B0\n", 1, 1, "'F0.0.0' is no action"},
        {"F0,B0\nF0,F1,B0\n", 2, 1, "row 2, column 2: 'F1': expected a micro-batch below 1"},
        {"F0,F0.1,B0\n", 1, 1, "row 1, column 2: 'F0.1': expected a chunk below 1"},
        {"# chunk=2\nF0,B0\n", 1, 1, "row 1: 'chunk=2': unknown setting"},
        {"# placement=zig\nF0,B0\n", 1, 1, "'placement=zig': expected loop or vee"},
        {"# chunks=0\nF0,B0\n", 1, 1, "'chunks=0': expected a whole number from 1 to 1024"},
        {"# chunks=two\nF0,B0\n", 1, 1, "'chunks=two': expected a whole number"},
        {"# wrap_receives_ahead=2\nF0,B0\n", 1, 1, "expected a whole number from 1 to 1"},
        {"F0,B0\n# chunks=1\n", 1, 1, "row 2: 'chunks=1': settings come before the first row"},
        // What find_schedule_error finds.
        {"F0,B0\n", 1, 2, "forward of micro-batch 1 on chunk 0 is missing"},
        {"F0,I0\n", 1, 1, "backward_weight of micro-batch 0 on chunk 0 is missing"},
        {"\n,,F0,B0,F0\n", 1, 1,
         "row 2, column 5 (rank 0): forward of micro-batch 0 on chunk 0 is there twice"},
        {"F0,B0\nB0,F0\n", 2, 1,
         "row 2, column 1 (rank 1): backward of micro-batch 0 on chunk 0 "
         "comes before its forward"},
        {"F0,F1,B0,B1\nF1,F0,B0,B1\n", 2, 2, "ranks 0 and 1 order their transfers differently"},
        {"F0,B0,F1,B1\nF0,,F1,B0,B1\n", 2, 2,
         "deadlock: row 1, column 2 (rank 0): backward of micro-batch 0 on chunk 0 waits"},
        {"F0,B0,F1,B1\nF0,,F1,B0,B1\n", 2, 2, "row 2, column 3 (rank 1): forward of micro-batch 1"},
    };
    for (const Case& c : cases) {
        CAPTURE(c.text);
        const Error error =
            error_of([&] { parse_schedule(c.text, "order.csv", c.stages, c.micro_batches); });
        REQUIRE(error.code() == ExitCode::config);
        REQUIRE_THAT(error.what(), Contains(c.message) && Contains("schedule file order.csv: "));
    }
}

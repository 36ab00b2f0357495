#include "app/rank_agreement.h"

#include <catch2/catch.hpp>
#include <filesystem>

#include "parallel/thread/thread_world.h"
#include "tests/app/process_support.h"
#include "tests/app/tiny_run.h"
#include "tests/core/whole_file.h"
#include "tests/data/data_test_support.h"

namespace trireme::test {

using Catch::Contains;

namespace {

// Two ranks with the same configuration but for what one of them sets.
void compare(const std::vector<std::string>& sets_of_rank_1) {
    run_thread_ranks(2, [&](World& world) {
        const std::vector<std::string> none;
        check_same_config(world, parse_config(tiny_run(4), "run.yaml",
                                              world.rank() == 1 ? sets_of_rank_1 : none));
    });
}

// Two ranks that find this dataset and that one.
Error compare_data(const DataSourceOptions& of_rank_0, const DataSourceOptions& of_rank_1,
                   const DataSourceOptions& of_both) {
    return error_of([&] {
        run_thread_ranks(2, [&](World& world) {
            const std::vector<DataSourceOptions> sources{
                of_both, world.rank() == 0 ? of_rank_0 : of_rank_1, of_both};
            check_same_data(world, sources);
        });
    });
}

// Two processes with this command, each in a folder of its own.
Outcome run_in_two_folders(const TemporaryFolder& folder, const Arguments& command) {
    // MPI itself leaks at its end.
    Arguments all{"env", "ASAN_OPTIONS=detect_leaks=0", "mpirun", "--allow-run-as-root",
                  "--oversubscribe"};
    for (const std::string node : {"one", "two"}) {
        if (node == "two") all.emplace_back(":");
        all.insert(all.end(), {"-n", "1", "-wdir", folder / node});
        all.emplace_back(TRIREME_BINARY_DIR "/bin/trireme");
        all.insert(all.end(), command.begin(), command.end());
    }
    return run_program(all, folder / ".");
}

}  // namespace

TEST_CASE("ranks that read different configurations do not train together", "[app][config]") {
    CHECK_NOTHROW(compare({}));
    CHECK_THROWS_WITH(
        compare({"optimizer.lr=0.1"}),
        Contains("optimizer.lr: found 0.1 on rank 1, expected") && Contains("as on rank 0"));
    // What changes no result between runs may still not differ among ranks.
    CHECK_THROWS_WITH(compare({"checkpoint.interval=3"}), Contains("checkpoint.interval: found 3"));
    CHECK_NOTHROW(compare({"device.threads=2"}));
}

TEST_CASE("ranks that find different datasets do not use them together", "[app][data]") {
    const TemporaryFolder folder;
    const std::vector<int32_t> lengths(40, 7);
    write_counting_dataset(folder / "one", lengths);
    write_counting_dataset(folder / "same", lengths);
    write_counting_dataset(folder / "longer", std::vector<int32_t>(41, 7));
    write_counting_dataset(folder / "moved", lengths);
    std::string bytes = read_text(folder / "moved.bin");
    bytes[30] = static_cast<char>(bytes[30] + 1);
    write_text(folder / "moved.bin", bytes);
    const DataSourceOptions both{folder / "one"};

    CHECK(compare_data({folder / "one"}, {folder / "same"}, both).code() == ExitCode::ok);
    for (const std::string other : {"longer", "moved"}) {
        const Error error = compare_data({folder / "one"}, {folder / other}, both);
        CHECK(error.code() == ExitCode::bad_data);
        CHECK_THAT(error.what(), Contains("dataset " + (folder / other) + ": found (bin ") &&
                                     Contains(" on rank 1 on ") &&
                                     Contains(", expected (bin 1120 bytes, crc ") &&
                                     Contains(" as on rank 0; "));
    }
    const Error missing = compare_data({folder / "one"}, {folder / "none"}, both);
    CHECK(missing.code() == ExitCode::bad_data);
    CHECK_THAT(missing.what(), Contains("none.") && Contains("(rank 1)"));
}

TEST_CASE("training and evaluation refuse a dataset that differs between nodes",
          "[app][data][process]") {
    const TemporaryFolder folder;
    for (const std::string node : {"one", "two"}) {
        make_data(folder / node, "text", 60);
        make_data(folder / node, "valid", node == "one" ? 60 : 61);
        write_text(folder / (node + "/run.yaml"), tiny_run(2));
    }
    const std::string output = "run.output=" + (folder / "out");
    const Arguments train{"train", "run.yaml", "--set", "mesh.data=2", "--set", output};
    const auto check_refused = [](const Outcome& outcome) {
        CHECK(outcome.code == 65);
        CHECK_THAT(outcome.error, Contains("dataset data/valid: found (bin ") &&
                                      Contains(" on rank 1 on ") && Contains(" as on rank 0; "));
    };
    Arguments as_training = train, as_validation = train;
    as_training.insert(as_training.end(), {"--set", "data.train=[{path: data/valid}]"});
    as_validation.insert(as_validation.end(), {"--set", "data.valid=[{path: data/valid}]", "--set",
                                               "evaluation.interval=1"});
    check_refused(run_in_two_folders(folder, as_training));
    check_refused(run_in_two_folders(folder, as_validation));
    CHECK(folder.names().count("out") == 0);

    const Outcome trained = run_in_two_folders(folder, train);
    INFO(trained.error);
    REQUIRE(trained.code == 0);
    const Arguments eval{"eval",      "--checkpoint", folder / "out", "--data",
                         "data/text", "--set",        "mesh.data=2"};
    CHECK(run_in_two_folders(folder, eval).code == 0);
    Arguments both_sets = eval;
    both_sets.insert(both_sets.end(), {"--data", "data/valid"});
    check_refused(run_in_two_folders(folder, both_sets));

    // Questions of which one node has one more.
    const std::string question = R"({"ctx": "a", "endings": ["b", "cd"], "label": 1})"
                                 "\n";
    write_text(folder / "one/questions.jsonl", question);
    write_text(folder / "two/questions.jsonl", question + question);
    const Arguments ask{"eval",  "--checkpoint", folder / "out", "--choices", "questions.jsonl",
                        "--set", "mesh.data=2"};
    const Outcome asked = run_in_two_folders(folder, ask);
    CHECK(asked.code == 65);
    CHECK_THAT(asked.error, Contains("questions of questions.jsonl: found (") &&
                                Contains(" on rank 1 on ") && Contains(" as on rank 0; "));
    write_text(folder / "two/questions.jsonl", question);
    CHECK(run_in_two_folders(folder, ask).code == 0);
}

TEST_CASE("ranks that make other tokens of a prompt do not go on together", "[app][data]") {
    const auto compare_tokens = [](std::vector<int32_t> of_rank_1) {
        return error_of([&] {
            run_thread_ranks(2, [&](World& world) {
                const std::vector<int32_t> of_rank_0{1, 2, 3};
                check_same_tokens(world, "prompt", world.rank() == 0 ? of_rank_0 : of_rank_1);
            });
        });
    };
    CHECK(compare_tokens({1, 2, 3}).code() == ExitCode::ok);
    for (const std::vector<int32_t>& other : {std::vector<int32_t>{1, 2}, {1, 2, 4}, {}}) {
        const Error error = compare_tokens(other);
        CHECK(error.code() == ExitCode::bad_data);
        CHECK_THAT(error.what(),
                   Contains("prompt: found (" + std::to_string(other.size()) + " tokens, crc ") &&
                       Contains(", expected (3 tokens, crc "));
    }
}

}  // namespace trireme::test

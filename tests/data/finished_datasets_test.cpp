#include "data/finished_datasets.h"

#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>

#include "data/dataset_manifest.h"
#include "data/locked_file.h"
#include "data/prepare.h"
#include "tests/data/data_test_support.h"
#include "tests/data/prepare_test_support.h"

namespace trireme {
namespace {

using Catch::Matchers::Contains;

// A preparation of two parts, as it stands when it is stopped while its files get their names.
class StoppedPreparation {
public:
    StoppedPreparation() {
        write_text(folder / "a.jsonl", json_lines(3000, "word"));
        options = {.inputs = {folder / "a.jsonl"},
                   .output = folder / "out",
                   .valid_fraction = 0.3,
                   .checkpoint_bytes = 1};
        REQUIRE(is_killed_after(2, options));
        const auto note = nlohmann::json::parse(read_text(folder / "out.partial"));
        const auto content = nlohmann::json::parse(note.at("content").get<std::string>());
        options.progress = [&](const PrepareOptions::Progress&) { ++n_batches; };
        whole = prepare(options);
        expected = files_of(folder, "out");
        REQUIRE(expected.size() == 6);
        finished = {content.at("fingerprint").get<std::string>(),
                    {read_manifest(folder / "out-train").value(),
                     read_manifest(folder / "out-valid").value()}};
    }
    StoppedPreparation(const StoppedPreparation&) = delete;
    StoppedPreparation& operator=(const StoppedPreparation&) = delete;

    // The first n_named of `names` have their names; the others' are free or, with `older`, still
    // those of a former dataset.
    void stop_before(size_t n_named, bool older = false) {
        for (const auto& [name, content] : files_of(folder, "out")) {
            std::filesystem::remove(folder / ("out" + name));
        }
        for (size_t i = 0; i < names.size(); ++i) {
            const std::string path = folder / ("out" + names[i]);
            if (i < n_named) {
                write_text(path, expected.at(names[i]));
                continue;
            }
            if (older) write_text(path, "old " + names[i]);
            if (!path.ends_with("json")) write_text(path + ".partial", expected.at(names[i]));
        }
        write_text(folder / "out-valid.lengths.partial", "some");
        write_finished(folder / "out", finished);
        n_batches = 0;
    }

    std::string content(const std::string& name) const {
        const std::string path = folder / ("out" + name);
        return std::filesystem::is_regular_file(path) ? read_text(path) : "";
    }

    // In the order in which they get them.
    const std::vector<std::string> names{"-train.bin", "-train.idx", "-train.json",
                                         "-valid.bin", "-valid.idx", "-valid.json"};
    TemporaryFolder folder;
    PrepareOptions options;
    PrepareResult whole;
    std::map<std::string, std::string> expected;
    FinishedDatasets finished;
    int n_batches = 0;  // that prepare() has read since
};

TEST_CASE("a run that was killed while it named its files is finished without reading again",
          "[data][prepare]") {
    StoppedPreparation run;
    int64_t checked = 0, to_check = 0;
    for (size_t n_named = 0; n_named <= run.names.size(); ++n_named) {
        INFO(n_named << " files had their names");
        run.stop_before(n_named);
        run.options.on_check = [&](int64_t done, int64_t total) {
            CHECK(done > checked);
            checked = done;
            to_check = total;
        };
        checked = to_check = 0;
        const PrepareResult result = prepare(run.options);
        CHECK(run.n_batches == 0);
        CHECK(checked > 0);
        CHECK(checked == to_check);
        CHECK(files_of(run.folder, "out") == run.expected);
        CHECK(result.resumed_bytes == run.whole.train.bytes + run.whole.valid.bytes);
        CHECK(result.train.documents == run.whole.train.documents);
        CHECK(result.valid.tokens == run.whole.valid.tokens);
        CHECK(result.prefixes == run.whole.prefixes);
    }

    run.options.on_check = {};

    // A file that is not what was written, or is gone: all of it anew.
    for (const bool is_gone : {false, true}) {
        run.stop_before(1);
        const std::string path = run.folder / "out-train.idx.partial";
        std::string index = run.expected.at("-train.idx");
        index.back() ^= 1;
        if (!is_gone) write_text(path, index);
        if (is_gone) std::filesystem::remove(path);
        CHECK(prepare(run.options).resumed_bytes == 0);
        CHECK(run.n_batches > 0);
        CHECK(files_of(run.folder, "out") == run.expected);
    }
    // Other options.
    run.stop_before(1);
    run.options.append_end_of_text = false;
    CHECK(prepare(run.options).resumed_bytes == 0);
    CHECK(files_of(run.folder, "out") != run.expected);
}

TEST_CASE("a run stopped at any step never leaves old and new files as one dataset",
          "[data][prepare]") {
    StoppedPreparation run;
    for (const std::string part : {"-train", "-valid"}) {
        // A folder has a file's name, so that its step is the one that fails.
        for (const std::string blocked : {".json", ".idx", ".bin"}) {
            INFO("stopped at " << part << blocked);
            run.stop_before(part == "-train" ? 0 : 3, true);
            const std::string path = run.folder / ("out" + part + blocked);
            std::filesystem::remove(path);
            std::filesystem::create_directory(path);
            const auto finish = [&] {
                return publish_finished(run.folder / "out", run.finished.fingerprint,
                                        run.whole.prefixes);
            };
            CHECK(error_of(finish).code() == ExitCode::output_busy);
            // The manifest goes first, then the index; then the tokens come, then the index.
            const std::string old = "old " + part;
            CHECK(run.content(part + ".json") == "");
            CHECK(run.content(part + ".idx") == (blocked == ".json" ? old + ".idx" : ""));
            CHECK(run.content(part + ".bin") == (blocked == ".bin" ? "" : old + ".bin"));
            if (part == "-train") CHECK(run.content("-valid.json") == "old -valid.json");
            std::filesystem::remove(path);
            CHECK(prepare(run.options).resumed_bytes > 0);
            CHECK(run.n_batches == 0);
            CHECK(files_of(run.folder, "out") == run.expected);
        }
    }
}

TEST_CASE("a run whose files do not all get their names is finished by the next",
          "[data][prepare]") {
    StoppedPreparation run;
    // The manifest's name, since those of the tokens and the index are tried before the first byte.
    for (const std::string part : {"-train", "-valid"}) {
        for (const auto& [name, content] : run.expected) {
            std::filesystem::remove(run.folder / ("out" + name));
        }
        const std::string path = run.folder / ("out" + part + ".json");
        std::filesystem::create_directory(path);
        CHECK(error_of([&] { prepare(run.options); }).code() == ExitCode::output_busy);
        CHECK(run.folder.names().contains("out.partial"));
        CHECK(run.content("-valid.bin.partial") == run.expected.at("-valid.bin"));
        CHECK((run.content("-train.json") != "") == (part == "-valid"));
        std::filesystem::remove(path);
        run.n_batches = 0;
        CHECK(prepare(run.options).resumed_bytes > 0);
        CHECK(run.n_batches == 0);
        CHECK(files_of(run.folder, "out") == run.expected);
    }
}

TEST_CASE("only one of two runs gives the files of a killed one their names", "[data][prepare]") {
    StoppedPreparation run;
    for (const char* held :
         {".partial", "-train.idx.partial", "-valid.bin.partial", "-valid.lengths.partial"}) {
        INFO("another holds out" << held);
        run.stop_before(1, true);
        const auto before = files_of(run.folder, "out");
        {
            const auto other = LockedFile::find(run.folder / ("out" + std::string(held)));
            REQUIRE(other);
            const Error error = error_of([&] { prepare(run.options); });
            CHECK(error.code() == ExitCode::output_busy);
            CHECK_THAT(error.what(), Contains("out" + std::string(held)));
            CHECK(files_of(run.folder, "out") == before);
            if (held == std::string(".partial")) {
                PrepareOptions anew = run.options;
                anew.append_end_of_text = false;
                CHECK(error_of([&] { prepare(anew); }).code() == ExitCode::output_busy);
                CHECK(files_of(run.folder, "out") == before);
            }
        }
        CHECK(prepare(run.options).resumed_bytes > 0);
        CHECK(files_of(run.folder, "out") == run.expected);
    }
}

}  // namespace
}  // namespace trireme

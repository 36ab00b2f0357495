#include <sys/mount.h>

#include <catch2/catch.hpp>
#include <filesystem>

#include "parallel/checkpoint_folders.h"
#include "parallel/checkpoint_reader.h"
#include "tests/app/process_support.h"
#include "tests/app/tiny_run.h"
#include "tests/core/temporary_folder.h"
#include "tests/core/whole_file.h"

// A run whose disk is full.

namespace trireme::test {

using Catch::Contains;
namespace fs = std::filesystem;

TEST_CASE("a full disk ends a run with code 74 or lets it go on, and costs no checkpoint",
          "[app][process][long]") {
    const TemporaryFolder folder;
    const std::string at = folder.path();
    write_text(at + "/run.yaml", tiny_run(7));  // a checkpoint takes about 140 kB
    make_data(at, "text", 300);

    for (const std::string on_error : {"stop", "warn"}) {
        INFO(on_error);
        const std::string disk = at + "/" + on_error + "/checkpoints";
        fs::create_directories(disk);
        if (mount("tmpfs", disk.c_str(), "tmpfs", 0, "size=340k") != 0) {
            WARN("not allowed to mount a small file system; full disk not tested here");
            return;
        }
        const Outcome outcome = trireme_in(at,
                                           {"train", "run.yaml", "--set", "run.output=" + on_error,
                                            "checkpoint.on_error=" + on_error, "mesh.data=2"},
                                           2);
        std::vector<std::string> left;
        for (const std::string& step : list_checkpoints(disk)) {
            if (CheckpointReader(step).verify().empty()) {
                left.push_back(fs::path(step).filename().string());
            }
        }
        CHECK(umount(disk.c_str()) == 0);
        INFO(outcome.error);
        CHECK(outcome.code == 74);
        CHECK_THAT(outcome.error, Contains("No space left") && Contains("bytes free") &&
                                      Contains("needs") && Contains("(rank "));
        CHECK(left == std::vector<std::string>{"step-00000004", "step-00000002"});
        const bool goes_on = outcome.error.find("step 7/7") != std::string::npos;
        if (on_error == "warn") {
            CHECK(goes_on);
            CHECK_THAT(outcome.error, Contains("checkpoint of step 6 not saved, training goes on"));
        } else {
            CHECK_THAT(outcome.error, !Contains("training goes on"));
        }
    }
}

}  // namespace trireme::test

#include <algorithm>
#include <array>
#include <catch2/catch.hpp>
#include <cmath>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <sstream>

#include "app/event_record.h"
#include "app/tensorboard_log.h"
#include "tests/app/event_reader.h"
#include "tests/app/process_support.h"
#include "tests/app/tiny_run.h"
#include "tests/core/temporary_folder.h"
#include "tests/core/whole_file.h"

namespace trireme::test {

namespace {

std::string hex(const std::string& bytes) {
    std::string text;
    for (const char c : bytes) {
        char two[4];
        std::snprintf(two, sizeof two, "%02x ", static_cast<unsigned>(c) & 0xff);
        text += two;
    }
    if (!text.empty()) text.pop_back();
    return text;
}

std::string text_of(std::FILE* out) {
    std::fflush(out);
    std::rewind(out);
    std::string text;
    for (int c = std::fgetc(out); c != EOF; c = std::fgetc(out)) text += static_cast<char>(c);
    return text;
}

}  // namespace

// The bytes are what the protobuf library and TensorBoard's own record writer make of these events.
TEST_CASE("events have the bytes of TensorBoard's own encoder", "[app][tensorboard]") {
    CHECK(hex(version_event(1.5)) ==
          "09 00 00 00 00 00 00 f8 3f 1a 0d 62 72 61 69 6e 2e 45 76 65 6e 74 3a 32 52 09 0a 07 74 "
          "72 69 72 65 6d 65");
    CHECK(hex(start_event(1.5, 300)) == "09 00 00 00 00 00 00 f8 3f 10 ac 02 3a 02 08 01");
    const std::array scalars = {EventScalar{"lr", 0.25}, EventScalar{"a/b", std::nan("")}};
    CHECK(hex(scalars_event(1.5, 300, scalars)) ==
          "09 00 00 00 00 00 00 f8 3f 10 ac 02 2a 17 0a 09 0a 02 6c 72 15 00 00 80 3e 0a 0a 0a 03 "
          "61 2f 62 15 00 00 c0 7f");
    CHECK(hex(text_event(1.5, 1, "t", "hi")) ==
          "09 00 00 00 00 00 00 f8 3f 10 01 2a 1d 0a 1b 0a 01 74 42 0c 08 07 12 04 12 02 08 01 42 "
          "02 68 69 4a 08 0a 06 0a 04 74 65 78 74");
}

TEST_CASE("a framed event carries TensorBoard's masked checksums", "[app][tensorboard]") {
    CHECK(hex(framed_event(start_event(1.5, 300))) ==
          "10 00 00 00 00 00 00 00 95 fb fe 18 09 00 00 00 00 00 00 f8 3f 10 ac 02 3a 02 08 01 71 "
          "3b 78 8a");
    const std::string frame = framed_event(
        "\x1a\x11"
        "CRC test, one two");
    CHECK(hex(frame.substr(frame.size() - 4)) == "8a d0 94 57");
}

TEST_CASE("numbers of more than seven bits come back from an event", "[app][tensorboard]") {
    const TemporaryFolder folder;
    const std::string path = folder.path() + "/events";
    const int64_t step = int64_t{1} << 40;
    const std::string tag(300, 'x');
    const std::array scalars = {EventScalar{tag, -0.1}};
    write_text(path, framed_event(scalars_event(1e9, step, scalars)));
    const auto events = read_event_file(path);
    REQUIRE(events.size() == 1);
    CHECK(events[0].wall_time == 1e9);
    CHECK(events[0].step == step);
    CHECK(events[0].scalars.at(tag) == -0.1f);
}

TEST_CASE("the event file of a later start is read after the earlier ones", "[app][tensorboard]") {
    const TemporaryFolder folder;
    Log log(0, 1);
    StepMetrics m;
    for (const int64_t last : {0, 2, 1}) {
        TensorBoardLog board(folder.path() + "/tensorboard", last, "run: {}\n", log);
        for (m.step = last + 1; m.step <= last + 3; ++m.step) {
            m.loss = static_cast<double>(10 * last + m.step);
            board.write(m);
        }
    }
    CHECK(event_files(folder.path() + "/tensorboard").size() == 3);
    const auto shown = shown_scalars(folder.path() + "/tensorboard");
    const auto loss = [&](int64_t step) {
        return shown.at({"loss_metrics/global_avg_loss", step});
    };
    CHECK(loss(1) == 1);
    CHECK(loss(2) == 12);
    CHECK(loss(4) == 14);
    CHECK(shown.count({"loss_metrics/global_avg_loss", 5}) == 0);
}

TEST_CASE("event files that cannot be written cost one warning and no step", "[app][tensorboard]") {
    const TemporaryFolder folder;
    write_text(folder.path() + "/tensorboard", "a file where the folder should be");
    std::FILE* out = std::tmpfile();
    Log log(0, 1, out);
    TensorBoardLog board(folder.path() + "/tensorboard", 0, "run: {}\n", log);
    board.write(StepMetrics{});
    board.write(ValidationMetrics{.step = 1, .loss = 2.0, .sets = {}});
    const std::string text = text_of(out);
    std::fclose(out);
    CHECK(text.find("warning: ") == 0);
    CHECK(text.find("training goes on without event files") != std::string::npos);
    CHECK(std::count(text.begin(), text.end(), '\n') == 1);
}

TEST_CASE("a resumed run's event files show what metrics.jsonl says", "[app][tensorboard]") {
    const TemporaryFolder folder;
    make_data(folder.path(), "text", 60);
    write_text(folder.path() + "/run.yaml",
               tiny_run(5) + "evaluation: {interval: 2, batches: 1}\n");
    const Arguments train = {"train", "run.yaml", "--set", "data.valid=[{path: data/text}]"};
    Arguments first = train;
    // Ends in step 4; step 3 is logged, has no checkpoint and is done again.
    first.insert(first.end(), {"--set",
                               "testing.faults=[{rank: 0, step: 4, action: nan-gradient, "
                               "tensor: layers.0.mlp.down.weight}]"});
    const std::string out = folder.path() + "/out";
    const Outcome ended = trireme_in(folder.path(), first);
    INFO(ended.error);
    REQUIRE(ended.code == 76);
    const Outcome done = trireme_in(folder.path(), train);
    INFO(done.error);
    REQUIRE(done.code == 0);

    const auto files = event_files(out + "/tensorboard");
    REQUIRE(files.size() == 2);
    const auto events = read_event_file(files[1]);
    REQUIRE(events.size() > 3);
    CHECK(events[0].file_version == "brain.Event:2");
    CHECK(events[1].starts_session);
    CHECK(events[1].step == 3);
    CHECK(events[2].texts.at("config").find("    run:") != std::string::npos);

    auto shown = shown_scalars(out + "/tensorboard");
    std::istringstream lines(read_text(out + "/metrics.jsonl"));
    int checked = 0;
    for (std::string line; std::getline(lines, line); ++checked) {
        const auto record = nlohmann::json::parse(line);
        const int64_t step = record.at("step");
        const auto check = [&](const char* tag, const char* key, double factor = 1) {
            INFO(tag << " of step " << step);
            const auto at = shown.find({tag, step});
            REQUIRE(at != shown.end());
            CHECK(at->second == static_cast<float>(record.at(key).get<double>() * factor));
            shown.erase(at);
        };
        if (record.contains("valid_loss")) {
            check("validation_metrics/loss", "valid_loss");
            continue;
        }
        check("loss_metrics/global_avg_loss", "loss");
        check("grad_norm", "grad_norm");
        check("lr", "lr");
        check("n_tokens_seen", "tokens");
        check("throughput(tps)", "tokens_per_second_per_rank");
        check("throughput_all_ranks(tps)", "tokens_per_second");
        check("tflops", "tflops_per_rank");
        check("mfu(%)", "mfu", 100);
        check("memory/max_active(GiB)", "memory_peak_bytes", 1.0 / (1 << 30));
        check("time_metrics/end_to_end(s)", "step_seconds");
        check("time_metrics/comm_exposed(s)", "comm_exposed_seconds");
        check("time_metrics/comm_exposed_tensor(s)", "comm_exposed_tensor_seconds");
        check("time_metrics/comm_exposed_context(s)", "comm_exposed_context_seconds");
        check("time_metrics/comm_exposed_data(s)", "comm_exposed_data_seconds");
        check("time_metrics/comm_exposed_pipeline(s)", "comm_exposed_pipeline_seconds");
        check("time_metrics/pipeline_idle(s)", "pipeline_idle_seconds");
    }
    CHECK(checked == 8);
    CHECK(shown.empty());
}

}  // namespace trireme::test

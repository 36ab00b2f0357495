// Runs the built program on bad input, as a user would, and looks at what comes back.

#include <catch2/catch.hpp>
#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "tests/app/process_support.h"
#include "tests/core/temporary_folder.h"
#include "tests/core/whole_file.h"

using namespace trireme;
using namespace trireme::test;
namespace fs = std::filesystem;

namespace {

using Catch::Matchers::Contains;

// Every path below a folder with its size.
std::map<std::string, uintmax_t> contents_of(const std::string& folder) {
    std::map<std::string, uintmax_t> contents;
    for (const auto& entry : fs::recursive_directory_iterator(folder)) {
        contents[entry.path().string()] = entry.is_regular_file() ? entry.file_size() : 0;
    }
    return contents;
}

struct BadInput {
    std::string what;
    Arguments arguments;
    int code;
    std::vector<std::string> parts;  // all of them in what the program says
    int processes = 1;
    bool may_begin = false;  // found only when training runs: the run folder is there by then
};

void check_refused(const BadInput& input, const std::string& folder) {
    const auto before = contents_of(folder);
    const Outcome outcome = trireme_in(folder, input.arguments, input.processes);
    INFO(input.what << "\nstandard error:\n" << outcome.error);
    CHECK(outcome.code == input.code);
    for (const std::string& part : input.parts) CHECK_THAT(outcome.error, Contains(part));
    const auto after = contents_of(folder);
    if (!input.may_begin) {
        CHECK(after == before);
        return;
    }
    for (const auto& [path, size] : after) {
        INFO(path);
        CHECK((before.count(path) == 1 || path.find("step-") == std::string::npos));
    }
}

void check_all_refused(const std::vector<BadInput>& inputs, const std::string& folder) {
    for (const BadInput& input : inputs) check_refused(input, folder);
}

const char* const kTiny = R"(run: {name: tiny, output: out, steps: 2}
device: {threads: 1}
model:
  family: llama
  layers: 1
  hidden: 16
  heads: 2
  vocab_size: 257
  max_sequence_length: 8
data:
  train: [{path: data/good}]
batch: {global: 2, micro: 1}
schedule: {name: constant}
logging: {tensorboard: false}
)";

// The tiny configuration with another value for one key, or with a line more.
Arguments train_with(const std::string& set) {
    return {"train", "tiny.yaml", "--set", set};
}

std::string tiny_with(const std::string& line, const std::string& other) {
    std::string text = kTiny;
    const size_t at = text.find(line);
    REQUIRE(at != std::string::npos);
    return text.replace(at, line.size(), other);
}

void make_corpus(const std::string& folder) {
    write_text(folder + "/corpus.txt", small_text(40));
    const Outcome outcome =
        trireme_in(folder, {"prepare", "--input", "corpus.txt", "--output", "data/good"});
    INFO(outcome.error);
    REQUIRE(outcome.code == 0);
}

void copy_dataset(const std::string& folder, const std::string& name) {
    for (const char* end : {".bin", ".idx"}) {
        fs::copy_file(folder + "/data/good" + end, folder + "/data/" + name + end);
    }
}

void change_file(const std::string& path, const std::function<void(std::string&)>& change) {
    std::string content = read_text(path);
    change(content);
    write_text(path, content);
}

}  // namespace

TEST_CASE("bad command lines end with 78 and a hint", "[app][process]") {
    const TemporaryFolder folder;
    check_all_refused(
        {
            {"no command", {}, 78, {"subcommand is required", "--help"}},
            {"unknown command", {"trane"}, 78, {"trane", "did you mean 'train'?"}},
            {"unknown option", {"train", "a.yaml", "--sett", "a=1"}, 78, {"--sett", "'--set'"}},
            {"unknown option in place of a required one",
             {"generate", "--checkpoint", "x", "--promt", "a"},
             78,
             {"--promt is no option of generate", "'--prompt'"}},
            {"no configuration", {"train"}, 78, {"CONFIG"}},
            {"missing configuration", {"config", "none.yaml"}, 78, {"none.yaml"}},
            {"a folder as configuration", {"config", "."}, 78, {"."}},
            {"not a number",
             {"generate", "--checkpoint", "x", "--prompt", "a", "--tokens", "many"},
             78,
             {"--tokens", "many"}},
            {"temperature that is not a number",
             {"generate", "--checkpoint", "x", "--prompt", "a", "--temperature", "nan"},
             78,
             {"--temperature", "nan"}},
            {"a seed below zero",
             {"generate", "--checkpoint", "x", "--prompt", "a", "--seed", "-1"},
             78,
             {"--seed", "found -1, expected a whole number from 0 to 18446744073709551615"}},
            {"negative workers",
             {"prepare", "--input", "a", "--output", "b", "--workers", "-2"},
             78,
             {"--workers", "-2"}},
        },
        folder.path());
    CHECK(trireme_in(folder.path(), {"--help"}).code == 0);
    CHECK(trireme_in(folder.path(), {"generate", "--help"}).code == 0);
    CHECK_THAT(trireme_in(folder.path(), {"--version"}).out, Contains("back ends: cpu"));
}

TEST_CASE("bad configurations are refused by config with file, line and key", "[app][process]") {
    const TemporaryFolder folder;
    write_text(folder.path() + "/tiny.yaml", kTiny);
    struct Case {
        std::string what, line, other;
        std::vector<std::string> parts;
    };
    const std::vector<Case> cases = {
        {"unknown key",
         "  hidden: 16",
         "  hiden: 16",
         {"bad.yaml:6: model.hiden", "did you mean 'model.hidden'?",
          "model.hidden: found nothing"}},
        {"unknown section",
         "schedule:",
         "shedule:",
         {"bad.yaml:13: shedule", "did you mean 'schedule'?"}},
        {"duplicate key",
         "  hidden: 16",
         "  layers: 3",
         {"bad.yaml:6: model.layers: found a second time", "line 5"}},
        {"text for a number", "layers: 1", "layers: one", {"bad.yaml:5: model.layers: found one"}},
        {"fraction for a whole number", "layers: 1", "layers: 1.5", {"model.layers: found 1.5"}},
        {"negative size", "hidden: 16", "hidden: -16", {"bad.yaml:6: model.hidden: found -16"}},
        {"zero size", "steps: 2", "steps: 0", {"bad.yaml:1: run.steps: found 0"}},
        {"overflow", "layers: 1", "layers: 4294967297", {"model.layers: found 4294967297"}},
        {"unknown word", "llama", "lama", {"bad.yaml:4: model.family: found lama", "'llama'"}},
        {"heads that do not divide",
         "heads: 2",
         "heads: 3",
         {"bad.yaml:7: model.heads: found 3, expected a divisor of model.hidden 16"}},
        {"vocabulary too small",
         "vocab_size: 257",
         "vocab_size: 256",
         {"bad.yaml:8: model.vocab_size: found 256, expected at least 257"}},
        {"syntax error", "model:", "model: [", {"bad.yaml:", "syntax error"}},
        {"alias", "steps: 2", "steps: *n", {"bad.yaml:1:"}},
        {"no dataset", "data:", "evaluation:", {"data.train: found nothing"}},
    };
    for (const Case& c : cases) {
        write_text(folder.path() + "/bad.yaml", tiny_with(c.line, c.other));
        check_refused({c.what, {"config", "bad.yaml"}, 78, c.parts}, folder.path());
    }
    check_all_refused(
        {
            {"mesh for other process count",
             {"config", "tiny.yaml", "--set", "mesh.tensor=2", "--world", "3"},
             78,
             {"--set mesh.tensor=2: mesh: found tensor 2", "3 processes", "mpirun -n 2"}},
            {"micro-batch that fits no number of processes",
             {"config", "tiny.yaml", "--set", "batch.global=7", "batch.micro=2"},
             78,
             {"--set batch.global=7: batch.global: found 7", "the nearest are 6 or 8"}},
            {"batch that does not divide",
             {"config", "tiny.yaml", "--world", "2", "--set", "batch.global=3"},
             78,
             {"--set batch.global=3: batch.global: found 3", "the nearest are 2 or 4"}},
        },
        folder.path());
}

TEST_CASE("prepare refuses bad input and leaves nothing behind", "[app][process]") {
    const TemporaryFolder folder;
    const std::string at = folder.path();
    write_text(at + "/empty.txt", "");
    write_text(at + "/good.txt", "some text\n");
    write_text(at + "/bad.jsonl", "{\"text\": \"a\"}\n{\"text\": 3}\n");
    write_text(at + "/broken.jsonl", "{\"text\": \"a\"}\n{\"text\": \"b\n");
    const auto prepare = [](const std::string& input, const std::string& output) {
        return Arguments{"prepare", "--input", input, "--output", output};
    };
    check_all_refused(
        {
            {"missing file", prepare("none.txt", "out"), 65, {"none.txt"}},
            {"a folder as input", prepare(".", "out"), 65, {"."}},
            {"empty corpus", prepare("empty.txt", "out"), 65, {"empty.txt", "empty"}},
            {"line without text", prepare("bad.jsonl", "out"), 65, {"bad.jsonl", "2"}},
            {"line that is no JSON", prepare("broken.jsonl", "out"), 65, {"broken.jsonl", "2"}},
            {"output below a file", prepare("good.txt", "good.txt/out"), 73, {"good.txt"}},
            {"output that is a folder", prepare("good.txt", "./"), 78, {"./"}},
            {"fraction of one",
             {"prepare", "--input", "good.txt", "--output", "out", "--valid-fraction", "1"},
             78,
             {"fraction"}},
            {"missing tokenizer",
             {"prepare", "--input", "good.txt", "--output", "out", "--tokenizer", "none.json"},
             78,
             {"none.json"}},
        },
        at);
}

TEST_CASE("train refuses bad configurations and data before it writes", "[app][process]") {
    const TemporaryFolder folder;
    const std::string at = folder.path();
    write_text(at + "/tiny.yaml", kTiny);
    make_corpus(at);
    const std::string data = at + "/data/";

    copy_dataset(at, "truncated");
    fs::resize_file(data + "truncated.bin", fs::file_size(data + "good.bin") - 3);
    copy_dataset(at, "longer");
    change_file(data + "longer.bin", [](std::string& bytes) { bytes += "ab"; });
    copy_dataset(at, "no-bin");
    fs::remove(data + "no-bin.bin");
    copy_dataset(at, "no-idx");
    fs::remove(data + "no-idx.idx");
    copy_dataset(at, "magic");
    change_file(data + "magic.idx", [](std::string& bytes) { bytes[2] = 'x'; });
    copy_dataset(at, "short-idx");
    fs::resize_file(data + "short-idx.idx", fs::file_size(data + "good.idx") - 5);
    copy_dataset(at, "no-tokens");
    fs::resize_file(data + "no-tokens.bin", 0);
    copy_dataset(at, "zero-idx");
    fs::resize_file(data + "zero-idx.idx", 0);
    copy_dataset(at, "beyond");
    change_file(data + "beyond.bin", [](std::string& bytes) {
        for (size_t i = 1; i < bytes.size(); i += 2) bytes[i] = 2;  // ids from 512 on
    });

    const auto with_data = [](const std::string& name) {
        return train_with("data.train=[{path: data/" + name + "}]");
    };
    check_all_refused(
        {
            {"unknown key",
             train_with("run.stepps=3"),
             78,
             {"run.stepps", "did you mean 'run.steps'?"}},
            {"mesh of two for one process",
             train_with("mesh.tensor=2"),
             78,
             {"found tensor 2", "1 process", "mpirun -n 2"}},
            {"mesh of two for three processes",
             train_with("mesh.tensor=2"),
             78,
             {"found tensor 2", "3 processes"},
             3},
            {"batch that does not divide",
             train_with("batch.micro=4"),
             78,
             {"batch.global: found 2", "the nearest are 4"}},
            {"missing dataset", with_data("none"), 65, {"data/none"}},
            {"missing dataset on two processes", with_data("none"), 65, {"data/none"}, 2},
            {"missing .bin", with_data("no-bin"), 65, {"data/no-bin.bin"}},
            {"missing .idx", with_data("no-idx"), 65, {"data/no-idx.idx"}},
            {"truncated .bin", with_data("truncated"), 65, {"data/truncated.bin", "bytes"}},
            {".bin longer than .idx says", with_data("longer"), 65, {"data/longer.bin", "bytes"}},
            {"empty .bin", with_data("no-tokens"), 65, {"data/no-tokens.bin"}},
            {"no .idx header", with_data("magic"), 65, {"data/magic.idx", "byte 0"}},
            {"truncated .idx", with_data("short-idx"), 65, {"data/short-idx.idx"}},
            {"empty .idx", with_data("zero-idx"), 65, {"data/zero-idx.idx"}},
            {"token beyond the vocabulary",
             with_data("beyond"),
             65,
             {"data/beyond.bin", "vocabulary", "257"},
             1,
             true},
            {"missing checkpoint", train_with("checkpoint.resume=none"), 65, {"none"}},
            {"output below a file", train_with("run.output=corpus.txt/out"), 73, {"corpus.txt"}},
            {"output that is a file", train_with("run.output=corpus.txt"), 73, {"corpus.txt"}},
            {"a model of 800 GB",
             {"train", "tiny.yaml", "--set", "model.hidden=16384", "model.layers=64"},
             71,
             {"'parameters'", "free of the", "data_parallel.zero: 2 or 3", "trireme plan"}},
        },
        at);
}

TEST_CASE("a checkpoint that is damaged or of another model is refused", "[app][process]") {
    const TemporaryFolder folder;
    const std::string at = folder.path();
    write_text(at + "/tiny.yaml", kTiny);
    make_corpus(at);
    const Outcome trained = trireme_in(at, {"train", "tiny.yaml"});
    INFO(trained.error);
    REQUIRE(trained.code == 0);
    const std::string step = "out/checkpoints/step-00000002";
    REQUIRE(fs::exists(at + "/" + step + "/manifest.json"));

    const auto copy = [&](const std::string& name) {
        const std::string to = at + "/" + name + "/step-00000002";
        fs::create_directories(at + "/" + name);
        fs::copy(at + "/" + step, to, fs::copy_options::recursive);
        return to;
    };
    const auto shard_of = [](const std::string& checkpoint) {
        for (const auto& entry : fs::directory_iterator(checkpoint)) {
            if (entry.path().extension() == ".safetensors") return entry.path().string();
        }
        FAIL("expected a shard in " << checkpoint);
        return std::string();
    };
    fs::remove(copy("no-manifest") + "/manifest.json");
    change_file(copy("bad-manifest") + "/manifest.json",
                [](std::string& text) { text.resize(text.size() / 2); });
    fs::remove(shard_of(copy("no-shard")));
    change_file(shard_of(copy("short-shard")), [](std::string& bytes) { bytes.pop_back(); });
    change_file(shard_of(copy("flipped")), [](std::string& bytes) {
        for (size_t i = bytes.size() / 2; i < bytes.size(); ++i) bytes[i] ^= 1;
    });

    const auto eval = [](const std::string& checkpoint, const std::string& data) {
        return Arguments{"eval", "--checkpoint", checkpoint, "--data", data};
    };
    check_all_refused(
        {
            {"another model, found automatically",
             train_with("model.hidden=32"),
             65,
             {step, "another model"}},
            {"another model, named",
             {"train", "tiny.yaml", "--set", "model.layers=2", "run.output=other",
              "checkpoint.resume=" + step},
             65,
             {step, "another model"}},
            {"missing checkpoint", eval("none", "data/good"), 65, {"none"}},
            {"a folder without checkpoints", eval("data", "data/good"), 65, {"data"}},
            {"no manifest", eval("no-manifest/step-00000002", "data/good"), 65, {"no-manifest"}},
            {"broken manifest",
             eval("bad-manifest/step-00000002", "data/good"),
             65,
             {"bad-manifest", "manifest.json"}},
            {"missing shard", eval("no-shard/step-00000002", "data/good"), 65, {"safetensors"}},
            {"truncated shard",
             eval("short-shard/step-00000002", "data/good"),
             65,
             {"safetensors"}},
            {"changed bytes", eval("flipped/step-00000002", "data/good"), 65, {"safetensors"}},
            {"missing dataset", eval("out", "data/none"), 65, {"data/none"}},
            {"generate without a checkpoint",
             {"generate", "--checkpoint", "none", "--prompt", "a"},
             65,
             {"none"}},
            {"inspect of nothing", {"inspect", "none"}, 65, {"none"}},
            {"inspect of a configuration",
             {"inspect", "tiny.yaml"},
             65,
             {"tiny.yaml is nothing that can be inspected", "a run folder"}},
        },
        at);
    CHECK(trireme_in(at, {"eval", "--checkpoint", "out", "--data", "data/good"}).code == 0);
}

TEST_CASE("a write beyond the limit of a file's size is told like a full disk", "[app][process]") {
    const TemporaryFolder folder;
    write_text(folder.path() + "/book.txt", small_text(4000));
    const std::string command = std::string("ulimit -f 8 && exec ") + TRIREME_BINARY_DIR +
                                "/bin/trireme prepare --input book.txt --output data/book";
    const Outcome outcome = run_program({"/bin/sh", "-c", command}, folder.path());
    INFO(outcome.error);
    CHECK(outcome.code == 74);
    CHECK_THAT(outcome.error, Contains("File too large"));
}

// Sanitizers take more memory than the limit for themselves.
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
TEST_CASE("no memory for the order of samples is answered with the keys that need less of it",
          "[app][process]") {
    const TemporaryFolder folder;
    write_text(folder.path() + "/book.txt", small_text(4000));
    write_text(folder.path() + "/tiny.yaml", kTiny);
    REQUIRE(trireme_in(folder.path(), {"prepare", "--input", "book.txt", "--output", "data/good"})
                .code == 0);
    const std::string command = std::string("ulimit -v 8000000 && exec ") + TRIREME_BINARY_DIR +
                                "/bin/trireme train tiny.yaml --set run.steps=1000 "
                                "batch.global=1000000";
    const Outcome outcome = run_program({"/bin/sh", "-c", command}, folder.path());
    INFO(outcome.error);
    CHECK(outcome.code == 71);
    CHECK_THAT(outcome.error, Contains("1000000000 samples") && Contains("data.index_cache"));
    CHECK_THAT(outcome.error, !Contains("mesh.tensor"));
    CHECK(!fs::exists(folder.path() + "/out"));
}
#endif

#include "app/cluster_file.h"

#include <catch2/catch.hpp>

#include "core/error.h"

namespace trireme::test {

namespace {

const char* const kWhole = R"(nodes: 4
devices_per_node: 8
device:
  backend: cuda
  memory_gib: 80
  memory_gb_per_s: 3000
  operation_us: 2.5
  matmul_tflops: {fp32: 50, bf16: 700}
  attention_tflops: {fp32: 10, bf16: 400}
  peak_tflops: {bf16: 989}
node_link: {gb_per_s: 400, latency_us: 5}
network: {gb_per_s: 50, latency_us: 12}
)";

std::string refusal_of(const std::string& text, DType compute = DType::bf16) {
    try {
        parse_cluster(text, "c.yaml", compute);
        return "";
    } catch (const Error& error) {
        CHECK(error.code() == ExitCode::config);
        return error.what();
    }
}

}  // namespace

TEST_CASE("a cluster's description is read in its units", "[app][timed]") {
    const Cluster cluster = parse_cluster(kWhole, "c.yaml", DType::bf16);
    CHECK(cluster.devices() == 32);
    CHECK(cluster.backend == Backend::cuda);
    CHECK(cluster.memory_bytes == uint64_t{80} << 30);
    CHECK(cluster.device.memory_bytes_per_second == 3e12);
    CHECK(cluster.device.operation_seconds == Approx(2.5e-6));
    CHECK(cluster.device.of(DType::bf16).matmul == 7e14);
    CHECK(cluster.device.of(DType::f32).attention == 1e13);
    CHECK(cluster.peak_bf16 == 9.89e14);
    CHECK(cluster.peak_f32 == 5e13);  // that of products where none is given
    CHECK(cluster.links.node.bytes_per_second == 4e11);
    CHECK(cluster.links.network.latency_seconds == Approx(12e-6));
}

TEST_CASE("a description that is written is read as the same", "[app][timed]") {
    const Cluster cluster = parse_cluster(kWhole, "c.yaml", DType::bf16);
    const std::string text = dump_cluster(cluster);
    CHECK(dump_cluster(parse_cluster(text, "c.yaml", DType::bf16)) == text);
    CHECK_THAT(text, Catch::Contains("network: {gb_per_s: 50, latency_us: 12}"));
    Cluster one = cluster;
    one.nodes = one.links.devices_per_node = 1;
    one.links.node = one.links.network = {};
    CHECK(parse_cluster(dump_cluster(one), "c.yaml", DType::f32).devices() == 1);
}

TEST_CASE("a description may leave out what a plan does not need", "[app][timed]") {
    const std::string one = R"(nodes: 1
devices_per_node: 1
device: {backend: cpu, memory_gib: 8, memory_gb_per_s: 10, matmul_tflops: {fp32: 0.1},
         attention_tflops: {fp32: 0.1}}
)";
    CHECK(refusal_of(one, DType::f32).empty());
    CHECK_THAT(refusal_of(one, DType::bf16),
               Catch::Contains("c.yaml: device.matmul_tflops.bf16: found nothing"));
}

TEST_CASE("all that is wrong with a description is told with its line", "[app][timed]") {
    const std::string problems = refusal_of(R"(nodes: 0
devices_per_node: 8
device:
  backend: gpu
  memory_gb: 80
  memory_gb_per_s: -1
  matmul_tflops: 700
  attention_tflops: {bf16: fast}
nodelink: {gb_per_s: 400}
network: {gb_per_s: 50}
)");
    CAPTURE(problems);
    CHECK_THAT(problems, Catch::Contains("c.yaml:1: nodes: found 0"));
    CHECK_THAT(problems, Catch::Contains("c.yaml:4: device.backend: found gpu"));
    CHECK_THAT(problems, Catch::Contains("c.yaml:5: device.memory_gb: found an unknown key") &&
                             Catch::Contains("did you mean 'device.memory_gib'?"));
    CHECK_THAT(problems, Catch::Contains("c.yaml:6: device.memory_gb_per_s: found -1"));
    CHECK_THAT(problems, Catch::Contains("c.yaml:7: device.matmul_tflops: found 700"));
    CHECK_THAT(problems, Catch::Contains("c.yaml:8: device.attention_tflops.bf16: found fast"));
    CHECK_THAT(problems, Catch::Contains("c.yaml:9: nodelink"));
    CHECK_THAT(problems, Catch::Contains("c.yaml: node_link.gb_per_s: found nothing"));
    CHECK_THAT(problems, Catch::Contains("c.yaml: device.memory_gib: found nothing"));
    CHECK_THAT(refusal_of("- 1"), Catch::Contains("expected lines like `nodes: 4`"));
    CHECK_FALSE(refusal_of("").empty());
    CHECK_FALSE(refusal_of("nodes: [").empty());
}

}  // namespace trireme::test

#include <string>
#include <string_view>
#include <vector>

#include "app/schema_rows.h"
#include "app/schema_sections.h"
#include "model/model_context.h"
#include "parallel/schedule.h"

namespace trireme {

namespace {

// A name, or a program of the user's.
SchemaRow schedule() {
    WordList list{.words = schedule_names()};
    list.words.push_back("file:PATH");
    SchemaRow row{.key = "pipeline.schedule",
                  .type = "one word",
                  .allowed = list.to_string(),
                  .description =
                      "Order of micro-batches on the stages; see docs/schedules.md. "
                      "file: reads a program from a CSV file."};
    row.read = [=](const YamlNode& node, Config& config) -> std::string {
        constexpr std::string_view kFile = "file:";
        size_t index = 0;
        const bool is_file = node.kind == YamlNode::Kind::scalar && node.text.starts_with(kFile) &&
                             node.text.size() > kFile.size();
        const std::string problem = is_file ? "" : read_word(node, list, index);
        if (problem.empty()) config.pipeline.schedule = node.text;
        return problem;
    };
    row.write = [](const Config& config) { return yaml_text(config.pipeline.schedule); };
    return row;
}

}  // namespace

Rows mesh_rows() {
    return {
        whole(
            "mesh.tensor", {1, kMostRanks}, "Processes that share each layer's matrices.",
            [](auto& c) -> auto& { return c.mesh.tensor; }),
        whole(
            "mesh.context", {1, kMostRanks},
            "Processes that share out the tokens of a micro-batch, for long sequences, and for "
            "attention the heads of a tensor process: divides both, and divides the key/value "
            "heads of a tensor process or is their multiple.",
            [](auto& c) -> auto& { return c.mesh.context; }),
        whole(
            "mesh.pipeline", {1, kMostRanks}, "Stages that the layers are spread over.",
            [](auto& c) -> auto& { return c.mesh.pipeline; }),
        whole_or_auto(
            "mesh.data", kMostRanks, "Data-parallel size; auto takes the processes that are left.",
            [](auto& c) -> auto& { return c.mesh.data; }),
    };
}

Rows parallel_rows() {
    return {
        boolean(
            "tensor_parallel.sequence_parallel",
            "Splits norms, dropout and residuals over the tensor processes by token.",
            [](auto& c) -> auto& { return c.tensor_parallel.sequence_parallel; }),
        whole_or_auto(
            "tensor_parallel.pieces", kMostPieces,
            "In how many pieces a micro-batch's tokens travel between tensor processes, each while "
            "others are computed; divides the tokens that a process holds. auto takes the most of "
            "4, 2 and 1 that divides and leaves a piece 256 tokens.",
            [](auto& c) -> auto& { return c.tensor_parallel.pieces; }),
        boolean(
            "tensor_parallel.overlap",
            "Computes while pieces travel; without it every exchange is waited for at once.",
            [](auto& c) -> auto& { return c.tensor_parallel.overlap; }),
        schedule(),
        whole(
            "pipeline.virtual_stages", {1, 1024},
            "Model chunks on each stage: any number for interleaved, 2 for zb-v (1 is taken for "
            "2), 1 for the others.",
            [](auto& c) -> auto& { return c.pipeline.virtual_stages; }),
        whole(
            "pipeline.extra_warmup", {0, 1024},
            "1f1b: micro-batches that a stage holds more for each later stage, so that transfers "
            "are hidden: 2 hides those that take as long as a forward and a backward together.",
            [](auto& c) -> auto& { return c.pipeline.extra_warmup; }),
        whole(
            "pipeline.micro_batch_group", {0, kMostRanks},
            "interleaved: micro-batches that a chunk takes before the next chunk's turn; 0: as "
            "many as stages.",
            [](auto& c) -> auto& { return c.pipeline.micro_batch_group; }),
        whole(
            "pipeline.memory_cap", {0, kMostRanks},
            "zb-auto: micro-batches that a stage may hold at once; 0: as many as stages.",
            [](auto& c) -> auto& { return c.pipeline.memory_cap; }),
        number(
            "pipeline.cost.forward", {.least = 0.0, .above_least = true},
            "zb-auto: time of a forward, in any unit that the other costs use too.",
            [](auto& c) -> auto& { return c.pipeline.costs.forward; }),
        number(
            "pipeline.cost.backward_input", {.least = 0.0, .above_least = true},
            "zb-auto: time of an input gradient.",
            [](auto& c) -> auto& { return c.pipeline.costs.backward_input; }),
        number(
            "pipeline.cost.backward_weight", {.least = 0.0, .above_least = true},
            "zb-auto: time of a weight gradient.",
            [](auto& c) -> auto& { return c.pipeline.costs.backward_weight; }),
        number(
            "pipeline.cost.transfer", {.least = 0.0},
            "zb-auto: time from the end of an action to its result's arrival on another stage.",
            [](auto& c) -> auto& { return c.pipeline.costs.transfer; }),
        whole(
            "data_parallel.zero", {0, 3},
            "What data-parallel processes share out instead of each keeping all of it: 0 nothing, "
            "1 the optimizer state, 2 gradients as well, 3 parameters as well.",
            [](auto& c) -> auto& { return c.data_parallel.zero; }),
        whole(
            "data_parallel.shards", {0, kMostRanks},
            "Among how many neighbouring data-parallel processes that is shared out, such as those "
            "of a machine, context processes counted as data-parallel ones; divides mesh.data * "
            "mesh.context, 0 is all. Each group of so many has a copy.",
            [](auto& c) -> auto& { return c.data_parallel.shards; }),
        whole(
            "data_parallel.prefetch", {0, 1000},
            "With zero 3: attention or MLP parts whose parameters are gathered ahead of their use. "
            "Each costs memory for one.",
            [](auto& c) -> auto& { return c.data_parallel.prefetch; }),
        boolean(
            "data_parallel.overlap",
            "Sums gradients over the data-parallel processes while the backward pass goes on.",
            [](auto& c) -> auto& { return c.data_parallel.overlap; }),
        number(
            "data_parallel.bucket_mb", {.least = 0.0, .most = 1048576.0, .above_least = true},
            "Gradients summed in one go, in MiB; with zero 2 and 3 always those of an attention or "
            "MLP "
            "part.",
            [](auto& c) -> auto& { return c.data_parallel.bucket_mib; }),
        word(
            "data_parallel.gradient_wire", {.words = {"fp32", "bf16"}},
            std::vector{DType::f32, DType::bf16},
            "Number format in which gradients travel between data-parallel processes; they are "
            "accumulated and kept in fp32.",
            [](auto& c) -> auto& { return c.data_parallel.gradient_wire; }),
    };
}

}  // namespace trireme

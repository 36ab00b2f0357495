"""Compares the event files of a run with its metrics.jsonl, as TensorBoard's own reader sees them:
every tag, step and value, both ways. Run by scripts/check-tensorboard.

    event_values.py RUN_FOLDER
"""

import json
import struct
import sys

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

GIB = 1 << 30
# Tag: key of metrics.jsonl and factor.
TAGS = {
    "loss_metrics/global_avg_loss": ("loss", 1),
    "grad_norm": ("grad_norm", 1),
    "lr": ("lr", 1),
    "n_tokens_seen": ("tokens", 1),
    "throughput(tps)": ("tokens_per_second_per_rank", 1),
    "throughput_all_ranks(tps)": ("tokens_per_second", 1),
    "tflops": ("tflops_per_rank", 1),
    "mfu(%)": ("mfu", 100),
    "memory/max_active(GiB)": ("memory_peak_bytes", 1 / GIB),
    "time_metrics/end_to_end(s)": ("step_seconds", 1),
    "time_metrics/comm_exposed(s)": ("comm_exposed_seconds", 1),
    "time_metrics/comm_exposed_tensor(s)": ("comm_exposed_tensor_seconds", 1),
    "time_metrics/comm_exposed_context(s)": ("comm_exposed_context_seconds", 1),
    "time_metrics/comm_exposed_data(s)": ("comm_exposed_data_seconds", 1),
    "time_metrics/comm_exposed_pipeline(s)": ("comm_exposed_pipeline_seconds", 1),
    "time_metrics/pipeline_idle(s)": ("pipeline_idle_seconds", 1),
    "validation_metrics/loss": ("valid_loss", 1),
}


def as_float32(value):
    return struct.unpack("<f", struct.pack("<f", value))[0]


def expected_values(run):
    values = {}
    with open(run + "/metrics.jsonl", encoding="utf-8") as lines:
        for line in lines:
            record = json.loads(line)
            for tag, (key, factor) in TAGS.items():
                if key not in record:
                    continue
                number = float("nan") if record[key] is None else record[key] * factor
                values[tag, record["step"]] = as_float32(number)
    return values


def main():
    run = sys.argv[1]
    events = EventAccumulator(run + "/tensorboard", {"scalars": 0, "tensors": 0})
    events.Reload()
    found = {}
    for tag in events.Tags()["scalars"]:
        for point in events.Scalars(tag):
            if (tag, point.step) in found:
                sys.exit(f"{tag}: two points of step {point.step}")
            found[tag, point.step] = point.value
    expected = expected_values(run)
    different = [
        f"{key}: {found.get(key)} in the event files, {expected.get(key)} in metrics.jsonl"
        for key in sorted(found.keys() | expected.keys())
        if repr(found.get(key)) != repr(expected.get(key))
    ]
    if different:
        sys.exit("\n".join(different))
    text = events.Tensors("config")[-1].tensor_proto.string_val[0]
    with open(run + "/config.yaml", encoding="utf-8") as file:
        config = "".join("    " + line for line in file)
    if text.decode() != config:
        sys.exit("the configuration shown differs from config.yaml (a run that is started from that "
                 "very file leaves it as it is; check one that is not)")
    tags = {tag for tag, _ in found}
    print(f"TensorBoard's reader found {len(found)} points of {len(tags)} tags, all as in "
          "metrics.jsonl, and the configuration as in config.yaml")


main()

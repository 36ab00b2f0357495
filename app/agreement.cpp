#include "app/agreement.h"

#include "core/arena.h"

namespace trireme {

std::string broadcast_text(Communicator& all, Device& device, const std::string& text) {
    Stream& stream = device.compute();
    Arena length_arena(device, "agreement", sizeof(int64_t));
    const Tensor length = length_arena.take(DType::i64, {1});
    int64_t size = static_cast<int64_t>(text.size());
    device.copy_to_device(length.data, &size, sizeof(size));
    stream.wait(all.broadcast(stream, length, 0, "length of a decision"));
    device.copy_to_host(&size, length.data, sizeof(size));
    stream.synchronize();
    if (size == 0) return "";

    Arena arena(device, "agreement", static_cast<size_t>(size));
    const Tensor bytes = arena.take(DType::u8, {size});
    std::string result = text;
    result.resize(static_cast<size_t>(size));
    device.copy_to_device(bytes.data, result.data(), result.size());
    stream.wait(all.broadcast(stream, bytes, 0, "decision"));
    device.copy_to_host(result.data(), bytes.data, result.size());
    stream.synchronize();
    return result;
}

double largest_of_all(Communicator& all, Device& device, double value) {
    Arena arena(device, "agreement", sizeof(double));
    const Tensor cell = arena.take(DType::f64, {1});
    device.copy_to_device(cell.data, &value, sizeof(value));
    Stream& stream = device.compute();
    stream.wait(all.all_reduce(stream, cell, ReduceOp::max, "largest value"));
    device.copy_to_host(&value, cell.data, sizeof(value));
    stream.synchronize();
    return value;
}

}  // namespace trireme
